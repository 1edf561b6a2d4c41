"""A database that is locked, full or gone: a fold happens whole or not at all, and works again later."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlmodel import Session, func, select

from streams.errors import DatabaseError
from streams.judging.judge import MonitoredModel
from streams.store import database
from streams.store.database import open_engine
from streams.store.records import BatchRow, WindowRow, create_tables, require_tables
from streams.store.windows import Outcome, WindowStore
from tests.support.postgres import PostgresServer
from tests.support.streams import MODEL

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def opened(contract):
    """Return a function that opens a store on a URL; engines are closed at the end."""
    engines = []

    def make(url):
        engines.append(open_engine(url))
        create_tables(engines[-1])
        return WindowStore(engines[-1], models={MODEL: MonitoredModel(contract)}), engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def summaries(detector):
    return [detector.sent(7, part=part, n_events=500) for part in range(4)]


def counted(engine):
    with Session(engine) as session:
        events = session.exec(select(func.sum(WindowRow.n_events))).one()
        return events or 0, session.exec(select(func.count()).select_from(BatchRow)).one()


def test_a_database_locked_by_someone_else_counts_nothing_and_then_everything(
    opened, summaries, tmp_path, monkeypatch
):
    # given a writer that does not end, and a store that waits for it as long as it will
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.2)
    store, engine = opened(f"sqlite:///{tmp_path}/site.db")
    store.fold_summaries(summaries[:1], NOW)
    with closing(sqlite3.connect(tmp_path / "site.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="database is locked"):
            store.fold_summaries(summaries, NOW)
        other.execute("ROLLBACK")
    assert counted(engine) == (500, 1)

    # the messages come again
    outcomes = [folded.outcome for folded in store.fold_summaries(summaries, NOW)]
    assert outcomes == [Outcome.REPEATED, *[Outcome.ADDED] * 3]
    assert counted(engine) == (2000, 4)


def test_a_full_disk_counts_nothing_and_then_everything(opened, summaries, tmp_path):
    store, engine = opened(f"sqlite:///{tmp_path}/site.db")
    store.fold_summaries(summaries[:1], NOW)
    # SQLite says the same when the file may not grow as when the disk is full
    limit = {"pages": 1}

    @event.listens_for(engine, "begin")
    def bound(connection):
        if limit["pages"]:
            connection.exec_driver_sql(f"PRAGMA max_page_count={limit['pages']}")

    with pytest.raises(OperationalError, match="database or disk is full"):
        store.fold_summaries(summaries, NOW)
    assert counted(engine) == (500, 1)

    limit["pages"] = 2**30
    assert [folded.outcome for folded in store.fold_summaries(summaries, NOW)][1:] == [Outcome.ADDED] * 3
    assert counted(engine) == (2000, 4)


def test_a_server_that_stops_and_comes_back_counts_every_batch_once(opened, summaries):
    with PostgresServer() as server:
        store, engine = opened(server.url)
        store.fold_summaries(summaries[:1], NOW)

        server.stop()
        for _ in range(2):
            with pytest.raises(DBAPIError):
                store.fold_summaries(summaries, NOW)
        with pytest.raises(DatabaseError, match=r"does not answer: start it, or mend the URL"):
            require_tables(engine)

        server.start()
        outcomes = [folded.outcome for folded in store.fold_summaries(summaries, NOW)]
        assert outcomes == [Outcome.REPEATED, *[Outcome.ADDED] * 3]
        assert counted(engine) == (2000, 4)
        engine.dispose()
