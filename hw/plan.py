"""The plan: the least invasive way from the firmware on a board to a new one. Pure comparison of two models.

Refuses to know boards, files and clocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from hw.network import FirmwareModel

_WORD_BYTES = 4
_CONFIGURATION_BYTES_PER_S = 400e6
"""Typical rate of a partial reconfiguration controller (doi 10.1145/3748728); ICAP itself: 3.2-6.4 Gb/s."""


class PlanKind(StrEnum):
    """How much of the board changes."""

    NOTHING = "nothing"
    WEIGHTS = "weights"
    """Rewrite words of the weight memory; no place and route, no lost event."""
    PARTIAL = "partial"
    """Replace one reconfigurable partition; needs a toolchain that splits the firmware into partitions."""
    FULL = "full"
    """Replace the whole firmware."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, why, and what it costs.

    Parameters
    ----------
    kind
        The way.
    reason
        One sentence.
    changed_segments
        Names of the segments whose words differ (weights only).
    changed_words
        How many words differ.
    transfer_bytes
        Bytes that go to the board.
    dead_time_s
        Expected time in which the board scores no events.
    dead_time_source
        Where that number comes from.
    """

    kind: PlanKind
    reason: str
    changed_segments: tuple[str, ...]
    changed_words: int
    transfer_bytes: int
    dead_time_s: float
    dead_time_source: str


def plan(current: FirmwareModel, new: FirmwareModel, *, image_bytes: int = 0) -> Plan:
    """Find the least invasive way from `current` to `new`.

    Parameters
    ----------
    current, new
        The firmware on the board and the wanted one.
    image_bytes
        Size of the new package or bitstream, for the estimate of a full reconfiguration.
    """
    if current.structure_hash != new.structure_hash:
        return Plan(
            PlanKind.FULL,
            f"the structure differs: {_first_difference(current.structure(), new.structure())}",
            (),
            0,
            image_bytes,
            image_bytes / _CONFIGURATION_BYTES_PER_S,
            "image size over a typical configuration rate of 400 MB/s (doi 10.1145/3748728)",
        )
    differs = current.memory() != new.memory()
    words = int(np.count_nonzero(differs))
    if not words:
        return Plan(
            PlanKind.NOTHING,
            "both hold the same weights in the same structure",
            (),
            0,
            0,
            0.0,
            "nothing is done",
        )
    names = tuple(s.name for s in new.segments() if differs[s.start : s.stop].any())
    return Plan(
        PlanKind.WEIGHTS,
        f"same structure, {words} of {new.n_words} words differ, in {', '.join(names)}",
        names,
        words,
        new.n_words * _WORD_BYTES,
        0.0,
        "two weight banks: the loaded one becomes active between two events",
    )


def _first_difference(old: object, new: object, where: str = "") -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old:
            if old[key] != new.get(key):
                return _first_difference(old[key], new.get(key), f"{where}.{key}" if where else str(key))
    if isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            return f"{where}: {len(old)} -> {len(new)} entries"
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            if one != other:
                return _first_difference(one, other, f"{where}[{index}]")
    return f"{where}: {old} -> {new}"
