"""Pulls and intervals of rates agree with what is known of them."""

import numpy as np
import pytest
from scipy import stats

from streams.statistics import rates


def test_rate_pull_is_the_square_root_of_the_pooled_chi2():
    table = [[130, 870], [1000, 9000]]
    chi2 = stats.chi2_contingency(table, correction=False).statistic
    assert rates.rate_pull(130, 1000, 1000, 10000) == pytest.approx(np.sqrt(chi2))
    assert rates.rate_pull(70, 1000, 1000, 10000) < 0


def test_poisson_interval_of_zero_is_the_rule_of_three():
    low, high = rates.poisson_interval(0)
    assert low == 0
    assert high == pytest.approx(3.689, abs=1e-3)
    assert rates.poisson_interval(9)[0] == pytest.approx(4.115, abs=1e-3)


def test_empty_samples_and_rates_that_cannot_vary_say_nothing():
    assert rates.rate_pull(0, 0, 5, 10) == 0
    assert rates.rate_pull(0, 10, 0, 10) == 0


def test_pulls_of_many_rates_are_those_of_each():
    counted, events = np.array([130, 70, 0, 0, 5]), np.array([1000, 1000, 0, 10, 5])
    expected, all_expected = np.array([1000, 1000, 5, 0, 7]), np.array([10000, 10000, 10, 10, 7])
    got = rates.rate_pulls(counted, events, expected, all_expected)
    each = [
        rates.rate_pull(*numbers)
        for numbers in zip(
            counted.tolist(), events.tolist(), expected.tolist(), all_expected.tolist(), strict=True
        )
    ]
    assert got == pytest.approx(each)


def test_beta_binomial_pull_is_the_likelihood_ratio_to_the_mode():
    n, r, m = 200, 30, 1000
    model = stats.betabinom(n, r + 1, m - r + 1)
    probabilities = model.logpmf(np.arange(n + 1))
    got = rates.beta_binomial_pulls(np.arange(n + 1), n, r, m)
    assert np.abs(got) == pytest.approx(np.sqrt(2 * (probabilities.max() - probabilities)), abs=1e-5)
    assert np.all(np.diff(got) >= 0)


def test_beta_binomial_pull_is_a_pull_where_counts_are_large():
    assert rates.beta_binomial_pulls(5200, 50_000, 100_000, 1_000_000) == pytest.approx(
        200 / np.sqrt(5000 * 0.9 * 1.05), rel=0.02
    )


def test_a_tolerance_is_forgiven_in_quadrature():
    # 2 % of tolerance on 50000 entries weighs as much as a reference of 1 / (1 / r + t^2) entries
    tolerant = rates.beta_binomial_pulls(51_000, 500_000, 100_000, 1_000_000, tolerance=0.02)
    effective = 1 / (1 / 100_000 + 0.02**2)
    assert tolerant == pytest.approx(
        rates.beta_binomial_pulls(51_000, 500_000, effective, 10 * effective), rel=1e-6
    )
    assert tolerant < 1.1
    assert rates.beta_binomial_pulls(51_000, 500_000, 100_000, 1_000_000) > 3.5


def test_deviance_residuals_are_the_significance_of_li_and_ma():
    on, off, alpha = 25.0, 60.0, 0.2
    first = on * np.log((1 + alpha) / alpha * on / (on + off))
    second = off * np.log((1 + alpha) * off / (on + off))
    assert rates.poisson_deviance_residuals(on, off, alpha) == pytest.approx(np.sqrt(2 * (first + second)))
    assert rates.poisson_deviance_residuals(5, 60, alpha) < 0
    # equal to the binomial deviance of one cell against its expectation when the reference is exact
    exact = np.sqrt(2 * (25 * np.log(25 / 12) - 13))
    assert rates.poisson_deviance_residuals(25, 12e6, 1e-6) == pytest.approx(exact, rel=1e-4)


def test_deviance_residuals_of_no_counts_are_finite():
    got = rates.poisson_deviance_residuals([0, 0, 7], [0, 50, 0], 0.1)
    assert got == pytest.approx([0, -np.sqrt(2 * 50 * np.log(1.1)), np.sqrt(2 * 7 * np.log(11))])


def test_deviance_residuals_of_few_counts_are_near_standard_normal(rng):
    got = rates.poisson_deviance_residuals(rng.poisson(6, 20_000), rng.poisson(60, 20_000), 0.1)
    assert abs(got.mean()) < 0.1
    assert got.std() == pytest.approx(1, abs=0.05)


def test_numbers_that_cannot_be_are_refused():
    for pulls in (rates.rate_pulls, rates.beta_binomial_pulls):
        with pytest.raises(ValueError, match="more are counted"):
            pulls(5, 4, 1, 10)
        with pytest.raises(ValueError, match="not negative"):
            pulls(np.nan, 4, 1, 10)
        assert pulls([0, 3], [0, 5], [3, 0], [9, 0]).tolist() == [0, 0]
    with pytest.raises(ValueError, match="tolerance"):
        rates.beta_binomial_pulls(1, 2, 3, 4, tolerance=-1)
    with pytest.raises(ValueError, match="exposure of 0"):
        rates.poisson_deviance_residuals(1, 2, 0)


def test_intervals_of_what_cannot_be_counted_are_refused():
    with pytest.raises(ValueError, match="a count from 0"):
        rates.poisson_interval(-1)
    with pytest.raises(ValueError, match="more are counted"):
        rates.rate_pull(11, 10, 1, 10)
