"""Windows: folds summaries in exactly once, and closes windows when everything has arrived or time is up.

A summary and the identity of the batch it counts are written in one transaction, so a batch that is
delivered or sent again changes nothing, and a kill at any moment loses nothing. Data time places events;
wall time, handed in as ``now``, only decides how long to wait. Knows no broker.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Engine, and_, or_
from sqlmodel import Session, col, func, select

from streams.conditions import Conditions
from streams.database import read_session, write_session
from streams.errors import MalformedMessage
from streams.judge import Judge, MonitoredModel
from streams.records import AssessmentRow, BatchRow, ConditionsRow, WindowRow, WindowState
from streams.summary import Summary, layout_of, merge
from streams.summary_codec import decode_summary, encode_summary
from streams.verdict import Verdict

DEFAULT_LATENESS: Final = timedelta(seconds=30)


class Place(NamedTuple):
    """A lumisection of a model: all its windows close together."""

    model: str
    run: int
    lumisection: int


class Outcome(StrEnum):
    """What can become of a summary.

    ``late``: its window had been closed; its events are counted and the window waits to be assessed again.
    ``refused``: it fits no window, or its batch's sequence was used before for other events.
    """

    ADDED = "added"
    REPEATED = "repeated"
    LATE = "late"
    REFUSED = "refused"


@dataclass(frozen=True)
class Folded:
    """What became of a summary.

    Attributes
    ----------
    outcome
        See `Outcome`.
    reason
        Why it was refused; empty otherwise.
    """

    outcome: Outcome
    reason: str = ""


class WindowStore:
    """The windows of a site's models.

    Parameters
    ----------
    engine
        From `streams.database.open_engine`, with this package's tables.
    models
        The monitored models by name; others are refused.
    allowed_lateness
        How long a window waits for missing batches after its lumisection's end and its last batch. It waits
        no less after this store's start and first message: what came before may still be in the broker.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        models: Mapping[str, MonitoredModel],
        allowed_lateness: timedelta = DEFAULT_LATENESS,
    ) -> None:
        self._engine = engine
        self._models = models
        self._lateness = allowed_lateness
        self._judge = Judge(models)
        self._begun: datetime | None = None
        self._first_message: datetime | None = None

    def fold_summaries(self, summaries: Sequence[Summary], now: datetime) -> list[Folded]:
        """Add the summaries of batches to their windows, each unless it was added before.

        All of one model are stored in one transaction; when this returns, all are.

        Parameters
        ----------
        summaries
            Each of exactly one batch, with that batch's identity.
        now
            Aware UTC.

        Returns
        -------
        What became of each, in order.
        """
        self._begun = self._begun or now
        self._first_message = self._first_message or now
        results: dict[int, Folded] = {}
        by_model: dict[str, list[int]] = defaultdict(list)
        for index, summary in enumerate(summaries):
            reason = self._reason_to_refuse(summary)
            if reason:
                results[index] = Folded(Outcome.REFUSED, reason)
            else:
                by_model[summary.model].append(index)
        for model, indices in by_model.items():
            with write_session(self._engine, lock=model) as session:
                for index in indices:
                    results[index] = _fold(session, summaries[index], now)
        return [results[index] for index in range(len(summaries))]

    def record_conditions(self, conditions: Conditions, now: datetime) -> None:
        """Keep the conditions of a lumisection; once its end is known, only another end replaces them.

        Raises
        ------
        MalformedMessage
            The model is unknown.
        """
        if conditions.model not in self._models:
            raise MalformedMessage(
                f"conditions of unknown model '{conditions.model:.40}': add it to the site"
            )
        self._begun = self._begun or now
        self._first_message = self._first_message or now
        key = Place(conditions.model, conditions.run, conditions.lumisection)
        with write_session(self._engine, lock=conditions.model) as session:
            row = session.get(ConditionsRow, key)
            if row is None:
                row = ConditionsRow(**key._asdict(), document="", updated_at=now)
            elif row.ended_at is not None and not conditions.end_of_lumisection:
                return
            row.document = conditions.model_dump_json()
            row.updated_at = now
            if conditions.end_of_lumisection and row.ended_at is None:
                row.ended_at = now
            session.add(row)

    def close_ready(self, model: str, run: int, now: datetime) -> list[Verdict]:
        """Close and judge, in the order of lumisections, the windows of a run that need not wait any longer.

        A lumisection is ready when its end was announced and every source's batches are there, over all
        packages, or when it waited long enough. One that still waits holds up those after it, so that
        verdicts follow each other as the data did, even while a backlog is worked off.

        Returns
        -------
        list of Verdict
            One for each window closed now; stored, to be published.
        """
        if model not in self._models:
            return []
        verdicts: list[Verdict] = []
        while True:
            with read_session(self._engine) as session:
                place = _first_pending(session, model, run)
                if place is None or self._ready(session, place, now) is None:
                    return verdicts
            verdicts += self._close(place, now)

    def sweep(self, now: datetime) -> list[Verdict]:
        """Close whatever is complete or waited long enough, and assess again what got late data.

        To be called at start and every second or so.
        """
        open_runs = select(WindowRow.model, WindowRow.run).where(WindowRow.state == WindowState.OPEN)
        ended_runs = select(ConditionsRow.model, ConditionsRow.run).where(*_unsettled())
        with read_session(self._engine) as session:
            runs = {*session.exec(open_runs.distinct()).all(), *session.exec(ended_runs.distinct()).all()}
        verdicts = [verdict for model, run in sorted(runs) for verdict in self.close_ready(model, run, now)]
        for model in self._models:
            verdicts += self._reassess_late(model, now)
        return verdicts

    def unpublished(self, limit: int = 100) -> list[Verdict]:
        """Return stored verdicts that are not known to be on the verdicts topic, the oldest first."""
        with read_session(self._engine) as session:
            rows = session.exec(
                select(AssessmentRow.verdict)
                .where(
                    col(AssessmentRow.published).is_(False), col(AssessmentRow.model).in_(list(self._models))
                )
                .order_by(col(AssessmentRow.id))
                .limit(limit)
            ).all()
        return [Verdict.model_validate_json(row) for row in rows]

    def mark_published(self, verdicts: Sequence[Verdict]) -> None:
        """Remember that these verdicts are on the verdicts topic."""
        with write_session(self._engine, lock="streams.published") as session:
            names = [verdict.id for verdict in verdicts]
            for row in session.exec(select(AssessmentRow).where(col(AssessmentRow.verdict_id).in_(names))):
                row.published = True
                session.add(row)

    def _reason_to_refuse(self, summary: Summary) -> str:
        model = self._models.get(summary.model)
        if model is None:
            return f"summary of unknown model '{summary.model:.40}': add it to the site"
        if summary.contract_hash != model.contract.hash or summary.layout != layout_of(model.contract):
            return (
                f"summary under contract {summary.contract_hash[:12]}, this worker has "
                f"{model.contract.hash[:12]}: update one of them"
            )
        if summary.batch is None:
            return "summary names no batch: say which source and sequence it counts"
        return ""

    def _close(self, place: Place, now: datetime) -> list[Verdict]:
        with write_session(self._engine, lock=place.model) as session:
            # asked again under the lock: another worker may have closed it, or data may have come
            complete = self._ready(session, place, now)
            if complete is None:
                return []
            conditions = _conditions(session, place)
            verdicts = []
            for window in _open_windows(session, place):
                window.state = WindowState.CLOSED
                window.closed_at = now
                window.complete = complete
                verdicts.append(self._judge.judge(session, window, conditions, now))
            row = session.get(ConditionsRow, place)
            if row is not None and row.ended_at is not None:
                row.settled = True
                session.add(row)
            return verdicts

    def _ready(self, session: Session, place: Place, now: datetime) -> bool | None:
        """None: keep waiting. True: everything is there. False: waited long enough."""
        row = session.get(ConditionsRow, place)
        windows = _open_windows(session, place)
        if not windows and (row is None or row.settled):
            return None
        ended_at = row.ended_at if row is not None else None
        if row is not None and ended_at is not None and _all_arrived(session, place, row):
            return True
        if ended_at is None:
            ended_at = _later_end(session, place)
        if ended_at is None:
            return None
        self._begun = self._begun or now
        backlog_since = self._first_message or self._begun
        quiet_since = max([ended_at, backlog_since, *(window.updated_at for window in windows)])
        return False if now >= quiet_since + self._lateness else None

    def _reassess_late(self, model: str, now: datetime) -> list[Verdict]:
        late = (
            select(WindowRow)
            .where(
                WindowRow.model == model,
                WindowRow.state == WindowState.CLOSED,
                col(WindowRow.assessed_events) < col(WindowRow.n_events),
            )
            .order_by(col(WindowRow.id))
        )
        with read_session(self._engine) as session:
            if session.exec(late).first() is None:
                return []
        verdicts = []
        with write_session(self._engine, lock=model) as session:
            for window in session.exec(late).all():
                place = Place(window.model, window.run, window.lumisection)
                row = session.get(ConditionsRow, place)
                window.complete = row is not None and _all_arrived(session, place, row)
                verdicts.append(self._judge.judge(session, window, _conditions(session, place), now))
        return verdicts


def _fold(session: Session, summary: Summary, now: datetime) -> Folded:
    if summary.batch is None:
        raise AssertionError("checked before")
    source, sequence, digest = summary.batch
    known = session.get(BatchRow, (summary.model, summary.run, summary.lumisection, source, sequence))
    if known is not None and known.digest == digest:
        return Folded(Outcome.REPEATED)
    if known is not None:
        return Folded(
            Outcome.REFUSED,
            f"batch {sequence} of '{source:.40}' in LS {summary.lumisection} of run {summary.run} was "
            "counted before with other content: number the batches of a lumisection without repetition",
        )
    window = _add(session, summary, now)
    late = window.state == WindowState.CLOSED
    if late:
        window.late_events += summary.n_events
    session.add(window)
    session.flush()
    if window.id is None:
        raise AssertionError("a stored row has an id")
    session.add(
        BatchRow(
            model=summary.model,
            run=summary.run,
            lumisection=summary.lumisection,
            source=source,
            sequence=sequence,
            digest=digest,
            n_events=summary.n_events,
            window_id=window.id,
        )
    )
    return Folded(Outcome.LATE if late else Outcome.ADDED)


def _add(session: Session, summary: Summary, now: datetime) -> WindowRow:
    """Return the window with the summary merged in; made if it is the first."""
    window = session.exec(
        select(WindowRow).where(
            WindowRow.model == summary.model,
            WindowRow.run == summary.run,
            WindowRow.lumisection == summary.lumisection,
            WindowRow.package == summary.package,
        )
    ).one_or_none()
    if window is None:
        window = WindowRow(
            model=summary.model,
            run=summary.run,
            lumisection=summary.lumisection,
            package=summary.package,
            contract_hash=summary.contract_hash,
            summary=b"",
            opened_at=now,
            updated_at=now,
        )
        merged = replace(summary, batch=None)
    else:
        merged = merge(decode_summary(window.summary), summary)
    window.summary = encode_summary(merged)
    window.n_batches += 1
    window.n_events, window.n_accept = merged.n_events, merged.n_accept
    window.simulated = merged.simulated
    window.updated_at = now
    return window


def _unsettled() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return col(ConditionsRow.settled).is_(False), col(ConditionsRow.ended_at).is_not(None)


def _first_pending(session: Session, model: str, run: int) -> Place | None:
    """Return the first lumisection of a run that has an open window, or has ended and is not settled."""
    open_window = session.exec(
        select(func.min(WindowRow.lumisection)).where(
            WindowRow.model == model, WindowRow.run == run, WindowRow.state == WindowState.OPEN
        )
    ).one()
    ended = session.exec(
        select(func.min(ConditionsRow.lumisection)).where(
            ConditionsRow.model == model, ConditionsRow.run == run, *_unsettled()
        )
    ).one()
    pending = [lumisection for lumisection in (open_window, ended) if lumisection is not None]
    return Place(model, run, min(pending)) if pending else None


def _open_windows(session: Session, place: Place) -> Sequence[WindowRow]:
    return session.exec(
        select(WindowRow)
        .where(
            WindowRow.model == place.model,
            WindowRow.run == place.run,
            WindowRow.lumisection == place.lumisection,
            WindowRow.state == WindowState.OPEN,
        )
        .order_by(col(WindowRow.id))
    ).all()


def _conditions(session: Session, place: Place) -> Conditions | None:
    row = session.get(ConditionsRow, place)
    return Conditions.model_validate_json(row.document) if row is not None else None


def _all_arrived(session: Session, place: Place, row: ConditionsRow) -> bool:
    expected = Conditions.model_validate_json(row.document).expected
    arrived = dict(
        session.exec(
            select(BatchRow.source, func.count())
            .where(
                BatchRow.model == place.model,
                BatchRow.run == place.run,
                BatchRow.lumisection == place.lumisection,
            )
            .group_by(BatchRow.source)
        ).all()
    )
    return all(arrived.get(source, 0) >= count for source, count in expected.items())


def _later_end(session: Session, place: Place) -> datetime | None:
    """When the end of a later lumisection was announced: then this one has ended too."""
    return session.exec(
        select(ConditionsRow.ended_at)
        .where(
            ConditionsRow.model == place.model,
            col(ConditionsRow.ended_at).is_not(None),
            or_(
                col(ConditionsRow.run) > place.run,
                and_(col(ConditionsRow.run) == place.run, col(ConditionsRow.lumisection) > place.lumisection),
            ),
        )
        .order_by(col(ConditionsRow.ended_at))
        .limit(1)
    ).first()
