"""Differences of the moments of two samples, in codes and in standard errors."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.statistics.counts import Floats, Pair, inverse, pair_of


@dataclass(frozen=True, eq=False)
class MomentResiduals:
    """Differences of mean and spread of many histograms; all arrays have shape (histograms,).

    Attributes
    ----------
    mean_shift
        Mean of the first sample minus mean of the second, in codes (LSB).
    mean_pull
        The same over its standard error.
    spread_shift
        Logarithm of the ratio of the standard deviations, first over second.
    spread_pull
        The same over its standard error.
    """

    mean_shift: Floats
    mean_pull: Floats
    spread_shift: Floats
    spread_pull: Floats


def moment_residuals(
    first: npt.ArrayLike, second: npt.ArrayLike, starts: npt.ArrayLike = (0,)
) -> MomentResiduals:
    """Differences of mean and spread of many histograms over consecutive integer codes.

    The mean has Welch's standard error. The logarithm of a standard deviation has the variance
    ``(kurtosis - (n - 3) / (n - 1)) / (4 n)`` (delta method on the variance of a sample variance, Cramer
    1946, 27.4), so heavy tails do not pass for a change of spread.

    Parameters
    ----------
    first, second
        Counts of all histograms one behind the other, shape (bins,).
    starts
        Where each histogram begins, shape (histograms,).

    Returns
    -------
    MomentResiduals
        Always finite. A constant sample counts as if one of its ``n`` entries lay one code aside. 0 where a
        sample has fewer than two entries.

    Raises
    ------
    ValueError
        The counts do not fit each other, or one is negative or not finite.
    """
    pair = pair_of(first, second, starts)
    known = (pair.n > 1) & (pair.m > 1)
    mean_one, variance_one, error_one = _moments(pair, pair.first, pair.n)
    mean_two, variance_two, error_two = _moments(pair, pair.second, pair.m)
    mean_shift = np.where(known, mean_one - mean_two, 0.0)
    mean_error = np.sqrt(variance_one * inverse(pair.n) + variance_two * inverse(pair.m))
    spread_shift = np.where(known, np.log(variance_one / variance_two) / 2.0, 0.0)
    spread_error = np.sqrt(error_one + error_two)
    return MomentResiduals(
        mean_shift, mean_shift * inverse(mean_error), spread_shift, spread_shift * inverse(spread_error)
    )


def _moments(pair: Pair, counts: Floats, entries: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, variance, and variance of the logarithm of the standard deviation, of each histogram."""
    share = inverse(entries)
    mean = pair.total(pair.codes * counts) * share
    squares = (pair.codes - pair.spread(mean)) ** 2
    variance = pair.total(squares * counts) * share
    kurtosis = pair.total(squares**2 * counts) * share * inverse(variance) ** 2
    many = np.maximum(entries, 2.0)
    kurtosis = np.where(variance > 0, kurtosis, many)
    error = np.maximum(kurtosis - (many - 3.0) / (many - 1.0), 0.0) / (4.0 * many)
    return mean, np.where(variance > 0, variance, 1.0 / many), error
