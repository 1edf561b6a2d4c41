"""Retention: what a database forgets, so that a site can stay on for years. In small steps; knows no broker.

A window goes from ``closed`` to ``sealed`` when late data is not taken any more: the batches that it holds,
one row each, are forgotten, so data that comes still is refused, because it could have been counted before.
It goes to ``archived`` when its counts are forgotten too. Its row stays for good: a lumisection that was
there once is never taken for a new one. Conditions go with the counts of their lumisection; of old
assessments every twentieth lumisection's stays. References stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Engine, Table, and_, delete, exists, or_
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from streams.store.database import write_session
from streams.store.records import AssessmentRow, BatchRow, ConditionsRow, SourceRow, WindowRow, WindowState

THINNED_TO: Final = 20
"""Of old assessments, those of every such lumisection stay."""
WINDOWS_AT_ONCE: Final = 10
"""Windows sealed in one transaction: each may hold thousands of batches."""
ROWS_AT_ONCE: Final = 200


@dataclass(frozen=True)
class RetentionSettings:
    """How long what is kept.

    Attributes
    ----------
    late_data
        After a window has closed, data for it is still counted.
    windows
        Counts of windows, for references, charts and evidence.
    assessments
        All assessments and verdicts; older ones are thinned.
    """

    late_data: timedelta = timedelta(days=3)
    windows: timedelta = timedelta(days=30)
    assessments: timedelta = timedelta(days=90)


class Stretch(NamedTuple):
    """Lumisections of a run that are needed for longer, both ends included."""

    run: int
    first: int
    last: int


class Forgotten(NamedTuple):
    """What one step has forgotten."""

    sealed: int = 0
    archived: int = 0
    conditions: int = 0
    assessments: int = 0
    sources: int = 0


class Retention:
    """Forgets what is old, a little at each step.

    Parameters
    ----------
    engine
        The site's database.
    settings
        How long what is kept.
    """

    def __init__(self, engine: Engine, settings: RetentionSettings) -> None:
        self._engine = engine
        self._settings = settings
        # where the search for windows to archive goes on: needed ones stay and must not be met each time
        self._archived_up_to: dict[str, int] = {}

    def step(self, model: str, now: datetime, needed: Sequence[Stretch] = ()) -> Forgotten:
        """Forget a bounded number of rows of one model, in one short transaction each.

        Parameters
        ----------
        model
            Name of a model, one that the site no longer monitors included.
        now
            Aware UTC.
        needed
            Windows that keep their counts whatever their age.

        Returns
        -------
        How much was forgotten: nothing at all means that there is nothing left to do for now.
        """
        settings = self._settings
        with write_session(self._engine, lock=model) as session:
            sealed = _seal(session, model, now - settings.late_data)
        with write_session(self._engine, lock=model) as session:
            archived = self._archive(session, model, now - settings.windows, needed)
        with write_session(self._engine, lock=model) as session:
            conditions = _forget_conditions(session, model, now - settings.windows)
            sources = _forget_sources(session, model, now - settings.late_data)
        with write_session(self._engine, lock=model) as session:
            assessments = _thin_assessments(session, model, now - settings.assessments)
        return Forgotten(sealed, archived, conditions, assessments, sources)

    def _archive(self, session: Session, model: str, before: datetime, needed: Sequence[Stretch]) -> int:
        after = self._archived_up_to.get(model, 0)
        windows = session.exec(
            select(WindowRow)
            .where(
                WindowRow.model == model,
                WindowRow.state == WindowState.SEALED,
                col(WindowRow.closed_at) < before,
                col(WindowRow.id) > after,
            )
            .order_by(col(WindowRow.id))
            .limit(WINDOWS_AT_ONCE)
        ).all()
        self._archived_up_to[model] = (windows[-1].id or 0) if len(windows) == WINDOWS_AT_ONCE else 0
        old = [window for window in windows if not _is_needed(window, needed)]
        for window in old:
            window.summary = b""
            window.state = WindowState.ARCHIVED
            session.add(window)
        _pack(session, [window.id for window in old if window.id is not None])
        return len(old)


def _is_needed(window: WindowRow, needed: Sequence[Stretch]) -> bool:
    return any(
        stretch.run == window.run and stretch.first <= window.lumisection <= stretch.last
        for stretch in needed
    )


def _pack(session: Session, ids: Sequence[int]) -> None:
    """Write shrunken rows anew on SQLite: each would keep a page of the file to itself for good."""
    connection = session.connection()
    if not ids or connection.dialect.name != "sqlite":
        return
    session.flush()
    table: Table = WindowRow.__table__  # type: ignore[attr-defined]
    these = table.c.id.in_(ids)
    # assessments point to these rows, which are away for a moment
    connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
    rows = [dict(row) for row in connection.execute(select_columns(table).where(these)).mappings()]
    connection.execute(delete(table).where(these))
    connection.execute(table.insert(), rows)


def _seal(session: Session, model: str, before: datetime) -> int:
    windows = session.exec(
        select(WindowRow)
        .where(
            WindowRow.model == model,
            WindowRow.state == WindowState.CLOSED,
            col(WindowRow.closed_at) < before,
            # what came late is assessed first
            col(WindowRow.updated_at) < before,
            col(WindowRow.assessed_events) >= col(WindowRow.n_events),
        )
        .order_by(col(WindowRow.id))
        .limit(WINDOWS_AT_ONCE)
    ).all()
    for window in windows:
        window.state = WindowState.SEALED
        session.add(window)
        session.connection().execute(
            delete(BatchRow).where(
                col(BatchRow.model) == model,
                col(BatchRow.run) == window.run,
                col(BatchRow.lumisection) == window.lumisection,
                col(BatchRow.window_id) == window.id,
            )
        )
    return len(windows)


def _forget_conditions(session: Session, model: str, before: datetime) -> int:
    with_counts = exists().where(
        col(WindowRow.model) == col(ConditionsRow.model),
        col(WindowRow.run) == col(ConditionsRow.run),
        col(WindowRow.lumisection) == col(ConditionsRow.lumisection),
        col(WindowRow.state) != WindowState.ARCHIVED,
    )
    old = session.exec(
        select(ConditionsRow.run, ConditionsRow.lumisection)
        .where(ConditionsRow.model == model, col(ConditionsRow.updated_at) < before, ~with_counts)
        .order_by(col(ConditionsRow.run), col(ConditionsRow.lumisection))
        .limit(ROWS_AT_ONCE)
    ).all()
    if old:
        places = or_(
            *(
                and_(col(ConditionsRow.run) == run, col(ConditionsRow.lumisection) == lumisection)
                for run, lumisection in old
            )
        )
        session.connection().execute(delete(ConditionsRow).where(col(ConditionsRow.model) == model, places))
    return len(old)


def _forget_sources(session: Session, model: str, before: datetime) -> int:
    old = (col(SourceRow.model) == model, col(SourceRow.seen_at) < before)
    return session.connection().execute(delete(SourceRow).where(*old)).rowcount


def _thin_assessments(session: Session, model: str, before: datetime) -> int:
    old = (
        select_columns(col(AssessmentRow.id))
        .join(WindowRow, col(WindowRow.id) == col(AssessmentRow.window_id))
        .where(
            col(AssessmentRow.model) == model,
            col(AssessmentRow.created_at) < before,
            col(AssessmentRow.published).is_(True),
            col(AssessmentRow.lumisection) % THINNED_TO != 0,
            col(WindowRow.state) == WindowState.ARCHIVED,
        )
        .order_by(col(AssessmentRow.id))
        .limit(ROWS_AT_ONCE)
    )
    ids = list(session.connection().execute(old).scalars())
    if ids:
        session.connection().execute(delete(AssessmentRow).where(col(AssessmentRow.id).in_(ids)))
    return len(ids)
