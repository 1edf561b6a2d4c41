"""The bytes of a dataset file: an NPZ archive that follows from its content alone.

Fixed order, fixed timestamps, no compression (compressors differ between machines), so that the sha256 of
the file can serve as an identity everywhere. It knows arrays and files, not what they mean. Neither
writing, hashing nor reading holds an array a second time in memory.
"""

import hashlib
import io
import os
import struct
import tempfile
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self

import numpy as np
import numpy.typing as npt

from streams.errors import DatasetError
from streams.events.checksums import crc32_of_both

_PIECE: Final = 1 << 20
_AHEAD: Final = 4
"""Pieces that may wait to be hashed."""
_DATE: Final = (1980, 1, 1, 0, 0, 0)
_LIMIT: Final = zipfile.ZIP64_LIMIT
_ZIP64_VERSION: Final = 45

Piece = bytes | memoryview


@dataclass(frozen=True)
class Member:
    """One array of an archive.

    Attributes
    ----------
    name
        Its name, without ``.npy``.
    head
        What NPY puts before the numbers.
    n_bytes
        Of the numbers.
    pieces
        Gives the numbers, little-endian in C order, from the start each time it is called.
    crc
        CRC-32 of the numbers, where it is known already.
    """

    name: str
    head: bytes
    n_bytes: int
    pieces: Callable[[], Iterator[Piece]]
    crc: int | None = None

    def checksum(self) -> int:
        """Return the CRC-32 of head and numbers."""
        checksum = zlib.crc32(self.head)
        if self.crc is not None:
            return crc32_of_both(checksum, self.crc, self.n_bytes)
        for piece in self.pieces():
            checksum = zlib.crc32(piece, checksum)
        return checksum

    @classmethod
    def of_array(cls, name: str, array: npt.NDArray[Any]) -> Self:
        """Take an array in memory."""
        plain = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
        flat = plain.reshape(-1).view(np.uint8).data

        def pieces() -> Iterator[Piece]:
            for start in range(0, len(flat), _PIECE):
                yield flat[start : start + _PIECE]

        return cls(name, _npy_head(plain.dtype, plain.shape), plain.nbytes, pieces)

    @classmethod
    def of_file(
        cls, name: str, path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...], crc: int | None = None
    ) -> Self:
        """Take the bare numbers of a file, little-endian in C order; `crc` is their CRC-32, where known."""
        kind = np.dtype(dtype).newbyteorder("<")

        def pieces() -> Iterator[Piece]:
            with path.open("rb") as stream:
                while piece := stream.read(_PIECE):
                    yield piece

        return cls(name, _npy_head(kind, shape), path.stat().st_size, pieces, crc)


def _npy_head(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


def archive(members: Iterable[Member]) -> Iterator[Piece]:
    """Yield the bytes of an archive, in order.

    They are those that `zipfile` writes with `force_zip64`; to know its checksum before the numbers, a
    member is gone through twice unless it brings that along.
    """
    entries: list[zipfile.ZipInfo] = []
    position = 0
    for member in members:
        entry = zipfile.ZipInfo(f"{member.name}.npy", date_time=_DATE)
        entry.create_system = 3
        entry.external_attr = 0o644 << 16
        entry.header_offset = position
        entry.file_size = entry.compress_size = len(member.head) + member.n_bytes
        entry.CRC = member.checksum()
        local = entry.FileHeader(zip64=True)
        yield local
        yield member.head
        yield from member.pieces()
        position += len(local) + entry.file_size
        entries.append(entry)
    yield _directory(entries, position)


def _directory(entries: Sequence[zipfile.ZipInfo], start: int) -> bytes:
    """Return the end of an archive (APPNOTE 4.3.12 to 4.3.16)."""
    directory = b"".join(_directory_entry(entry) for entry in entries)
    end = b""
    if start > _LIMIT or len(directory) > _LIMIT:
        sizes = struct.pack("<QQQQ", len(entries), len(entries), len(directory), start)
        end = struct.pack("<4sQ2H2L", b"PK\x06\x06", 44, _ZIP64_VERSION, _ZIP64_VERSION, 0, 0) + sizes
        end += struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(directory), 1)
    size, offset = min(len(directory), 0xFFFFFFFF), min(start, 0xFFFFFFFF)
    counts = (len(entries), len(entries))
    return directory + end + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, *counts, size, offset, 0)


def _directory_entry(entry: zipfile.ZipInfo) -> bytes:
    large: list[int] = []
    size, offset = entry.file_size, entry.header_offset
    if size > _LIMIT:
        large += [size, size]
        size = 0xFFFFFFFF
    if offset > _LIMIT:
        large.append(offset)
        offset = 0xFFFFFFFF
    extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
    name = entry.filename.encode("ascii")
    fields = struct.pack("<4s4B4H", b"PK\x01\x02", _ZIP64_VERSION, 3, _ZIP64_VERSION, 0, 0, 0, 0, 33)
    sizes = struct.pack("<3L5H2L", entry.CRC, size, size, len(name), len(extra), 0, 0, 0,
                        entry.external_attr, offset)  # fmt: skip
    return fields + sizes + name + extra


def sha256_of(pieces: Iterable[Piece]) -> str:
    """Return the sha256 (hex) of bytes that come in pieces."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def read_arrays(stream: IO[bytes]) -> dict[str, npt.NDArray[Any]]:
    """Read every array of an archive.

    Raises
    ------
    DatasetError
        It is no archive of arrays, is damaged, or an array claims another size than it has.
    """
    try:
        with zipfile.ZipFile(stream) as content:
            return {
                info.filename.removesuffix(".npy"): _read_array(content, info) for info in content.infolist()
            }
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, AttributeError, TypeError,
            NotImplementedError, RuntimeError, MemoryError, zlib.error) as error:  # fmt: skip
        raise DatasetError("not a dataset, or a broken one") from error


def _read_array(content: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
    with content.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"NPY version {version} is not written here")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        count = int(np.prod(shape, dtype=object)) if shape else 1
        if dtype.hasobject or info.file_size - stream.tell() != count * dtype.itemsize:
            raise ValueError("the array claims another size than it has")
        flat = np.empty(count, dtype=dtype)
        view = flat.view(np.uint8).data
        filled = 0
        while filled < len(view):
            piece = stream.read(min(_PIECE, len(view) - filled))
            if not piece:
                raise EOFError("the array is cut short")
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
        stream.read(1)  # at the end zipfile compares the checksum
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises
    ------
    DatasetError
        The folder is missing, full or not writable, or the path is no plain file.
    """
    write_pieces_atomically(path, [content])


def write_pieces_atomically(path: Path, pieces: Iterable[Piece]) -> str:
    """Write a file that comes in pieces, and return its sha256. Raises as `write_atomically`.

    It is hashed while it is written and while the disk takes it.
    """
    refuse_special(path)
    temporary: Path | None = None
    digest = hashlib.sha256()
    hashed: deque[Future[None]] = deque()
    try:
        with (
            ThreadPoolExecutor(1, "sha256") as pool,
            tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as stream,
        ):
            temporary = Path(stream.name)
            for piece in pieces:
                hashed.append(pool.submit(digest.update, piece))
                stream.write(piece)
                if len(hashed) > _AHEAD:
                    hashed.popleft().result()
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot write ({error.strerror}): check that its folder exists and has room"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return digest.hexdigest()


def check_writable(path: Path) -> None:
    """Find out whether a file can be written, before long work is done for it; leaves nothing behind.

    Raises
    ------
    DatasetError
        As `write_atomically` would.
    """
    refuse_special(path)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot write ({error.strerror}): check that its folder exists and is writable"
        ) from error


def refuse_special(path: Path) -> None:
    """Refuse, with `DatasetError`, to take the place of a folder or of a device such as /dev/null."""
    if path.is_dir():
        raise DatasetError(f"{path}: cannot write (it is a folder): name a file in it")
    if path.exists() and not path.is_file():
        raise DatasetError(f"{path}: cannot write (it is no plain file): name another")
