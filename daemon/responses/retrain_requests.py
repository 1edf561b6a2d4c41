"""Incidents that an operator opens to have a model retrained, without an alarm.

They have the alarms' path: the same proposal, approvals and steps. Alarms know nothing of them: good verdicts
do not end them, and an alarm opens an incident of its own. Knows no rights (`operations`).
"""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Session, col, select

from daemon.errors import NotPossibleNow
from daemon.incidents.transitions import close_incident, create_response, open_incident
from daemon.journal.happenings import ACTOR, record_happening
from daemon.responses.verification import JUDGED_STATES
from daemon.site.settings import SiteModel
from daemon.store.records import (
    FINAL_RESPONSE_STATES,
    UNRESOLVED,
    IncidentKind,
    IncidentRecord,
    IncidentState,
    ResponseRecord,
    ResponseState,
    VerdictRecord,
)
from streams.judging.verdict import Verdict

_AT_WORK = frozenset({ResponseState.RUNNING, ResponseState.HARDWARE_PROPOSED})


def request_retraining(
    session: Session, model: SiteModel, *, operator: str, reason: str, via: str, now: datetime
) -> str:
    """Prepare a response that retrains a model; its workflow still has to be started.

    An unresolved incident of the model gets the response; otherwise an incident of kind `requested` opens.

    Returns
    -------
    str
        Id of the response.

    Raises
    ------
    NotPossibleNow
        The model has no firmware, no lumisection of it has been judged, or a response to it is under way.
    """
    if not model.has_firmware:
        raise NotPossibleNow(
            f"{model.name} is watched by histograms and has no firmware to retrain: mend the cause instead"
        )
    active = active_response(session, model.name)
    if active is not None:
        raise NotPossibleNow(f"response {active.id} of {model.name} is {active.state}: let it end first")
    incident = _unresolved(session, model.name)
    if incident is None:
        incident = _open(session, model, operator=operator, reason=reason, now=now)
    record_happening(
        session,
        incident,
        "incident.requested",
        f"{operator} asks for a retraining of {model.name}: {reason}",
        now=now,
        actor=operator,
        detail={"via": via},
    )
    return create_response(session, incident, requested_by=operator, now=now)


def active_response(session: Session, model: str) -> ResponseRecord | None:
    """Find the response of a model that has not ended, if there is one."""
    final = [state.value for state in FINAL_RESPONSE_STATES]
    return session.exec(
        select(ResponseRecord).where(ResponseRecord.model == model, col(ResponseRecord.state).not_in(final))
    ).first()


def response_at_work(session: Session, model: str) -> ResponseRecord | None:
    """Find the approved response of a model that has not ended, if there is one."""
    at_work = [state.value for state in _AT_WORK]
    return session.exec(
        select(ResponseRecord).where(ResponseRecord.model == model, col(ResponseRecord.state).in_(at_work))
    ).first()


def give_way_to_alarm(session: Session, alarm: IncidentRecord, *, now: datetime) -> tuple[str, ...]:
    """End what was asked for and is not yet at work: the alarm's own proposal takes its place.

    Returns
    -------
    tuple of str
        Responses to wake.
    """
    if response_at_work(session, alarm.model) is not None:
        return ()
    waiting = session.exec(
        select(IncidentRecord).where(
            IncidentRecord.model == alarm.model,
            IncidentRecord.kind == IncidentKind.REQUESTED,
            col(IncidentRecord.state).in_(UNRESOLVED),
        )
    ).all()
    woken: list[str] = []
    for incident in waiting:
        text = f"The alarm {alarm.id} takes the place of this request."
        woken += close_incident(session, incident, text, actor=ACTOR, now=now)
    return tuple(woken)


def end_request(session: Session, incident: IncidentRecord, outcome: str, *, now: datetime) -> None:
    """Resolve an incident that was only asked for when its response has ended; others stay as they are."""
    if incident.kind == IncidentKind.REQUESTED and incident.state != IncidentState.RESOLVED:
        close_incident(session, incident, f"The request has ended. {outcome}", actor=ACTOR, now=now)


def _unresolved(session: Session, model: str) -> IncidentRecord | None:
    return session.exec(
        select(IncidentRecord)
        .where(IncidentRecord.model == model, IncidentRecord.state != IncidentState.RESOLVED)
        .order_by(col(IncidentRecord.number).desc())
        .limit(1)
    ).first()


def _open(session: Session, model: SiteModel, *, operator: str, reason: str, now: datetime) -> IncidentRecord:
    verdict = _latest_judged(session, model.name)
    if verdict is None:
        raise NotPossibleNow(
            f"no lumisection of {model.name} has been judged yet: stream or replay data and approve a "
            "reference, then ask again"
        )
    return open_incident(
        session,
        verdict,
        onset_lumisection=_first_of_recent(verdict, model.settings.retrain.reference_lumisections),
        now=now,
        asked_by=operator,
        reason=f"Retraining asked for by {operator}: {reason}",
    )


def _latest_judged(session: Session, model: str) -> Verdict | None:
    record = session.exec(
        select(VerdictRecord)
        .where(
            VerdictRecord.model == model,
            col(VerdictRecord.state).in_([state.value for state in JUDGED_STATES]),
        )
        .order_by(
            col(VerdictRecord.run).desc(),
            col(VerdictRecord.lumisection).desc(),
            col(VerdictRecord.received_at).desc(),
        )
        .limit(1)
    ).first()
    return None if record is None else Verdict.model_validate(record.payload)


def _first_of_recent(verdict: Verdict, lumisections: int) -> int:
    """Say from where on events count as recent: as many lumisections of the run stay for comparison."""
    return verdict.lumisection - max(min(lumisections, verdict.lumisection // 2), 1) + 1
