"""Rare bins are merged by what the reference holds."""

import numpy as np
import pytest

from streams.statistics.merging import merge_rare_bins


def test_bins_merge_from_the_left_until_each_has_enough():
    merging = merge_rare_bins([5, 16, 30, 10, 9, 20, 3], minimum=20)
    assert merging.edges.tolist() == [0, 2, 3]
    assert merging.apply([5, 16, 30, 10, 9, 20, 3]).tolist() == [21, 30, 42]


def test_every_merged_bin_holds_the_minimum_and_nothing_is_lost(many):
    reference = many.counts[1]
    merging = merge_rare_bins(reference, many.starts, 20)
    merged = merging.apply(reference)
    assert merged.min() >= 20
    assert merged.sum() == reference.sum()
    assert np.add.reduceat(merged, merging.starts).tolist() == [2100, 700, 4000]
    assert merging.edges[merging.starts].tolist() == many.starts.tolist()


def test_a_histogram_that_holds_too_little_becomes_one_bin():
    merging = merge_rare_bins([0, 0, 1, 2, 50, 50], [0, 2, 4], 20)
    assert merging.edges.tolist() == [0, 2, 4, 5]
    assert merging.starts.tolist() == [0, 1, 2]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="positive minimum"):
        merge_rare_bins([1, 2], minimum=0)
    with pytest.raises(ValueError, match="this merging is of 2 bins"):
        merge_rare_bins([50, 50]).apply([1, 2, 3])
    with pytest.raises(ValueError, match="not negative"):
        merge_rare_bins([50, np.nan])
