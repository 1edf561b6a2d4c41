"""The journal of a watched folder: which files were taken, what became of them, what each gave.

One SQLite file that one watcher at a time has. A file stands in it only after everything it gave is with
the broker, so a watcher killed in the middle sends that file again, and whoever merges counts it once.
Knows no file format and no broker.
"""

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from streams.errors import WatchError

_SCHEMA: Final = """
create table if not exists files (
    path text primary key, size integer not null, mtime_ns integer not null, sha256 text not null,
    outcome text not null, reason text not null, lumisections integer not null, at text not null
);
create index if not exists files_sha256 on files (sha256);
create table if not exists places (
    run integer not null, lumisection integer not null, source text not null,
    digest integer not null, path text not null,
    primary key (run, lumisection, source)
) without rowid;
"""


class FileOutcome(StrEnum):
    """What became of a file."""

    SENT = "sent"
    REPEATED = "repeated"
    REFUSED = "refused"


class Signature(NamedTuple):
    """What tells that a file has changed."""

    size: int
    mtime_ns: int


class Place(NamedTuple):
    """One lumisection of one source, and the digest of what was counted of it."""

    run: int
    lumisection: int
    source: str
    digest: int


@dataclass(frozen=True)
class FileRecord:
    """One file that was dealt with.

    Attributes
    ----------
    lumisections
        How many it gave.
    at
        When, ISO 8601.
    """

    path: str
    size: int
    mtime_ns: int
    sha256: str
    outcome: FileOutcome
    reason: str
    lumisections: int
    at: str

    @property
    def signature(self) -> Signature:
        """Size and time of change when it was dealt with."""
        return Signature(self.size, self.mtime_ns)


class Journal:
    """The journal in a folder, which is made if it is missing. Use it as a context.

    Raises
    ------
    WatchError
        Another watcher has it, or the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            (folder / "refused").mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise WatchError(
                f"{folder}: cannot keep a journal ({error.strerror}): check its rights"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise WatchError(f"{folder}: another watcher of this model is running: end it first") from error
        try:
            self._database = sqlite3.connect(
                folder / "journal.sqlite", isolation_level=None, check_same_thread=False
            )
            self._database.execute("pragma synchronous = full")
            self._database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            os.close(self._lock)
            raise WatchError(
                f"{folder / 'journal.sqlite'}: no journal ({error}): move it away, and what is sent again "
                "is counted once all the same"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the journal free."""
        self._database.close()
        os.close(self._lock)

    def signatures(self) -> dict[str, Signature]:
        """Return every known file with what it looked like then."""
        rows = self._database.execute("select path, size, mtime_ns from files")
        return {path: Signature(size, mtime_ns) for path, size, mtime_ns in rows}

    def files(self) -> list[FileRecord]:
        """Return every known file, in the order of dealing with them."""
        rows = self._database.execute("select * from files order by at, path")
        names = [field.name for field in fields(FileRecord)]
        records = [FileRecord(**dict(zip(names, row, strict=True))) for row in rows]
        return [replace(record, outcome=FileOutcome(record.outcome)) for record in records]

    def sent_as(self, sha256: str) -> str | None:
        """Return the path under which the same bytes were sent before, or None."""
        row = self._database.execute(
            "select path from files where sha256 = ? and outcome = ? order by at limit 1",
            (sha256, FileOutcome.SENT),
        ).fetchone()
        return None if row is None else str(row[0])

    def known(self, place: Place) -> tuple[int, str] | None:
        """Return digest and path of what was sent before for a lumisection of a source, or None."""
        row = self._database.execute(
            "select digest, path from places where run = ? and lumisection = ? and source = ?", place[:3]
        ).fetchone()
        return None if row is None else (int(row[0]), str(row[1]))

    def add(self, record: FileRecord, places: Iterable[Place] = ()) -> None:
        """Remember a file and what it gave: all of it or nothing, on disk when this returns.

        A refused one is also written to ``refused/``, as JSON for people.
        """
        with self._database:
            self._database.execute("begin immediate")
            self._database.execute(
                "insert or replace into files values (?, ?, ?, ?, ?, ?, ?, ?)", _row(record)
            )
            self._database.executemany(
                "insert or ignore into places values (?, ?, ?, ?, ?)",
                [(*place, record.path) for place in places],
            )
        if record.outcome is FileOutcome.REFUSED:
            note = self._folder / "refused" / f"{Path(record.path).name}.{record.sha256[:12]}.json"
            note.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")


def _row(record: FileRecord) -> Sequence[object]:
    return tuple(asdict(record).values())
