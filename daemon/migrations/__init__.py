"""The schema of a site's database and its versions: which one this lumiwatch needs, which one a database has.

Reads one row and knows no Alembic, which is slow to import; `daemon.migrations.upgrade` knows it and is
imported only when a database is not up to date.

How to add a migration: docs/decisions/0004-schema-changes.md.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select

HEAD: Final = "0007"
"""Revision of the newest file in `versions`: the schema that the records modules describe."""

VERSION_TABLE: Final = "lumiwatch_schema"
"""Table with one row, the revision. Alembic's usual name may be taken in a shared database."""

_VERSION: Final = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32)))


def recorded_version(connection: Connection) -> str | None:
    """Read the revision of a database's schema; None: it is empty or from before schemas had versions."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(_VERSION.c.version_num)).scalar()
