"""Changes of incidents and responses that people and the machine share, inside a caller's transaction.

Knows no rights: who may ask for them is decided before (`operations`, `policy`).
"""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Session, col, func, select

from daemon.errors import NotPossibleNow
from daemon.incidents.life import check_transition, position
from daemon.journal.happenings import record_happening
from daemon.store.records import (
    FINAL_RESPONSE_STATES,
    IncidentKind,
    IncidentRecord,
    IncidentState,
    ResponseRecord,
    ResponseState,
)
from streams.judging.verdict import Verdict

_UNDECIDED = (ResponseState.PREPARING, ResponseState.PROPOSED, ResponseState.HARDWARE_PROPOSED)


def open_incident(
    session: Session,
    verdict: Verdict,
    *,
    onset_lumisection: int,
    now: datetime,
    asked_by: str | None = None,
    reason: str = "",
) -> IncidentRecord:
    """Add the next incident of a verdict's model; what happened is the caller's to write down.

    Parameters
    ----------
    verdict
        The alarm, or the latest verdict of a model whose retraining is asked for.
    onset_lumisection
        Since when its events are the ones that matter.
    asked_by, reason
        Operator and words of a request; without them, the verdict is an alarm and says why.
    """
    count = session.exec(
        select(func.max(IncidentRecord.number)).where(IncidentRecord.model == verdict.model)
    ).one()
    number = (count or 0) + 1
    content = verdict.model_dump(mode="json")
    requested = asked_by is not None
    incident = IncidentRecord(
        id=f"{verdict.model}-{number}",
        number=number,
        model=verdict.model,
        kind=IncidentKind.REQUESTED if requested else IncidentKind.ALARM,
        state=IncidentState.ACKNOWLEDGED if requested else IncidentState.OPEN,
        simulated=verdict.simulated,
        run=verdict.run,
        onset_lumisection=onset_lumisection,
        first_lumisection=verdict.lumisection,
        last_run=verdict.run,
        last_lumisection=verdict.lumisection,
        families=[] if requested else list(verdict.families),
        reason=reason or verdict.reason,
        package=verdict.package,
        reference_id=verdict.reference_id,
        opened_at=now,
        acknowledged_at=now if requested else None,
        acknowledged_by=asked_by,
        opening_verdict=content,
        latest_verdict=content,
    )
    session.add(incident)
    session.flush()
    return incident


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
    recovered_at: tuple[int, int] | None = None,
) -> list[str]:
    """Resolve an incident and withdraw its waiting proposals; returns the responses to wake.

    Parameters
    ----------
    recovered_at
        (run, lumisection) of the good verdict, when it recovered by itself: then it may come back.
    """
    incident.state = IncidentState.RESOLVED
    incident.resolved_at = now
    incident.resolved_by = actor
    incident.resolution = text
    incident.recovered_run, incident.recovered_lumisection = recovered_at or (None, None)
    outcome = "Withdrawn: the incident was resolved before a decision."
    withdrawn = withdraw_waiting(session, incident, outcome, now=now)
    kind = "incident.resolved" if recovered_at is None else "incident.recovered"
    record_happening(session, incident, kind, text, now=now, actor=actor)
    return withdrawn


def reopen_incident(session: Session, incident: IncidentRecord, verdict: Verdict, *, now: datetime) -> None:
    """Open a recovered incident again: a new episode of the same problem, which nobody looks after yet."""
    check_transition(incident.id, IncidentState(incident.state), IncidentState.OPEN)
    incident.state = IncidentState.OPEN
    incident.resolved_at = incident.resolved_by = incident.resolution = None
    incident.recovered_run = incident.recovered_lumisection = None
    incident.acknowledged_at = incident.acknowledged_by = None
    incident.reopened += 1
    incident.last_run, incident.last_lumisection = position(verdict)
    incident.families = list(verdict.families)
    incident.reason = verdict.reason
    incident.package = verdict.package
    incident.reference_id = verdict.reference_id
    incident.latest_verdict = verdict.model_dump(mode="json")
    text = f"Reopened at LS {verdict.lumisection}: {verdict.reason}"
    detail = {"verdict": incident.latest_verdict, "reopened": incident.reopened}
    record_happening(session, incident, "incident.reopened", text, now=now, detail=detail)


def withdraw_waiting(session: Session, incident: IncidentRecord, outcome: str, *, now: datetime) -> list[str]:
    """Withdraw the proposals to an incident that wait for a decision; returns the responses to wake."""
    waiting = session.exec(
        select(ResponseRecord).where(
            ResponseRecord.incident_id == incident.id,
            col(ResponseRecord.state).in_([state.value for state in _UNDECIDED]),
        )
    ).all()
    for response in waiting:
        response.state = ResponseState.WITHDRAWN
        response.ended_at = now
        response.outcome = outcome
        response.decide_by = None
        back_from_response(incident)
    session.flush()
    return [response.id for response in waiting]


def back_from_response(incident: IncidentRecord) -> None:
    """Let an incident be as it was before a response worked on it."""
    if incident.state == IncidentState.RESPONDING:
        acknowledged = incident.acknowledged_by is not None
        incident.state = IncidentState.ACKNOWLEDGED if acknowledged else IncidentState.OPEN
