"""Evidence: how strongly the windows seen so far speak against a reference, under a budget of false alarms.

Every channel runs Shiryaev-Roberts processes, ``R <- (1 + R) e``, over e-values of its windows (Shin, Ramdas
and Rinaldo, "E-detectors", arXiv 2203.03532). Weighted with each channel's share of the budget, their sum is
an e-detector: while the reference holds, it takes 1 / budget windows or more on average until it reaches
1 / budget, however the channels depend on each other and whenever one looks. One overwhelming window is
enough, and so are many slightly bad ones. Knows no window, no store and no words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

SHIFTS: Final = (0.5, 1.0, 2.0, 3.0, 4.5, 6.5)
"""Shifts beyond its tolerance, in standard deviations, that a linear channel looks for, to either side."""
INDIFFERENT: Final = 0.02
"""A p-value above this never speaks for drift, however often it comes: a reference has noise of its own."""
POWER: Final = 0.2
"""Below it, evidence rises with this power less one of the p-value."""
LOG_CAP: Final = 60.0

Floats = npt.NDArray[np.float64]
Place = tuple[int, int]
"""Run and lumisection."""


@dataclass(frozen=True)
class Linear:
    """What a linear channel says in one window.

    Attributes
    ----------
    name
        Of the channel.
    share
        Of the budget, in (0, 1].
    z
        Standard normal in control, but for a persistent bias.
    tolerance
        Largest persistent bias that is no drift, in standard deviations.
    """

    name: str
    share: float
    z: float
    tolerance: float


@dataclass(frozen=True)
class Rare:
    """What an extreme says in one window: its p-value, and its share of the budget."""

    name: str
    share: float
    p_value: float


class Weight(NamedTuple):
    """What one channel adds to the evidence.

    Attributes
    ----------
    log_level
        Natural logarithm of its part over the level of an alarm: 0 is an alarm by itself.
    since
        First window of the run of windows that it speaks of.
    """

    name: str
    log_level: float
    since: Place


class Evidence:
    """The evidence of one sequence of windows against one reference. Begins at none."""

    def __init__(self) -> None:
        self._log_r: dict[str, Floats] = {}
        self._since: dict[str, list[Place]] = {}

    def update(
        self, linear: Sequence[Linear], rare: Sequence[Rare], budget: float, place: Place
    ) -> tuple[float, list[Weight]]:
        """Take one more window.

        Parameters
        ----------
        linear, rare
            What the channels say.
        budget
            Probability of a false alarm for each window.
        place
            Run and lumisection of the window.

        Returns
        -------
        Natural logarithm of the evidence over the level of an alarm (0 and above: an alarm), and what each
        channel adds, the most telling first.
        """
        weights = []
        steps: list[tuple[str, float, Floats]] = [
            (one.name, one.share, linear_log_e(one.z, one.tolerance)) for one in linear
        ]
        steps += [(one.name, one.share, np.array([rare_log_e(one.p_value)])) for one in rare]
        for name, share, log_e in steps:
            log_r = self._log_r.get(name)
            if log_r is None:
                log_r, self._since[name] = np.full(len(log_e), -np.inf), [place] * len(log_e)
            since = [place if old < 0 else known for old, known in zip(log_r, self._since[name], strict=True)]
            log_r = np.minimum(np.logaddexp(0.0, log_r) + log_e, LOG_CAP)
            self._log_r[name], self._since[name] = log_r, since
            mean = float(np.logaddexp.reduce(log_r)) - float(np.log(len(log_r)))
            log_level = mean + float(np.log(share * budget))
            weights.append(Weight(name, log_level, since[int(np.argmax(log_r))]))
        weights.sort(key=lambda weight: -weight.log_level)
        total = float(np.logaddexp.reduce([weight.log_level for weight in weights])) if weights else -np.inf
        return total, weights


def linear_log_e(z: float, tolerance: float) -> Floats:
    """Log e-values against ``|mean of z| <= tolerance``, for each shift of `SHIFTS` and either sign.

    ``exp(d (s z - tolerance) - d^2 / 2)``, the likelihood ratio of a mean of ``s (tolerance + d)`` to one of
    ``s tolerance``: its mean is at most 1 for every mean within the tolerance. Shape (2 len(SHIFTS),).
    """
    shifts = np.array(SHIFTS)
    return np.concatenate([shifts * (side - tolerance) - shifts**2 / 2 for side in (z, -z)])


def rare_log_e(p_value: float) -> float:
    """Log e-value of a p-value: 1/2 above `INDIFFERENT`, a power of it below; over all, the mean is 1."""
    if p_value >= INDIFFERENT:
        return float(np.log(0.5))
    return float(np.log(0.5 * POWER / INDIFFERENT) + (POWER - 1.0) * np.log(p_value / INDIFFERENT))


def single_window_z(share: float, budget: float) -> float:
    """Return the standard deviations beyond its tolerance at which one window alone is an alarm."""
    needed = float(np.log(2 * len(SHIFTS) / (share * budget)))
    return min(needed / shift + shift / 2 for shift in SHIFTS)


def detectable_z(share: float, budget: float, n_windows: int, power: float) -> float:
    """Return the persistent shift, in standard deviations beyond its tolerance, found in so many windows.

    With probability `power`: the sum of the windows then reaches what one alone would need.
    """
    needed = float(np.log(2 * len(SHIFTS) / (share * budget)))
    spare = float(stats.norm.ppf(power)) / float(np.sqrt(n_windows))
    return min(needed / (n_windows * shift) + shift / 2 for shift in SHIFTS) + spare
