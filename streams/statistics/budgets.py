"""Budgets of false alarms: how they are shared, and the thresholds that keep to them."""

from typing import Final

import numpy as np
from scipy import stats

EULER_GAMMA: Final = 0.5772156649015329


def share_budget(budget: float, families: int) -> float:
    """False-alarm probability each of several OR-ed families may spend (Sidak).

    Raises
    ------
    ValueError
        If the budget is not a probability in (0, 1) or there is no family.
    """
    if not 0 < budget < 1 or families < 1:
        message = f"a budget in (0, 1) and at least one family are needed, got {budget} and {families}"
        raise ValueError(message)
    return float(-np.expm1(np.log1p(-budget) / families))


def normal_threshold(probability: float) -> float:
    """Absolute pull that a standard normal variable exceeds with the given two-sided probability.

    Raises
    ------
    ValueError
        The probability is not in (0, 1).
    """
    _check(probability)
    return float(stats.norm.isf(probability / 2.0))


def _check(probability: float) -> None:
    if not 0 < probability < 1:
        raise ValueError(
            f"a probability in (0, 1) is needed, got {probability}: outside no threshold is finite"
        )
