"""Strategy `batchnorm`: refresh the running statistics of batch normalisation layers.

The firmware of this package folds no such layer and keeps none, so the strategy says so and offers nothing.
"""

from __future__ import annotations

from hw.network import FirmwareModel
from retrain.strategies.base import Material, Proposal
from retrain.train_settings import Progress


class BatchNormalisation:
    """Refreshes batch normalisation; a firmware model of dense layers has none."""

    name = "batchnorm"

    def segments(self, model: FirmwareModel) -> tuple[str, ...]:  # noqa: ARG002 - one signature for all strategies
        """Name the segments it may change: none."""
        return ()

    def propose(self, material: Material, progress: Progress) -> Proposal:  # noqa: ARG002 - one signature for all strategies
        """Say why there is no candidate."""
        return Proposal(
            None, f"model {material.model.name} has no batch normalisation layer: nothing to refresh"
        )
