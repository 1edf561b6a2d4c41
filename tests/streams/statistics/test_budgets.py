"""Families share one budget, and no more."""

import pytest

from streams.statistics import budgets


def test_families_share_one_budget():
    share = budgets.share_budget(1e-3, 3)
    assert 1 - (1 - share) ** 3 == pytest.approx(1e-3)


@pytest.mark.parametrize(("budget", "families"), [(0.0, 3), (1.0, 3), (float("nan"), 3), (1e-3, 0)])
def test_what_cannot_be_shared_is_refused(budget, families):
    with pytest.raises(ValueError, match="budget"):
        budgets.share_budget(budget, families)
