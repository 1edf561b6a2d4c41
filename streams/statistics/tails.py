"""Tails: how rare a value is that lies beyond all that was seen in control.

Few held-out values say little about rare ones, so every tail errs to the side of larger probabilities: its
scale is an upper confidence bound, and no probability is below a floor.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import stats

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
        return np.asarray(np.maximum(stats.gumbel_r.sf(values, self.location, self.scale), self.floor))


@dataclass(frozen=True, slots=True)
class ParetoTail:
    """Tail beyond a threshold, after Pickands (1975).

    Attributes
    ----------
    values
        Values up to and including the threshold, ascending: below it the tail is theirs.
    n_values
        Number of all values the tail was made from.
    scale, shape
        Of the generalised Pareto distribution of the excess; the scale is an upper confidence bound.
    floor
        Smallest probability that is returned.
    """

    values: tuple[float, ...]
    n_values: int
    scale: float
    shape: float
    floor: float = FLOOR

    def probability(self, value: npt.ArrayLike) -> Floats:
        """Return the probability of a value as large or larger, for each value: never rises, never 0.

        Raises
        ------
        ValueError
            A value is not a number.
        """
        values = _numbers(value)
        threshold = self.values[-1]
        below = np.searchsorted(self.values, values, side="left")
        bulk = (self.n_values - below + 1.0) / (self.n_values + 1.0)
        share = (self.n_values - len(self.values) + 1.0) / (self.n_values + 1.0)
        excess = np.maximum(values - threshold, 0.0)
        beyond = share * stats.genpareto.sf(excess, self.shape, scale=self.scale)
        return np.maximum(np.where(values > threshold, beyond, bulk), self.floor)


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
    raised = scale * float(np.exp(stats.norm.ppf(confidence) * np.sqrt(1.1 / values.size)))
    return GumbelTail(location, raised, floor)


def pareto_tail(
    maxima: npt.ArrayLike, *, share: float = 0.25, confidence: float = 0.95, floor: float = FLOOR
) -> ParetoTail:
    """Fit a generalised Pareto distribution to the largest held-out values, with an upper bound on its scale.

    Probability-weighted moments (Hosking and Wallis 1987), which exist for a few dozen values where the
    likelihood often has no maximum. A shape below 0, whose tail would end, is taken as 0: exponential. The
    scale's relative variance is taken as theirs at shape 0, ``7 / (3 k)`` with ``k`` values beyond the
    threshold.

    Parameters
    ----------
    maxima
        Held-out values in control, shape (n,), n >= 8.
    share
        Share of the values that the tail is fitted to, in 0..1; four values at least.
    confidence
        Chance, in 0.5..1, that the true scale is not above the one used.
    floor
        Smallest probability the tail returns.

    Raises
    ------
    ValueError
        There are fewer than eight values, one is not finite, the largest ones do not vary, or a chance is
        outside.
    """
    values = np.sort(_held_out(maxima, confidence, floor))
    if not 0 < share < 1:
        raise ValueError(f"the share of the values in the tail must lie in 0..1, got {share}")
    beyond = min(max(round(share * values.size), 4), values.size - 1)
    body, excess = values[:-beyond], values[-beyond:] - values[-beyond - 1]
    weights = 1.0 - (np.arange(1, beyond + 1) - 0.35) / beyond
    first, second = float(excess.mean()), float((weights * excess).mean())
    if not first > 0:
        raise ValueError(f"the largest {beyond + 1} of {values.size} values are equal: they have no tail")
    shape = 2.0 - first / (first - 2.0 * second) if first > 2.0 * second else 1.0
    shape = min(max(shape, 0.0), 1.0)
    # with the shape held, the mean of the excess fixes the scale; a shape of 1 has no mean
    scale = first * (1.0 - min(shape, 0.5))
    raised = scale * float(np.exp(stats.norm.ppf(confidence) * np.sqrt(7.0 / (3.0 * beyond))))
    return ParetoTail(tuple(body.tolist()), values.size, raised, shape, floor)


def student_probability(
    value: npt.ArrayLike, mean: float, spread: float, n_values: int, *, floor: float = FLOOR
) -> Floats:
    """Two-sided probability of a normal value whose mean and spread are estimated from a few others.

    Student's distribution of a new value (Student 1908; prediction interval): ``t = (value - mean) / (spread
    sqrt(1 + 1 / n))`` with ``n - 1`` degrees of freedom.

    Parameters
    ----------
    value
        New values.
    mean, spread
        Mean and standard deviation (``ddof=1``) of `n_values` values in control.

    Returns
    -------
    Floats
        Falls with the distance from the mean, never below `floor`.

    Raises
    ------
    ValueError
        The spread is not positive, there are fewer than two values, or one is not a number.
    """
    if n_values < 2 or not 0 < spread < np.inf or not np.isfinite(mean):
        raise ValueError(
            f"a finite mean and a positive spread of at least two values are needed, got {mean}, {spread}"
        )
    distance = np.abs(_numbers(value) - mean) / (spread * np.sqrt(1.0 + 1.0 / n_values))
    return np.asarray(np.maximum(2.0 * stats.t.sf(distance, n_values - 1), floor))


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
