"""Merging of rare bins, fixed by the reference alone: a merge that looks at the window hides its faults."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.statistics.counts import Floats, Starts, checked_counts, checked_starts


@dataclass(frozen=True, eq=False)
class Merging:
    """Which neighbouring bins become one.

    Attributes
    ----------
    edges
        First of the bins that each merged bin holds, shape (merged bins,).
    starts
        Where each histogram begins among the merged bins, shape (histograms,).
    n_bins
        Bins before merging.
    """

    edges: Starts
    starts: Starts
    n_bins: int

    def apply(self, values: npt.ArrayLike) -> Floats:
        """Add up counts, or sums of squared weights, of merged bins: shape (bins,) to (merged bins,).

        Raises
        ------
        ValueError
            The values do not have the bins of the reference, or one is negative or not finite.
        """
        counts = checked_counts(values)
        if counts.shape != (self.n_bins,):
            raise ValueError(f"this merging is of {self.n_bins} bins, got counts of shape {counts.shape}")
        return np.asarray(np.add.reduceat(counts, self.edges))


def merge_rare_bins(reference: npt.ArrayLike, starts: npt.ArrayLike = (0,), minimum: float = 20.0) -> Merging:
    """Merge neighbours, from the left, until each bin of the reference holds at least `minimum`.

    What is left at the right end joins the last merged bin; a histogram with less than `minimum` altogether
    becomes a single bin.

    Parameters
    ----------
    reference
        Counts of the reference, or those it expects in a window, shape (bins,).
    starts
        Where each histogram begins, shape (histograms,).
    minimum
        Entries a merged bin needs; 20 keeps chi-squared statistics near their distribution.

    Raises
    ------
    ValueError
        Counts are negative or not finite, `starts` do not fit, or `minimum` is not positive.
    """
    counts = checked_counts(reference, "counts of the reference")
    if counts.ndim != 1 or not minimum > 0:
        raise ValueError(f"flat counts and a positive minimum are needed, got {counts.shape} and {minimum}")
    begins = checked_starts(starts, counts.size)
    edges: list[int] = []
    merged_starts: list[int] = []
    for begin, end in zip(begins, [*begins[1:], counts.size], strict=True):
        merged_starts.append(len(edges))
        edges.extend(begin + edge for edge in _edges(np.cumsum(counts[begin:end]), minimum))
    return Merging(np.array(edges, dtype=np.intp), np.array(merged_starts, dtype=np.intp), counts.size)


def _edges(running: Floats, minimum: float) -> list[int]:
    """First bins of the merged bins of one histogram, from its running sum."""
    edges, edge, before = [0], 0, 0.0
    while True:
        last = int(np.searchsorted(running, before + minimum))
        edge = last + 1
        if last >= running.size or running[-1] - running[last] < minimum:
            return edges
        edges.append(edge)
        before = float(running[last])
