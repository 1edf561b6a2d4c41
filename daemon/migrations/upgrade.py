"""Brings the schema of a database to the newest version, whole or not at all.

One process at a time does it and the others wait for it. Knows Alembic, and nothing of what the records mean.
Tables of other programs in the same database, the response workflow's (DBOS) among them, are left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from daemon.errors import DatabaseUnusable
from daemon.migrations import VERSION_TABLE, recorded_version
from daemon.migrations.versions import m0001_first_tables as first
from streams.store.database import write_connection

logger = logging.getLogger(__name__)

VERSIONS: Final = Path(__file__).parent / "versions"


def upgrade(engine: Engine, *, versions: Path = VERSIONS) -> None:
    """Make the schema of an empty or older database the newest one; an up-to-date database stays as it is.

    Parameters
    ----------
    engine
        From `streams.store.database.open_engine`. On SQLite the migrations run with foreign keys unchecked,
        because changing a table there means making it anew; what they left is checked before it counts.
    versions
        Folder of the migrations.

    Raises
    ------
    DatabaseUnusable
        A newer lumiwatch wrote the database, or it has tables of ours that fit no version.
    sqlalchemy.exc.SQLAlchemyError
        A migration failed; the database is as it was.
    """
    name = engine.url.render_as_string(hide_password=True)
    script = ScriptDirectory(str(versions.parent), version_locations=[str(versions)])
    with write_connection(engine, lock="daemon.migrations", foreign_keys=False) as connection:
        recorded = recorded_version(connection)
        known = {revision.revision for revision in script.walk_revisions()}
        if recorded is not None and recorded not in known:
            raise DatabaseUnusable(
                f"{name} has schema {recorded} of a newer lumiwatch, this one knows up to "
                f"{script.get_current_head()}: install the lumiwatch that wrote it, "
                "or name another database (key `database_url`)"
            )
        if recorded is None and _has_our_tables(connection):
            _adopt(connection, script, name)
        _run(connection, script)
        _check_foreign_keys(connection, name)
        now = recorded_version(connection)
    if now != recorded:
        logger.info("schema of %s is now %s; it was %s", name, now, recorded or "none")


def steps(script: ScriptDirectory, current: str | None) -> list[MigrationStep]:
    """List what leads from a revision (None: an empty database) to the newest, in order."""
    ahead = list(script.iterate_revisions("head", current or "base"))
    return [MigrationStep.upgrade_from_script(script.revision_map, revision) for revision in reversed(ahead)]


def _run(connection: Connection, script: ScriptDirectory) -> None:
    """Run the migrations that are missing."""

    def missing(heads: tuple[str, ...], _context: MigrationContext) -> Iterable[MigrationStep]:
        return steps(script, heads[0] if heads else None)

    context = _context(connection, fn=missing)
    with Operations.context(context):
        context.run_migrations()


def _adopt(connection: Connection, script: ScriptDirectory, name: str) -> None:
    """Give a database from before schemas had versions the first version, if its schema is that one."""
    ours = set(first.METADATA.tables)

    def is_ours(item: str | None, kind: str, _parents: Any) -> bool:
        return kind != "table" or item in ours

    differences = compare_metadata(_context(connection, include_name=is_ours), first.METADATA)
    if differences:
        raise DatabaseUnusable(
            f"{name} has tables of lumiwatch without a version, and they differ from schema {first.revision} "
            f"({_said(differences[0])}): move this database aside, or name another (key `database_url`)"
        )
    _context(connection).stamp(script, first.revision)


def _has_our_tables(connection: Connection) -> bool:
    return not set(first.METADATA.tables).isdisjoint(inspect(connection).get_table_names())


def _context(connection: Connection, **options: Callable[..., Any]) -> MigrationContext:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, **options})


def _said(difference: Any) -> str:
    """Say a difference in few words: Alembic gives a tuple, or a list of them for one column."""
    kind, *rest = difference[0] if isinstance(difference, list) else difference
    names = [item if isinstance(item, str) else str(getattr(item, "name", "")) for item in rest[:3]]
    return f"{kind.replace('_', ' ')} {'.'.join(filter(None, names))}"


def _check_foreign_keys(connection: Connection, name: str) -> None:
    if connection.dialect.name != "sqlite":
        return
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if broken is not None:
        raise DatabaseUnusable(
            f"{name} cannot be upgraded: table {broken[0]} points to rows of {broken[2]} that do not exist; "
            "restore it from a backup, or name another database (key `database_url`)"
        )
