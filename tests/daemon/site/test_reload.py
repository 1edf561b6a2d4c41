"""Files are read again while the daemon runs: a sound configuration takes effect, a bad one does nothing."""

import hashlib
import signal
import threading
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from daemon.alerts.service import build_alerts
from daemon.cli.main import app
from daemon.errors import SettingsError
from daemon.process.messaging import Messaging
from daemon.site.current_site import CurrentSite
from daemon.site.reload import Reloader, held_back
from daemon.site.settings import load_site
from daemon.store import queries
from daemon.store.database import open_database
from tests.support.daemon_process import daemon_process


def edit(path, old, new):
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


@pytest.fixture
def model_file(site_folder):
    return site_folder / "models" / "anomaly" / "model.toml"


def test_a_current_site_reads_like_the_site_that_it_is_now(site):
    current = CurrentSite(site)
    other = replace(site, state_dir=site.state_dir / "other")

    assert (current.settings, current.name, current.secrets_dir) == (
        site.settings,
        site.name,
        site.secrets_dir,
    )
    current.swap(other)
    assert current.packages_dir == other.state_dir / "packages"
    assert current.loaded() is other
    assert isinstance(current, type(site))
    assert replace(current, folder=site.folder.parent) == replace(other, folder=site.folder.parent)
    with pytest.raises(AttributeError):
        current.folder = site.folder


def test_what_is_built_at_the_start_stays_and_is_named(site, site_folder, model_file):
    (site_folder / "models" / "second").mkdir()
    for name in ("model.toml", "contract.toml"):
        (site_folder / "models" / "second" / name).write_text((model_file.parent / name).read_text())
    edit(site_folder / "models" / "second" / "model.toml", 'name = "anomaly"', 'name = "second"')
    edit(model_file, "verify_lumisections = 10", "verify_lumisections = 77")
    file = site_folder / "lumiwatch.toml"
    edit(file, "port = 8642", "port = 9999")
    edit(file, "partitions = 4", "partitions = 8")
    edit(file, "events_days = 400", "events_days = 30")
    edit(file, "allowed_lateness_s = 60", "allowed_lateness_s = 90")
    edit(file, "# [alertmanager]", '[alertmanager]\nurls = ["http://alerts:9093"]\n#')
    edit(file, "# [oidc]", '[oidc]\nissuer = "https://auth.example.org"\nclient_id = "lumiwatch"\n#')
    file.write_text(f'database_url = "sqlite:///elsewhere.db"\n{file.read_text()}')

    effective, waiting = held_back(site, load_site(site_folder))

    assert effective.models["anomaly"].policy.verify_lumisections == 77
    assert effective.settings.retention.events_days == 30
    assert effective.settings.console.port == 8642
    assert effective.settings.kafka.partitions == 4
    assert effective.database_url == site.database_url
    assert set(effective.models) == set(site.models)
    assert effective.settings.alertmanager.urls == ("http://alerts:9093",)
    assert effective.settings.oidc.client_id == "lumiwatch"
    assert effective.settings.stream == site.settings.stream
    assert set(waiting) == {
        "database_url",
        "kafka.partitions",
        "stream.allowed_lateness_s",
        "console.port",
        "models/second (added)",
    }


def test_a_model_that_is_gone_and_a_changed_contract_wait_for_a_restart(site, model_file):
    changed = replace(site.models["anomaly"], contract=replace_contract(site))
    others = {**{name: model for name, model in site.models.items() if name != "anomaly"}, "anomaly": changed}

    assert held_back(site, replace(site, models=others))[1] == ("models/anomaly/contract.toml",)
    effective, waiting = held_back(site, replace(site, models={}))
    assert waiting == tuple(f"models/{name} (removed)" for name in site.models)
    assert effective.models == site.models


def replace_contract(site):
    contract = site.models["anomaly"].contract
    return contract.model_copy(update={"version": contract.version + 1})


def test_a_refused_configuration_changes_nothing_and_is_recorded(site, engine, clock, model_file):
    current = CurrentSite(site)
    reloader = Reloader(engine, current, clock)
    before = model_file.read_text()
    model_file.write_text(before + "\n[nonsense]\n")

    reloader.reload()

    assert current.loaded() is site
    assert "nonsense" in reloader.note()
    (event,) = queries.audit(engine, kind="configuration")
    assert event.kind == "configuration.refused"
    assert event.detail["files"][str(model_file)] == hashlib.sha256(model_file.read_bytes()).hexdigest()
    model_file.write_text(before)
    reloader.reload(actor="ada")
    assert reloader.note() is None
    assert queries.audit(engine, kind="configuration")[-1].actor == "ada"


def test_a_sighup_lets_a_running_daemon_take_good_files_and_refuse_bad_ones(
    site, site_folder, model_file, tmp_path, monkeypatch
):
    good = model_file.read_text()
    with daemon_process(site, tmp_path / "log") as daemon:

        def loaded():
            return daemon.client.get("/api/v1/configuration").json()

        def reload(words):
            before = daemon.log_size()
            daemon.process.send_signal(signal.SIGHUP)
            daemon.wait_for_log(words, after=before)

        first = loaded()
        assert first["models"]["anomaly"]["policy"]["verify_lumisections"] != 33
        assert first["files"][str(model_file)] == hashlib.sha256(good.encode()).hexdigest()

        # a good one
        edit(model_file, "verify_lumisections = 10", "verify_lumisections = 33")
        reload("was read again")
        assert loaded()["models"]["anomaly"]["policy"]["verify_lumisections"] == 33
        assert loaded()["loaded_at"] > first["loaded_at"]

        # a bad one
        bad = model_file.read_text()
        edit(model_file, "verify_lumisections = 33", "verify_lumisections = 0")
        reload("is refused")
        health = daemon.client.get("/-/ready").json()
        assert "verify_lumisections" in health["notes"]["configuration"]
        assert health["checks"]["database"] == "ok"
        assert loaded()["models"]["anomaly"]["policy"]["verify_lumisections"] == 33
        assert "verify_lumisections" in loaded()["refused"]
        asked = CliRunner().invoke(app, ["reload", "--site", str(site_folder)])
        assert isinstance(asked.exception, SettingsError)

        # a good one again, with a key that waits
        model_file.write_text(bad.replace("verify_lumisections = 33", "verify_lumisections = 44"))
        edit(site_folder / "lumiwatch.toml", "partitions = 4", "partitions = 8")
        reload("was read again")
        daemon.wait_for_log("kafka.partitions has changed")
        assert loaded()["models"]["anomaly"]["policy"]["verify_lumisections"] == 44
        assert loaded()["needs_restart"] == ["kafka.partitions"]
        assert "kafka.partitions" in daemon.client.get("/-/ready").json()["notes"]["configuration"]

        # and by the command
        monkeypatch.delenv("LUMIWATCH_TOKEN_FILE", raising=False)
        asked = CliRunner().invoke(app, ["reload", "--site", str(site_folder)])
        assert asked.exit_code == 0, asked.output
        assert "next start: kafka.partitions" in asked.output
        assert (
            daemon.client.post("/api/v1/configuration/reload", headers={"Authorization": ""}).status_code
            == 401
        )
        assert daemon.process.poll() is None

    engine = open_database(site.database_url)
    kinds = [event.kind for event in queries.audit(engine, kind="configuration")]
    assert kinds == [f"configuration.{word}" for word in ("reloaded", "refused", "reloaded", "reloaded")]
    engine.dispose()


def test_no_password_is_shown(site, engine, clock):
    url = "postgresql+psycopg://lumiwatch:hidden@db/lumiwatch"
    settings = site.settings.model_copy(update={"database_url": url})
    secret = CurrentSite(replace(site, database_url=url, settings=settings))

    shown = Reloader(engine, secret, clock).view().model_dump_json()

    assert "hidden" not in shown
    assert "lumiwatch:***@db" in shown


def test_a_changed_chat_is_built_before_the_old_one_goes(site, engine, clock, tmp_path):
    token = tmp_path / "token"
    token.write_text("a-token-of-the-bot")
    token.chmod(0o600)
    built = []

    def build(now, _registry):
        built.append(build_alerts(engine, now))
        return built[-1], None

    messaging = Messaging(site, build)
    messaging.start()
    file = site.file
    quiet = file.read_text()
    chat = f'[mattermost]\nurl = "http://127.0.0.1:9"\nchannel_id = "c"\ntoken_file = "{token}"\n'
    current = CurrentSite(site)
    reloader = Reloader(engine, current, clock, prepare=messaging.prepare)
    try:
        reloader.reload()
        assert len(built) == 1  # nothing of it has changed

        file.write_text(quiet.replace("# [mattermost]", chat))
        reloader.reload()
        assert [alerts.bot is not None for alerts in built] == [False, True]
        assert alerts_threads() == 1

        token.unlink()
        file.write_text(file.read_text().replace('channel_id = "c"', 'channel_id = "d"'))
        reloader.reload()
        assert "token" in reloader.note()
        assert len(built) == 2
        assert current.settings.mattermost.channel_id == "c"
        assert alerts_threads() == 1
    finally:
        messaging.stop()
    assert alerts_threads() == 0


def alerts_threads():
    return sum(thread.name == "alerts" for thread in threading.enumerate())
