"""Tail-sensitive distances: equal to scipy's, and quicker to see a tail than Kolmogorov and Smirnov."""

import numpy as np
import pytest
from scipy import stats

from streams.statistics.distances import ks_distances
from streams.statistics.tail_sensitive import EXACT_ENTRIES, _constants, anderson_darling, normalised_supremum


def test_anderson_darling_equals_scipy_on_raw_values(many):
    got = anderson_darling(many.counts, many.starts)
    for index, (one, two) in enumerate(many.pairs):
        expected = stats.anderson_ksamp(
            [one, two], variant="midrank", method=stats.PermutationMethod(n_resamples=1)
        )
        assert got[index] == pytest.approx(expected.statistic, rel=1e-9)


def test_anderson_darling_of_three_samples_equals_scipy(rng):
    samples = [rng.integers(0, 12, size) for size in (80, 200, 55)]
    expected = stats.anderson_ksamp(samples, variant="midrank", method=stats.PermutationMethod(n_resamples=1))
    counts = [np.bincount(sample, minlength=12) for sample in samples]
    assert anderson_darling(counts)[0] == pytest.approx(expected.statistic, rel=1e-9)


def test_constants_of_large_samples_continue_those_of_small_ones():
    assert _constants(EXACT_ENTRIES + 1) == pytest.approx(_constants(EXACT_ENTRIES), rel=2e-5)


def test_supremum_worked_by_hand():
    first, second = np.array([30, 40, 30]), np.array([200, 400, 400])
    edges = [(0.3 - 0.2) / np.sqrt(0.2 * 0.8), (0.7 - 0.6) / np.sqrt(0.6 * 0.4)]
    expected = max(edges) * np.sqrt(100 * 1000 / 1100)
    assert normalised_supremum(first, second, minimum=20) == pytest.approx(expected)
    assert normalised_supremum(first, second, minimum=21) == pytest.approx(
        edges[1] * np.sqrt(100 * 1000 / 1100)
    )
    assert normalised_supremum(first, second, minimum=41) == 0


def test_a_heavier_tail_stands_out_more_than_in_kolmogorov_smirnov():
    reference = np.array([90_000, 9_000, 900, 100])
    window = np.array([8_970, 900, 90, 40])
    size = np.sqrt(10_000 * 100_000 / 110_000)
    assert ks_distances(window, reference)[0] * size < 0.5
    assert normalised_supremum(window, reference, minimum=5)[0] > 5


def test_each_bin_of_the_supremum_is_a_standard_normal(rng):
    values = [
        normalised_supremum(rng.multinomial(1000, [0.1, 0.9]), rng.multinomial(2000, [0.1, 0.9]))[0]
        for _ in range(600)
    ]
    assert np.mean(np.square(values)) == pytest.approx(1, abs=0.25)


def test_samples_that_hold_nothing_or_one_value_say_nothing():
    counts = [[0, 0, 5, 0, 1, 0, 1, 1], [3, 3, 9, 0, 0, 1, 1, 1]]
    assert anderson_darling(counts, [0, 2, 4, 6]).tolist()[:3] == [0, 0, 0]
    assert np.isfinite(anderson_darling(counts, [0, 2, 4, 6])).all()
    assert normalised_supremum(*counts, [0, 2, 4, 6], minimum=1e-9).tolist()[:2] == [0, 0]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="at least two samples"):
        anderson_darling([[1, 2, 3]])
    with pytest.raises(ValueError, match="minimum must be positive"):
        normalised_supremum([1, 2], [1, 2], minimum=0)
    with pytest.raises(ValueError, match="not negative"):
        anderson_darling([[1, 2], [-1, 2]])
