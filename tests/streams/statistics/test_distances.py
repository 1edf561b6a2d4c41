"""Distances of counts agree with scipy on the raw values."""

import numpy as np
import pytest
from scipy import stats

from streams.statistics import distances


def _sample(rng, size, mean):
    return np.clip(np.rint(rng.gamma(2.0, mean, size)), 0, 255).astype(np.int64)


@pytest.fixture
def samples():
    rng = np.random.default_rng(11)
    return _sample(rng, 900, 12.0), _sample(rng, 2100, 13.0)


@pytest.fixture
def counts(samples):
    return tuple(np.bincount(sample, minlength=256) for sample in samples)


def test_ks_equals_scipy_on_raw_values(samples, counts):
    got = distances.ks_from_counts(*counts)
    assert got.distance == pytest.approx(stats.ks_2samp(*samples).statistic, abs=1e-12)
    assert got.scaled == pytest.approx(got.distance * np.sqrt(900 * 2100 / 3000))


def test_wasserstein_equals_scipy_on_raw_values(samples, counts):
    expected = stats.wasserstein_distance(samples[0] * 0.5, samples[1] * 0.5)
    assert distances.wasserstein_distances(*counts)[0] * 0.5 == pytest.approx(expected, abs=1e-12)


def test_counts_of_different_bins_are_refused():
    with pytest.raises(ValueError, match="equal bins"):
        distances.ks_from_counts(np.ones(3), np.ones(4))


def test_empty_samples_say_nothing():
    empty, full = np.zeros(4, dtype=np.int64), np.ones(4, dtype=np.int64)
    assert distances.ks_from_counts(empty, full).scaled == 0
    assert distances.wasserstein_distances(empty, full)[0] == 0


def test_distances_of_many_histograms_equal_scipy_on_raw_values(many):
    ks = distances.ks_distances(*many.counts, many.starts)
    wasserstein = distances.wasserstein_distances(*many.counts, many.starts)
    spreads = distances.wasserstein_in_spreads(*many.counts, many.starts)
    for index, (one, two) in enumerate(many.pairs):
        expected = stats.wasserstein_distance(one, two)
        assert ks[index] == pytest.approx(stats.ks_2samp(one, two).statistic, abs=1e-12)
        assert wasserstein[index] == pytest.approx(expected, abs=1e-11)
        assert spreads[index] == pytest.approx(expected / two.std(), abs=1e-11)


def test_a_constant_reference_has_the_spread_of_rounding():
    assert distances.wasserstein_in_spreads([0, 9], [4, 0]) == pytest.approx(np.sqrt(12))


@pytest.mark.parametrize(
    "statistic",
    [distances.ks_distances, distances.wasserstein_distances, distances.wasserstein_in_spreads],
)
def test_an_empty_histogram_among_others_has_no_distance(statistic):
    assert statistic([0, 0, 3, 0], [1, 1, 0, 3], [0, 2]).tolist()[0] == 0
    assert statistic([0, 0, 3, 0], [1, 1, 0, 3], [0, 2])[1] > 0
    assert statistic([1, 1, 3, 0], [0, 0, 0, 0], [0, 2]).tolist() == [0, 0]


@pytest.mark.parametrize("bad", [[-1, 2], [np.nan, 1], [np.inf, 1]])
def test_counts_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError, match="finite and not negative"):
        distances.ks_distances(bad, [1, 1])
    with pytest.raises(ValueError, match="finite and not negative"):
        distances.ks_distances([1, 1], bad)


@pytest.mark.parametrize("starts", [[], [1], [0, 0], [0, 4], [[0]]])
def test_starts_that_leave_a_histogram_without_bins_are_refused(starts):
    with pytest.raises(ValueError, match="starts must begin at 0"):
        distances.ks_distances(np.ones(4), np.ones(4), starts)
