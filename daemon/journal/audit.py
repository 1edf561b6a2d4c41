"""The chain of hashes over everything that happened: its canonical form, and what breaks it.

Pure: it is handed entries and a head. Knows no database; `audit_log` reads and writes there. docs/audit.md
says the form in words, so that a program of somebody else can check a log without this one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

FORM: Final = 1
"""Version of the canonical form; it is part of what is hashed."""
GENESIS: Final = "0" * 64
"""What stands for the hash before the first event."""
CHECKPOINT: Final = "audit.checkpoint"
"""Kind of the event by which retention signs off what it takes from the beginning of the chain."""


@dataclass(frozen=True)
class Entry:
    """One event as the chain sees it: everything but whether it was published, which is no content.

    Attributes
    ----------
    at
        Aware UTC, to the microsecond.
    detail
        JSON.
    previous, hash
        Of the event before and of this one, 64 hex digits.
    """

    sequence: int
    id: str
    at: datetime
    kind: str
    actor: str
    model: str | None
    incident_id: str | None
    response_id: str | None
    simulated: bool
    text: str
    detail: Mapping[str, Any]
    previous: str
    hash: str = ""


@dataclass(frozen=True)
class Unreadable:
    """A row that is there and cannot be read as an event: somebody wrote it by hand."""

    sequence: int


@dataclass(frozen=True)
class Head:
    """Where a chain begins and ends: the last event pruned, and the newest one."""

    sequence: int = 0
    hash: str = GENESIS
    checkpoint_sequence: int = 0
    checkpoint_hash: str = GENESIS


class Fault(StrEnum):
    """What is wrong at the first event that does not fit."""

    EDITED = "edited"
    MISSING = "missing"
    INSERTED = "inserted"


@dataclass(frozen=True)
class Break:
    """The first place at which a chain does not hold, with a sentence for people."""

    sequence: int
    fault: Fault
    text: str


@dataclass(frozen=True)
class Report:
    """What a check of a chain found; `broken` is None when it is sound.

    Attributes
    ----------
    n_events
        Events that fit, up to the break.
    first, last
        Sequences of the first and the last of them; 0 without any.
    hash
        Of the last that fits: note it elsewhere, and a later check can be held to it.
    pruned_up_to
        Events up to this one are gone by retention; 0: none.
    """

    n_events: int
    first: int
    last: int
    hash: str
    pruned_up_to: int
    broken: Break | None

    @property
    def sound(self) -> bool:
        """Whether every event is as it was written."""
        return self.broken is None


def canonical(entry: Entry) -> bytes:
    """Encode the content of an event and the hash before it: one JSON object, the same from any database.

    Keys sorted by code point, no white space, ASCII with escapes for the rest, integers in decimal digits,
    other numbers as the shortest decimal that reads back as the same double.
    """
    content = {name: value for name, value in asdict(entry).items() if name != "hash"}
    content["at"] = entry.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    content["form"] = FORM
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def digest(entry: Entry) -> str:
    """Hash an event: SHA-256 of its canonical form, 64 hex digits."""
    return hashlib.sha256(canonical(entry)).hexdigest()


def check_chain(
    entries: Iterable[Entry | Unreadable], head: Head | None, expected: Mapping[int, str] | None = None
) -> Report:
    """Go along a chain to the first event that does not fit.

    Parameters
    ----------
    entries
        In ascending order of their sequences; read once, one at a time.
    head
        Where the chain begins and ends; None: its row is gone.
    expected
        Sequences and the hashes that somebody noted for them at an earlier check or saw on Kafka. With them
        even a chain that was made anew as a whole is found out.
    """
    walk = _Walk(head or Head(), dict(expected or {}))
    broken = None
    if head is None:
        broken = Break(0, Fault.MISSING, "the row that says where the chain ends is missing")
    else:
        for entry in entries:
            broken = walk.step(entry)
            if broken is not None:
                break
        else:
            broken = walk.end()
    return Report(
        walk.n_events, walk.first, walk.last if walk.n_events else 0, walk.hash, walk.pruned_up_to, broken
    )


class _Walk:
    """How far a check has come."""

    def __init__(self, head: Head, expected: dict[int, str]) -> None:
        self._head = head
        self._expected = expected
        self._before_last = ""  # the hash before the last event
        self._signed_off = head.checkpoint_sequence == 0 and head.checkpoint_hash == GENESIS
        self.pruned_up_to = head.checkpoint_sequence
        self.last = head.checkpoint_sequence
        self.hash = head.checkpoint_hash
        self.first = 0
        self.n_events = 0

    def step(self, entry: Entry | Unreadable) -> Break | None:
        """Take the next event; say what does not fit."""
        number = entry.sequence
        if number <= self._head.checkpoint_sequence:
            return Break(number, Fault.INSERTED, f"event {number} was inserted before the chain's beginning")
        if number > self._head.sequence:
            return Break(number, Fault.INSERTED, f"event {number} was inserted after the chain's end")
        if isinstance(entry, Unreadable) or not _is_as_written(entry):
            return Break(
                number, Fault.EDITED, f"event {number} was edited: its hash is not that of its content"
            )
        if entry.previous != self.hash:
            return self._not_following(entry)
        noted = self._expected.pop(number, entry.hash)
        if noted != entry.hash:
            return Break(number, Fault.EDITED, f"event {number} is not the one whose hash was noted")
        if entry.kind == CHECKPOINT and _signs_off(entry, self._head):
            self._signed_off = True
        self._before_last, self.hash, self.last = self.hash, entry.hash, number
        self.first = self.first or number
        self.n_events += 1
        return None

    def end(self) -> Break | None:
        """Say what does not fit at the end."""
        head = self._head
        if self.last < head.sequence:
            return Break(self.last + 1, Fault.MISSING, _missing(self.last + 1, head.sequence))
        if self.hash != head.hash:
            text = f"event {self.last}, the newest, was edited and hashed anew, or the chain's end was"
            return Break(self.last, Fault.EDITED, text)
        if not self._signed_off:
            first = self.first or head.checkpoint_sequence
            text = f"the events before {first} are missing, and no {CHECKPOINT} event signs them off"
            return Break(first, Fault.MISSING, text)
        gone = sorted(number for number in self._expected if number > head.checkpoint_sequence)
        if gone:
            return Break(gone[0], Fault.MISSING, f"event {gone[0]}, whose hash was noted, is missing")
        return None

    def _not_following(self, entry: Entry) -> Break:
        number = entry.sequence
        if self.n_events and entry.previous == self._before_last:
            return Break(self.last, Fault.INSERTED, f"event {self.last} was inserted")
        if number > self.last + 1:
            return Break(self.last + 1, Fault.MISSING, _missing(self.last + 1, number - 1))
        text = f"event {self.last} was edited and hashed anew: event {number} follows another one"
        return Break(self.last, Fault.EDITED, text)


def _is_as_written(entry: Entry) -> bool:
    try:
        return digest(entry) == entry.hash
    except (AttributeError, TypeError, ValueError):
        return False  # SQLite keeps a value of any type in any column


def _signs_off(entry: Entry, head: Head) -> bool:
    return (
        entry.detail.get("sequence") == head.checkpoint_sequence
        and entry.detail.get("hash") == head.checkpoint_hash
    )


def _missing(first: int, last: int) -> str:
    return f"event {first} is missing" if first == last else f"events {first} to {last} are missing"
