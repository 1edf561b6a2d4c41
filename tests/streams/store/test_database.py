"""SQLite as several processes need it."""

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text
from sqlalchemy.exc import StatementError
from sqlmodel import select

from streams.errors import DatabaseError
from streams.store.database import open_engine, read_session, write_session
from streams.store.records import ConditionsRow, create_tables


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/new/folder/site.db")
    create_tables(engine)
    yield engine
    engine.dispose()


def _row(lumisection, now):
    return ConditionsRow(model="m", run=1, lumisection=lumisection, document="{}", updated_at=now)


NOW = datetime(2026, 5, 1, tzinfo=UTC)


def test_sqlite_is_opened_for_several_writers(engine):
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 30_000
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2


def test_read_modify_write_of_many_threads_loses_nothing(engine):
    with write_session(engine, lock="m") as session:
        session.add(_row(0, NOW))

    def add_one():
        for _ in range(20):
            with write_session(engine, lock="m") as session:
                row = session.exec(select(ConditionsRow)).one()
                row.document = str(int(row.document.strip("{}") or 0) + 1)
                session.add(row)

    threads = [threading.Thread(target=add_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with read_session(engine) as session:
        assert session.exec(select(ConditionsRow)).one().document == "80"


def test_an_error_rolls_everything_back(engine):
    def fail():
        with write_session(engine, lock="m") as session:
            session.add(_row(1, NOW))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with read_session(engine) as session:
        assert session.exec(select(ConditionsRow)).all() == []


def test_times_come_back_aware_and_naive_ones_are_refused(engine):
    local = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    with write_session(engine, lock="m") as session:
        session.add(_row(1, local))
    with read_session(engine) as session:
        assert session.exec(select(ConditionsRow)).one().updated_at == datetime(2026, 5, 1, 10, tzinfo=UTC)
    with pytest.raises(StatementError, match="without zone"), write_session(engine, lock="m") as session:
        session.add(_row(2, datetime(2026, 5, 1)))  # noqa: DTZ001 - a naive time is the point


def test_creating_tables_twice_is_harmless(engine):
    create_tables(engine)


def test_what_cannot_be_opened_is_said_without_the_password(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseError, match="exists and is writable"):
        open_engine(f"sqlite:///{tmp_path}/file/site.db")
    with pytest.raises(DatabaseError) as caught:
        open_engine("nonsense+driver://user:secret@host/db")
    assert "secret" not in str(caught.value)
