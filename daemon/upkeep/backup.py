"""Makes a backup of a site while everything runs: database, packages, trusted keys, configuration.

The database is copied as of one moment by its own means, and the file is readable by its owner only: it holds
what the database holds. Keys and tokens are in it only when they are asked for. Recent events are not: they
are large, and soon forgotten. The form is `backup_manifest`'s, the way back is `restore`'s.
"""

from __future__ import annotations

import io
import os
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from datetime import datetime
from pathlib import Path

from sqlalchemy.engine import Engine, make_url
from sqlmodel import Session, col, select

from daemon.errors import BackupFailed, BackupRefused, NotFound
from daemon.migrations import recorded_version
from daemon.process.services import installed_version
from daemon.responses.board_work import package_path
from daemon.site.settings import Site
from daemon.store.database import open_database
from daemon.upkeep import postgres_tools
from daemon.upkeep.backup_manifest import (
    MANIFEST,
    PACKAGES,
    POSTGRESQL,
    SITE,
    SQLITE,
    STATE_FOLDERS,
    Manifest,
    check_name,
    member_of,
)
from hw.records import PackageRecord

_OWNER_ONLY = 0o600


class Made:
    """What a backup holds, and what it could not hold."""

    def __init__(self, manifest: Manifest, left_out: list[str]) -> None:
        self.manifest = manifest
        self.left_out = left_out


def make_backup(site: Site, target: Path, *, with_secrets: bool, now: datetime) -> Made:
    """Write a backup of a site into a new file, whole or not at all.

    Parameters
    ----------
    target
        Must not exist.
    with_secrets
        Put the signing key and the tokens that lumiwatch made into it, too.

    Raises
    ------
    BackupFailed
        The file exists or cannot be written, or the database cannot be copied.
    """
    if target.exists():
        raise BackupFailed(f"{target} exists: name another file, or move it away")
    engine = open_database(site.database_url)
    try:
        with tempfile.TemporaryDirectory(prefix=".lumiwatch-backup-", dir=_folder(target)) as folder:
            work = Path(folder)
            database = _copy_database(engine, site.database_url, work)
            files, left_out = _files(engine, site, with_secrets=with_secrets)
            files[database.name] = database
            with engine.connect() as connection:
                schema = recorded_version(connection) or ""
            manifest = Manifest(
                lumiwatch=installed_version(),
                site=site.name,
                made_at=now,
                schema_version=schema,
                database="sqlite" if database.name == SQLITE else "postgresql",
                secrets=with_secrets,
                members={name: member_of(path) for name, path in sorted(files.items())},
            )
            written = _write(work / "backup.tar", manifest, files)
            os.link(written, target)  # fails where a file came meanwhile
    except OSError as error:
        raise BackupFailed(
            f"{error.filename or target}: {error.strerror}: check disk, folder and rights"
        ) from error
    finally:
        engine.dispose()
    return Made(manifest, left_out)


def _folder(target: Path) -> Path:
    folder = target.absolute().parent
    if not folder.is_dir():
        raise BackupFailed(f"folder {folder} does not exist: make it first")
    return folder


def _copy_database(engine: Engine, url: str, folder: Path) -> Path:
    if engine.dialect.name == "postgresql":
        target = folder / POSTGRESQL
        postgres_tools.dump(url, target, BackupFailed)
        return target
    target = folder / SQLITE
    source = make_url(url).database or ""
    try:
        with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
            live.backup(copy)  # one step: a writer meanwhile goes into the log beside, and is not in the copy
            copy.execute("PRAGMA journal_mode=DELETE")
            (found,) = copy.execute("PRAGMA quick_check").fetchone()
    except sqlite3.Error as error:
        raise BackupFailed(f"database {source} cannot be copied: {error}") from error
    if found != "ok":
        raise BackupFailed(f"database {source} is damaged ({found}): restore it from an earlier backup")
    return target


def _files(engine: Engine, site: Site, *, with_secrets: bool) -> tuple[dict[str, Path], list[str]]:
    """Find what belongs into a backup beside the database, by member name, and say what does not."""
    files: dict[str, Path] = {}
    left_out: list[str] = []
    with Session(engine) as session:
        identities = session.exec(select(PackageRecord.id).order_by(col(PackageRecord.id))).all()
    for identity in identities:
        try:
            files[f"{PACKAGES}/{identity}.lwpkg"] = package_path(engine, site, identity)
        except NotFound:
            left_out.append(f"package {identity[:12]}: its file is not at this site")
    folders = [(name, site.state_dir / name) for name in STATE_FOLDERS if name != "secrets" or with_secrets]
    for name, folder in folders:
        files |= {f"{name}/{path.relative_to(folder).as_posix()}": path for path in _plain_files(folder)}
    files |= {f"trusted-keys/{path.name}": path for path in site.trusted_keys_dir.glob("*.pub")}
    if not with_secrets and make_url(site.database_url).password is not None:
        left_out.append(f"{site.file}: the database's password may be in it (--with-secrets takes it)")
    else:
        files[f"{SITE}/lumiwatch.toml"] = site.file
    models = site.folder / "models"
    for path in _plain_files(models):
        if path.suffix == ".toml":
            files[f"{SITE}/models/{path.relative_to(models).as_posix()}"] = path
    for name in list(files):
        try:
            check_name(name)
        except BackupRefused:
            left_out.append(f"{files.pop(name)}: its name has no place in a backup")
    return files, left_out


def _plain_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]


def _write(target: Path, manifest: Manifest, files: dict[str, Path]) -> Path:
    descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w") as archive:
        content = manifest.model_dump_json(indent=1).encode()
        _add(archive, MANIFEST, io.BytesIO(content), len(content), manifest)
        for name, member in manifest.members.items():
            with files[name].open("rb") as file:
                _add(archive, name, file, member.bytes, manifest)
        archive.close()
        raw.flush()
        os.fsync(raw.fileno())
    return target


def _add(
    archive: tarfile.TarFile, name: str, content: io.BufferedIOBase, size: int, manifest: Manifest
) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = _OWNER_ONLY
    info.mtime = int(manifest.made_at.timestamp())
    archive.addfile(info, content)
