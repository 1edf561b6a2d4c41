"""Segments: files that recent events are appended to, by several workers at once, and how they are read back.

One file holds blocks of one model, lumisection and package, from one process: nobody else writes it. A block
names its batch, so that one which was delivered to two workers is read once. A process that was killed leaves
at most a block without its end, which is passed over. Knows no queue and no clock but the files' own times.
"""

import hashlib
import json
import os
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import crc32c

MAGIC: Final = b"LWSG"
MAX_HEAD_BYTES: Final = 4096
_OPEN: Final = 8
_SHARE: Final = 16
"""A segment, and what is written between two looks at the bounds, take this part of a model's room."""
_LOOK_S: Final = 5.0
_FRAME: Final = struct.Struct("<4sIII")  # magic, length of head, length of content, CRC-32C of both
_SEGMENT: Final = re.compile(
    r"^(?P<run>\d{10})-(?P<lumisection>\d{10})-(?P<package>[0-9a-f]{16})-[0-9a-f]{16}-\d{4}\.seg$"
)
_ONE_BATCH: Final = re.compile(  # a file of a version before segments
    r"^(?P<run>\d{10})-(?P<lumisection>\d{10})-(?P<package>[0-9a-f]{16})"
    r"-(?P<source>[0-9a-f]{16})-(?P<sequence>\d{16})\.npz$"
)


class BlockName(NamedTuple):
    """Which batch a block is of; in the order in which blocks are read. Free text stands as its digest."""

    run: int
    lumisection: int
    package: str
    source: str
    sequence: int


@dataclass(frozen=True)
class Block:
    """Where a block lies."""

    name: BlockName
    path: Path
    offset: int
    size: int
    checksum: int | None
    head: bytes = b""

    def content(self) -> bytes | None:
        """Read it; None if the file is gone or the block is not whole."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError:
            return None
        whole = len(content) == self.size
        if whole and self.checksum is not None:
            whole = crc32c.crc32c(content, crc32c.crc32c(self.head)) == self.checksum
        return content if whole else None


class SegmentWriter:
    """One open segment of this process.

    Parameters
    ----------
    folder
        The model's, which exists.
    writer
        Names this process among all that ever write here.
    part
        Number of the segment among those of the same writer, lumisection and package.
    """

    def __init__(
        self, folder: Path, *, run: int, lumisection: int, package: str, writer: str, part: int
    ) -> None:
        place = f"{run:010d}-{lumisection:010d}-{digest(package)}"
        self.path = folder / f"{place}-{digest(writer)}-{part:04d}.seg"
        self.part = part
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o640)
        self.size = os.fstat(self._descriptor).st_size

    @property
    def gone(self) -> bool:
        """Whether somebody deleted the file to make room."""
        return os.fstat(self._descriptor).st_nlink == 0

    def append(self, source: str, sequence: int, content: bytes) -> int:
        """Write one block; returns its bytes.

        Not synced to disk: what a crash of the machine takes is the last second of a sample.
        """
        head = json.dumps({"source": digest(source), "sequence": sequence}).encode()
        checksum = crc32c.crc32c(content, crc32c.crc32c(head))
        block = _FRAME.pack(MAGIC, len(head), len(content), checksum) + head + content
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self.size += len(block)
        return len(block)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


@dataclass(frozen=True)
class Room:
    """Bounds of one model's segments, over all processes that write them.

    Attributes
    ----------
    max_bytes, max_files
        Each process beyond the first may exceed the bytes by a sixteenth.
    max_age_s
        Segments last written longer ago are deleted.
    """

    max_bytes: int
    max_files: int
    max_age_s: float


class SegmentFolder:
    """The segments of one model as one process writes them: opened as needed, kept within bounds.

    Parameters
    ----------
    folder
        Made if it is missing.
    room
        Its bounds.
    writer
        Names this process among all that ever write here.
    clock
        Unix time.
    """

    def __init__(self, folder: Path, room: Room, writer: str, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._room = room
        self._writer = writer
        self._clock = clock
        self._open: OrderedDict[tuple[int, int, str], SegmentWriter] = OrderedDict()
        self._unlooked_bytes = 0
        self._looked_s = 0.0
        self._share = max(room.max_bytes // _SHARE, 1)
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, run: int, lumisection: int, package: str, block: "NewBlock") -> None:
        """Write one block. Raises `OSError`."""
        segment = self._segment((run, lumisection, package))
        self._unlooked_bytes += segment.append(block.source, block.sequence, block.content)
        if self._unlooked_bytes >= self._share:
            self.make_room()

    def make_room(self, at_most_every_s: float = 0.0) -> None:
        """Keep within the bounds, unless that was done a short time ago. Raises `OSError`."""
        now = self._clock()
        if at_most_every_s and abs(now - self._looked_s) < at_most_every_s:
            return
        self._unlooked_bytes, self._looked_s = 0, now
        make_room(
            self._folder,
            # what this process may add until it looks again is set aside
            max_bytes=self._room.max_bytes - self._share,
            max_files=self._room.max_files,
            oldest_s=now - self._room.max_age_s,
        )

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()

    def _segment(self, place: tuple[int, int, str]) -> SegmentWriter:
        segment, part = self._open.pop(place, None), 0
        if segment is not None and (segment.gone or segment.size >= self._share):
            part = segment.part + 1
            segment.close()
            segment = None
        if segment is None:
            self.make_room(_LOOK_S)
            run, lumisection, package = place
            segment = SegmentWriter(
                self._folder,
                run=run,
                lumisection=lumisection,
                package=package,
                writer=self._writer,
                part=part,
            )
        self._open[place] = segment
        while len(self._open) > _OPEN:
            self._open.popitem(last=False)[1].close()
        return segment


class NewBlock(NamedTuple):
    """A block to be written: what names its batch, and its bytes."""

    source: str
    sequence: int
    content: bytes


def blocks(folder: Path, first_lumisection: int, last_lumisection: int) -> list[Block]:
    """List the blocks of a range of lumisections, in the order of their names, each batch once."""
    found: dict[BlockName, Block] = {}
    for path in _files(folder):
        match = _SEGMENT.match(path.name) or _ONE_BATCH.match(path.name)
        if match and first_lumisection <= int(match["lumisection"]) <= last_lumisection:
            for block in _blocks_in(path, match):
                found.setdefault(block.name, block)
    return [found[name] for name in sorted(found)]


def make_room(folder: Path, *, max_bytes: int, max_files: int, oldest_s: float) -> None:
    """Delete segments: those last written before `oldest_s` (Unix time), then the oldest beyond the bounds.

    The newest one stays. Several processes may do so at once.
    """
    kept = []
    for path in _files(folder):
        if _SEGMENT.match(path.name) or _ONE_BATCH.match(path.name):
            with suppress(FileNotFoundError):
                status = path.stat()
                kept.append((status.st_mtime_ns, path.name, status.st_size, path))
    kept.sort()
    total, number = sum(size for _, _, size, _ in kept), len(kept)
    for modified, _, size, path in kept[:-1]:
        if modified / 1e9 >= oldest_s and total <= max_bytes and number <= max_files:
            return
        path.unlink(missing_ok=True)
        total, number = total - size, number - 1


def digest(text: str) -> str:
    """Shorten free text from the wire to what may stand in a file's name."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _files(folder: Path) -> Iterable[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else ()


def _blocks_in(path: Path, match: re.Match[str]) -> Iterator[Block]:
    run, lumisection, package = int(match["run"]), int(match["lumisection"]), match["package"]
    try:
        if match.re is _ONE_BATCH:
            name = BlockName(run, lumisection, package, match["source"], int(match["sequence"]))
            yield Block(name, path, 0, path.stat().st_size, None)
            return
        with path.open("rb") as file:
            end = os.fstat(file.fileno()).st_size
            while len(frame := file.read(_FRAME.size)) == _FRAME.size:
                magic, head_size, size, checksum = _FRAME.unpack(frame)
                if magic != MAGIC or head_size > MAX_HEAD_BYTES or file.tell() + head_size + size > end:
                    return
                head = file.read(head_size)
                named = _read_head(head)
                if named is None:
                    return
                name = BlockName(run, lumisection, package, *named)
                yield Block(name, path, file.tell(), size, checksum, head)
                file.seek(size, os.SEEK_CUR)
    except OSError:
        return  # deleted meanwhile to make room


def _read_head(head: bytes) -> tuple[str, int] | None:
    try:
        content: Any = json.loads(head)
        return str(content["source"]), int(content["sequence"])
    except (ValueError, KeyError, TypeError):
        return None
