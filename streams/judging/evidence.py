"""Evidence: how strongly the windows seen so far speak against a reference, under a budget of false alarms.

Every channel runs Shiryaev-Roberts processes, ``R <- (1 + R) e``, over e-values of its windows (Shin, Ramdas
and Rinaldo, "E-detectors", arXiv 2203.03532). Weighted with each channel's share of the budget, their sum is
an e-detector: while the reference holds, it takes 1 / budget windows or more on average until it reaches
1 / budget, however the channels depend on each other and whenever one looks. One overwhelming window is
enough, and so are many slightly bad ones. Knows no window, no store and no words.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

SHIFTS: Final = (0.5, 1.0, 2.0, 4.0)
"""Shifts beyond its tolerance, in standard deviations, that a linear channel looks for, to either side."""
BIAS_DEVIATIONS: Final = 2.0
"""A bias that stays is tolerated up to so many of its standard deviations."""
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
    firm
        All of the tolerance is forgiven: it was decided, or nobody knows how large a bias is.
    """

    name: str
    share: float
    z: float
    tolerance: float
    firm: bool = False


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
        self._processes: dict[type, _Processes] = {
            Linear: _Processes(2 * len(SHIFTS)),
            Rare: _Processes(1),
        }

    def update(
        self, linear: Sequence[Linear], rare: Sequence[Rare], budget: float, place: Place
    ) -> tuple[float, list[Weight]]:
        """Take one more window.

        Parameters
        ----------
        linear, rare
            What the channels say; one that says nothing in this window stays as it was, and is left out.
        budget
            Probability of a false alarm for each window.
        place
            Run and lumisection of the window.

        Returns
        -------
        Natural logarithm of the evidence over the level of an alarm (0 and above: an alarm), and what each
        channel adds, the most telling first.
        """
        z, tolerance, share, firm = (
            np.array([(one.z, one.tolerance, one.share, one.firm) for one in linear], dtype=np.float64)
            .reshape(-1, 4)
            .T
        )
        forgiven = forgiveness(tolerance, needed_for_alarm(share, budget))
        forgiven = np.where(firm[:, np.newaxis] > 0, tolerance[:, np.newaxis], forgiven)
        steps = (
            (Linear, linear, linear_log_e(z, forgiven)),
            (Rare, rare, rare_log_e(np.array([one.p_value for one in rare]))[:, np.newaxis]),
        )
        weights: list[Weight] = []
        for kind, findings, log_e in steps:
            names = [one.name for one in findings]
            log_level, since = self._processes[kind].step(names, log_e, place)
            log_level += np.log(budget * np.array([one.share for one in findings]))
            weights += map(Weight, names, log_level.tolist(), since)
        weights.sort(key=lambda weight: -weight.log_level)
        total = float(np.logaddexp.reduce([weight.log_level for weight in weights])) if weights else -np.inf
        return total, weights


class _Processes:
    """Shiryaev-Roberts processes of many channels, several for each, in logarithms."""

    def __init__(self, each: int) -> None:
        self._rows: dict[str, int] = {}
        self._log_r: Floats = np.zeros((0, each))
        self._since: npt.NDArray[np.intp] = np.zeros((0, each), dtype=np.intp)
        self._places: list[Place] = []

    def step(self, names: Sequence[str], log_e: Floats, place: Place) -> tuple[Floats, list[Place]]:
        """Return the logarithm of each channel's mean over its processes, and since when it speaks."""
        rows = self._rows_of(names)
        old = self._log_r[rows]
        self._places.append(place)
        since = np.where(old < 0, len(self._places) - 1, self._since[rows])
        log_r = np.minimum(np.logaddexp(0.0, old) + log_e, LOG_CAP)
        self._log_r[rows], self._since[rows] = log_r, since
        mean = np.logaddexp.reduce(log_r, axis=1) - np.log(log_r.shape[1])
        leading = since[np.arange(len(rows)), np.argmax(log_r, axis=1)]
        return mean, [self._places[index] for index in leading]

    def _rows_of(self, names: Sequence[str]) -> npt.NDArray[np.intp]:
        new = [name for name in names if name not in self._rows]
        if new:
            self._rows |= {name: len(self._rows) + number for number, name in enumerate(new)}
            more = (len(new), self._log_r.shape[1])
            self._log_r = np.concatenate([self._log_r, np.full(more, -np.inf)])
            self._since = np.concatenate([self._since, np.zeros(more, dtype=np.intp)])
        return np.array([self._rows[name] for name in names], dtype=np.intp)


def needed_for_alarm(share: Floats, budget: float) -> Floats:
    """Return the logarithm of evidence at which one process of a linear channel is an alarm by itself."""
    needed: Floats = np.log(2 * len(SHIFTS) / (share * budget))
    return needed


def forgiveness(tolerance: Floats, needed: Floats) -> Floats:
    """Return what each process of a linear channel forgives of its windows, in standard deviations.

    A bias that stays is normal with a standard deviation ``b``, of which `tolerance` is `BIAS_DEVIATIONS`. In
    ``n`` windows it adds ``(n d b)^2 / 2`` to the logarithm of the mean of the evidence for a shift of ``d``,
    which finds such a shift within ``2 needed / d^2`` windows: so ``needed b^2 / d`` is enough there. A bias
    that adds up without end is beyond that by ``d / 2``, or more than ``sqrt(2 needed)`` of its standard
    deviations: it is as rare as the alarm it raises.

    Parameters
    ----------
    tolerance, needed
        Shape (channels,) each; see `needed_for_alarm`.

    Returns
    -------
    Shape (channels, len(SHIFTS)); never more than the tolerance.
    """
    bias = tolerance[:, np.newaxis] / BIAS_DEVIATIONS
    least: Floats = np.minimum(tolerance[:, np.newaxis], needed[:, np.newaxis] * bias**2 / np.array(SHIFTS))
    return least


def linear_log_e(z: Floats, forgiven: Floats) -> Floats:
    """Log e-values against ``|mean of z| <= forgiven``, for each shift of `SHIFTS` and either sign.

    ``exp(d (s z - forgiven) - d^2 / 2)``, the likelihood ratio of a mean of ``s (forgiven + d)`` to one of
    ``s forgiven``: its mean is at most 1 for every mean within what is forgiven. Of shapes (channels,) and
    (channels, len(SHIFTS)), for each shift its own; the result has the shape (channels, 2 len(SHIFTS)).
    """
    shifts = np.array(SHIFTS)
    sides = [(side[:, np.newaxis] - forgiven) * shifts - shifts**2 / 2 for side in (z, -z)]
    log_e: Floats = np.concatenate(sides, axis=1)
    return log_e


def rare_log_e(p_value: Floats) -> Floats:
    """Log e-values of p-values: 1/2 above `INDIFFERENT`, a power of it below; over all, the mean is 0.99."""
    below = np.log(0.5 * POWER / INDIFFERENT) + (POWER - 1.0) * np.log(np.minimum(p_value / INDIFFERENT, 1.0))
    log_e: Floats = np.where(p_value < INDIFFERENT, below, np.log(0.5))
    return log_e


@lru_cache(maxsize=256)
def single_window_z(share: float, budget: float) -> float:
    """Return the standard deviations beyond its tolerance at which one window alone is an alarm, at most."""
    needed = math.log(2 * len(SHIFTS) / (share * budget))
    return min(needed / shift + shift / 2 for shift in SHIFTS)


def single_window_p(share: float, budget: float) -> float:
    """Return the p-value of an extreme at which one window alone is an alarm."""
    beyond = (float(np.log(1 / (share * budget))) - float(np.log(0.5 * POWER / INDIFFERENT))) / (1.0 - POWER)
    return INDIFFERENT * float(np.exp(-max(beyond, 0.0)))


def detectable_z(share: float, budget: float, n_windows: int, power: float, tolerance: float = 0.0) -> float:
    """Return the persistent shift, in standard deviations beyond its tolerance, found in so many windows.

    With probability `power`: the sum of the windows then reaches what one alone would need.
    """
    needed = needed_for_alarm(np.array([share]), budget)
    forgiven = forgiveness(np.array([tolerance]), needed)[0]
    shifts = np.array(SHIFTS)
    least = float((needed[0] / (n_windows * shifts) + shifts / 2 + forgiven).min()) - tolerance
    return least + float(special.ndtri(power)) / float(np.sqrt(n_windows))
