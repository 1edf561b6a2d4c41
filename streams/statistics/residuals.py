"""Differences of the moments of two samples, in codes and in standard errors."""

from dataclasses import dataclass

import numpy as np

from streams.statistics.counts import Counts, checked_pair


@dataclass(frozen=True, slots=True)
class MeanResidual:
    """Difference of two means of integer codes.

    Attributes
    ----------
    shift
        Mean of the first sample minus mean of the second, in codes (LSB).
    pull
        ``shift`` over its standard error. 0 where the standard error vanishes and the means agree,
        infinite where it vanishes and they do not.
    """

    shift: float
    pull: float


def mean_residual(first: Counts, second: Counts) -> MeanResidual:
    """Difference of the means of two samples given as counts over consecutive integer codes.

    Parameters
    ----------
    first, second
        Counts, shape (bins,).

    Returns
    -------
    MeanResidual
        In codes, with Welch's standard error. Zero if a sample is empty.
    """
    one, two = checked_pair(first, second)
    n, m = float(one.sum()), float(two.sum())
    if n <= 0 or m <= 0:
        return MeanResidual(0.0, 0.0)
    codes = np.arange(one.size, dtype=np.float64)
    mean_one, mean_two = float(codes @ one) / n, float(codes @ two) / m
    variance_one = float(((codes - mean_one) ** 2) @ one) / n
    variance_two = float(((codes - mean_two) ** 2) @ two) / m
    shift = mean_one - mean_two
    error = float(np.sqrt(variance_one / n + variance_two / m))
    if error > 0:
        return MeanResidual(shift, shift / error)
    return MeanResidual(shift, 0.0 if shift == 0 else float(np.copysign(np.inf, shift)))
