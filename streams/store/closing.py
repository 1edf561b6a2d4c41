"""Closing: when a lumisection is over, and how long its windows still wait. Only reads; judges nothing.

A lumisection is *complete* when its end was announced with the number of batches of each source, and all of
them are there. It closes at once.

Without that it closes when three things hold:

1. It is *over*: its end was announced; or a later one of the model has begun, because a batch of it came or
   its end was announced; or nothing has come for `Waiting.patience`.
2. It is *quiet*: `Waiting.lateness` has passed since it was over, since its last batch, and since this
   worker's first message (what came before may still be in the broker).
3. *Nobody lags*. A source lags that sent something within the patience and has not moved on: it has not sent
   anything of a later lumisection or run. Where the numbers were announced, only a source lags that owes
   batches and has not begun this lumisection. A window waits for those at most `patience` after its last
   batch, so a source that lags for longer, or died, holds nobody up: what it sends then is late.

Windows of a run close in the order of their lumisections: one that waits holds up those after it. One that
comes when a later one was closed already holds up nobody.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement
from sqlalchemy.orm import defer
from sqlmodel import Session, col, func, select

from streams.conditions import Conditions
from streams.store.folding import Place
from streams.store.records import BatchRow, ConditionsRow, SourceRow, WindowRow, WindowState

DEFAULT_LATENESS: Final = timedelta(seconds=30)
DEFAULT_PATIENCE: Final = timedelta(seconds=120)
PENDING_AT_ONCE: Final = 64
"""Lumisections of a run looked at together; the others come when these are closed."""


@dataclass(frozen=True)
class Waiting:
    """How long windows wait.

    Attributes
    ----------
    lateness
        After the end of a lumisection and after its last batch, for what is still under way.
    patience
        For a source that lags behind the others, and for a stream that fell silent.
    """

    lateness: timedelta = DEFAULT_LATENESS
    patience: timedelta = DEFAULT_PATIENCE


def unsettled() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return the condition on `ConditionsRow`: the end is announced, and the windows are not closed."""
    return col(ConditionsRow.settled).is_(False), col(ConditionsRow.ended_at).is_not(None)


def pending(session: Session, model: str, run: int) -> list[Place]:
    """Return the first lumisections of a run that have open windows, or have ended and are not settled."""
    with_windows = select(WindowRow.lumisection).where(
        WindowRow.model == model, WindowRow.run == run, WindowRow.state == WindowState.OPEN
    )
    ended = select(ConditionsRow.lumisection).where(
        ConditionsRow.model == model, ConditionsRow.run == run, *unsettled()
    )
    found: set[int] = set()
    for query, column in ((with_windows, WindowRow.lumisection), (ended, ConditionsRow.lumisection)):
        found.update(session.exec(query.distinct().order_by(col(column)).limit(PENDING_AT_ONCE)))
    return [Place(model, run, lumisection) for lumisection in sorted(found)[:PENDING_AT_ONCE]]


def passed(session: Session, model: str, run: int) -> int:
    """Return the last lumisection of a run that has a closed window; -1 if there is none."""
    last = session.exec(
        select(func.max(WindowRow.lumisection)).where(
            WindowRow.model == model, WindowRow.run == run, WindowRow.state != WindowState.OPEN
        )
    ).one()
    return -1 if last is None else last


def open_windows(session: Session, place: Place) -> Sequence[WindowRow]:
    """Return the open windows of a lumisection, the oldest first; their counts are read when asked for."""
    return session.exec(
        select(WindowRow)
        .where(
            WindowRow.model == place.model,
            WindowRow.run == place.run,
            WindowRow.lumisection == place.lumisection,
            WindowRow.state == WindowState.OPEN,
        )
        .options(defer(WindowRow.summary))  # type: ignore[arg-type] # SQLModel declares columns as values
        .order_by(col(WindowRow.id))
    ).all()


def stored_conditions(session: Session, place: Place) -> Conditions | None:
    """Return the latest conditions of a lumisection, if any came."""
    row = session.get(ConditionsRow, place)
    return Conditions.model_validate_json(row.document) if row is not None else None


def readiness(
    session: Session, place: Place, now: datetime, waiting: Waiting, backlog_since: datetime
) -> bool | None:
    """Say whether the windows of a lumisection can be closed; the rule stands at the top of this module.

    Parameters
    ----------
    backlog_since
        When this worker got its first message, or began.

    Returns
    -------
    None: they wait, or there is nothing to close. True: everything is there. False: they waited long enough.
    """
    row = session.get(ConditionsRow, place)
    windows = open_windows(session, place)
    if not windows and (row is None or row.settled):
        return None
    expected = _expected(row)
    if expected is not None and (all_arrived(session, place) or not (expected or windows)):
        return True
    last_batch = max((window.updated_at for window in windows), default=None)
    over = _over_since(session, place, row, last_batch, now, waiting)
    if over is None:
        return None
    over = max(over, backlog_since)
    if now < max(over, last_batch or over) + waiting.lateness:
        return None
    held_since = last_batch or _next_begun(session, place) or now
    if now < max(over, held_since) + waiting.patience and _lagging(
        session, place, expected, now - waiting.patience, backlog_since
    ):
        return None
    return False


def all_arrived(session: Session, place: Place) -> bool:
    """Whether the end was announced with numbers, and every source's batches are there."""
    expected = _expected(session.get(ConditionsRow, place))
    if not expected:
        return False
    counted = session.exec(
        select(func.sum(WindowRow.n_batches)).where(
            WindowRow.model == place.model,
            WindowRow.run == place.run,
            WindowRow.lumisection == place.lumisection,
        )
    ).one()
    # asked first, because counting the batches of each source is dear
    if (counted or 0) < sum(expected.values()):
        return False
    arrived = _arrived(session, place)
    return all(arrived.get(source, 0) >= count for source, count in expected.items())


def _expected(row: ConditionsRow | None) -> dict[str, int] | None:
    """Batches of each source; None before the end is announced."""
    if row is None or row.ended_at is None:
        return None
    return Conditions.model_validate_json(row.document).expected


def _arrived(session: Session, place: Place) -> dict[str, int]:
    return dict(
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


def _over_since(
    session: Session,
    place: Place,
    row: ConditionsRow | None,
    last_batch: datetime | None,
    now: datetime,
    waiting: Waiting,
) -> datetime | None:
    if row is not None and row.ended_at is not None:
        return row.ended_at
    begun = [at for at in (_next_begun(session, place), _next_ended(session, place)) if at is not None]
    if begun:
        return min(begun)
    if last_batch is not None and now >= last_batch + waiting.patience:
        return last_batch
    return None


def _next_begun(session: Session, place: Place) -> datetime | None:
    """When the next lumisection that has data began to come."""
    query = select(WindowRow.opened_at).where(WindowRow.model == place.model)
    same_run = query.where(
        WindowRow.run == place.run, col(WindowRow.lumisection) > place.lumisection
    ).order_by(col(WindowRow.lumisection))
    later_run = query.where(col(WindowRow.run) > place.run).order_by(
        col(WindowRow.run), col(WindowRow.lumisection)
    )
    return session.exec(same_run.limit(1)).first() or session.exec(later_run.limit(1)).first()


def _next_ended(session: Session, place: Place) -> datetime | None:
    """When the end of the next lumisection that has one was announced."""
    query = select(ConditionsRow.ended_at).where(
        ConditionsRow.model == place.model, col(ConditionsRow.ended_at).is_not(None)
    )
    same_run = query.where(
        ConditionsRow.run == place.run, col(ConditionsRow.lumisection) > place.lumisection
    ).order_by(col(ConditionsRow.lumisection))
    later_run = query.where(col(ConditionsRow.run) > place.run).order_by(
        col(ConditionsRow.run), col(ConditionsRow.lumisection)
    )
    return session.exec(same_run.limit(1)).first() or session.exec(later_run.limit(1)).first()


def _lagging(
    session: Session,
    place: Place,
    expected: dict[str, int] | None,
    alive_since: datetime,
    backlog_since: datetime,
) -> bool:
    rows = session.exec(
        select(SourceRow).where(SourceRow.model == place.model, SourceRow.run == place.run)
    ).all()
    # a worker that just began gives every source the time to be heard again
    behind = [row for row in rows if max(row.seen_at, backlog_since) > alive_since]
    if expected:
        behind = [row for row in behind if row.lumisection < place.lumisection]
        if not behind:
            return False
        arrived = _arrived(session, place)
        return any(arrived.get(row.source, 0) < expected.get(row.source, 0) for row in behind)
    behind = [row for row in behind if row.lumisection <= place.lumisection]
    moved_on = _in_later_runs(session, place, {row.source for row in behind})
    return any(row.source not in moved_on for row in behind)


def _in_later_runs(session: Session, place: Place, sources: set[str]) -> set[str]:
    if not sources:
        return set()
    return set(
        session.exec(
            select(SourceRow.source).where(
                SourceRow.model == place.model,
                col(SourceRow.run) > place.run,
                col(SourceRow.source).in_(sources),
            )
        )
    )
