"""What systemd is told: by a fake manager's socket, and what its own checker says of the units."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.process.logs import JsonLines, PlainLines, masked
from daemon.process.readiness import liveness
from daemon.process.service_manager import ServiceManager, Watchdog
from tests.support.daemon_process import daemon_process

UNITS = Path(__file__).parents[3] / "deploy" / "systemd"


class FakeManager:
    """Fake service manager: the socket that systemd would listen on."""

    def __init__(self, address):
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(60)

    def heard(self):
        """Return the next message, as its assignments."""
        return self._socket.recv(4096).decode().split("\n")

    def hear(self, word):
        """Return the first message from now on in which an assignment begins with a word."""
        while True:
            message = self.heard()
            if any(line.startswith(word) for line in message):
                return message

    def close(self):
        self._socket.close()


@contextmanager
def fake_manager(address):
    manager = FakeManager(address)
    try:
        yield manager
    finally:
        manager.close()


@pytest.fixture(params=["path", "abstract"])
def address(request, tmp_path):
    return str(tmp_path / "notify") if request.param == "path" else f"@lumiwatch-{os.getpid()}-{id(request)}"


def test_the_manager_hears_each_state_on_either_kind_of_socket(address):
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    with fake_manager(address) as manager:
        speaker = ServiceManager(environment)
        speaker.ready()
        speaker.reloading(True)
        speaker.reloading(False)
        speaker.stopping()
        said = [manager.heard() for _ in range(4)]

    assert environment == {}  # children must not speak for the daemon
    assert speaker.watchdog_s == 30
    assert [message[0] for message in said] == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]
    assert said[1][1].startswith("MONOTONIC_USEC=")


def test_without_a_manager_or_with_one_that_is_gone_nothing_happens(tmp_path, caplog):
    ServiceManager({}).ready()
    assert caplog.records == []
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    assert "cannot be told" in caplog.text
    assert ServiceManager({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_s is None


def test_the_watchdog_is_fed_only_while_all_is_well(tmp_path):
    address = str(tmp_path / "notify")
    problems = [None, "thread alerts has ended", None]
    with fake_manager(address) as manager:
        speaker = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"})
        watchdog = Watchdog(speaker, lambda: problems.pop(0), lambda: "watching\nanomaly")
        for _ in range(3):
            watchdog.feed()
        said = [manager.heard() for _ in range(3)]

    well = ["WATCHDOG=1", "STATUS=watching anomaly"]
    assert said == [well, ["STATUS=thread alerts has ended"], well]


def test_a_thread_that_has_ended_or_a_silent_database_is_no_life():
    hold = threading.Event()
    name = "a-thread-of-this-test"
    living = threading.Thread(target=hold.wait, name=name)
    living.start()
    well, away = liveness([name], lambda: None), liveness([name], lambda: "does not answer")
    assert well() is None
    assert away() == "database does not answer"
    hold.set()
    living.join()

    assert well() is None  # it may be about to be exchanged
    assert well() == f"thread {name} has ended"


def test_a_daemon_tells_systemd_when_it_serves_lives_reloads_and_stops(site, tmp_path):
    address = str(tmp_path / "notify")
    with (
        fake_manager(address) as manager,
        daemon_process(site, tmp_path / "log", NOTIFY_SOCKET=address, WATCHDOG_USEC="300000") as daemon,
    ):
        assert manager.heard() == ["READY=1"]
        fed = manager.heard()
        assert fed[0] == "WATCHDOG=1"
        assert fed[1].startswith("STATUS=watching anomaly")
        assert manager.hear("WATCHDOG=1")
        daemon.process.send_signal(signal.SIGHUP)
        assert manager.hear("RELOADING=1")
        assert manager.hear("READY=1")
        daemon.process.send_signal(signal.SIGTERM)
        assert manager.hear("STOPPING=1")
        assert daemon.process.wait(60) == 0


@pytest.mark.parametrize("unit", ["lumiwatch.service", "lumiwatch-worker@.service"])
def test_the_units_are_sound_to_systemd(unit, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for file in UNITS.glob("*.service"):
        # the checker wants a program that is there
        content = file.read_text().replace("/opt/lumiwatch/bin/lumiwatch", sys.executable)
        (tmp_path / file.name).write_text(content)
    name = unit.replace("@", "@one")
    if name != unit:
        (tmp_path / name).symlink_to(tmp_path / unit)

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
        capture_output=True,
        text=True,
        check=False,
    )

    ours = [line for line in done.stderr.splitlines() if "lumiwatch" in line or str(tmp_path) in line]
    assert ours == []
    assert done.returncode == 0, done.stderr


def test_the_units_harden_what_they_start():
    for file in UNITS.glob("*.service"):
        content = file.read_text()
        for line in (
            "DynamicUser=yes", "ProtectSystem=strict", "NoNewPrivileges=yes", "StateDirectory=lumiwatch",
            "CapabilityBoundingSet=", "ProtectHome=yes", "PrivateTmp=yes", "SystemCallFilter=@system-service",
        ):  # fmt: skip
            assert line in content.splitlines(), (file.name, line)


def record(message, *arguments, **extra):
    made = logging.LogRecord("daemon.process.service", logging.INFO, "", 0, message, arguments, None)
    made.__dict__.update(extra)
    made.created = 1777636800.25
    return made


def test_a_json_line_carries_time_level_logger_message_and_identities():
    line = JsonLines().format(
        record("incident %s\nopened", "anomaly-1", model="anomaly", incident="anomaly-1")
    )

    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2026-05-01T12:00:00.250Z", "level": "info", "logger": "daemon.process.service",
        "message": "incident anomaly-1\nopened", "model": "anomaly", "incident": "anomaly-1",
    }  # fmt: skip


def test_a_traceback_is_in_the_line_too():
    made = record("it failed")
    try:
        int("no")
    except ValueError:
        made.exc_info = sys.exc_info()

    assert "ValueError: invalid literal" in json.loads(JsonLines().format(made))["exception"]


@pytest.mark.parametrize(
    "secret",
    [
        "Authorization: Bearer hunter2",
        "GET /login?token=hunter2",
        "postgresql://u:hunter2@db/x",
        "a; password=hunter2",
    ],
)
def test_what_looks_like_a_secret_is_masked_in_both_forms(secret):
    for form in (JsonLines(), PlainLines()):
        assert "hunter2" not in form.format(record(secret))
    assert "***" in masked(secret)


def test_a_daemon_logs_json_lines_when_told(site, tmp_path):
    with daemon_process(site, tmp_path / "log", LUMIWATCH_LOGGING__FORMAT="json") as daemon:
        daemon.process.send_signal(signal.SIGHUP)
        line = daemon.wait_for_log("was read again")

    assert json.loads(line)["logger"] == "daemon.site.reload"
    for written in (tmp_path / "log").read_text().splitlines():
        assert {"time", "level", "logger", "message"} <= json.loads(written).keys()
