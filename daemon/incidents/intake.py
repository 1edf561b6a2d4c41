"""What one verdict does to the records: stored once, and incidents moved on, in one transaction.

Joins the pure reducer (`incidents`) with the tables. Knows no Kafka; the workflow is only named.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.incidents.flipped import weights_left_wrong
from daemon.incidents.life import Extend, IncidentFacts, Open, Recover, Reopen, on_verdict, position
from daemon.incidents.transitions import (
    close_incident,
    create_response,
    open_incident,
    reopen_incident,
    withdraw_waiting,
)
from daemon.journal.happenings import ACTOR, record_happening
from daemon.responses.retrain_requests import give_way_to_alarm
from daemon.site.settings import Site
from daemon.store.database import transaction
from daemon.store.records import UNRESOLVED, IncidentKind, IncidentRecord, IncidentState, VerdictRecord
from streams.judging.verdict import INTEGRITY, Verdict


@dataclass(frozen=True)
class Intake:
    """What the caller has to do after the commit."""

    new: bool  # false: this verdict was known, nothing changed
    opened: str | None = None  # incident
    reopened: str | None = None
    start_responses: tuple[str, ...] = ()
    wake_responses: tuple[str, ...] = ()


def take_verdict(engine: Engine, site: Site, verdict: Verdict, *, now: datetime) -> Intake:
    """Store a verdict and let it open, extend, end or reopen an incident.

    Parameters
    ----------
    verdict
        Of any model; one that the site does not watch is stored, but opens nothing.

    Returns
    -------
    Intake
        `new` is false for a verdict that was taken before: redelivery changes nothing.
    """
    with transaction(engine) as session:
        if session.get(VerdictRecord, verdict.id) is not None:
            return Intake(new=False)
        session.add(
            VerdictRecord(
                id=verdict.id,
                model=verdict.model,
                run=verdict.run,
                lumisection=verdict.lumisection,
                state=verdict.state.value,
                package=verdict.package,
                simulated=verdict.simulated,
                received_at=now,
                payload=verdict.model_dump(mode="json"),
            )
        )
        if verdict.model not in site.models:
            return Intake(new=True)
        current = _unresolved(session, verdict)
        resolved = _latest_resolved(session, verdict)
        actions = on_verdict(
            _facts(current),
            verdict,
            last_resolved=_facts(resolved),
            reopen_within=site.settings.alerts.reopen_within_lumisections,
        )
        answer = site.models[verdict.model].has_firmware
        result = Intake(new=True)
        for action in actions:
            match action:
                case Open():
                    result = _open(session, action, now, answer=answer)
                case Reopen() if resolved is not None:
                    result = _reopen(session, resolved, verdict, now, answer=answer)
                case Extend() if current is not None:
                    result = _extend(session, current, action, now)
                case Recover() if current is not None and not weights_left_wrong(session, current.id):
                    text = f"Back to good by itself at LS {verdict.lumisection} of run {verdict.run}."
                    current.latest_verdict = verdict.model_dump(mode="json")
                    woken = close_incident(
                        session, current, text, actor=ACTOR, now=now, recovered_at=position(verdict)
                    )
                    result = Intake(new=True, wake_responses=tuple(woken))
        return result


def _open(session: Session, action: Open, now: datetime, *, answer: bool) -> Intake:
    """Open an incident; `answer`: prepare a response, which only firmware can be given."""
    verdict = action.verdict
    incident = open_incident(session, verdict, onset_lumisection=action.onset_lumisection, now=now)
    detail = {"verdict": incident.opening_verdict}
    record_happening(session, incident, "incident.opened", verdict.reason, now=now, detail=detail)
    woken = give_way_to_alarm(session, incident, now=now)
    if not answer:
        return Intake(new=True, opened=incident.id)
    response_id = create_response(session, incident, requested_by=ACTOR, now=now)
    return Intake(new=True, opened=incident.id, start_responses=(response_id,), wake_responses=woken)


def _reopen(
    session: Session, incident: IncidentRecord, verdict: Verdict, now: datetime, *, answer: bool
) -> Intake:
    reopen_incident(session, incident, verdict, now=now)
    woken = give_way_to_alarm(session, incident, now=now)
    if not answer:
        return Intake(new=True, reopened=incident.id)
    response_id = create_response(session, incident, requested_by=ACTOR, now=now)
    return Intake(new=True, reopened=incident.id, start_responses=(response_id,), wake_responses=woken)


def _extend(session: Session, incident: IncidentRecord, action: Extend, now: datetime) -> Intake:
    """Move the end of an incident on; a firmware fault found on the way asks for another proposal."""
    verdict = action.verdict
    incident.last_run, incident.last_lumisection = position(verdict)
    incident.families = list(action.families)
    incident.latest_verdict = verdict.model_dump(mode="json")
    if action.new_families:
        text = f"Now also {' and '.join(action.new_families)}: {verdict.reason}"
        detail = {"verdict": incident.latest_verdict, "families": list(action.new_families)}
        record_happening(session, incident, "incident.extended", text, now=now, detail=detail)
    if INTEGRITY not in action.new_families:
        return Intake(new=True)
    incident.reason = verdict.reason  # what the incident is about has changed
    withdrawn = withdraw_waiting(
        session, incident, "Withdrawn: the firmware is at fault, which no retraining mends.", now=now
    )
    if not withdrawn:
        return Intake(new=True)
    response_id = create_response(session, incident, requested_by=ACTOR, now=now)
    return Intake(new=True, start_responses=(response_id,), wake_responses=tuple(withdrawn))


def _unresolved(session: Session, verdict: Verdict) -> IncidentRecord | None:
    # not ordered: the database would look through all that are resolved for it
    found = session.exec(
        select(IncidentRecord).where(
            IncidentRecord.model == verdict.model,
            IncidentRecord.simulated == verdict.simulated,
            IncidentRecord.kind == IncidentKind.ALARM,  # verdicts do not touch what was asked for
            col(IncidentRecord.state).in_(UNRESOLVED),
        )
    ).all()
    return max(found, key=lambda one: one.number, default=None)


def _latest_resolved(session: Session, verdict: Verdict) -> IncidentRecord | None:
    return session.exec(
        select(IncidentRecord)
        .where(
            IncidentRecord.model == verdict.model,
            IncidentRecord.simulated == verdict.simulated,
            IncidentRecord.state == IncidentState.RESOLVED,
        )
        .order_by(col(IncidentRecord.number).desc())
        .limit(1)
    ).first()


def _facts(incident: IncidentRecord | None) -> IncidentFacts | None:
    if incident is None:
        return None
    return IncidentFacts(
        id=incident.id,
        state=IncidentState(incident.state),
        last_position=(incident.last_run, incident.last_lumisection),
        families=tuple(incident.families),
        recovered_position=_recovered(incident),
    )


def _recovered(incident: IncidentRecord) -> tuple[int, int] | None:
    if incident.recovered_run is None or incident.recovered_lumisection is None:
        return None
    return incident.recovered_run, incident.recovered_lumisection
