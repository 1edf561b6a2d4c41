"""What the notification log and the silences say of incidents now: who was told what, and may be told more.

Reads, and moves the two marks that alerts keep in the database: how far events were told, and since when
an incident is quiet. Refuses to know words and channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import or_
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, func, select

from daemon.alerts.channels import Action
from daemon.incidents.silence_records import CursorRecord, SilenceRecord
from daemon.incidents.silences import active_silences, labels_of
from daemon.incidents.silencing import IncidentLabels, Silence, keeping_quiet, object_of
from daemon.store import views
from daemon.store.database import transaction
from daemon.store.records import (
    UNRESOLVED,
    IncidentKind,
    IncidentRecord,
    IncidentState,
    NotificationRecord,
    NotificationState,
    VerdictRecord,
)
from streams.judging.verdict import State

READER: Final = "alerts"
_SAID: Final = [Action.POST.value, Action.REPLY.value]
_BAD: Final = [State.ALARM.value, State.WARNING.value]


@dataclass(frozen=True)
class Said:
    """The message that began an incident's thread, and whether it has yet to leave."""

    waiting: bool
    text: str


@dataclass(frozen=True)
class Due:
    """Incidents to speak of without any event.

    Parameters
    ----------
    speaking
        Their silence is over: incident, and since when it was quiet.
    repeated
        Nobody acknowledges them: incident, and when it was last spoken of.
    """

    speaking: tuple[tuple[str, datetime], ...]
    repeated: tuple[tuple[str, datetime], ...]


def cursor(engine: Engine) -> int:
    """Read how far events were told; databases of before say so by their notifications alone."""
    with Session(engine) as session:
        found = session.get(CursorRecord, READER)
        if found is not None:
            return found.sequence
        last = session.exec(select(func.max(NotificationRecord.event_sequence))).one()
    # the last one may have been told by half; what is in the log already is not written again
    return max((last or 0) - 1, 0)


def move_cursor(engine: Engine, sequence: int) -> None:
    """Write down how far events were told."""
    with transaction(engine) as session:
        session.merge(CursorRecord(reader=READER, sequence=sequence))


def head_said(engine: Engine, incident_id: str) -> Said | None:
    """Look up the message that began an incident's thread; None: nobody was told of it."""
    with Session(engine) as session:
        record = session.exec(
            select(NotificationRecord).where(NotificationRecord.key == f"{incident_id}:opened")
        ).first()
    if record is None:
        return None
    return Said(
        waiting=record.state == NotificationState.PENDING,
        text=str(record.payload.get("text", "")),
    )


def drop_waiting(engine: Engine, incident_id: str) -> None:
    """Take back messages of an incident that have not left; only for one that says all of it."""
    with transaction(engine) as session:
        for record in session.exec(
            select(NotificationRecord).where(
                NotificationRecord.incident_id == incident_id,
                NotificationRecord.state == NotificationState.PENDING,
            )
        ).all():
            session.delete(record)


def silences_since(engine: Engine, moment: datetime) -> tuple[Silence, ...]:
    """Read the silences that had not ended at a time."""
    with Session(engine) as session:
        rows = session.exec(select(SilenceRecord).where(col(SilenceRecord.ends_at) > moment)).all()
        return tuple(Silence.model_validate(row.model_dump()) for row in rows)


def labels(incident: views.IncidentDetail) -> IncidentLabels:
    """Say what silences look at in an incident."""
    verdict = incident.latest_verdict or incident.opening_verdict
    return IncidentLabels(incident.model, frozenset(incident.families), object_of(verdict))


def told(engine: Engine, incident_id: str, event_sequence: int) -> bool:
    """Tell whether the head has followed an event, which is the last that is written of it."""
    with Session(engine) as session:
        found = session.exec(
            select(NotificationRecord.id).where(
                NotificationRecord.incident_id == incident_id,
                NotificationRecord.event_sequence == event_sequence,
                NotificationRecord.action != Action.REPLY.value,
            )
        ).first()
    return found is not None


def quiet_since(engine: Engine, incident_id: str) -> datetime | None:
    """Read since when messages of an incident are kept back."""
    with Session(engine) as session:
        return session.exec(
            select(IncidentRecord.quiet_since).where(IncidentRecord.id == incident_id)
        ).first()


def fall_quiet(engine: Engine, incident_id: str, now: datetime) -> None:
    """Write down that messages of an incident are kept back, unless they are already."""
    with transaction(engine) as session:
        record = session.get(IncidentRecord, incident_id)
        if record is not None and record.quiet_since is None:
            record.quiet_since = now


def speak_again(engine: Engine, incident_id: str) -> None:
    """Write down that messages of an incident leave again."""
    with transaction(engine) as session:
        record = session.get(IncidentRecord, incident_id)
        if record is not None:
            record.quiet_since = None


def due(engine: Engine, now: datetime, repeat: timedelta) -> Due:
    """Find the incidents to speak of without any event, in a number of statements that does not grow.

    Parameters
    ----------
    repeat
        How long an open incident may go without a word; zero: for ever.
    """
    with Session(engine) as session:
        watched = session.exec(
            select(IncidentRecord).where(
                or_(col(IncidentRecord.state).in_(UNRESOLVED), col(IncidentRecord.quiet_since) <= now)
            )
        ).all()
        silences = active_silences(session, now) if watched else ()
        loud = [one for one in watched if not keeping_quiet(silences, labels_of(one), now)]
        speaking = tuple((one.id, one.quiet_since) for one in loud if one.quiet_since is not None)
        return Due(speaking, _repeated(session, loud, now, repeat) if repeat else ())


def _repeated(
    session: Session, loud: Sequence[IncidentRecord], now: datetime, repeat: timedelta
) -> tuple[tuple[str, datetime], ...]:
    unanswered = {
        one.id: one
        for one in loud
        if one.state == IncidentState.OPEN
        and one.kind == IncidentKind.ALARM
        and one.acknowledged_by is None
        and one.quiet_since is None
    }
    if not unanswered:
        return ()
    log = NotificationRecord
    last = session.exec(
        select(log.incident_id, func.max(func.coalesce(log.delivered_at, log.created_at)))
        .where(col(log.incident_id).in_(unanswered), col(log.action).in_(_SAID))
        .group_by(col(log.incident_id))
    ).all()
    waiting = set(
        session.exec(
            select(log.incident_id).where(
                col(log.incident_id).in_(unanswered), log.state == NotificationState.PENDING
            )
        ).all()
    )
    return tuple(
        (incident_id, moment)
        for incident_id, moment in last
        if incident_id is not None
        and incident_id not in waiting
        and now - moment >= repeat
        and _still_bad(session, unanswered[incident_id])
    )


def _still_bad(session: Session, incident: IncidentRecord) -> bool:
    """Whether the latest window of the model was judged, and bad: without beams nothing is known."""
    place = col(VerdictRecord.run), col(VerdictRecord.lumisection)
    run, lumisection = incident.last_run, incident.last_lumisection
    state = session.exec(
        select(VerdictRecord.state)
        .where(
            VerdictRecord.model == incident.model,
            VerdictRecord.simulated == incident.simulated,
            or_(place[0] > run, (place[0] == run) & (place[1] >= lumisection)),
        )
        .order_by(place[0].desc(), place[1].desc(), col(VerdictRecord.received_at).desc())
        .limit(1)
    ).first()
    return state in _BAD
