"""The strategies: ways to retrain, from the least to the most invasive. One file per idea.

`STRATEGIES` names them all in that order; a new one is one entry. Nothing here knows boards or approvals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from retrain.errors import StrategyUnknown
from retrain.strategies.base import Material, Proposal, Strategy
from retrain.strategies.batch_normalisation import BatchNormalisation
from retrain.strategies.fine_tuning import FineTuning, all_weights, bias, last_layer, layers
from retrain.strategies.recalibration import InputRecalibration

__all__ = [
    "STRATEGIES",
    "BatchNormalisation",
    "FineTuning",
    "InputRecalibration",
    "Material",
    "Proposal",
    "Strategy",
    "strategies_named",
]

STRATEGIES: Final[dict[str, Strategy]] = {
    strategy.name: strategy
    for strategy in (
        InputRecalibration(),
        BatchNormalisation(),
        FineTuning("bias", bias),
        FineTuning("last_layer", last_layer),
        FineTuning("layers", layers),
        FineTuning("all_weights", all_weights),
    )
}
"""Name -> strategy, the least invasive first."""


def strategies_named(names: Sequence[str] | None = None) -> list[Strategy]:
    """Return the strategies of these names, or all of them, the least invasive first.

    Raises
    ------
    StrategyUnknown
        When a name is not registered, or none is given.
    """
    if names is None:
        return list(STRATEGIES.values())
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown:
        raise StrategyUnknown(f"strategy '{unknown[0]}' is unknown: known are {', '.join(STRATEGIES)}")
    if not names:
        raise StrategyUnknown(f"no strategy is named: name at least one of {', '.join(STRATEGIES)}")
    return [strategy for name, strategy in STRATEGIES.items() if name in names]
