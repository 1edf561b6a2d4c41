"""Everything that happened, written down in the transaction in which it happened.

One call writes the line in the incident's history and the event that alerts and Kafka read later;
what belongs to no incident is an event alone. Knows no Kafka and no chat: they follow `daemon_events`
with a cursor.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlmodel import Session

from daemon.journal.audit_log import append
from daemon.store.records import IncidentEventRecord, IncidentRecord

ACTOR = "lumiwatch"
"""The actor of what happens without a person."""


def record_happening(
    session: Session,
    incident: IncidentRecord,
    kind: str,
    text: str,
    *,
    now: datetime,
    actor: str = ACTOR,
    response_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write one happening of an incident into its history and into the events.

    Parameters
    ----------
    kind
        ``incident.opened``, ``incident.extended``, ``incident.acknowledged``, ``incident.recovered``,
        ``incident.resolved``, ``incident.note``, ``response.proposed``, ``response.decided``,
        ``response.step``, ``response.ended``, and more of them: docs/responses.md.
    text
        One sentence for people.
    """
    content = dict(detail or {})
    session.add(
        IncidentEventRecord(
            incident_id=incident.id,
            at=now,
            kind=kind,
            actor=actor,
            text=text,
            response_id=response_id,
            detail=content,
        )
    )
    record_event(
        session,
        kind,
        text,
        now=now,
        actor=actor,
        model=incident.model,
        incident_id=incident.id,
        response_id=response_id,
        simulated=incident.simulated,
        detail=content,
    )


def record_event(
    session: Session,
    kind: str,
    text: str,
    *,
    now: datetime,
    actor: str = ACTOR,
    model: str | None = None,
    incident_id: str | None = None,
    response_id: str | None = None,
    simulated: bool = False,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write one event, at the end of the audit chain: the only place that does.

    Parameters as of `record_happening`.
    """
    append(
        session.connection(),
        at=now,
        kind=kind,
        actor=actor,
        model=model,
        incident_id=incident_id,
        response_id=response_id,
        simulated=simulated,
        text=text,
        detail=detail or {},
    )
