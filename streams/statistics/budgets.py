"""Budgets of false alarms: how they are shared."""

import numpy as np


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
