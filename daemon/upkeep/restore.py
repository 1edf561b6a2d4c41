"""Brings a site back from a backup: everything is checked before anything is put in its place.

Members are unpacked and checked in the site's folder, beside their place. What was in the state folder before
is moved aside, never deleted. The form is `backup_manifest`'s.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import make_url

from daemon.client import is_running
from daemon.errors import BackupRefused
from daemon.journal import audit_log
from daemon.journal.audit import Report
from daemon.journal.happenings import record_event
from daemon.migrations import VERSION_TABLE
from daemon.site.settings import SITE_FILE, Site, load_site
from daemon.store.database import open_database, transaction
from daemon.upkeep import postgres_tools
from daemon.upkeep.backup_manifest import SITE, STATE_FOLDERS, Manifest, extract, read_manifest

_SPARE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Restored:
    """What was restored: the site it is now, the backup's manifest, and what its audit log says of itself."""

    site: Site
    manifest: Manifest
    audit: Report


def restore_backup(backup: Path, folder: Path, *, force: bool, now: datetime) -> Restored:
    """Restore a backup into a site's folder, then bring its database to this lumiwatch's schema.

    Parameters
    ----------
    folder
        The site's folder. Its own `lumiwatch.toml` stays; without one, the backup's is put there.
    force
        Restore over a state folder or a PostgreSQL database in use: files are moved into ``before-restore-*``
        in the state folder, tables are replaced.

    Raises
    ------
    BackupRefused
        The backup is damaged or forged, needs more space than there is, or its place is taken.
    """
    try:
        with tarfile.open(backup, mode="r:") as archive:
            manifest = read_manifest(archive)
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".lumiwatch-restore-", dir=folder) as work:
                return _restore(archive, manifest, Path(work), folder, force=force, now=now)
    except tarfile.TarError as error:
        raise BackupRefused(
            f"{backup}: cannot be read as a backup ({error}): it is damaged or another file"
        ) from error
    except OSError as error:
        raise BackupRefused(
            f"{error.filename or backup}: {error.strerror}: check disk, folder and rights"
        ) from error


def _restore(
    archive: tarfile.TarFile, manifest: Manifest, work: Path, folder: Path, *, force: bool, now: datetime
) -> Restored:
    _check_space(manifest, folder)
    extract(archive, manifest, work)
    if not (folder / SITE_FILE).exists():
        _place_configuration(work / SITE, folder)
    site = load_site(folder)
    _check_place(site, manifest, force=force)
    _place_state(site, work, now)
    _place_database(site, work, manifest)
    engine = open_database(site.database_url)
    try:
        with transaction(engine) as session:
            text = f"Restored from the backup of {manifest.made_at:%Y-%m-%d %H:%M} UTC."
            record_event(session, "site.restored", text, now=now, detail={"lumiwatch": manifest.lumiwatch})
        return Restored(site, manifest, audit_log.verify(engine))
    finally:
        engine.dispose()


def _check_space(manifest: Manifest, folder: Path) -> None:
    needed = sum(member.bytes for member in manifest.members.values())
    free = shutil.disk_usage(folder).free
    if needed + _SPARE_BYTES > free:
        raise BackupRefused(
            f"the backup unpacks to {needed} bytes, {folder} has {free} free: make room first"
        )


def _place_configuration(source: Path, folder: Path) -> None:
    if not (source / SITE_FILE).is_file():
        raise BackupRefused(
            f"{folder} has no {SITE_FILE}, nor has the backup: put the site's configuration there first"
        )
    shutil.copytree(source, folder, dirs_exist_ok=True)


def _check_place(site: Site, manifest: Manifest, *, force: bool) -> None:
    if is_running(site):
        raise BackupRefused(f"the daemon of {site.folder} is running: stop it first")
    url = make_url(site.database_url)
    if url.get_backend_name() != manifest.database:
        raise BackupRefused(
            f"the backup is of a {manifest.database} database, key `database_url` names "
            f"{url.get_backend_name()}: name one of the same kind"
        )
    if force:
        return
    if site.state_dir.exists() and any(site.state_dir.iterdir()):
        raise BackupRefused(
            f"state folder {site.state_dir} is not empty: name a new site, "
            "or use --force, which moves what is there aside"
        )
    if _has_tables(site):
        raise BackupRefused(
            f"database {url.render_as_string(hide_password=True)} holds a site already: "
            "name an empty one, or use --force, which replaces its tables"
        )


def _has_tables(site: Site) -> bool:
    url = make_url(site.database_url)
    if url.get_backend_name() == "sqlite":
        return Path(url.database or "").exists()
    engine = create_engine(url)
    try:
        return inspect(engine).has_table(VERSION_TABLE)
    finally:
        engine.dispose()


def _place_state(site: Site, work: Path, now: datetime) -> None:
    state = site.state_dir
    state.mkdir(parents=True, exist_ok=True)
    before = [path for path in state.iterdir() if not path.name.startswith("before-restore-")]
    if before:
        aside = state / f"before-restore-{now:%Y%m%dT%H%M%S}"
        aside.mkdir(mode=0o700)
        for path in before:
            path.rename(aside / path.name)
    for name in STATE_FOLDERS:
        if (work / name).is_dir():
            shutil.move(work / name, state / name)


def _place_database(site: Site, work: Path, manifest: Manifest) -> None:
    source = work / manifest.database_member
    if manifest.database == "postgresql":
        postgres_tools.load(site.database_url, source, BackupRefused)
        return
    target = Path(make_url(site.database_url).database or "")
    target.parent.mkdir(parents=True, exist_ok=True)
    for suffix in ("", "-wal", "-shm"):  # of a file outside the state folder, which --force replaces
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    shutil.move(source, target)
