"""ZIP files and files on disk whose bytes depend on their content only.

Fixed timestamps, sorted order, bounded reading, atomic writing. Refuses to know what is inside.
"""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from hw.errors import PackageMalformed

_EPOCH = (1980, 1, 1, 0, 0, 0)


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Pack files into a ZIP: same content, same bytes.

    Parameters
    ----------
    files
        Content by POSIX path inside the archive.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, files[name])
    return buffer.getvalue()


def unzip_bytes(content: bytes, *, maximum_bytes: int, maximum_files: int, what: str) -> dict[str, bytes]:
    """Read every file of a ZIP into memory, trusting nothing in it.

    Parameters
    ----------
    content
        The archive.
    maximum_bytes
        Most bytes all files together may unpack to.
    maximum_files
        Most files the archive may hold.
    what
        Name of the archive for error messages.

    Raises
    ------
    PackageMalformed
        Not a ZIP, damaged, too large, a name that leaves the archive or appears twice.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _read_entries(archive, maximum_bytes, maximum_files, what)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise PackageMalformed(f"{what} is damaged ({error}): get it again from its source") from error


def _read_entries(
    archive: zipfile.ZipFile, maximum_bytes: int, maximum_files: int, what: str
) -> dict[str, bytes]:
    entries = archive.infolist()
    if len(entries) > maximum_files:
        raise PackageMalformed(
            f"{what} holds {len(entries)} files, more than the {maximum_files} allowed: get it again"
        )
    files: dict[str, bytes] = {}
    left = maximum_bytes
    for entry in entries:
        _check_name(entry.filename, what)
        if entry.filename in files:
            raise PackageMalformed(f"{what} holds {entry.filename!r} twice: get it again from its source")
        with archive.open(entry) as stream:
            files[entry.filename] = stream.read(left + 1)
        left -= len(files[entry.filename])
        if left < 0:
            raise PackageMalformed(
                f"{what} unpacks to more than {maximum_bytes} bytes: get it again from its source"
            )
    return files


def _check_name(name: str, what: str) -> None:
    path = PurePosixPath(name)
    if (
        not name
        or path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or "\0" in name
        or str(path) != name
    ):
        raise PackageMalformed(f"{what} holds the unsafe file name {name!r}: do not use this file")


def npy_bytes(array: npt.NDArray[np.generic]) -> bytes:
    """Write one array as the content of a `.npy` file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def npy_array(content: bytes, what: str) -> npt.NDArray[np.generic]:
    """Read the content of a `.npy` file.

    Raises
    ------
    PackageMalformed
        When it is not one, or holds Python objects.
    """
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise PackageMalformed(
            f"{what} is not a NumPy array ({error}): get it again from its source"
        ) from error
    if not isinstance(array, np.ndarray):
        raise PackageMalformed(f"{what} is not a single NumPy array: get it again from its source")
    return array


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that its name only ever shows the old or the whole new content.

    Parameters
    ----------
    path
        The file; its folder must exist.
    content
        The bytes.
    mode
        Permissions of the new file.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
