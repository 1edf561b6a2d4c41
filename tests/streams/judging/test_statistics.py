"""Statistics of counts agree with scipy on the raw values."""

import numpy as np
import pytest
from scipy import stats

from streams.judging import statistics


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
    got = statistics.ks_from_counts(*counts)
    assert got.distance == pytest.approx(stats.ks_2samp(*samples).statistic, abs=1e-12)
    assert got.scaled == pytest.approx(got.distance * np.sqrt(900 * 2100 / 3000))


def test_wasserstein_equals_scipy_on_raw_values(samples, counts):
    expected = stats.wasserstein_distance(samples[0] * 0.5, samples[1] * 0.5)
    assert statistics.wasserstein_from_counts(*counts, bin_width=0.5) == pytest.approx(expected, abs=1e-12)


def test_mean_residual_equals_welch(samples, counts):
    got = statistics.mean_residual(*counts)
    assert got.shift == pytest.approx(samples[0].mean() - samples[1].mean())
    assert got.pull == pytest.approx(stats.ttest_ind(*samples, equal_var=False).statistic, rel=2e-3)


def test_mean_residual_of_constant_samples_is_zero_or_infinite():
    here, there = np.array([5, 0]), np.array([0, 5])
    assert statistics.mean_residual(here, here) == statistics.MeanResidual(0.0, 0.0)
    assert statistics.mean_residual(there, here).pull == np.inf


def test_rate_pull_is_the_square_root_of_the_pooled_chi2():
    table = [[130, 870], [1000, 9000]]
    chi2 = stats.chi2_contingency(table, correction=False).statistic
    assert statistics.rate_pull(130, 1000, 1000, 10000) == pytest.approx(np.sqrt(chi2))
    assert statistics.rate_pull(70, 1000, 1000, 10000) < 0


def test_empty_samples_say_nothing():
    empty, full = np.zeros(4, dtype=np.int64), np.ones(4, dtype=np.int64)
    assert statistics.ks_from_counts(empty, full).scaled == 0
    assert statistics.wasserstein_from_counts(empty, full) == 0
    assert statistics.rate_pull(0, 0, 5, 10) == 0
    assert statistics.rate_pull(0, 10, 0, 10) == 0


def test_counts_of_different_bins_are_refused():
    with pytest.raises(ValueError, match="equal bins"):
        statistics.ks_from_counts(np.ones(3), np.ones(4))


def test_families_share_one_budget():
    share = statistics.share_budget(1e-3, 3)
    assert 1 - (1 - share) ** 3 == pytest.approx(1e-3)
    with pytest.raises(ValueError, match="budget"):
        statistics.share_budget(0.0, 3)


def test_gumbel_threshold_is_exceeded_as_often_as_asked():
    rng = np.random.default_rng(3)
    threshold = statistics.gumbel_threshold(rng.gumbel(1.0, 0.2, 4000), 0.01)
    assert threshold >= stats.gumbel_r.isf(0.01, 1.0, 0.2)
    few = [statistics.gumbel_threshold(rng.gumbel(1.0, 0.2, 20), 1e-3) for _ in range(400)]
    assert np.mean(few) == pytest.approx(stats.gumbel_r.isf(1e-3, 1.0, 0.2), rel=0.05)


def test_gumbel_threshold_never_calls_a_calibration_value_bad():
    assert statistics.gumbel_threshold(np.array([1.0, 1.0, 1.0, 9.0]), 0.3) >= 9.0
    with pytest.raises(ValueError, match="two finite"):
        statistics.gumbel_threshold(np.array([1.0]), 0.1)


def test_normal_threshold_is_two_sided():
    assert statistics.normal_threshold(0.05) == pytest.approx(1.96, abs=1e-3)


def test_poisson_interval_of_zero_is_the_rule_of_three():
    low, high = statistics.poisson_interval(0)
    assert low == 0
    assert high == pytest.approx(3.689, abs=1e-3)
    assert statistics.poisson_interval(9)[0] == pytest.approx(4.115, abs=1e-3)
