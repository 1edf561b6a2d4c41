"""What a look at a board's weights does to the records: flipped bits open an incident, or join one.

Everything found is an event. Such an incident ends when the weights are right again, whatever verdicts say.
Refuses to know boards: a report comes in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.incidents.transitions import close_incident, create_response, open_incident, withdraw_waiting
from daemon.journal.happenings import ACTOR, record_event, record_happening
from daemon.responses.retrain_requests import give_way_to_alarm
from daemon.store.database import transaction
from daemon.store.records import (
    UNRESOLVED,
    IncidentEventRecord,
    IncidentKind,
    IncidentRecord,
    IncidentState,
    VerdictRecord,
    new_id,
)
from hw.scrub import FlippedWord, ScrubOutcome, ScrubReport
from streams.judging.verdict import INTEGRITY, State, Verdict

LEFT_WRONG: Final = frozenset({ScrubOutcome.FLIPPED, ScrubOutcome.FAILED})
"""Outcomes after which the board scores with wrong weights."""
_MARKS: Final = ("incident.opened", "incident.extended", "incident.scrubbed")
"""Happenings that say, under `scrub`, how the weights of an incident's board are."""
_NAMED: Final = 4
_KEPT: Final = 200


@dataclass(frozen=True)
class Looked:
    """What a look at a board came to.

    Parameters
    ----------
    model
        The monitored model.
    report
        What was found and done.
    simulated
        True for an emulated board.
    """

    model: str
    report: ScrubReport
    simulated: bool


@dataclass(frozen=True)
class Taken:
    """What the caller has to do after the commit."""

    incident: str | None = None  # what it is about
    opened: bool = False
    new_words: int = 0  # flipped words that were not known
    start_responses: tuple[str, ...] = ()
    wake_responses: tuple[str, ...] = ()


def take_scrub(engine: Engine, looked: Looked, *, now: datetime, actor: str = ACTOR, why: str = "") -> Taken:
    """Write down a look at a board; one that finds what is known already changes nothing.

    Parameters
    ----------
    actor, why
        Who asked for the look, and the reason, when a person did.
    """
    report = looked.report
    with transaction(engine) as session:
        wrong_before = _wrong_incident(session, looked.model)
        match report.outcome:
            case ScrubOutcome.OTHER_PACKAGE:
                return Taken()
            case ScrubOutcome.CLEAN:
                if wrong_before is None:
                    return Taken()
                return _right_again(session, wrong_before, looked, now=now, actor=actor)
        text = " ".join(filter(None, (sentence(report), f"{actor}: {why}" if why else "")))
        if wrong_before is not None:
            known = _last_mark(session, wrong_before.id)
            if known is not None and report.outcome in LEFT_WRONG and _same(known, _mark(report)):
                return Taken(incident=wrong_before.id)
            return _go_on(session, wrong_before, looked, text, known, now=now, actor=actor)
        verdict = _verdict(session, looked, text)
        standing = _standing(session, verdict)
        if standing is not None:
            return _join(session, standing, verdict, looked, text, now=now, actor=actor)
        return _open(session, verdict, looked, text, now=now, actor=actor)


def weights_left_wrong(session: Session, incident_id: str) -> bool:
    """Whether the last look at the board of an incident found wrong weights and left them so."""
    mark = _last_mark(session, incident_id)
    return mark is not None and bool(mark["left_wrong"])


def sentence(report: ScrubReport) -> str:
    """Say what was found and done: segment, word and bits of the first words, the number of the others."""
    words = report.flipped
    named = "; ".join(_named(word) for word in words[:_NAMED])
    more = f" and {len(words) - _NAMED} words more" if len(words) > _NAMED else ""
    found = (
        f"Firmware fault: {report.flipped_bits} flipped bits in {len(words)} of {report.words:,} weight "
        f"words on the board: {named}{more}."
    )
    match report.outcome:
        case ScrubOutcome.REPAIRED:
            return f"{found} Repaired: package {report.package_id[:12]} was loaded again and proven."
        case ScrubOutcome.FAILED:
            return f"{found} The repair failed: {report.reason}."
        case _:
            return f"{found} Nothing was repaired."


def _named(word: FlippedWord) -> str:
    bits = ", ".join(str(bit) for bit in word.bits)
    return f"{word.segment}[{word.offset}] (word {word.index}), bit {bits}"


def _open(
    session: Session, verdict: Verdict, looked: Looked, text: str, *, now: datetime, actor: str
) -> Taken:
    """Open an incident of its own; one that is repaired already is over in the same moment."""
    incident = open_incident(session, verdict, onset_lumisection=verdict.lumisection, now=now)
    detail = {"verdict": incident.opening_verdict, "scrub": _mark(looked.report)}
    record_happening(session, incident, "incident.opened", text, now=now, actor=actor, detail=detail)
    words = len(looked.report.flipped)
    if looked.report.outcome is ScrubOutcome.REPAIRED:
        woken = close_incident(session, incident, text, actor=actor, now=now)
        return Taken(incident.id, opened=True, new_words=words, wake_responses=tuple(woken))
    woken_requests = give_way_to_alarm(session, incident, now=now)
    response_id = create_response(session, incident, requested_by=ACTOR, now=now)
    return Taken(incident.id, True, words, (response_id,), woken_requests)


def _join(
    session: Session,
    incident: IncidentRecord,
    verdict: Verdict,
    looked: Looked,
    text: str,
    *,
    now: datetime,
    actor: str,
) -> Taken:
    """Add to an incident that verdicts opened; bits that stay wrong make it a firmware fault."""
    words = len(looked.report.flipped)
    detail: dict[str, Any] = {"scrub": _mark(looked.report)}
    if looked.report.outcome not in LEFT_WRONG or INTEGRITY in incident.families:
        record_happening(session, incident, "incident.scrubbed", text, now=now, actor=actor, detail=detail)
        return Taken(incident.id, new_words=words)
    incident.families = [*incident.families, INTEGRITY]
    incident.reason = text
    incident.latest_verdict = verdict.model_dump(mode="json")
    detail |= {"verdict": incident.latest_verdict, "families": [INTEGRITY]}
    record_happening(
        session,
        incident,
        "incident.extended",
        f"Now also {INTEGRITY}: {text}",
        now=now,
        actor=actor,
        detail=detail,
    )
    withdrawn = withdraw_waiting(
        session, incident, "Withdrawn: the firmware is at fault, which no retraining mends.", now=now
    )
    started: tuple[str, ...] = ()
    if withdrawn:
        started = (create_response(session, incident, requested_by=ACTOR, now=now),)
    return Taken(incident.id, False, words, started, tuple(withdrawn))


def _go_on(
    session: Session,
    incident: IncidentRecord,
    looked: Looked,
    text: str,
    known: dict[str, Any] | None,
    *,
    now: datetime,
    actor: str,
) -> Taken:
    """Follow an incident whose board had wrong weights at the last look: more of them, or repaired now."""
    before = {(word["index"], word["found"]) for word in (known or {}).get("flipped", ())}
    fresh = sum((word.index, word.found) not in before for word in looked.report.flipped)
    if looked.report.outcome is ScrubOutcome.REPAIRED:
        taken = _right_again(session, incident, looked, now=now, actor=actor, text=text)
        return Taken(incident.id, new_words=fresh, wake_responses=taken.wake_responses)
    incident.reason = text
    detail = {"scrub": _mark(looked.report)}
    record_happening(session, incident, "incident.scrubbed", text, now=now, actor=actor, detail=detail)
    return Taken(incident.id, new_words=fresh)


def _right_again(
    session: Session,
    incident: IncidentRecord,
    looked: Looked,
    *,
    now: datetime,
    actor: str,
    text: str = "",
) -> Taken:
    """End an incident that was about wrong weights alone; another one goes on, and verdicts may end it."""
    report = looked.report
    said = text or f"All {report.words:,} weight words on the board are right again."
    alone = set(incident.families) <= {INTEGRITY} and _opened_by_scrub(session, incident.id)
    if alone and incident.state != IncidentState.RESPONDING:
        woken = close_incident(session, incident, said, actor=actor, now=now)
        return Taken(incident.id, wake_responses=tuple(woken))
    detail = {"scrub": _mark(report)}
    record_happening(session, incident, "incident.scrubbed", said, now=now, actor=actor, detail=detail)
    return Taken(incident.id)


def record_other_package(engine: Engine, model: str, running: str, expected: str, *, now: datetime) -> None:
    """Write down that a board runs a package that nobody here has loaded."""
    text = (
        f"The board of {model} runs package {running[:12]}, the last one loaded from here is "
        f"{expected[:12]}: its weights are not compared."
    )
    with transaction(engine) as session:
        detail = {"running": running, "expected": expected}
        record_event(session, "board.other_package", text, now=now, model=model, detail=detail)


def _verdict(session: Session, looked: Looked, text: str) -> Verdict:
    """Make the alarm that opens an incident, at the place in data time that was judged last."""
    fault: dict[str, Any] = {
        "id": new_id(),
        "state": State.ALARM,
        "families": (INTEGRITY,),
        "reason": text,
        "package": looked.report.package_id,
        "firmware_fault": True,
    }
    record = session.exec(
        select(VerdictRecord)
        .where(VerdictRecord.model == looked.model)
        .order_by(
            col(VerdictRecord.run).desc(),
            col(VerdictRecord.lumisection).desc(),
            col(VerdictRecord.received_at).desc(),
        )
        .limit(1)
    ).first()
    if record is None:
        return Verdict(
            **fault,
            model=looked.model,
            run=0,
            lumisection=0,
            n_events=0,
            accept_rate=0.0,
            simulated=looked.simulated,
        )
    last = Verdict.model_validate(record.payload)
    silent: dict[str, Any] = {"worst_inputs": (), "suspects": (), "story": "", "rate_chart": None}
    silent |= {"evidence": None, "integrity": None, "delay_s": None, "late": False, "late_events": 0}
    return last.model_copy(update={**silent, **fault, "revision": 1, "onset_lumisection": last.lumisection})


def _standing(session: Session, verdict: Verdict) -> IncidentRecord | None:
    found = session.exec(
        select(IncidentRecord).where(
            IncidentRecord.model == verdict.model,
            IncidentRecord.simulated == verdict.simulated,
            IncidentRecord.kind == IncidentKind.ALARM,
            col(IncidentRecord.state).in_(UNRESOLVED),
        )
    ).all()
    return max(found, key=lambda one: one.number, default=None)


def _wrong_incident(session: Session, model: str) -> IncidentRecord | None:
    """Find the incident under which a model's board was left with wrong weights."""
    found: Sequence[IncidentRecord] = session.exec(
        select(IncidentRecord).where(
            IncidentRecord.model == model,
            IncidentRecord.kind == IncidentKind.ALARM,
            col(IncidentRecord.state).in_(UNRESOLVED),
        )
    ).all()
    return next((one for one in found if weights_left_wrong(session, one.id)), None)


def _last_mark(session: Session, incident_id: str) -> dict[str, Any] | None:
    rows = session.exec(
        select(IncidentEventRecord)
        .where(IncidentEventRecord.incident_id == incident_id, col(IncidentEventRecord.kind).in_(_MARKS))
        .order_by(col(IncidentEventRecord.id).desc())
    ).all()
    return next((dict(row.detail["scrub"]) for row in rows if row.detail.get("scrub")), None)


def _same(known: dict[str, Any], found: dict[str, Any]) -> bool:
    return all(known[key] == found[key] for key in ("sha256", "package", "board"))


def _opened_by_scrub(session: Session, incident_id: str) -> bool:
    row = session.exec(
        select(IncidentEventRecord).where(
            IncidentEventRecord.incident_id == incident_id, IncidentEventRecord.kind == "incident.opened"
        )
    ).first()
    return row is not None and bool(row.detail.get("scrub"))


def _mark(report: ScrubReport) -> dict[str, Any]:
    """Keep what was found: all of it as a hash, the first words in full."""
    content = ",".join(f"{word.index}:{word.found}" for word in report.flipped)
    return {
        "outcome": report.outcome.value,
        "left_wrong": report.outcome in LEFT_WRONG,
        "board": report.board,
        "package": report.package_id,
        "words": len(report.flipped),
        "bits": report.flipped_bits,
        "flipped": [word.model_dump(mode="json") for word in report.flipped[:_KEPT]],
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
        "repair": None if report.repair is None else report.repair.model_dump(mode="json"),
    }
