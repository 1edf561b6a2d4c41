"""Which silences keep an incident quiet: pure functions.

Refuses to know the database and the clock: silences and incidents come in, and so does the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from daemon.store.views import View
from streams.judging.channels import MEAN, PRESENCE, RATE, SCALE, SCORE, TAIL
from streams.judging.extremes import INPUTS, MAPS
from streams.judging.flows import RANGE
from streams.judging.pairs import CORRELATIONS
from streams.judging.spikes import SPIKES
from streams.judging.verdict import INTEGRITY

FAMILIES: Final = (
    SCALE, MEAN, TAIL, PRESENCE, INPUTS, MAPS, CORRELATIONS, RANGE, SPIKES, SCORE, RATE, INTEGRITY,
)  # fmt: skip
"""Families that a silence can name."""


class Silence(View):
    """One silence, as people see it.

    Parameters
    ----------
    id
        Such as ``silence-3``.
    model, family, object
        What an incident must have; None matches everything.
    ends_at
        When it ends, or ended if `ended_by` ended it early.
    """

    id: str
    author: str
    reason: str
    model: str | None
    family: str | None
    object: str | None
    created_at: datetime
    starts_at: datetime
    ends_at: datetime
    ended_by: str | None

    def active(self, now: datetime) -> bool:
        """Whether it has begun and not ended."""
        return self.starts_at <= now < self.ends_at

    @property
    def scope(self) -> str:
        """What it matches, in words: ``anomaly, family rate``."""
        parts = [
            self.model,
            f"family {self.family}" if self.family else None,
            f"object {self.object}" if self.object else None,
        ]
        return ", ".join(part for part in parts if part) or "everything but firmware faults"

    @property
    def sentence(self) -> str:
        """Who silenced what until when, and why."""
        return f"{self.author} silenced {self.scope} until {self.ends_at:%Y-%m-%d %H:%M} UTC: {self.reason}"


@dataclass(frozen=True)
class IncidentLabels:
    """What silences look at.

    Parameters
    ----------
    model
        Monitored model.
    families
        All that the incident has exceeded so far.
    object
        Kind of object of the input that differs most in the latest alarm, such as ``jet``; None without one.
    """

    model: str
    families: frozenset[str]
    object: str | None = None

    @property
    def firmware_fault(self) -> bool:
        """Whether firmware and emulator differed in it."""
        return INTEGRITY in self.families


def object_of(verdict: Mapping[str, Any]) -> str | None:
    """Name the kind of object that a stored verdict is about: that of the input which differs most."""
    worst = verdict.get("worst_inputs") or ()
    return object_of_input(str(worst[0]["name"])) if worst else None


def object_of_input(name: str) -> str:
    """Name the kind of object of an input: ``jet`` of ``jet[3].pt``."""
    return name.split("[", 1)[0]


def keeping_quiet(
    silences: Iterable[Silence], incident: IncidentLabels, now: datetime
) -> tuple[Silence, ...]:
    """Give the silences that keep an incident quiet, the one that lasts longest first.

    An incident is quiet when each of its families is matched: what nobody has silenced is said. A firmware
    fault outweighs the drift beside it, and is quiet only under a silence that names `INTEGRITY`.

    Returns
    -------
    tuple of Silence
        Empty: it is not quiet.
    """
    matching = [
        one
        for one in silences
        if one.active(now) and one.model in {None, incident.model} and one.object in {None, incident.object}
    ]
    needed = {INTEGRITY} if incident.firmware_fault else incident.families
    if incident.firmware_fault:
        matching = [one for one in matching if one.family == INTEGRITY]
    else:
        matching = [one for one in matching if one.family is None or one.family in needed]
    named = {one.family for one in matching}
    if not matching or (None not in named and not needed <= named):
        return ()
    return tuple(sorted(matching, key=lambda one: (one.ends_at, one.id), reverse=True))


def quiet_until(silences: Iterable[Silence], incident: IncidentLabels, now: datetime) -> datetime | None:
    """Tell when an incident that is quiet now will be so no longer; None: it is not quiet."""
    known = list(silences)
    for end in sorted({one.ends_at for one in keeping_quiet(known, incident, now)}):
        if not keeping_quiet(known, incident, end):
            return end
    return None
