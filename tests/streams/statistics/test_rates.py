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
