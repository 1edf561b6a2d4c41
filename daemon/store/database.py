"""The one database of a site: opens it, with the schema that this lumiwatch needs.

Knows the version of the schema and nothing of what the records mean. The response workflow's own tables
(DBOS) live in the same database and are created by DBOS itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from daemon.errors import DatabaseUnusable
from daemon.migrations import HEAD, recorded_version
from streams.errors import DatabaseError
from streams.store.database import open_engine, write_session


def open_database(url: str) -> Engine:
    """Open the site's database; an empty or older one is brought to the schema of this lumiwatch first.

    Several processes may do so at once: one upgrades, the others wait for it.

    Parameters
    ----------
    url
        SQLAlchemy URL, for instance ``sqlite:////var/lib/lumiwatch/lumiwatch.sqlite``.

    Raises
    ------
    DatabaseUnusable
        The URL is malformed, the folder cannot be written, the server does not answer, a newer lumiwatch
        wrote the database, or its tables fit no version.
    """
    try:
        engine = open_engine(url)
        _bring_up_to_date(engine)
    except DatabaseError as error:
        raise DatabaseUnusable(f"{error} (key `database_url` in lumiwatch.toml)") from error
    except SQLAlchemyError as error:
        name, cause = make_url(url).render_as_string(hide_password=True), str(error).splitlines()[0]
        raise DatabaseUnusable(
            f"database {name} cannot be read or upgraded: {cause}; check that it answers and is a database, "
            "and the rights of its user (key `database_url` in lumiwatch.toml)"
        ) from error
    return engine


def _bring_up_to_date(engine: Engine) -> None:
    try:
        with engine.connect() as connection:
            recorded = recorded_version(connection)
        if recorded != HEAD:
            from daemon.migrations.upgrade import upgrade  # noqa: PLC0415 - Alembic is slow to import, rarely needed

            upgrade(engine)
    except BaseException:
        engine.dispose()
        raise


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """Yield a session whose work is committed as a whole, or not at all.

    The write lock is taken at once, so that a read followed by a write cannot lose against another
    process or thread. Rows stay readable after the commit.
    """
    with write_session(engine, lock="daemon") as session:
        yield session
