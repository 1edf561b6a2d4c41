"""Distances of two samples, from their counts over the same ordered bins.

With one bin per integer code the distances equal those of the raw values.
"""

from dataclasses import dataclass

import numpy as np

from streams.statistics.counts import Counts, checked_pair


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
    one, two = checked_pair(first, second)
    n, m = float(one.sum()), float(two.sum())
    if n <= 0 or m <= 0:
        return KolmogorovSmirnov(0.0, 0.0)
    distance = float(np.max(np.abs(np.cumsum(one) / n - np.cumsum(two) / m)))
    return KolmogorovSmirnov(distance, distance * float(np.sqrt(n * m / (n + m))))


def wasserstein_from_counts(first: Counts, second: Counts, *, bin_width: float = 1.0) -> float:
    """First Wasserstein distance (earth mover's) of two samples given as counts over equidistant bins.

    Parameters
    ----------
    first, second
        Counts, shape (bins,).
    bin_width
        Distance of neighbouring bins in the unit wanted, for instance the LSB in GeV.

    Returns
    -------
    float
        Equal to ``scipy.stats.wasserstein_distance`` of the raw values. Zero if a sample is empty.
    """
    one, two = checked_pair(first, second)
    n, m = float(one.sum()), float(two.sum())
    if n <= 0 or m <= 0:
        return 0.0
    return float(np.abs(np.cumsum(one) / n - np.cumsum(two) / m).sum()) * bin_width
