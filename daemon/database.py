"""The one database of a site: opens it, and creates the tables of all rooms in it.

Knows every room's records module and nothing of what the records mean. The response workflow's
own tables (DBOS) live in the same database and are created by DBOS itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, SQLModel

from daemon.errors import DatabaseUnusable
from streams.database import open_engine, write_session
from streams.errors import DatabaseError

_RECORD_MODULES = ("streams.records", "hw.records", "retrain.records", "daemon.records")


def open_database(url: str) -> Engine:
    """Open the site's database and make sure that the tables of all rooms exist.

    Parameters
    ----------
    url
        SQLAlchemy URL, for instance ``sqlite:////var/lib/lumiwatch/lumiwatch.sqlite``.

    Raises
    ------
    DatabaseUnusable
        The URL is malformed, the folder cannot be written or the server does not answer.
    """
    for module in _RECORD_MODULES:
        importlib.import_module(module)
    try:
        engine = open_engine(url)
        SQLModel.metadata.create_all(engine)
    except DatabaseError as error:
        raise DatabaseUnusable(f"{error} (key `database_url` in lumiwatch.toml)") from error
    except SQLAlchemyError as error:
        cause = str(error).splitlines()[0]
        raise DatabaseUnusable(
            f"database tables cannot be made: {cause}; check the rights of its user"
        ) from error
    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """Yield a session whose work is committed as a whole, or not at all.

    The write lock is taken at once, so that a read followed by a write cannot lose against another
    process or thread. Rows stay readable after the commit.
    """
    with write_session(engine, lock="daemon") as session:
        yield session
