"""A backup is made while others write, and brings a site back with its audit log and what is in flight."""

import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlmodel import Session, func, select
from typer.testing import CliRunner

from daemon.cli.main import app
from daemon.errors import BackupFailed, BackupRefused
from daemon.journal import audit_log
from daemon.journal.happenings import record_event
from daemon.operations import Operations
from daemon.site.settings import load_site
from daemon.store import queries
from daemon.store.database import open_database, transaction
from daemon.store.records import EventRecord, ResponseState
from daemon.upkeep.backup import _files, make_backup
from daemon.upkeep.backup_manifest import MANIFEST, SQLITE, Manifest, check_name
from daemon.upkeep.postgres_tools import dump
from daemon.upkeep.restore import restore_backup
from hw.records import PackageRecord
from tests.daemon.process.test_service import served
from tests.daemon.responses.test_durable import RESPONSE, responder, state_is, wait_for
from tests.support.daemon import Everybody, NoWorkflows
from tests.support.postgres import fresh_database

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PACKAGE = "a" * 64

WRITE = """
import sys
from datetime import UTC, datetime
from daemon.store.database import open_database, transaction
from daemon.journal.happenings import record_event
engine = open_database(sys.argv[1])
while True:
    with transaction(engine) as session:
        record_event(session, "site.tested", "t", now=datetime.now(UTC))
    print("wrote", flush=True)
"""


def fill(site):
    """Give a site an event, a package, a journal, a key and a token."""
    engine = open_database(site.database_url)
    with transaction(engine) as session:
        record_event(session, "site.tested", "before", now=NOW)
        session.add(
            PackageRecord(
                id=PACKAGE, name="anomaly", version="1", path="/elsewhere", structure_hash="s",
                weights_hash="w", contract_hash="c", toolchain="t", toolchain_version="1",
                bench_passed=True, recorded_at=NOW,
            )
        )  # fmt: skip
    engine.dispose()
    for name, content in {
        f"packages/{PACKAGE}.lwpkg": "a package",
        "watch/jets/journal.json": "{}",
        "trusted-keys/site.pub": "public",
        "secrets/site.pem": "the private key",
        "secrets/local-token": "the token",
        "recent/anomaly/1.npz": "large",
    }.items():
        path = site.state_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def names(backup):
    with tarfile.open(backup) as archive:
        return set(archive.getnames())


def test_it_holds_what_a_site_needs_and_no_secret_unless_asked(site, tmp_path):
    fill(site)
    make_backup(site, tmp_path / "open.tar", with_secrets=False, now=NOW)
    make_backup(site, tmp_path / "closed.tar", with_secrets=True, now=NOW)

    held = names(tmp_path / "open.tar")
    assert {
        MANIFEST, SQLITE, f"packages/{PACKAGE}.lwpkg", "watch/jets/journal.json", "trusted-keys/site.pub",
        "site/lumiwatch.toml", "site/models/anomaly/model.toml", "site/models/anomaly/contract.toml",
    } <= held  # fmt: skip
    assert not [name for name in held if name.startswith(("secrets", "recent"))]
    assert b"the private key" not in (tmp_path / "open.tar").read_bytes()
    assert names(tmp_path / "closed.tar") - held == {"secrets/site.pem", "secrets/local-token"}
    for backup in tmp_path.glob("*.tar"):
        assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert list(tmp_path.glob(".lumiwatch-backup-*")) == []


def test_it_says_what_is_left_out_and_overwrites_nothing(site, tmp_path):
    fill(site)
    (site.packages_dir / f"{PACKAGE}.lwpkg").unlink()
    target = tmp_path / "backup.tar"

    assert make_backup(site, target, with_secrets=False, now=NOW).left_out == [
        f"package {PACKAGE[:12]}: its file is not at this site"
    ]
    with pytest.raises(BackupFailed, match="exists: name another"):
        make_backup(site, target, with_secrets=False, now=NOW)
    with pytest.raises(BackupFailed, match="does not exist"):
        make_backup(site, tmp_path / "none" / "backup.tar", with_secrets=False, now=NOW)


@pytest.fixture(params=["sqlite", "postgresql"])
def sites(request, site_folder, tmp_path, monkeypatch):
    """Return a function that loads a site's folder with a database of its kind; the second is another one."""
    if request.param == "sqlite":
        yield load_site
        return
    server = request.getfixturevalue("postgres_server")
    made = {}
    with fresh_database(server) as first, fresh_database(server) as second:

        def load(folder):
            url = made.setdefault(folder, second if made else first)
            monkeypatch.setenv("LUMIWATCH_DATABASE_URL", url)
            return load_site(folder)

        yield load


def test_made_under_writes_and_restored_the_audit_log_is_sound(site_folder, sites, tmp_path):
    site = sites(site_folder)
    fill(site)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE, site.database_url], cwd=ROOT, text=True, stdout=subprocess.PIPE
    )
    try:
        for _ in range(5):
            assert writer.stdout.readline() == "wrote\n"
        made = make_backup(site, tmp_path / "backup.tar", with_secrets=True, now=NOW)
        for _ in range(5):
            assert writer.stdout.readline() == "wrote\n"  # it was never held up for good
    finally:
        writer.kill()
        writer.communicate()

    elsewhere = tmp_path / "elsewhere"
    sites(site_folder)
    elsewhere.mkdir()
    shutil.copy(site.file, elsewhere)
    shutil.copytree(site_folder / "models", elsewhere / "models")
    sites(elsewhere)
    restored = restore_backup(tmp_path / "backup.tar", elsewhere, force=False, now=NOW)

    assert restored.audit.sound
    assert restored.manifest == made.manifest
    assert restored.site.state_dir == elsewhere / "state"
    engine = open_database(restored.site.database_url)
    events = queries.audit(engine, limit=5000)
    assert [events[0].text, events[-1].kind] == ["before", "site.restored"]
    assert len(events) >= 7
    with Session(engine) as session:
        assert session.exec(select(func.count()).select_from(EventRecord)).one() == restored.audit.n_events
    engine.dispose()
    for name, content in {
        f"packages/{PACKAGE}.lwpkg": "a package",
        "watch/jets/journal.json": "{}",
        "secrets/site.pem": "the private key",
    }.items():
        path = restored.site.state_dir / name
        assert path.read_text() == content
    assert stat.S_IMODE((restored.site.secrets_dir / "site.pem").stat().st_mode) == 0o600
    assert not list(elsewhere.glob(".lumiwatch-restore-*"))
    with pytest.raises(BackupRefused, match=r"is not empty|holds a site already"):
        restore_backup(tmp_path / "backup.tar", elsewhere, force=False, now=NOW)


@pytest.mark.slow
def test_an_incident_in_flight_goes_on_in_a_daemon_of_the_restored_site(site, engine, tmp_path):
    with responder(site, tmp_path / "calls"):
        wait_for(state_is(engine, ResponseState.PROPOSED))
        make_backup(site, tmp_path / "backup.tar", with_secrets=True, now=NOW)

    restored = restore_backup(tmp_path / "backup.tar", tmp_path / "new", force=False, now=NOW)

    with served(restored.site) as (_, client):
        assert client.get(f"/api/v1/responses/{RESPONSE}").json()["state"] == "proposed"
        answer = client.post(f"/api/v1/responses/{RESPONSE}/decisions", json={"decision": "reject"})
        assert answer.status_code == 201
        wait_for(lambda: client.get(f"/api/v1/responses/{RESPONSE}").json()["state"] == "rejected")
        with pytest.raises(BackupRefused, match="is running: stop it first"):
            restore_backup(tmp_path / "backup.tar", restored.site.folder, force=True, now=NOW)
    again = open_database(restored.site.database_url)
    assert audit_log.verify(again).sound
    again.dispose()


@pytest.mark.slow
def test_a_training_in_flight_ends_in_the_restored_site_and_says_why(site, engine, tmp_path):
    calls = tmp_path / "calls"
    with responder(site, calls, slow_step="retrain"):
        wait_for(state_is(engine, ResponseState.PROPOSED))
        Operations(engine, site, NoWorkflows(), access=Everybody()).approve(RESPONSE, operator="local")
        wait_for(lambda: calls.exists() and "retrain" in calls.read_text())
        make_backup(site, tmp_path / "backup.tar", with_secrets=True, now=NOW)
    before = sorted(path for path in site.state_dir.rglob("*") if "responses" in path.parts)

    restored = restore_backup(tmp_path / "backup.tar", tmp_path / "new", force=False, now=NOW)

    with served(restored.site) as (_, client):

        def response():
            return client.get(f"/api/v1/responses/{RESPONSE}").json()

        wait_for(lambda: response()["state"] == "failed")
        ended = response()
        states = {step["name"]: step["state"] for step in ended["steps"]}
        assert (states["decide"], states["retrain"], states["apply"]) == ("done", "failed", "skipped")
        assert "The firmware was not touched." in ended["outcome"]
        assert ended["outcome"].startswith("Retrain: the file of package aaaaaaaaaaaa is not at this site")
        incident = client.get("/api/v1/incidents/anomaly-1").json()
        assert incident["state"] == "open"
        assert incident["events"][-1]["text"] == ended["outcome"]
    again = open_database(restored.site.database_url)
    assert audit_log.verify(again).sound
    again.dispose()
    left = sorted(path for path in site.state_dir.rglob("*") if "responses" in path.parts)
    assert left == before, "the restored site wrote into the old one"


def test_force_moves_what_is_there_aside(site, tmp_path):
    fill(site)
    make_backup(site, tmp_path / "backup.tar", with_secrets=False, now=NOW)
    (site.state_dir / "recent" / "mine").write_text("kept")
    with pytest.raises(BackupRefused, match="not empty"):
        restore_backup(tmp_path / "backup.tar", site.folder, force=False, now=NOW)

    restore_backup(tmp_path / "backup.tar", site.folder, force=True, now=NOW)

    aside = site.state_dir / "before-restore-20260501T120000"
    assert (aside / "recent" / "mine").read_text() == "kept"
    assert (aside / "secrets" / "site.pem").read_text() == "the private key"
    assert not (site.state_dir / "recent").exists()
    engine = open_database(site.database_url)
    assert [event.kind for event in queries.audit(engine)] == ["site.tested", "site.restored"]
    engine.dispose()


def test_a_backup_of_another_kind_of_database_is_refused(site, tmp_path, monkeypatch):
    fill(site)
    make_backup(site, tmp_path / "backup.tar", with_secrets=False, now=NOW)
    monkeypatch.setenv("LUMIWATCH_DATABASE_URL", "postgresql+psycopg://lumiwatch:word@127.0.0.1:1/lumiwatch")

    with pytest.raises(BackupRefused, match="of a sqlite database, key `database_url` names postgresql"):
        restore_backup(tmp_path / "backup.tar", tmp_path / "new", force=False, now=NOW)


def test_without_pg_dump_the_error_names_it(site_folder, postgres_url, tmp_path, monkeypatch):
    monkeypatch.setenv("LUMIWATCH_DATABASE_URL", postgres_url)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BackupFailed, match="pg_dump is not installed"):
        make_backup(load_site(site_folder), tmp_path / "backup.tar", with_secrets=False, now=NOW)
    assert not (tmp_path / "backup.tar").exists()


def test_a_password_in_the_settings_does_not_get_out(site_folder, tmp_path, monkeypatch):
    file = site_folder / "lumiwatch.toml"
    file.write_text(f'database_url = "postgresql+psycopg://u:hidden@127.0.0.1:1/x"\n{file.read_text()}')
    program = tmp_path / "bin" / "pg_dump"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "args: $*" >&2; exit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    site = load_site(site_folder)
    engine = open_database(f"sqlite:///{tmp_path}/x.db")
    files, left_out = _files(engine, site, with_secrets=False)
    engine.dispose()
    assert "site/lumiwatch.toml" not in files
    assert "password" in left_out[0]
    with pytest.raises(BackupFailed, match="args:") as caught:
        dump(site.database_url, tmp_path / "out", BackupFailed)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd", "../x", "packages/../../x", "packages//x", "packages/.hidden", "packages", "site/x.py",
        "other/x", "site/../lumiwatch.toml", "packages/a\\b", "packages/a b", "", "secrets/x\n",
        "database.sqlite/x",
    ],
)  # fmt: skip
def test_a_name_that_has_no_place_in_a_backup_is_refused(name):
    with pytest.raises(BackupRefused, match="no place"):
        check_name(name)


@pytest.fixture
def parts(site, tmp_path):
    """Return manifest and contents of a sound backup, and a function that writes a forged one of them."""
    fill(site)
    make_backup(site, tmp_path / "sound.tar", with_secrets=False, now=NOW)
    with tarfile.open(tmp_path / "sound.tar") as archive:
        contents = {found.name: archive.extractfile(found).read() for found in archive.getmembers()}
    manifest = json.loads(contents.pop(MANIFEST))

    def forge(manifest, members):
        with tarfile.open(tmp_path / "forged.tar", "w") as archive:
            content = json.dumps(manifest).encode()
            for info, data in [(tarfile.TarInfo(MANIFEST), content), *members]:
                info.size = len(data) if info.type == tarfile.REGTYPE else 0
                archive.addfile(info, io.BytesIO(data))
        return tmp_path / "forged.tar"

    return manifest, contents, forge


def plain(contents):
    return [(tarfile.TarInfo(name), data) for name, data in contents.items()]


def refused(backup, tmp_path, match):
    with pytest.raises(BackupRefused, match=match):
        restore_backup(backup, tmp_path / "new", force=False, now=NOW)
    left = [path.name for path in (tmp_path / "new").glob("**/*")] if (tmp_path / "new").exists() else []
    assert left == []
    assert not (tmp_path / "escaped").exists()


def test_a_forged_backup_is_refused_and_nothing_is_written(parts, tmp_path):
    manifest, contents, forge = parts
    package = f"packages/{PACKAGE}.lwpkg"

    refused(forge(manifest, plain({**contents, package: b"a packagE"})), tmp_path, "hash of the manifest")
    refused(
        forge(manifest, plain({**contents, package: b"longer one"})), tmp_path, "bytes, the manifest says"
    )
    refused(forge(manifest, plain(contents)[:-1]), tmp_path, "is missing: the file is cut off")
    refused(forge(manifest, [*plain(contents), *plain(contents)[:1]]), tmp_path, "comes twice")
    refused(forge(manifest, plain({"x": b"", **contents})), tmp_path, "not in the manifest")

    link = tarfile.TarInfo(package)
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    others = [(info, data) for info, data in plain(contents) if info.name != package]
    refused(forge(manifest, [(link, b""), *others]), tmp_path, "plain files only")

    outside = {**manifest["members"], "../escaped": manifest["members"][package]}
    refused(
        forge({**manifest, "members": outside}, plain({**contents, "../escaped": b"a package"})),
        tmp_path,
        "no place in a backup",
    )
    huge = {**manifest["members"], package: {"bytes": 10**18, "sha256": "0" * 64}}
    refused(forge({**manifest, "members": huge}, plain(contents)), tmp_path, "make room first")
    refused(forge({**manifest, "form": 2}, plain(contents)), tmp_path, "key form")
    refused(forge({**manifest, "members": {}}, plain(contents)), tmp_path, "names no database")


def test_what_is_no_backup_is_refused_in_one_line(tmp_path, site):
    (tmp_path / "text.tar").write_text("no tar" * 1000)
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        archive.add(site.file, "lumiwatch.toml")
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as archive:
        archive.add(site.file, MANIFEST)

    refused(tmp_path / "text.tar", tmp_path, "cannot be read as a backup")
    refused(tmp_path / "bomb.tar.gz", tmp_path, "cannot be read as a backup")
    refused(tmp_path / "other.tar", tmp_path, "not begin with a manifest")
    refused(tmp_path / "none.tar", tmp_path, "No such file")


def test_a_database_damaged_on_disk_is_not_backed_up_as_if_it_were_sound(site, tmp_path):
    fill(site)
    file = Path(site.database_url.removeprefix("sqlite:///"))
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'ix_daemon_events_published'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with file.open("r+b") as raw:
        raw.seek((page - 1) * size)
        raw.write(b"\xff" * size)

    with pytest.raises(BackupFailed, match=r"damaged|malformed"):
        make_backup(site, tmp_path / "backup.tar", with_secrets=False, now=NOW)


def test_the_commands(site, tmp_path, monkeypatch):
    fill(site)
    monkeypatch.setenv("LUMIWATCH_SITE", str(site.folder))
    run = CliRunner().invoke

    made = run(app, ["backup", "--out", str(tmp_path / "b.tar"), "--json"])
    assert made.exit_code == 0, made.output
    assert Manifest.model_validate(
        {k: v for k, v in json.loads(made.stdout).items() if k not in {"file", "left_out"}}
    )
    back = run(app, ["restore", str(tmp_path / "b.tar"), "--site", str(tmp_path / "new"), "--json"])
    assert back.exit_code == 0, back.output
    assert json.loads(back.stdout)["audit_sound"] is True
