"""What a strategy is: its material, its proposal and its protocol. Refuses to know any particular one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hw.network import FirmwareModel
from retrain.gain import GainEstimate, GainSettings
from retrain.train_settings import Progress
from streams.contracts.contract import Contract

Inputs = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Material:
    """What a strategy may look at: never the held-out events.

    Parameters
    ----------
    model
        The firmware on the board.
    contract
        The model's inputs.
    reference, recent
        Events from before the drift and of the incident: int16, (n, n_inputs).
    seed
        Of everything random.
    gain
        When a gain counts.
    threads
        Of torch.
    """

    model: FirmwareModel
    contract: Contract
    reference: Inputs
    recent: Inputs
    seed: int
    gain: GainSettings
    threads: int


@dataclass(frozen=True)
class Proposal:
    """What a strategy came up with.

    Parameters
    ----------
    model
        The candidate, of the same structure; None when the strategy has nothing to offer.
    reason
        What was done, or why nothing: one sentence for people.
    gains
        What was found per object, where the strategy looked for gains.
    """

    model: FirmwareModel | None
    reason: str
    gains: tuple[GainEstimate, ...] = field(default=())


class Strategy(Protocol):
    """A way to retrain."""

    @property
    def name(self) -> str:
        """Name in policies and reports."""

    def segments(self, model: FirmwareModel) -> tuple[str, ...]:
        """Name the segments of the weight memory it may change; none where it does not apply."""

    def propose(self, material: Material, progress: Progress) -> Proposal:
        """Make a candidate."""
