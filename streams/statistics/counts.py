"""Counts that two samples have over the same bins: what every statistic of them asks for first.

Many histograms lie one behind the other in one flat array, as a window's inputs do; `starts` says where
each begins. A statistic of many returns one number for each.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.integer] | npt.NDArray[np.floating]
Floats = npt.NDArray[np.float64]
Starts = npt.NDArray[np.intp]


def checked_pair(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return two counts as real numbers.

    Raises
    ------
    ValueError
        They do not have one dimension and the same bins, or one is negative or not finite.
    """
    one = checked_counts(first, "counts of the first sample")
    two = checked_counts(second, "counts of the second sample")
    if one.ndim != 1 or one.shape != two.shape:
        message = f"counts need one dimension and equal bins, got shapes {one.shape} and {two.shape}"
        raise ValueError(message)
    return one, two


def checked_counts(counts: npt.ArrayLike, name: str = "counts") -> Floats:
    """Return counts as real numbers, of whatever shape.

    Raises
    ------
    ValueError
        One of them is negative or not finite.
    """
    values = np.asarray(counts, dtype=np.float64)
    if not np.all(np.isfinite(values)) or np.any(values < 0):
        raise ValueError(f"{name} must be finite and not negative: look for overflows where they were filled")
    return values


def checked_starts(starts: npt.ArrayLike, n_bins: int) -> Starts:
    """Return where the histograms begin.

    Raises
    ------
    ValueError
        They do not begin at 0 and rise below the number of bins: a histogram would be empty or outside.
    """
    begins = np.asarray(starts, dtype=np.intp)
    if (
        begins.ndim != 1
        or not begins.size
        or begins[0] != 0
        or np.any(np.diff(begins) <= 0)
        or begins[-1] >= n_bins
    ):
        raise ValueError(
            f"starts must begin at 0 and rise below the {n_bins} bins; leave out the end of the last one"
        )
    return begins


@dataclass(frozen=True, eq=False)
class Pair:
    """Two samples of many histograms, checked.

    Attributes
    ----------
    first, second
        Counts, float64, shape (bins,).
    starts
        Where each histogram begins, shape (histograms,).
    """

    first: Floats
    second: Floats
    starts: Starts

    @cached_property
    def sizes(self) -> npt.NDArray[np.intp]:
        """Bins of each histogram."""
        return np.diff(self.starts, append=self.first.size)

    @cached_property
    def n(self) -> Floats:
        """Entries of each histogram of the first sample."""
        return self.total(self.first)

    @cached_property
    def m(self) -> Floats:
        """Entries of each histogram of the second sample."""
        return self.total(self.second)

    @cached_property
    def both(self) -> npt.NDArray[np.bool_]:
        """Where neither sample is empty."""
        return (self.n > 0) & (self.m > 0)

    @cached_property
    def densities(self) -> tuple[Floats, Floats]:
        """Share of each bin in its histogram, for both samples; 0 where the histogram is empty."""
        return self.first * self.spread(inverse(self.n)), self.second * self.spread(inverse(self.m))

    @cached_property
    def codes(self) -> Floats:
        """Number of each bin within its histogram, from 0."""
        return np.arange(self.first.size, dtype=np.float64) - self.spread(self.starts.astype(np.float64))

    @cached_property
    def size(self) -> Floats:
        """``n m / (n + m)`` of each histogram; 0 where a sample is empty."""
        return self.n * self.m * inverse(self.n + self.m)

    def total(self, values: Floats) -> Floats:
        """Sum of a value of each bin over each histogram."""
        return np.asarray(np.add.reduceat(values, self.starts))

    def largest(self, values: Floats) -> Floats:
        """Largest value of each histogram."""
        return np.asarray(np.maximum.reduceat(values, self.starts))

    def spread(self, values: Floats) -> Floats:
        """Give each bin the value of its histogram."""
        return np.repeat(values, self.sizes)

    def running(self, values: Floats) -> Floats:
        """Add up each histogram from its first bin to each of its bins."""
        sums = np.cumsum(values)
        return sums - self.spread(sums[self.starts] - values[self.starts])


def pair_of(first: npt.ArrayLike, second: npt.ArrayLike, starts: npt.ArrayLike = (0,)) -> Pair:
    """Check two samples of one or many histograms.

    Parameters
    ----------
    first, second
        Counts, shape (bins,), finite and not negative.
    starts
        Where each histogram begins, shape (histograms,).

    Raises
    ------
    ValueError
        Bins differ, there are none, a count is negative or not finite, or `starts` do not fit.
    """
    one, two = checked_pair(first, second)
    return Pair(one, two, checked_starts(starts, one.size))


def inverse(values: Floats) -> Floats:
    """Return ``1 / values``, 0 where a value is 0."""
    result: Floats = np.divide(1.0, values, out=np.zeros_like(values), where=values != 0)
    return result
