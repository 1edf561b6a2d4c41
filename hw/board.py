"""The board as the rest of lumiwatch sees it: identity, two weight banks, a switch, events.

Every board runs from one bank of weights while the other can be loaded; the switch falls between two events.
Refuses to know how a board is reached.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class BoardCounters:
    """What the board has done since it was started.

    Parameters
    ----------
    events, accepts
        Events scored and accepted.
    switches, replacements, boots
        Changes of weights, of partitions and of the whole firmware.
    refusals
        Commands the board refused.
    """

    events: int
    accepts: int
    switches: int
    replacements: int
    boots: int
    refusals: int


@dataclass(frozen=True, slots=True)
class BoardIdentity:
    """What the board says it is.

    Parameters
    ----------
    address
        Where it answered.
    simulated
        True for an emulated board.
    shell_hash, structure_hash, weights_hash, package_id
        The firmware that scores events now, as sha256 hex.
    partition_hashes
        Structure of every partition, in the order of the data.
    active_bank
        0 or 1.
    epoch
        Counts switches and boots; equal epochs mean equal firmware.
    n_inputs, n_words
        Inputs per event and words per weight bank.
    """

    address: str
    simulated: bool
    shell_hash: str
    partition_hashes: tuple[str, ...]
    structure_hash: str
    weights_hash: str
    package_id: str
    active_bank: int
    epoch: int
    n_inputs: int
    n_words: int
    counters: BoardCounters


@dataclass(frozen=True, slots=True, eq=False)
class ProcessedEvents:
    """Answers of the board to one batch, all given by the same firmware.

    Parameters
    ----------
    scores
        int64, (n,), raw.
    accepts
        bool, (n,).
    package_id
        The package that scored them.
    """

    scores: npt.NDArray[np.int64] = field(repr=False)
    accepts: npt.NDArray[np.bool_] = field(repr=False)
    package_id: str


class Board(Protocol):
    """A board; its methods raise `BoardUnreachable` when it is silent, `BoardRefused` when it says no."""

    @property
    def address(self) -> str:
        """Where the board is, for people."""
        ...

    def identify(self) -> BoardIdentity:
        """Ask what runs on the board."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the right to configure the board; `BoardBusy` when somebody else holds it."""
        ...

    def load_inactive(self, words: npt.NDArray[np.int32], start: int = 0) -> None:
        """Write int32 words into the inactive bank from index `start`; the active one keeps scoring."""
        ...

    def read_back(self, *, active: bool = False) -> npt.NDArray[np.int32]:
        """Read the inactive (or the active) bank: int32, (n_words,)."""
        ...

    def switch(self, *, structure_hash: str, weights_hash: str, package_id: str) -> BoardIdentity:
        """Make the inactive bank the active one between two events.

        The board itself refuses when `structure_hash` is not the structure it runs, or when the bank
        does not hold what this client believes it loaded.
        """
        ...

    def process(self, inputs: npt.NDArray[np.int16]) -> ProcessedEvents:
        """Score int16 inputs (n, n_inputs) in the board, all with the same firmware."""
        ...

    def replace(self, package: bytes) -> BoardIdentity:
        """Replace partitions by those in `board_content` bytes; when refused, the old ones run on."""
        ...

    def boot(self, package: bytes) -> BoardIdentity:
        """Replace the whole firmware by `board_content` bytes; when refused, the old one runs on."""
        ...

    def commit(self) -> None:
        """Let the board start with what it runs now after a loss of power; it must have been proven.

        The board itself refuses when its active bank does not hold what was switched to.
        """
        ...

    def close(self) -> None:
        """End the connection."""
        ...
