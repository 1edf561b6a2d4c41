"""Differences of moments agree with scipy on the raw values."""

import numpy as np
import pytest
from scipy import stats

from streams.statistics import residuals


def _sample(rng, size, mean):
    return np.clip(np.rint(rng.gamma(2.0, mean, size)), 0, 255).astype(np.int64)


@pytest.fixture
def samples():
    rng = np.random.default_rng(11)
    return _sample(rng, 900, 12.0), _sample(rng, 2100, 13.0)


@pytest.fixture
def counts(samples):
    return tuple(np.bincount(sample, minlength=256) for sample in samples)


def test_mean_residual_equals_welch(samples, counts):
    got = residuals.mean_residual(*counts)
    assert got.shift == pytest.approx(samples[0].mean() - samples[1].mean())
    assert got.pull == pytest.approx(stats.ttest_ind(*samples, equal_var=False).statistic, rel=2e-3)


def test_mean_residual_of_constant_samples_is_zero_or_infinite():
    here, there = np.array([5, 0]), np.array([0, 5])
    assert residuals.mean_residual(here, here) == residuals.MeanResidual(0.0, 0.0)
    assert residuals.mean_residual(there, here).pull == np.inf
