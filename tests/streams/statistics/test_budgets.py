"""Thresholds are exceeded as often as the budget says."""

import numpy as np
import pytest

from streams.statistics import budgets


def test_families_share_one_budget():
    share = budgets.share_budget(1e-3, 3)
    assert 1 - (1 - share) ** 3 == pytest.approx(1e-3)
    with pytest.raises(ValueError, match="budget"):
        budgets.share_budget(0.0, 3)


def test_normal_threshold_is_two_sided():
    assert budgets.normal_threshold(0.05) == pytest.approx(1.96, abs=1e-3)


@pytest.mark.parametrize("probability", [0.0, 1.0, -1.0, np.nan])
def test_probabilities_without_a_finite_threshold_are_refused(probability):
    with pytest.raises(ValueError, match="probability in"):
        budgets.normal_threshold(probability)
