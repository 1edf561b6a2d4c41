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
    assert distances.wasserstein_from_counts(*counts, bin_width=0.5) == pytest.approx(expected, abs=1e-12)


def test_counts_of_different_bins_are_refused():
    with pytest.raises(ValueError, match="equal bins"):
        distances.ks_from_counts(np.ones(3), np.ones(4))


def test_empty_samples_say_nothing():
    empty, full = np.zeros(4, dtype=np.int64), np.ones(4, dtype=np.int64)
    assert distances.ks_from_counts(empty, full).scaled == 0
    assert distances.wasserstein_from_counts(empty, full) == 0
