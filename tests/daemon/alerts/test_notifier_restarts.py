"""Killed at any moment, on a full disk or a locked database: the alerts say the same, late but once."""

import shutil
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from daemon.site.settings import load_site
from daemon.store.database import open_database
from tests.support.control_room import REPEAT, ControlRoom
from tests.support.daemon import HandClock, copy_site

HOUR = 3600.0


@pytest.fixture
def room(engine, site, clock):
    made = ControlRoom(engine, site, clock)
    yield made
    made.close()


def life(room):
    """Everything that is said of an incident; each step may be looked at twice."""
    yield lambda: room.alarm(62)
    yield lambda: room.good(70)
    yield lambda: room.alarm(75)
    yield lambda: room.clock.move(REPEAT.total_seconds())
    yield lambda: room.silence(2)
    yield lambda: room.operations.note("anomaly-1", operator="local", text="quiet")
    yield lambda: room.clock.move(3 * HOUR)
    yield lambda: room.operations.resolve("anomaly-1", operator="local", comment="cable")
    yield lambda: room.fault(90)
    yield lambda: room.silence(2, family="integrity")
    yield lambda: room.good(95)
    yield lambda: room.clock.move(3 * HOUR)


class KilledError(Exception):
    """The process ends here."""


def live(room, killed_at=None):
    """Let an incident live, with the alerts killed before their n-th commit; returns how many there were."""
    commits = 0

    def count(_connection):
        nonlocal commits
        commits += 1
        if commits == killed_at:
            raise KilledError

    for step in life(room):
        step()
        event.listen(room.engine, "commit", count)
        try:
            room.follow(1)
        except KilledError:
            room.restart()
        event.remove(room.engine, "commit", count)
        room.follow(1)
    return commits


@pytest.mark.slow
def test_killed_at_any_moment_it_says_the_same(tmp_path):
    prepared = copy_site(tmp_path)
    open_database(load_site(prepared).database_url).dispose()

    def lived(number, killed_at=None):
        site = load_site(Path(shutil.copytree(prepared, tmp_path / str(number))))
        engine = open_database(site.database_url)
        engine.dispose()
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        room = ControlRoom(engine, site, HandClock())
        try:
            return live(room, killed_at), room.headlines()
        finally:
            room.close()
            engine.dispose()

    commits, said = lived(0)
    assert commits > 30
    assert [[line.split(" | ")[0] for line in thread] for thread in said] == [
        ["RESOLVED", "RESOLVED", "REOPENED", "STILL AN ALARM", "SILENCED", "SILENCE OVER", "RESOLVED"],
        ["RESOLVED", "SILENCED"],
    ]

    for killed_at in range(1, commits + 1):
        assert lived(killed_at, killed_at)[1] == said, f"killed before commit {killed_at}"


@pytest.mark.slow
def test_on_postgresql_it_says_the_same(site, clock, postgres_url):
    engine = open_database(postgres_url)
    room = ControlRoom(engine, site, clock)

    live(room)

    assert [len(thread) for thread in room.headlines()] == [7, 2]
    room.close()
    engine.dispose()


def test_a_full_disk_loses_nothing_and_is_counted(room):
    more_than_a_page = "The accept rate is too high. " * 300
    room.alarm(62, reason=more_than_a_page)
    verdict = {"id": "63" * 16, "families": ("inputs", "rate", "score"), "reason": more_than_a_page}
    with full_disk(room.engine):
        with pytest.raises(OperationalError, match="full"):
            room.alarm(63, **verdict)
        assert fails_once(room)
    assert room.incident().last_lumisection == 62

    room.alarm(63, **verdict)
    room.follow(3)

    assert room.words() == ["ALARM"]
    assert "inputs, rate, score" in next(iter(room.server.posts.values()))["message"]


def test_a_locked_database_loses_nothing_and_is_counted(room):
    room.alarm(62)
    with locked(room.engine):
        with pytest.raises(OperationalError, match="locked"):
            room.alarm(63, id="63" * 16)
        assert fails_once(room)

    room.alarm(63, id="63" * 16)
    room.follow(3)

    assert room.words() == ["ALARM"]
    assert room.incident().last_lumisection == 63


def fails_once(room):
    """Run the alerts as the daemon does until a failure is contained."""
    room.clock.move(3)

    class Once(Event):
        def wait(self, timeout=None):
            self.set()
            return super().wait(timeout)

    stop = Once()
    room.notifier.run(stop)
    return len(room.contained) == 1


@contextmanager
def full_disk(engine):
    """Fill the database to its last page, and let it grow no further."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE filling (content BLOB)")
    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def limit(connection, _record):
        connection.execute(f"PRAGMA max_page_count={pages + 4}")

    engine.dispose()
    event.listen(engine, "connect", limit)
    for size in (3000, 300, 30, 1):
        while inserted(engine, size):
            pass
    yield
    event.remove(engine, "connect", limit)
    engine.dispose()


def inserted(engine, size):
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO filling VALUES (zeroblob(?))", (size,))
    except OperationalError:
        return False
    return True


@contextmanager
def locked(engine):
    """Hold the write lock in another connection; waiting for it ends at once."""
    engine.dispose()

    def hurry(connection, _record):
        connection.execute("PRAGMA busy_timeout=1")

    event.listen(engine, "connect", hurry)
    with closing(sqlite3.connect(engine.url.database, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")
    event.remove(engine, "connect", hurry)
    engine.dispose()
