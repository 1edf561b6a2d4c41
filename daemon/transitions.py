"""Changes of incidents and responses that people and the machine share, inside a caller's transaction.

Knows no rights: who may ask for them is decided before (`operations`, `policy`).
"""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Session, col, select

from daemon.errors import NotPossibleNow
from daemon.happenings import record_happening
from daemon.records import (
    FINAL_RESPONSE_STATES,
    IncidentRecord,
    IncidentState,
    ResponseRecord,
    ResponseState,
)


def create_response(session: Session, incident: IncidentRecord, *, requested_by: str, now: datetime) -> str:
    """Add a response in state `preparing`; its workflow still has to be started.

    Raises
    ------
    NotPossibleNow
        The incident is resolved, or another response to it is under way.
    """
    if incident.state == IncidentState.RESOLVED:
        raise NotPossibleNow(f"incident {incident.id} is resolved: there is nothing to respond to")
    answers = session.exec(select(ResponseRecord).where(ResponseRecord.incident_id == incident.id)).all()
    for answer in answers:
        if ResponseState(answer.state) not in FINAL_RESPONSE_STATES:
            raise NotPossibleNow(
                f"response {answer.id} to incident {incident.id} is {answer.state}: decide it first"
            )
    number = len(answers) + 1
    response = ResponseRecord(
        id=f"{incident.id}-r{number}",
        number=number,
        incident_id=incident.id,
        model=incident.model,
        requested_by=requested_by,
        created_at=now,
    )
    session.add(response)
    return response.id


def close_incident(
    session: Session,
    incident: IncidentRecord,
    text: str,
    *,
    actor: str,
    now: datetime,
    kind: str = "incident.resolved",
) -> list[str]:
    """Resolve an incident and withdraw its waiting proposals; returns the responses to wake."""
    incident.state = IncidentState.RESOLVED
    incident.resolved_at = now
    incident.resolved_by = actor
    incident.resolution = text
    outcome = "Withdrawn: the incident was resolved before a decision."
    withdrawn = withdraw_waiting(session, incident, outcome, now=now)
    record_happening(session, incident, kind, text, now=now, actor=actor)
    return withdrawn


def withdraw_waiting(session: Session, incident: IncidentRecord, outcome: str, *, now: datetime) -> list[str]:
    """Withdraw the proposals to an incident that wait for a decision; returns the responses to wake."""
    waiting = session.exec(
        select(ResponseRecord).where(
            ResponseRecord.incident_id == incident.id,
            col(ResponseRecord.state).in_([ResponseState.PREPARING.value, ResponseState.PROPOSED.value]),
        )
    ).all()
    for response in waiting:
        response.state = ResponseState.WITHDRAWN
        response.ended_at = now
        response.outcome = outcome
    session.flush()
    return [response.id for response in waiting]
