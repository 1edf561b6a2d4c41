"""Distances of distribution functions that weigh the tails, where Kolmogorov-Smirnov sees little."""

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.statistics.counts import Floats, checked_counts, checked_starts, inverse, pair_of

EXACT_ENTRIES: Final = 1_000_000
"""Above so many entries the constants of Anderson and Darling are at their limits to five digits."""


def normalised_supremum(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    starts: npt.ArrayLike = (0,),
    *,
    minimum: float = 20.0,
) -> Floats:
    """Largest distance of two distribution functions over its standard deviation.

    ``max |F - F0| / sqrt(F0 (1 - F0)) * sqrt(n m / (n + m))`` with ``F0`` that of the second sample, the
    reference: the supremum form of Anderson and Darling (1952), one of the goodness-of-fit statistics that
    include higher criticism (Jager and Wellner 2007, doi:10.1214/0009053607000000244).

    Parameters
    ----------
    first, second
        Counts of all histograms one behind the other, shape (bins,).
    starts
        Where each histogram begins, shape (histograms,).
    minimum
        Only where the reference expects at least so many entries on either side of a bin's upper edge, in a
        sample of ``n`` and of ``m``, is the distance taken: elsewhere single entries decide.

    Returns
    -------
    Floats
        Shape (histograms,); 0 where a sample is empty or nothing is expected often enough. Each bin's value
        is a standard normal in size, so their largest needs a calibrated threshold.

    Raises
    ------
    ValueError
        The counts do not fit each other, one is negative or not finite, or `minimum` is not positive.
    """
    if not minimum > 0:
        raise ValueError(f"the minimum must be positive, got {minimum}: a rare tail has no normal distance")
    pair = pair_of(first, second, starts)
    below = pair.running(pair.second)
    above = pair.spread(pair.m) - below
    least = np.minimum(below, above) * pair.spread(np.minimum(pair.n * inverse(pair.m), 1.0))
    distance = pair.running(pair.first) * pair.spread(inverse(pair.n)) - below * pair.spread(inverse(pair.m))
    deviation = pair.spread(pair.m) * inverse(np.sqrt(below * np.maximum(above, 0.0)))
    values = np.where(least >= minimum, np.abs(distance) * deviation, 0.0)
    return pair.largest(values) * np.sqrt(pair.size)


def anderson_darling(samples: npt.ArrayLike, starts: npt.ArrayLike = (0,)) -> Floats:
    """Anderson-Darling statistic of k samples, normalised, from their counts.

    Scholz and Stephens (1987), equation 7, in which ties count half: equal to the statistic of
    ``scipy.stats.anderson_ksamp`` of the raw values with ``variant="midrank"``.

    Parameters
    ----------
    samples
        Counts of all histograms one behind the other, one row for each sample, shape (k, bins), k >= 2.
    starts
        Where each histogram begins, shape (histograms,).

    Returns
    -------
    Floats
        About 0 on average, 1 in spread, if all are samples of one distribution; shape (histograms,). 0 where
        a sample is empty, where all entries share a bin, or where there are fewer than four.

    Raises
    ------
    ValueError
        There are fewer than two samples, `starts` do not fit, or a count is negative or not finite.
    """
    counts = checked_counts(samples, "counts of the samples")
    if counts.ndim != 2 or len(counts) < 2:
        raise ValueError(f"at least two samples over the same bins are needed, got shape {counts.shape}")
    begins = checked_starts(starts, counts.shape[1])
    sizes = np.diff(begins, append=counts.shape[1])
    entries = np.add.reduceat(counts, begins, axis=1)
    pooled = counts.sum(axis=0)
    everything = entries.sum(axis=0)
    total = np.repeat(everything, sizes)
    middle = _middles(pooled, begins, sizes)
    weight = (
        pooled * inverse(total) * inverse(np.maximum(middle * (total - middle) - total * pooled / 4.0, 0))
    )
    statistic = np.zeros(len(begins))
    for sample, size in zip(counts, entries, strict=True):
        terms = weight * (total * _middles(sample, begins, sizes) - middle * np.repeat(size, sizes)) ** 2
        statistic += np.add.reduceat(terms, begins) * inverse(size)
    statistic *= np.maximum(everything - 1.0, 0.0) * inverse(everything)
    varies = np.add.reduceat((pooled > 0).astype(np.float64), begins) > 1
    known = varies & np.all(entries > 0, axis=0) & (everything >= 4)
    spread = np.array(
        [_spread(column) if good else 1.0 for column, good in zip(entries.T, known, strict=True)]
    )
    return np.where(known, (statistic - (len(counts) - 1)) / spread, 0.0)


def _middles(counts: Floats, begins: npt.NDArray[np.intp], sizes: npt.NDArray[np.intp]) -> Floats:
    """Entries before each bin of its histogram, and half of those in it."""
    sums = np.cumsum(counts)
    before = np.repeat(sums[begins] - counts[begins], sizes)
    return np.asarray(sums - before - counts / 2.0)


def _spread(entries: Floats) -> float:
    """Return the spread of the statistic under the null (Scholz and Stephens 1987, equation 4)."""
    n, k = float(entries.sum()), len(entries)
    shares = float((1.0 / entries).sum())
    h, g = _constants(round(n))
    a = (4 * g - 6) * (k - 1) + (10 - 6 * g) * shares
    b = (2 * g - 4) * k**2 + 8 * h * k + (2 * g - 14 * h - 4) * shares - 8 * h + 4 * g - 6
    c = (6 * h + 2 * g - 2) * k**2 + (4 * h - 4 * g + 6) * k + (2 * h - 6) * shares + 4 * h
    d = (2 * h + 6) * k**2 - 4 * h * k
    variance = (a * n**3 + b * n**2 + c * n + d) / ((n - 1) * (n - 2) * (n - 3))
    return float(np.sqrt(variance))


@lru_cache(maxsize=4096)
def _constants(n: int) -> tuple[float, float]:
    """Return ``h`` and ``g`` of Scholz and Stephens: sums of harmonic terms up to n."""
    if n > EXACT_ENTRIES:
        return float(np.log(n - 1) + np.euler_gamma + 0.5 / (n - 1)), float(np.pi**2 / 6)
    steps = np.arange(n - 1, 1, -1, dtype=np.float64)
    sums = np.cumsum(1.0 / steps)
    return float(sums[-1]) + 1.0, float((sums / np.arange(2, n, dtype=np.float64)).sum())
