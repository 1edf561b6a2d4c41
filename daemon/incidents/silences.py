"""Silences: operators keep matching incidents quiet until a given time, with a reason that everybody sees.

The incident itself, console and metrics go on. Which silences match is decided in `silencing`. Knows no
rights and no messages: the history of incidents says when they fell quiet, and alerts follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy.engine import Engine
from sqlmodel import Session, col, func, select

from daemon.errors import InvalidChoice, NotFound, NotPossibleNow
from daemon.incidents.silence_records import SilenceRecord
from daemon.incidents.silencing import (
    FAMILIES,
    IncidentLabels,
    Silence,
    keeping_quiet,
    object_of,
    object_of_input,
)
from daemon.journal.happenings import record_event, record_happening
from daemon.site.settings import Site
from daemon.store.database import transaction
from daemon.store.records import UNRESOLVED, IncidentRecord

LONGEST: Final = timedelta(days=30)
MAX_REASON: Final = 500
_SHOWN: Final = 200


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Silences:
    """The silences of one site.

    Parameters
    ----------
    engine, site
        Database and settings.
    clock
        Gives aware UTC.
    """

    def __init__(self, engine: Engine, site: Site, clock: Callable[[], datetime] = _utc_now) -> None:
        self._engine = engine
        self._site = site
        self._clock = clock

    def create(
        self,
        *,
        author: str,
        reason: str,
        ends_at: datetime,
        starts_at: datetime | None = None,
        model: str | None = None,
        family: str | None = None,
        object: str | None = None,  # noqa: A002 - the word of the contract
    ) -> str:
        """Begin a silence, now or later.

        Parameters
        ----------
        author
            Operator who answers for it.
        reason
            Why, for everybody who misses a message.
        ends_at, starts_at
            Aware; at most `LONGEST` apart. Without a start, or with one that is past, it starts now.
        model, family, object
            What an incident must have; None matches everything.

        Returns
        -------
        str
            Its id, such as ``silence-3``.

        Raises
        ------
        InvalidChoice
            No reason, no such model, family or object, or times that make no silence.
        """
        now = self._clock()
        words = " ".join("".join(c if c.isprintable() else " " for c in reason).split())
        starts = now if starts_at is None else max(_utc(starts_at, "starts_at"), now)
        ends = _utc(ends_at, "ends_at")
        _check_times(starts, ends, now)
        if not words or len(words) > MAX_REASON:
            raise InvalidChoice(f"give a reason of 1 to {MAX_REASON} characters: others will ask why")
        self._check_scope(model, family, object)
        with transaction(self._engine) as session:
            number = (session.exec(select(func.max(SilenceRecord.number))).one() or 0) + 1
            record = SilenceRecord(
                id=f"silence-{number}",
                number=number,
                author=author,
                reason=words,
                model=model,
                family=family,
                object=object,
                created_at=now,
                starts_at=starts,
                ends_at=ends,
            )
            session.add(record)
            session.flush()
            silence = _silence(record)
            detail = silence.model_dump(mode="json", exclude={"ended_by"})
            record_event(
                session,
                "silence.created",
                f"{silence.id}: {silence.sentence}",
                now=now,
                actor=author,
                model=model,
                detail=detail,
            )
            if starts <= now:
                _announce(session, [record], now)
        return record.id

    def end(self, silence_id: str, *, author: str) -> None:
        """End a silence before its time.

        Raises
        ------
        NotFound
            No such silence.
        NotPossibleNow
            It has ended already.
        """
        now = self._clock()
        with transaction(self._engine) as session:
            record = session.get(SilenceRecord, silence_id)
            if record is None:
                raise NotFound(f"no silence {silence_id!r}; `lumiwatch silences list` lists them")
            if record.ends_at <= now:
                by = f" by {record.ended_by}" if record.ended_by else ""
                raise NotPossibleNow(f"{silence_id} has ended at {record.ends_at:%Y-%m-%d %H:%M} UTC{by}")
            record.starts_at = min(record.starts_at, now)
            record.ends_at = now
            record.ended_by = author
            text = f"{author} ended {silence_id} of {record.author} ({_silence(record).scope})."
            record_event(
                session,
                "silence.ended",
                text,
                now=now,
                actor=author,
                model=record.model,
                detail={"id": silence_id},
            )

    def list(self, *, active_only: bool = False) -> tuple[Silence, ...]:
        """Give silences, the newest first; `active_only`: those that have not ended, waiting ones too."""
        query = select(SilenceRecord).order_by(col(SilenceRecord.number).desc())
        if active_only:
            query = query.where(col(SilenceRecord.ends_at) > self._clock())
        else:
            query = query.limit(_SHOWN)
        with Session(self._engine) as session:
            return tuple(_silence(record) for record in session.exec(query).all())

    def get(self, silence_id: str) -> Silence:
        """Give one silence; raises `NotFound`."""
        with Session(self._engine) as session:
            record = session.get(SilenceRecord, silence_id)
        if record is None:
            raise NotFound(f"no silence {silence_id!r}; `lumiwatch silences list` lists them")
        return _silence(record)

    def matching(self, incident: IncidentLabels) -> tuple[Silence, ...]:
        """Give the silences that keep an incident quiet now; empty: it is not quiet."""
        now = self._clock()
        with Session(self._engine) as session:
            return keeping_quiet(active_silences(session, now), incident, now)

    def quiet_incidents(self) -> dict[str, Silence]:
        """Give the unresolved incidents that are quiet now, each with the silence that lasts longest."""
        return {incident.id: silence for incident, silence in self._quiet()}

    def quiet_models(self) -> dict[str, Silence]:
        """Give the models with an incident that is quiet now, each with the silence that lasts longest."""
        return {incident.model: silence for incident, silence in self._quiet()}

    def _quiet(self) -> Iterator[tuple[IncidentRecord, Silence]]:
        now = self._clock()
        with Session(self._engine) as session:
            active = active_silences(session, now)
            for incident in unresolved(session) if active else ():
                silences = keeping_quiet(active, labels_of(incident), now)
                if silences:
                    yield incident, silences[0]

    def _check_scope(self, model: str | None, family: str | None, kind: str | None) -> None:
        models = self._site.models
        if model is not None and model not in models:
            raise InvalidChoice(f"no model {model!r} at this site; known: {', '.join(sorted(models))}")
        if family is not None and family not in FAMILIES:
            raise InvalidChoice(f"no family {family!r}; known: {', '.join(FAMILIES)}")
        watched = models.values() if model is None else (models[model],)
        known = {object_of_input(name) for one in watched for name in one.contract.input_names}
        if kind is not None and kind not in known:
            raise InvalidChoice(f"no object {kind!r} in the contracts; known: {', '.join(sorted(known))}")


def begin_due(engine: Engine, now: datetime) -> None:
    """Write the beginning of silences whose time has come into the history of what they keep quiet."""
    due = select(SilenceRecord).where(
        col(SilenceRecord.announced).is_(False),
        col(SilenceRecord.starts_at) <= now,
        col(SilenceRecord.ends_at) > now,
    )
    with Session(engine) as session:
        if session.exec(due).first() is None:
            return
    with transaction(engine) as session:
        _announce(session, session.exec(due).all(), now)


def active_silences(session: Session, now: datetime) -> tuple[Silence, ...]:
    """Read the silences that have begun and not ended."""
    rows = session.exec(
        select(SilenceRecord).where(col(SilenceRecord.ends_at) > now, col(SilenceRecord.starts_at) <= now)
    ).all()
    return tuple(_silence(row) for row in rows)


def unresolved(session: Session) -> list[IncidentRecord]:
    """Read the incidents that are not resolved: at most a few for each model."""
    return list(session.exec(select(IncidentRecord).where(col(IncidentRecord.state).in_(UNRESOLVED))).all())


def labels_of(incident: IncidentRecord) -> IncidentLabels:
    """Say what silences look at in an incident."""
    verdict = incident.latest_verdict or incident.opening_verdict
    return IncidentLabels(incident.model, frozenset(incident.families), object_of(verdict))


def _announce(session: Session, records: Iterable[SilenceRecord], now: datetime) -> None:
    """Write the beginning of silences into the history of the incidents that fall quiet by them."""
    begun = list(records)
    active = active_silences(session, now)
    for record in begun:
        record.announced = True
    new = {record.id for record in begun}
    older = [one for one in active if one.id not in new]
    for incident in unresolved(session):
        labels = labels_of(incident)
        reason = next((one for one in keeping_quiet(active, labels, now) if one.id in new), None)
        if reason is not None:
            record_happening(
                session,
                incident,
                "incident.silenced",
                f"{reason.sentence} ({reason.id})",
                now=now,
                actor=reason.author,
                detail={"silence": reason.id, "quiet_before": bool(keeping_quiet(older, labels, now))},
            )


def _check_times(starts: datetime, ends: datetime, now: datetime) -> None:
    if ends <= now or ends <= starts:
        raise InvalidChoice(
            f"a silence has to end after it starts, and after now: {ends:%Y-%m-%d %H:%M} UTC does not"
        )
    if ends - starts > LONGEST:
        raise InvalidChoice(
            f"a silence lasts at most {LONGEST.days} days: what is wrong for longer needs a new reference"
        )


def _utc(moment: datetime, name: str) -> datetime:
    if moment.tzinfo is None:
        raise InvalidChoice(f"{name} needs a time zone: write for instance {moment.isoformat()}Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidChoice(f"{name} is at the end of all calendars: give a nearer time") from None


def _silence(record: SilenceRecord) -> Silence:
    return Silence.model_validate(record.model_dump())
