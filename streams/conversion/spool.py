"""The unfinished part of a conversion on disk, so that memory stays bounded and an interruption loses little.

A hidden folder beside the output: one file of bare numbers for each column, and a journal that is replaced
after every chunk. What the journal does not vouch for is cut off when a conversion goes on. It knows
neither ROOT nor contracts, only whether two conversions are the same one.
"""

import errno
import fcntl
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streams.errors import ConversionPaused, ConvertError
from streams.events.dataset_file import Member
from streams.events.provenance import SourceFile

_FORMAT: Final = 1
_PIECE: Final = 1 << 20


class Journal(BaseModel):
    """What a spool vouches for.

    Attributes
    ----------
    identity
        Sources, contract and tool of the conversion; another identity is another conversion.
    finished
        Sources that are wholly in, in order.
    entry
        Events of the next source that are in.
    events_kept, dropped
        Events in the columns, and those left out by reason.
    sizes, checksums
        Bytes and CRC-32 of every column file.
    """

    model_config = ConfigDict(extra="forbid")

    format: int = _FORMAT
    identity: str
    finished: list[SourceFile] = Field(default_factory=list)
    entry: int = Field(default=0, ge=0)
    events_kept: int = Field(default=0, ge=0)
    dropped: dict[str, int] = Field(default_factory=dict)
    sizes: dict[str, int]
    checksums: dict[str, int]


class Spool:
    """Column files and journal of one conversion. Make it with `opened`.

    Attributes
    ----------
    journal
        What is done so far.
    """

    def __init__(
        self, out: Path, types: Mapping[str, tuple[type[np.generic], int]], journal: Journal
    ) -> None:
        self._out, self._types = out, dict(types)
        self.folder = folder_of(out)
        self.journal = journal
        self._files = {name: (self.folder / f"{name}.bin").open("ab") for name in types}

    @classmethod
    @contextmanager
    def opened(
        cls, out: Path, types: Mapping[str, tuple[type[np.generic], int]], identity: str, *, resume: bool
    ) -> Iterator[Self]:
        """Start a spool, or go on with the one that is there.

        Parameters
        ----------
        out
            The file that the conversion makes.
        types
            Column -> (dtype, numbers for each event).
        identity
            See `Journal`.
        resume
            Go on with what is there; False starts anew.

        Raises
        ------
        ConvertError
            Another process writes the same output, or what is there belongs to another conversion or is
            damaged.
        """
        folder = folder_of(out)
        with _disk(out):
            folder.mkdir(exist_ok=True)
            lock = (folder / "lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConvertError(f"{out}: another conversion writes it: wait for its end") from error
            journal = _resumed(folder, types, identity, out) if resume else None
            if journal is None:
                journal = Journal(
                    identity=identity, sizes=dict.fromkeys(types, 0), checksums=dict.fromkeys(types, 0)
                )
            with _disk(out):
                _cut(folder, journal)
                spool = cls(out, types, journal)
            try:
                yield spool
            finally:
                for file in spool._files.values():
                    file.close()

    def append(
        self, columns: Mapping[str, npt.NDArray[Any]], n_events: int, dropped: Counter[str], entry: int
    ) -> None:
        """Add the events of one chunk; they count once the journal says so.

        Raises
        ------
        ConversionPaused
            The disk is full.
        """
        journal = self.journal.model_copy(deep=True)
        with _disk(self._out):
            for name, values in columns.items():
                kind = np.dtype(self._types[name][0]).newbyteorder("<")
                plain = np.ascontiguousarray(values.astype(kind, copy=False)).reshape(-1).view(np.uint8).data
                self._files[name].write(plain)
                self._files[name].flush()
                journal.sizes[name] += len(plain)
                journal.checksums[name] = zlib.crc32(plain, journal.checksums[name])
            journal.events_kept += n_events
            journal.dropped = dict(Counter(journal.dropped) + dropped)
            journal.entry = entry
            self._write(journal)

    def finish_source(self, source: SourceFile) -> None:
        """Note that a source is wholly in. Raises as `append`."""
        journal = self.journal.model_copy(update={"finished": [*self.journal.finished, source], "entry": 0})
        with _disk(self._out):
            self._write(journal)

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to go on with."""
        return not self.journal.finished and not self.journal.entry

    def members(self) -> list[Member]:
        """Return the columns as members of a dataset file."""
        return [
            Member.of_file(
                name,
                self.folder / f"{name}.bin",
                dtype,
                self._shape(width),
                self.journal.checksums[name],
            )
            for name, (dtype, width) in self._types.items()
        ]

    def discard(self) -> None:
        """Remove the spool."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _shape(self, width: int) -> tuple[int, ...]:
        return (self.journal.events_kept, width) if width else (self.journal.events_kept,)

    def _write(self, journal: Journal) -> None:
        new = self.folder / "journal.new"
        new.write_text(journal.model_dump_json(), encoding="utf-8")
        new.replace(self.folder / "journal.json")
        self.journal = journal


def folder_of(out: Path) -> Path:
    """Return the folder that holds the spool of an output."""
    return out.parent / f".{out.name}.spool"


@contextmanager
def _disk(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise ConversionPaused(
                f"{out}: cannot write ({error.strerror}): make room, then go on with --resume"
            ) from error
        raise ConvertError(f"{out}: cannot write beside it ({error.strerror}): check its folder") from error


def _resumed(
    folder: Path, types: Mapping[str, tuple[type[np.generic], int]], identity: str, out: Path
) -> Journal | None:
    """Read the journal and check that the columns hold what it says; None where nothing was started."""
    file = folder / "journal.json"
    if not file.exists():
        return None
    try:
        journal = Journal.model_validate_json(file.read_text(encoding="utf-8"))
        sound = journal.format == _FORMAT and set(journal.sizes) == set(types) == set(journal.checksums)
        if sound and journal.identity != identity:
            raise ConvertError(
                f"{out}: what was begun is of other files, another contract or another version: "
                "start anew without --resume"
            )
        sound = sound and all(
            _checksum(folder / f"{name}.bin", journal.sizes[name]) == journal.checksums[name]
            for name in types
        )
        sound = sound and all(
            journal.sizes[name] == journal.events_kept * max(width, 1) * np.dtype(dtype).itemsize
            for name, (dtype, width) in types.items()
        )
    except (OSError, ValidationError, UnicodeDecodeError):
        sound = False
    if not sound:
        raise ConvertError(f"{out}: what was begun is damaged: start anew without --resume")
    return journal


def _checksum(path: Path, size: int) -> int | None:
    """Return the CRC-32 of the first bytes of a file, or None where it is too short."""
    checksum = 0
    with path.open("rb") as stream:
        while size > 0:
            piece = stream.read(min(_PIECE, size))
            if not piece:
                return None
            checksum = zlib.crc32(piece, checksum)
            size -= len(piece)
    return checksum


def _cut(folder: Path, journal: Journal) -> None:
    """Cut off what the journal does not vouch for."""
    if not journal.finished and not journal.entry:  # a start anew
        (folder / "journal.json").unlink(missing_ok=True)
    for name, size in journal.sizes.items():
        with (folder / f"{name}.bin").open("ab") as stream:
            stream.truncate(size)
