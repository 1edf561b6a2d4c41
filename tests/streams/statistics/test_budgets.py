"""Thresholds are exceeded as often as the budget says."""

import numpy as np
import pytest
from scipy import stats

from streams.statistics import budgets


def test_families_share_one_budget():
    share = budgets.share_budget(1e-3, 3)
    assert 1 - (1 - share) ** 3 == pytest.approx(1e-3)
    with pytest.raises(ValueError, match="budget"):
        budgets.share_budget(0.0, 3)


def test_gumbel_threshold_is_exceeded_as_often_as_asked():
    rng = np.random.default_rng(3)
    threshold = budgets.gumbel_threshold(rng.gumbel(1.0, 0.2, 4000), 0.01)
    assert threshold >= stats.gumbel_r.isf(0.01, 1.0, 0.2)
    few = [budgets.gumbel_threshold(rng.gumbel(1.0, 0.2, 20), 1e-3) for _ in range(400)]
    assert np.mean(few) == pytest.approx(stats.gumbel_r.isf(1e-3, 1.0, 0.2), rel=0.05)


def test_gumbel_threshold_never_calls_a_calibration_value_bad():
    assert budgets.gumbel_threshold(np.array([1.0, 1.0, 1.0, 9.0]), 0.3) >= 9.0
    with pytest.raises(ValueError, match="two finite"):
        budgets.gumbel_threshold(np.array([1.0]), 0.1)


def test_normal_threshold_is_two_sided():
    assert budgets.normal_threshold(0.05) == pytest.approx(1.96, abs=1e-3)


def test_kolmogorov_threshold_is_that_of_the_table():
    assert budgets.kolmogorov_threshold(0.05) == pytest.approx(1.3581, abs=1e-4)


@pytest.mark.parametrize("probability", [0.0, 1.0, -1.0, np.nan])
def test_probabilities_without_a_finite_threshold_are_refused(probability):
    for threshold in (
        budgets.normal_threshold,
        budgets.kolmogorov_threshold,
        lambda chance: budgets.gumbel_threshold(np.array([1.0, 2.0]), chance),
    ):
        with pytest.raises(ValueError, match="probability in"):
            threshold(probability)
