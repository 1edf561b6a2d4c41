"""The chain of hashes in the database: adds to it, checks it, takes old events from its beginning.

Whoever adds an event locks the chain's one head row until the end of the transaction: any number of processes
make one chain, its numbers without gaps and in the order of the commits. Refuses to know what events mean;
the canonical form is `audit`'s.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, insert, select, update
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import SQLModel, col

from daemon.errors import DatabaseUnusable
from daemon.journal.audit import CHECKPOINT, Entry, Head, Report, Unreadable, check_chain, digest
from daemon.store.database import transaction
from daemon.store.records import AuditHeadRecord, EventRecord, new_id

BATCH: Final = 500
HEAD_ID: Final = 1
_COLUMNS: Final = (
    "sequence", "id", "at", "kind", "actor", "model", "incident_id", "response_id", "simulated", "text",
    "detail", "previous", "hash",
)  # fmt: skip


def append(
    connection: Connection,
    *,
    at: datetime,
    kind: str,
    actor: str,
    text: str,
    detail: Mapping[str, Any],
    model: str | None = None,
    incident_id: str | None = None,
    response_id: str | None = None,
    simulated: bool = False,
) -> Entry:
    """Add one event to the end of the chain, in the caller's transaction.

    Parameters
    ----------
    connection
        Of a transaction that took the write lock at its start (`daemon.store.database.transaction`).

    Raises
    ------
    DatabaseUnusable
        The chain's head row is gone.
    """
    head = locked_head(connection)
    entry = Entry(
        sequence=head.sequence + 1,
        id=new_id(),
        at=at,
        kind=kind,
        actor=actor,
        model=model,
        incident_id=incident_id,
        response_id=response_id,
        simulated=simulated,
        text=text,
        detail=json.loads(json.dumps(detail)),  # as it will be read: lists for tuples, text for keys
        previous=head.hash,
    )
    entry = replace(entry, hash=digest(entry))
    connection.execute(insert(_events()).values(**asdict(entry), published=False))
    _move_head(connection, sequence=entry.sequence, hash=entry.hash)
    return entry


def locked_head(connection: Connection) -> Head:
    """Read where the chain begins and ends, and let nobody else add to it before the transaction ends."""
    head = _head(connection, lock=True)
    if head is None:
        raise DatabaseUnusable(
            "the head row of the audit chain is missing, so nothing can be recorded: "
            "restore the database from a backup"
        )
    return head


def verify(engine: Engine, expected: Mapping[int, str] | None = None) -> Report:
    """Check the whole chain as it is at one moment; writers need not stop.

    Parameters
    ----------
    expected
        As of `daemon.journal.audit.check_chain`.
    """
    # SQLite's read transactions see one moment anyway
    options = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        return check_chain(_entries(connection), _head(connection, lock=False), expected)


def prune(engine: Engine, before: datetime, *, now: datetime, published_only: bool, at_most: int) -> int:
    """Take old events from the chain's beginning, signed off by an event of kind `audit.checkpoint`.

    Parameters
    ----------
    before
        Events from earlier than this go, up to the first that stays.
    published_only
        Keep what Kafka has not got yet.
    at_most
        Events in one transaction.

    Returns
    -------
    Events that are gone.
    """
    with transaction(engine) as session:
        connection = session.connection()
        head = locked_head(connection)
        last = _last_to_go(connection, before, published_only=published_only, at_most=at_most)
        if last is None:
            return 0
        sequence, digest_of_last = last
        events = _events()
        gone = connection.execute(delete(events).where(events.c.sequence <= sequence)).rowcount
        append(
            connection,
            at=now,
            kind=CHECKPOINT,
            actor="lumiwatch",
            text=f"{gone} events up to number {sequence}, from before {before:%Y-%m-%d}, were forgotten.",
            detail={
                "sequence": sequence,
                "hash": digest_of_last,
                "events": gone,
                "first": head.checkpoint_sequence + 1,
            },
        )
        _move_head(
            connection, checkpoint_sequence=sequence, checkpoint_hash=digest_of_last, checkpoint_at=now
        )
        return gone


def last_checkpoint(engine: Engine) -> datetime | None:
    """Tell when events were last taken from the chain's beginning; None: never."""
    with engine.connect() as connection:
        return connection.execute(select(col(AuditHeadRecord.checkpoint_at))).scalar()


def _last_to_go(
    connection: Connection, before: datetime, *, published_only: bool, at_most: int
) -> tuple[int, str] | None:
    events = _events()
    oldest = (
        select(events.c.sequence, events.c.hash, events.c.at, events.c.published)
        .order_by(events.c.sequence)
        .limit(at_most)
    )
    last = None
    for row in connection.execute(oldest):
        if row.at >= before or (published_only and not row.published):
            break
        last = (row.sequence, row.hash)
    return last


def _entries(connection: Connection) -> Iterator[Entry | Unreadable]:
    events = _events()
    columns = [events.c[name] for name in _COLUMNS]
    cursor: int | None = None
    while True:
        numbers = select(events.c.sequence).order_by(events.c.sequence).limit(BATCH)
        if cursor is not None:
            numbers = numbers.where(events.c.sequence > cursor)
        found = list(connection.execute(numbers).scalars())
        if not found:
            return
        rows = select(*columns).where(events.c.sequence.between(found[0], found[-1]))
        try:
            yield from [
                Entry(**row) for row in connection.execute(rows.order_by(events.c.sequence)).mappings()
            ]
        except _CANNOT_BE_READ:
            for number in found:
                yield _read_one(connection, columns, number)
        cursor = found[-1]


_CANNOT_BE_READ: Final = (ValueError, TypeError, AttributeError, SQLAlchemyError)


def _read_one(connection: Connection, columns: list[Any], number: int) -> Entry | Unreadable:
    try:
        row = connection.execute(select(*columns).where(_events().c.sequence == number)).mappings().one()
        return Entry(**row)
    except _CANNOT_BE_READ:
        return Unreadable(number)


def _head(connection: Connection, *, lock: bool) -> Head | None:
    table = _table(AuditHeadRecord)
    query = select(table.c.sequence, table.c.hash, table.c.checkpoint_sequence, table.c.checkpoint_hash)
    query = query.where(table.c.id == HEAD_ID)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return Head(*row) if row is not None else None


def _move_head(connection: Connection, **values: Any) -> None:
    table = _table(AuditHeadRecord)
    connection.execute(update(table).where(table.c.id == HEAD_ID).values(**values))


def _events() -> Table:
    return _table(EventRecord)


def _table(record: type[SQLModel]) -> Table:
    table: Table = record.__table__  # type: ignore[attr-defined]
    return table
