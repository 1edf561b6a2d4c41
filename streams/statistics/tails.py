"""Tails: how rare a value is that lies beyond all that was seen in control.

Few held-out values say little about rare ones, so every tail errs to the side of larger probabilities: its
scale is an upper confidence bound, and no probability is below a floor.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from streams.statistics.counts import Floats

MINIMUM_VALUES: Final = 8
FLOOR: Final = 1e-30
"""No probability is smaller: beyond, it would say more about the model of the tail than about the value."""


@dataclass(frozen=True, slots=True)
class GumbelTail:
    """Tail of a maximum, after Gumbel (1958).

    Attributes
    ----------
    location, scale
        Parameters of the distribution; the scale is an upper confidence bound.
    floor
        Smallest probability that is returned.
    """

    location: float
    scale: float
    floor: float = FLOOR

    def probability(self, value: npt.ArrayLike) -> Floats:
        """Return the probability of a maximum as large or larger, for each value: falls with it, never 0.

        Raises
        ------
        ValueError
            A value is not a number.
        """
        values = _numbers(value)
        with np.errstate(over="ignore"):  # far below the location the probability is 1
            above = -np.expm1(-np.exp((self.location - values) / self.scale))
        return np.asarray(np.maximum(above, self.floor))


def gumbel_tail(maxima: npt.ArrayLike, *, confidence: float = 0.95, floor: float = FLOOR) -> GumbelTail:
    """Fit Gumbel's distribution to maxima by their moments, with an upper bound on its scale.

    The logarithm of a sample's standard deviation has the variance ``(kurtosis - 1) / (4 n)``, 1.1 / n for
    Gumbel's kurtosis of 5.4: the scale is raised by as many of its standard errors as `confidence` asks for.
    The location stays: mean less Euler's constant times the unraised scale.

    Parameters
    ----------
    maxima
        Held-out maxima in control, shape (n,), n >= 8.
    confidence
        Chance, in 0.5..1, that the true scale is not above the one used.
    floor
        Smallest probability the tail returns.

    Raises
    ------
    ValueError
        There are fewer than eight maxima, one is not finite, they do not vary, or a chance is outside.
    """
    values = _held_out(maxima, confidence, floor)
    scale = float(values.std(ddof=1)) * float(np.sqrt(6.0) / np.pi)
    location = float(values.mean()) - np.euler_gamma * scale
    raised = scale * float(np.exp(special.ndtri(confidence) * np.sqrt(1.1 / values.size)))
    return GumbelTail(location, raised, floor)


def _held_out(maxima: npt.ArrayLike, confidence: float, floor: float) -> Floats:
    values = np.asarray(maxima, dtype=np.float64)
    if values.ndim != 1 or values.size < MINIMUM_VALUES or not np.all(np.isfinite(values)):
        raise ValueError(
            f"a tail needs at least {MINIMUM_VALUES} finite held-out values, got shape {values.shape}"
        )
    if values.min() == values.max():
        raise ValueError(f"{values.size} held-out values are all {values[0]}: what does not vary has no tail")
    if not 0.5 <= confidence < 1 or not 0 < floor < 1:
        raise ValueError(f"confidence must lie in 0.5..1 and the floor in 0..1, got {confidence} and {floor}")
    return values


def _numbers(value: npt.ArrayLike) -> Floats:
    values = np.asarray(value, dtype=np.float64)
    if np.any(np.isnan(values)):
        raise ValueError("NaN has no probability: look for an empty window where the value was made")
    return values
