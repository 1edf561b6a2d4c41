"""Budgets of false alarms: how they are shared, and the thresholds that keep to them."""

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import stats

EULER_GAMMA: Final = 0.5772156649015329


def share_budget(budget: float, families: int) -> float:
    """False-alarm probability each of several OR-ed families may spend (Sidak).

    Raises
    ------
    ValueError
        If the budget is not a probability in (0, 1) or there is no family.
    """
    if not 0 < budget < 1 or families < 1:
        message = f"a budget in (0, 1) and at least one family are needed, got {budget} and {families}"
        raise ValueError(message)
    return float(-np.expm1(np.log1p(-budget) / families))


def gumbel_threshold(maxima: npt.NDArray[np.float64], probability: float) -> float:
    """Value that a maximum like those observed exceeds with the given probability.

    Fits a Gumbel distribution by its moments. Extremes of bounded or Gaussian tails fall faster than
    Gumbel's, so the extrapolation errs to the side of fewer false alarms.

    Parameters
    ----------
    maxima
        In-control statistics, one per lumisection, shape (lumisections,), at least two.
    probability
        Tail probability in (0, 1).

    Returns
    -------
    float
        The threshold; never below the largest value observed.

    Raises
    ------
    ValueError
        If fewer than two finite maxima are given, or the probability is not in (0, 1).
    """
    _check(probability)
    values = np.asarray(maxima, dtype=np.float64)
    if values.size < 2 or not np.all(np.isfinite(values)):
        message = f"at least two finite maxima are needed to fit their distribution, got {values.size}"
        raise ValueError(message)
    scale = float(np.std(values, ddof=1)) * float(np.sqrt(6.0)) / float(np.pi)
    location = float(np.mean(values)) - EULER_GAMMA * scale
    quantile = location - scale * float(np.log(-np.log1p(-probability)))
    return max(quantile, float(values.max()))


def normal_threshold(probability: float) -> float:
    """Absolute pull that a standard normal variable exceeds with the given two-sided probability.

    Raises
    ------
    ValueError
        The probability is not in (0, 1).
    """
    _check(probability)
    return float(stats.norm.isf(probability / 2.0))


def kolmogorov_threshold(probability: float) -> float:
    """Scaled distance that two large samples of one continuous distribution exceed with this probability.

    Asymptotic (Kolmogorov 1933); conservative where codes tie.

    Raises
    ------
    ValueError
        The probability is not in (0, 1).
    """
    _check(probability)
    return float(stats.kstwobign.isf(probability))


def _check(probability: float) -> None:
    if not 0 < probability < 1:
        raise ValueError(
            f"a probability in (0, 1) is needed, got {probability}: outside no threshold is finite"
        )
