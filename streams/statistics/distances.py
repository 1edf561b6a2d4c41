"""Distances of two samples, from their counts over the same ordered bins.

With one bin per integer code the distances equal those of the raw values.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.statistics.counts import Counts, Floats, inverse, pair_of


@dataclass(frozen=True, slots=True)
class KolmogorovSmirnov:
    """Two-sample Kolmogorov-Smirnov statistic.

    Attributes
    ----------
    distance
        Largest distance of the two empirical distribution functions, in 0..1.
    scaled
        ``distance * sqrt(n m / (n + m))``, comparable between samples of different sizes; 0 if one is empty.
    """

    distance: float
    scaled: float


def ks_from_counts(first: Counts, second: Counts) -> KolmogorovSmirnov:
    """Kolmogorov-Smirnov statistic of two samples given as counts over the same ordered bins.

    Parameters
    ----------
    first, second
        Counts, shape (bins,); one bin per integer code makes the result exact.

    Returns
    -------
    KolmogorovSmirnov
        Equal to ``scipy.stats.ks_2samp(...).statistic`` of the raw codes. Zero if a sample is empty.

    Notes
    -----
    Ties make the asymptotic distribution conservative: compare ``scaled`` with calibrated thresholds,
    not with the table (Noether 1963).
    """
    distance = float(ks_distances(first, second)[0])
    return KolmogorovSmirnov(distance, distance * float(np.sqrt(pair_of(first, second).size[0])))


def ks_distances(first: npt.ArrayLike, second: npt.ArrayLike, starts: npt.ArrayLike = (0,)) -> Floats:
    """Kolmogorov-Smirnov distances of many histograms.

    Parameters
    ----------
    first, second
        Counts of all histograms one behind the other, shape (bins,).
    starts
        Where each histogram begins, shape (histograms,).

    Returns
    -------
    Floats
        In 0..1, shape (histograms,); 0 where a sample is empty. Times ``sqrt(n m / (n + m))`` it is the
        scaled statistic.

    Raises
    ------
    ValueError
        The counts do not fit each other, or one is negative or not finite.
    """
    pair = pair_of(first, second, starts)
    one, two = pair.densities
    return np.where(pair.both, pair.largest(np.abs(pair.running(one - two))), 0.0)


def wasserstein_distances(
    first: npt.ArrayLike, second: npt.ArrayLike, starts: npt.ArrayLike = (0,)
) -> Floats:
    """First Wasserstein distances of many histograms, in bins (LSB where each code has its bin).

    Parameters, errors and the value of an empty sample are those of `ks_distances`. The distance of one
    dimension is the area between the two distribution functions (Vallender 1974).
    """
    pair = pair_of(first, second, starts)
    one, two = pair.densities
    return np.where(pair.both, pair.total(np.abs(pair.running(one - two))), 0.0)


def wasserstein_in_spreads(
    first: npt.ArrayLike, second: npt.ArrayLike, starts: npt.ArrayLike = (0,)
) -> Floats:
    """First Wasserstein distances over the standard deviation of the second sample, the reference.

    Comparable between inputs of whatever LSB. Where the reference is constant its spread is taken as that of
    a value rounded to one bin, ``1 / sqrt(12)``. Parameters and errors are those of `ks_distances`.
    """
    pair = pair_of(first, second, starts)
    mean = pair.total(pair.codes * pair.second) * inverse(pair.m)
    variance = pair.total((pair.codes - pair.spread(mean)) ** 2 * pair.second) * inverse(pair.m)
    return wasserstein_distances(first, second, starts) / np.sqrt(
        np.where(variance > 0, variance, 1.0 / 12.0)
    )
