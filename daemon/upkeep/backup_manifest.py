"""The form of a backup: an uncompressed tar of a manifest and the members it names, with size and SHA-256.

Uncompressed, so that no member can grow beyond the file's own size. Knows what names and kinds a member may
have; reads and writes no database.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from daemon.errors import BackupRefused

MANIFEST: Final = "manifest.json"
SQLITE: Final = "database.sqlite"
POSTGRESQL: Final = "database.pgdump"
PACKAGES: Final = "packages"
STATE_FOLDERS: Final = (PACKAGES, "trusted-keys", "watch", "secrets")
"""Members in these go to the same place in the state folder."""
SITE: Final = "site"
"""Members in here are the site's configuration."""
_LARGEST_MANIFEST: Final = 16 * 1024 * 1024
_BLOCK: Final = 1024 * 1024
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+=-]{0,199}\Z")


class Member(BaseModel):
    """One file of a backup."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """What a backup holds and where it is from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal[1] = 1
    lumiwatch: str
    site: str
    made_at: AwareDatetime
    schema_version: str
    database: Literal["sqlite", "postgresql"]
    secrets: bool
    members: dict[str, Member]

    @property
    def database_member(self) -> str:
        """Name of the member that is the database."""
        return SQLITE if self.database == "sqlite" else POSTGRESQL


def member_of(path: Path) -> Member:
    """Read a file and give its size and hash."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return Member(bytes=file.tell(), sha256=digest.hexdigest())


def check_name(name: str) -> None:
    """Refuse a member that has no business in a backup, or that would leave its folder.

    Raises
    ------
    BackupRefused
        The message names it.
    """
    parts = name.split("/")
    known = (
        name in {MANIFEST, SQLITE, POSTGRESQL}
        or (len(parts) > 1 and parts[0] in STATE_FOLDERS)
        or (parts[0] == SITE and name.endswith(".toml"))
    )
    if not known or not all(_PART.match(part) for part in parts):
        raise BackupRefused(
            f"member {name!r} has no place in a backup: the file is not from `lumiwatch backup`"
        )


def read_manifest(archive: tarfile.TarFile) -> Manifest:
    """Read and check the first member of a backup.

    Raises
    ------
    BackupRefused
        It is not a manifest, or not one of this form.
    """
    first = archive.next()
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > _LARGEST_MANIFEST:
        raise BackupRefused("the file does not begin with a manifest: it is not from `lumiwatch backup`")
    source = archive.extractfile(first)
    content = source.read(_LARGEST_MANIFEST) if source is not None else b""
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        cause = error.errors()[0]
        where = ".".join(str(part) for part in cause["loc"])
        raise BackupRefused(
            f"the manifest cannot be read (key {where}: {cause['msg']}): the file is damaged, "
            "or from another version of lumiwatch"
        ) from error
    if manifest.database_member not in manifest.members:
        raise BackupRefused("the manifest names no database: the file is not from `lumiwatch backup`")
    for name in manifest.members:
        check_name(name)
    return manifest


def extract(archive: tarfile.TarFile, manifest: Manifest, folder: Path) -> None:
    """Write every member into an empty folder, each checked while it is written.

    Raises
    ------
    BackupRefused
        A member is no plain file, is not named, is named twice, is missing, or is not what the manifest says.
    """
    left = dict(manifest.members)
    for found in _rest(archive):
        expected = left.pop(found.name, None)
        if expected is None:
            raise BackupRefused(f"member {found.name!r} is not in the manifest, or comes twice")
        if not found.isreg() or found.issparse():
            raise BackupRefused(
                f"member {found.name!r} is a link or a device: a backup holds plain files only"
            )
        if found.size != expected.bytes:
            raise BackupRefused(
                f"member {found.name!r} has {found.size} bytes, the manifest says {expected.bytes}"
            )
        source = archive.extractfile(found)
        if source is None or _copy(source, folder / found.name) != expected.sha256:
            raise BackupRefused(
                f"member {found.name!r} does not have the hash of the manifest: it is damaged"
            )
    if left:
        raise BackupRefused(f"member {min(left)!r} is missing: the file is cut off")


def _rest(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (found := archive.next()) is not None:
        yield found


def _copy(source: IO[bytes], target: Path) -> str:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("xb") as file:
        target.chmod(0o600)
        while block := source.read(_BLOCK):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()
