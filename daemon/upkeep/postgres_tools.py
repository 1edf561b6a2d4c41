"""PostgreSQL's own programs for backup and restore, called without a password on their command line.

Refuses to know what is in the database.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from sqlalchemy.engine import URL, make_url

from daemon.errors import DaemonError

_VARIABLES = {
    "host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY",
    "service": "PGSERVICE", "passfile": "PGPASSFILE",
}  # fmt: skip


def dump(url: str, target: Path, failure: type[DaemonError]) -> None:
    """Write a database with `pg_dump` in its custom format, as of one moment, while others write.

    Raises
    ------
    failure
        The program is not there or fails; the message has its first line.
    """
    _run("pg_dump", ["--format=custom", "--no-owner", f"--file={target}"], url, failure)


def load(url: str, source: Path, failure: type[DaemonError]) -> None:
    """Load a dump with `pg_restore` in one transaction; what the dump holds replaces what is there.

    Raises
    ------
    failure
        As of `dump`; the database is as it was.
    """
    options = ["--clean", "--if-exists", "--no-owner", "--single-transaction", "--exit-on-error"]
    database = make_url(url).database or ""
    _run("pg_restore", [*options, f"--dbname={database}", str(source)], url, failure)


def _run(program: str, options: list[str], url: str, failure: type[DaemonError]) -> None:
    found = shutil.which(program)
    if found is None:
        raise failure(
            f"{program} is not installed, and a PostgreSQL database needs it: install the client programs of "
            "the server's version (Debian: postgresql-client)"
        )
    done = subprocess.run(
        [found, "--no-password", *options],
        env={**os.environ, **_environment(make_url(url))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise failure(f"{program} failed: {said[0] if said else f'exit code {done.returncode}'}")


def _environment(url: URL) -> dict[str, str]:
    parameters = {
        "host": url.host,
        "port": str(url.port) if url.port is not None else None,
        "user": url.username,
        "password": url.password,
        "dbname": url.database,
        **{key: value if isinstance(value, str) else value[0] for key, value in url.query.items()},
    }
    return {
        variable: value for key, variable in _VARIABLES.items() if (value := parameters.get(key)) is not None
    }
