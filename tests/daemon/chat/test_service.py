import logging
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from daemon.api import application
from daemon.chat.service import build_buttons
from daemon.errors import SettingsError
from daemon.incidents.intake import take_verdict
from daemon.operations import utc_now
from daemon.process.assembly import build_app, build_daemon
from daemon.site.settings import load_site
from daemon.store import queries
from daemon.store.database import open_database
from daemon.store.records import NotificationState
from tests.daemon.chat.conftest import ADA, COMMAND_TOKEN, EMMY, write_site
from tests.support.daemon import HandClock, copy_site, make_verdict
from tests.support.mattermost import MattermostServer, over_network, serving, through

ROOT = Path(__file__).parents[3]
CODE = """
import pathlib, sys
from daemon.process.service import serve
from daemon.site.settings import load_site
serve(load_site(pathlib.Path(sys.argv[1])))
"""


def change(site_folder, old, new):
    file = site_folder / "lumiwatch.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return load_site(site_folder)


def test_a_chat_that_is_away_loses_nothing_and_the_console_says_what_waits(room):
    room.alarm()
    room.server.outages.extend(httpx.Response(503) for _ in range(3))
    room.deliver()
    waiting = queries.notifications(room.services.engine, incident_id="anomaly-1")
    assert {one.state for one in waiting} == {NotificationState.PENDING}
    assert "503" in waiting[0].last_error
    room.services.operations.acknowledge("anomaly-1", operator="ada")

    room.deliver()
    assert room.server.posts == {}
    room.server.outages.clear()
    room.clock.move(14 * 3600)
    room.deliver()

    states = {one.state for one in queries.notifications(room.services.engine, incident_id="anomaly-1")}
    assert states == {NotificationState.DELIVERED}
    assert len(room.server.threads()[0]) == 2
    said = room.server.press(room.head()["id"], "Reject", EMMY)
    assert "You rejected" in said, "buttons that waited through the outage are fresh"


def test_without_an_address_for_the_chat_there_are_no_buttons_and_the_log_says_so(site_folder, caplog):
    caplog.set_level(logging.INFO)
    site = change(site_folder, 'callback_url = "http://lumiwatch.example:8642/"\n', "")

    assert build_buttons(site, HandClock()) is None
    assert "set mattermost.callback_url" in caplog.text


def test_the_consoles_public_address_is_the_default(site_folder):
    change(site_folder, 'callback_url = "http://lumiwatch.example:8642/"\n', "")
    site = change(site_folder, "[console]\n", '[console]\npublic_url = "https://watch.example/"\n')

    buttons = build_buttons(site, HandClock())

    assert buttons is not None
    assert buttons._url == "https://watch.example/chat/mattermost/actions"


def test_with_nobody_who_could_press_there_are_no_buttons(site_folder, caplog):
    caplog.set_level(logging.INFO)
    file = site_folder / "lumiwatch.toml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("mattermost_user_id")]
    file.write_text("\n".join(lines))

    assert build_buttons(load_site(site_folder), HandClock()) is None
    assert "no [operators.<name>] has a mattermost_user_id" in caplog.text


def test_a_site_without_a_chat_takes_nothing_from_one(tmp_path):
    daemon = build_daemon(load_site(copy_site(tmp_path)))
    app = FastAPI()
    application.install(app, daemon.services)

    for path in ("actions", "dialogs", "commands"):
        request = httpx.Request("POST", f"http://localhost/chat/mattermost/{path}", content=b"{}")
        assert through(app)(request).status_code == 404
    daemon.messaging.stop()
    daemon.services.engine.dispose()


def test_only_the_hosts_of_the_site_are_answered(site):
    daemon = build_daemon(site)
    app = build_app(daemon.services)

    def answer(host):
        request = httpx.Request("POST", f"http://{host}/chat/mattermost/actions", content=b"")
        return through(app)(request).text

    assert "not what Mattermost sends" in answer("lumiwatch.example:8642")
    assert "Invalid host header" in answer("evil.example")
    daemon.messaging.stop()
    daemon.services.engine.dispose()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (f'"{EMMY}"', f'"{ADA}"', "mattermost_user_id is also that of ada"),
        (f'"{EMMY}"', '"emmy"', "mattermost_user_id"),
        ("http://lumiwatch.example:8642/", "lumiwatch.example", "callback_url"),
        ("http://lumiwatch.example:8642/", "http://[x/", "callback_url"),
        ("http://lumiwatch.example:8642/", "http://ada:secret@host/?a=b", "callback_url"),
        ('command_token_file = "command-token"', "button_hours = 0", "button_hours"),
    ],
)
def test_settings_that_cannot_work_are_refused_when_the_site_is_loaded(site_folder, old, new, said):
    with pytest.raises(SettingsError, match=said):
        change(site_folder, old, new)


def test_a_command_token_that_others_can_read_is_refused(site, site_folder):
    (site_folder / "command-token").chmod(0o644)

    with pytest.raises(SettingsError, match=r"mattermost\.command_token_file"):
        build_daemon(site)


def test_the_key_of_the_tickets_is_a_secret_of_its_own(room):
    key = room.services.site.secrets_dir / "chat-key"

    assert key.stat().st_mode & 0o077 == 0
    assert len(bytes.fromhex(key.read_text().strip())) == 32


@contextmanager
def served(site_folder):
    """Serve a site in a process of its own, as `lumiwatch serve` does."""
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(site_folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert any("console: http" in line for line in process.stdout)
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_for(condition, seconds=60.0):
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.1)
    assert condition()


def test_from_the_alarm_to_the_decision_in_the_thread_with_a_daemon_that_runs(tmp_path):
    server = MattermostServer(reach=over_network)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serving(server) as chat_url:
        folder = write_site(tmp_path, chat_url, callback=f"http://127.0.0.1:{port}")
        file = folder / "lumiwatch.toml"
        file.write_text(file.read_text().replace("port = 8642", f"port = {port}"))
        engine = open_database(load_site(folder).database_url)
        take_verdict(engine, load_site(folder), make_verdict(62), now=utc_now())
        with served(folder):
            wait_for(lambda: "Approve..." in buttons_of_the_thread(server))
            head = server.head_of("anomaly-1")["id"]
            assert server.press(head, "Acknowledge", EMMY) == "You acknowledged anomaly-1."
            assert server.press(head, "Approve...", ADA) == ""
            assert server.submit(ADA, {"strategy": "bias", "comment": "go"}) == {}
            wait_for(lambda: any("ada approved anomaly-1-r1: bias. go" in text for text in replies(server)))
            url = f"http://127.0.0.1:{port}/chat/mattermost/commands"
            status = server.command(url, COMMAND_TOKEN, EMMY, "status").replace("\\", "")
        (decision,) = queries.response(engine, "anomaly-1-r1").decisions
        engine.dispose()

    assert (decision.operator, decision.via, decision.strategy) == ("ada", "chat", "bias")
    assert "anomaly-1" in status
    assert any("emmy acknowledged the incident" in text for text in replies(server))


def buttons_of_the_thread(server):
    return [name for thread in server.threads() for name in server.buttons(thread[0]["id"])]


def replies(server):
    return [post["message"].replace("\\", "") for thread in server.threads() for post in thread[1:]]
