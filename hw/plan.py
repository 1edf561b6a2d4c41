"""The plan: the least invasive way from the firmware on a board to a new one. Pure comparison of two models.

Refuses to know boards, files and clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import numpy as np

from hw.models import Model

_WORD_BYTES = 4
_CONFIGURATION_BYTES_PER_S = 400e6
"""Typical rate of a partial reconfiguration controller (doi 10.1145/3748728); ICAP itself: 3.2-6.4 Gb/s."""

_MODELLED = "modelled: bytes over a typical configuration rate of 400 MB/s (doi 10.1145/3748728)"


class PlanKind(StrEnum):
    """How much of the board changes."""

    NOTHING = "nothing"
    WEIGHTS = "weights"
    """Rewrite words of the weight memory; no place and route, no lost event."""
    PARTIAL = "partial"
    """Replace reconfigurable partitions inside the same static part."""
    FULL = "full"
    """Replace the whole firmware."""

    def covers(self, other: PlanKind) -> bool:
        """Whether who approved this has approved `other` too, which changes no more."""
        order = list(PlanKind)
        return order.index(other) <= order.index(self)


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
        Names of the parameters that differ, constants of the firmware included.
    changed_words
        How many words of them differ.
    changed_partitions
        Names of the partitions that take a new image.
    transfer_bytes
        Bytes that go to the board.
    dead_time_s
        Expected time in which the board scores no events.
    dead_time_source
        Where that number comes from.
    lost
        One sentence: what is lost meanwhile.
    """

    kind: PlanKind
    reason: str
    changed_segments: tuple[str, ...]
    changed_words: int
    changed_partitions: tuple[str, ...]
    transfer_bytes: int
    dead_time_s: float
    dead_time_source: str
    lost: str


def plan(
    current: Model,
    new: Model,
    *,
    image_bytes: Mapping[str, int] = MappingProxyType({}),
    event_rate_hz: float | None = None,
) -> Plan:
    """Find the least invasive way from `current` to `new`.

    Parameters
    ----------
    current, new
        The firmware on the board and the wanted one.
    image_bytes
        Size of the new image or bitstream of every partition, by its name.
    event_rate_hz
        Events per second that reach the board; left out, lost events are told as a time.
    """
    segments, words = _parameter_difference(current, new)
    partitions = _changed_partitions(current, new)
    if current.shell_hash != new.shell_hash:
        kind, reason = PlanKind.FULL, f"the static part differs: {_difference(current, new)}"
        partitions = tuple(p.name for p in new.partitions())
    elif partitions:
        kind, reason = PlanKind.PARTIAL, _partial_reason(current, new, partitions, segments)
    elif words:
        kind = PlanKind.WEIGHTS
        reason = f"same structure, {words} of {new.n_words} words differ, in {', '.join(segments)}"
    else:
        kind, reason = PlanKind.NOTHING, "both hold the same weights in the same structure"
    transfer = _transfer_bytes(kind, new, partitions, image_bytes)
    dead_time, source = _dead_time(kind, transfer)
    return Plan(
        kind,
        reason,
        segments,
        words,
        partitions,
        transfer,
        dead_time,
        source,
        _lost(kind, dead_time, event_rate_hz),
    )


def _parameter_difference(current: Model, new: Model) -> tuple[tuple[str, ...], int]:
    """Name the parameters that differ and count their words; nothing where the parameters are other ones."""
    if current.parameter_segments() != new.parameter_segments():
        return (), 0
    differs = current.parameters() != new.parameters()
    names = tuple(s.name for s in new.parameter_segments() if differs[s.start : s.stop].any())
    return names, int(np.count_nonzero(differs))


def _changed_partitions(current: Model, new: Model) -> tuple[str, ...]:
    old = {p.name: p.structure_hash for p in current.partitions()}
    return tuple(p.name for p in new.partitions() if old.get(p.name) != p.structure_hash)


def _partial_reason(
    current: Model, new: Model, partitions: tuple[str, ...], segments: tuple[str, ...]
) -> str:
    many = f"{len(partitions)} of {len(new.partitions())} partitions change ({', '.join(partitions)})"
    constants = [name for name in segments if name in new.layout.constants]
    if constants:
        return f"{many}: {', '.join(constants)} are constants of this firmware"
    return f"{many}: {_first_difference(current.structure(), new.structure())}"


def _transfer_bytes(
    kind: PlanKind, new: Model, partitions: tuple[str, ...], image_bytes: Mapping[str, int]
) -> int:
    if kind is PlanKind.NOTHING:
        return 0
    words = new.n_words * _WORD_BYTES
    return words + sum(image_bytes.get(name, 0) for name in partitions)


def _dead_time(kind: PlanKind, transfer: int) -> tuple[float, str]:
    if kind is PlanKind.NOTHING:
        return 0.0, "nothing is done"
    if kind is PlanKind.WEIGHTS:
        return 0.0, "two weight banks: the loaded one becomes active between two events"
    return transfer / _CONFIGURATION_BYTES_PER_S, _MODELLED


def _lost(kind: PlanKind, dead_time_s: float, event_rate_hz: float | None) -> str:
    if kind in (PlanKind.NOTHING, PlanKind.WEIGHTS):
        return "no event"
    if event_rate_hz is None:
        return f"what arrives within {1e3 * dead_time_s:.1f} ms is not scored"
    return f"about {event_rate_hz * dead_time_s:,.0f} events are not scored"


def _difference(current: Model, new: Model) -> str:
    """Name the first thing that makes two static parts different."""
    old, wanted = current.structure(), new.structure()
    for key in ("name", "contract_hash", "input_names"):
        if old[key] != wanted[key]:
            return _first_difference(old[key], wanted[key], key)
    for key in ("toolchain", "part", "cuts"):
        one, other = getattr(current.layout, key), getattr(new.layout, key)
        if one != other:
            return _first_difference(one, other, key)
    return _first_difference(old, wanted)


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
