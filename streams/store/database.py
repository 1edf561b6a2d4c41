"""Engines and transactions for SQLite and PostgreSQL. Knows no table.

SQLite runs in WAL mode with a busy timeout, because worker, daemon and command line write the same
file; a read-modify-write transaction takes the write lock at its start, so it never has to be repeated.
"""

import hashlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, DateTime, Dialect, Engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError
from sqlalchemy.types import TypeDecorator
from sqlmodel import Session, create_engine

from streams.errors import DatabaseError

BUSY_TIMEOUT_S: Final = 30.0
_IMMEDIATE: Final = "lumiwatch_immediate"
_FOREIGN_KEYS: Final = "lumiwatch_foreign_keys"


def open_engine(url: str) -> Engine:
    """Open the database behind a URL.

    Parameters
    ----------
    url
        SQLAlchemy URL, for instance ``sqlite:////var/lib/lumiwatch/lumiwatch.db`` or ``postgresql+psycopg://...``.
        The folder of an SQLite file is created.

    Returns
    -------
    Engine
        SQLite: WAL, ``busy_timeout`` 30 s, foreign keys on, every commit synced to disk.

    Raises
    ------
    DatabaseError
        If the URL cannot be read, its driver is missing, or the file cannot be opened.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return create_engine(url, pool_pre_ping=True)
        if parsed.database not in (None, "", ":memory:"):
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        with engine.connect():
            return engine
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        # the URL may hold a password: name it only by its scheme
        scheme = url.split(":", 1)[0]
        raise DatabaseError(
            f"database URL '{scheme}:...' cannot be used ({error}): use sqlite:///path/to/file.db, "
            "or install the driver it names"
        ) from error
    except (OperationalError, OSError) as error:
        raise DatabaseError(
            f"database {make_url(url).render_as_string(hide_password=True)} cannot be opened: "
            "check that its folder exists and is writable"
        ) from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # the driver must not begin transactions on its own: _begin_sqlite says which kind
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")
        _switch_to_wal(cursor)
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
    finally:
        cursor.close()


def _switch_to_wal(cursor: Any) -> None:
    # while another process makes the same switch on a new file, SQLite says at once that it is locked:
    # the busy timeout does not hold for this one
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    # within a transaction SQLite would ignore this
    connection.exec_driver_sql(f"PRAGMA foreign_keys={'ON' if options.get(_FOREIGN_KEYS, True) else 'OFF'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_IMMEDIATE) else "BEGIN")


@contextmanager
def write_connection(engine: Engine, *, lock: str, foreign_keys: bool = True) -> Iterator[Connection]:
    """Yield the connection of one read-modify-write transaction, committed at the end or rolled back.

    Parameters
    ----------
    engine
        From `open_engine`.
    lock
        What is serialised, for instance the name of a model. SQLite serialises all writers whatever the
        name; PostgreSQL takes an advisory lock of this name until the end of the transaction.
    foreign_keys
        False: SQLite does not check them in this transaction, so that a table can be made anew.
    """
    options: dict[str, Any] = {_IMMEDIATE: True, _FOREIGN_KEYS: foreign_keys}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            key = int.from_bytes(hashlib.sha256(lock.encode()).digest()[:8], "big", signed=True)
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
        yield connection


@contextmanager
def write_session(engine: Engine, *, lock: str) -> Iterator[Session]:
    """Session for one read-modify-write transaction, committed at the end and rolled back on any error.

    Parameters
    ----------
    engine, lock
        As in `write_connection`.
    """
    with (
        write_connection(engine, lock=lock) as connection,
        Session(connection, expire_on_commit=False) as session,
    ):
        yield session
        session.flush()


@contextmanager
def read_session(engine: Engine) -> Iterator[Session]:
    """Session that only reads; what it loaded stays usable afterwards."""
    with Session(engine, expire_on_commit=False) as session:
        yield session


class UtcDateTime(TypeDecorator[datetime]):
    """Column type of an aware UTC time, on SQLite too, which itself keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Store UTC; refuse a naive time."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without zone cannot be stored: pass an aware one")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Give back aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
