"""Incidents in a real Alertmanager: they fire, page, end, fall silent; what is marked never gets there."""

import json
import re
import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from daemon.alerts.alertmanager import Sender, build_alertmanagers, current_alerts
from daemon.errors import SettingsError
from daemon.operations import utc_now
from daemon.site.settings import load_site
from tests.support.alertmanager import PASSWORD, USER, AlertmanagerServer, pager
from tests.support.control_room import ControlRoom
from tests.support.secure_front import make_certificate

ROOT = Path(__file__).parents[3]
QUIET = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"
RESEND = timedelta(minutes=1)
PAGE = "https://lumiwatch.example.org"


@pytest.fixture
def room(engine, site):
    """Verdicts come in at the time of the wall clock, which a real Alertmanager goes by."""
    made = ControlRoom(engine, site, utc_now)
    yield made
    made.close()


@pytest.fixture
def slow_room(engine, site, clock):
    """Verdicts come in with a clock that is moved by hand."""
    made = ControlRoom(engine, site, clock)
    yield made
    made.close()


def configured(site_folder, lines):
    """Load a site with a section [alertmanager]."""
    file = site_folder / "lumiwatch.toml"
    file.write_text(f"{file.read_text()}\n[alertmanager]\n{lines}")
    return load_site(file)


class Receiver:
    """A stand-in for an Alertmanager that remembers what came, and is away on demand."""

    def __init__(self):
        self.came = []
        self.answer = httpx.Response(200)
        self.silences = {}
        self.takes_silences = True

    def __call__(self, request):
        if isinstance(self.answer, Exception):
            raise self.answer
        if request.url.path.startswith("/api/v2/silence"):
            return self.silence(request) if self.takes_silences else httpx.Response(403)
        if self.answer.is_success:
            alerts = json.loads(request.content)
            self.came.append({alert["labels"]["incident"]: alert for alert in alerts})
        return self.answer

    def silence(self, request):
        if request.method == "GET":
            return httpx.Response(200, json=[*self.silences.values()])
        if request.method == "DELETE":
            self.silences[request.url.path.rsplit("/", 1)[1]]["status"]["state"] = "expired"
            return httpx.Response(200)
        content = json.loads(request.content)
        name = content.setdefault("id", f"s{len(self.silences)}")
        self.silences[name] = content | {"status": {"state": "active"}}
        return httpx.Response(200, json={"silenceID": name})

    def quiet(self):
        """Incidents that are silenced here, and until when."""
        return {
            next(one["value"] for one in silence["matchers"] if one["name"] == "incident"): silence["endsAt"]
            for silence in self.silences.values()
            if silence["status"]["state"] == "active"
        }


@pytest.fixture
def receiver():
    return Receiver()


@pytest.fixture
def sender_of(slow_room, receiver):
    clients = []

    def build(on_error=lambda: None):
        client = httpx.Client(transport=httpx.MockTransport(receiver))
        clients.append(client)
        room = slow_room
        return Sender(
            "http://alerts.example",
            client,
            lambda now: current_alerts(room.engine, room.site, now, console_url=lambda: PAGE),
            resend=RESEND,
            clock=room.clock,
            on_error=on_error,
        )

    yield build
    for client in clients:
        client.close()


def told(sender, clock, seconds, step=1.0):
    """Look every second for a while; returns how often something was sent."""
    count = 0
    for _ in range(int(seconds / step)):
        count += sender.look()
        clock.move(step)
    return count


# what is said


def test_a_firing_alert_names_model_site_severity_and_incident(slow_room, sender_of, receiver):
    slow_room.alarm(62, onset_lumisection=61, story="The energy scale of jet is x1.10.")

    assert sender_of().look()

    (alert,) = receiver.came[0].values()
    assert alert["labels"] == {
        "alertname": "LumiwatchDrift",
        "severity": "warning",
        "site": "Example control room",
        "model": "anomaly",
        "incident": "anomaly-1",
    }
    assert alert["annotations"] == {
        "summary": "The energy scale of jet is x1.10.",
        "description": "anomaly, run 1, LS 61-62: Accept rate 11.9 % instead of 10.0 % (+19 %).",
        "console": f"{PAGE}/incidents/anomaly-1",
    }
    assert alert["startsAt"] == "2026-03-01T12:00:00+00:00"
    assert alert["endsAt"] == "2026-03-01T12:04:00+00:00"


def test_a_firmware_fault_is_critical(slow_room, sender_of, receiver):
    slow_room.fault(62)
    sender_of().look()

    labels = receiver.came[0]["anomaly-1"]["labels"]
    assert (labels["alertname"], labels["severity"]) == ("LumiwatchFirmwareFault", "critical")


def test_what_fires_is_said_again_every_interval_and_an_end_for_a_quarter_of_an_hour(
    slow_room, sender_of, receiver
):
    clock, sender = slow_room.clock, sender_of()
    assert told(sender, clock, 60) == 0
    slow_room.alarm(62)
    assert told(sender, clock, 600) == 10

    slow_room.good(70)
    ended = clock()
    count = told(sender, clock, 2000)

    assert count == 15
    assert {one["anomaly-1"]["endsAt"] for one in receiver.came[-count:]} == {ended.isoformat()}


def test_what_comes_back_fires_again(slow_room, sender_of, receiver):
    clock, sender = slow_room.clock, sender_of()
    slow_room.alarm(62)
    told(sender, clock, 10)
    slow_room.good(70)
    told(sender, clock, 10)
    slow_room.alarm(75)
    told(sender, clock, 1)

    ends = [one["anomaly-1"]["endsAt"] for one in receiver.came]
    assert ends == ["2026-03-01T12:04:00+00:00", "2026-03-01T12:00:10+00:00", "2026-03-01T12:04:20+00:00"]


# what is not


def test_marked_data_are_never_sent(slow_room, sender_of, receiver):
    slow_room.alarm(62, simulated=True)
    slow_room.fault(63, simulated=True)
    told(sender_of(), slow_room.clock, 120)
    slow_room.good(70, simulated=True)
    told(sender_of(), slow_room.clock, 120)

    assert receiver.came == []


def test_what_is_silenced_is_sent_under_a_silence_of_the_same_end(slow_room, sender_of, receiver):
    clock, sender = slow_room.clock, sender_of()
    slow_room.silence(1)
    slow_room.alarm(62)

    told(sender, clock, 1)

    (silence,) = slow_room.silences.list()
    assert receiver.quiet() == {"anomaly-1": silence.ends_at.isoformat()}
    assert set(receiver.came[0]["anomaly-1"]) == {
        "labels",
        "annotations",
        "startsAt",
        "endsAt",
        "generatorURL",
    }
    assert told(sender, clock, 600) == 10, "it ended by itself"
    assert len(receiver.silences) == 1


def test_a_silence_that_is_ended_early_ends_there_too(slow_room, sender_of, receiver):
    clock, sender = slow_room.clock, sender_of()
    slow_room.alarm(62)
    told(sender, clock, 1)
    assert receiver.quiet() == {}
    slow_room.silence(1)
    told(sender, clock, 1)
    assert set(receiver.quiet()) == {"anomaly-1"}

    slow_room.silences.end(slow_room.silences.list()[0].id, author="egon")
    told(sender_of(), clock, 1)  # after a restart

    assert receiver.quiet() == {}


def test_a_longer_silence_moves_the_end_and_a_new_family_ends_it(slow_room, sender_of, receiver):
    clock, sender = slow_room.clock, sender_of()
    slow_room.alarm(62)
    slow_room.silence(1)
    told(sender, clock, 1)
    slow_room.silence(2)
    told(sender, clock, 1)
    ends = max(one.ends_at for one in slow_room.silences.list())
    assert receiver.quiet() == {"anomaly-1": ends.isoformat()}
    assert len(receiver.silences) == 1

    slow_room.fault(63)
    told(sender, clock, 1)
    assert receiver.quiet() == {}


def test_what_ends_under_a_silence_is_said_under_it(slow_room, sender_of, receiver):
    sender = sender_of()
    slow_room.alarm(62)
    told(sender, slow_room.clock, 1)
    slow_room.silence(1)
    slow_room.good(70)
    ended = slow_room.clock()

    assert told(sender, slow_room.clock, 1)

    assert receiver.came[-1]["anomaly-1"]["endsAt"] == ended.isoformat()
    assert set(receiver.quiet()) == {"anomaly-1"}


def test_where_silences_are_not_taken_what_is_quiet_is_not_sent(slow_room, sender_of, receiver, caplog):
    errors, clock = [], slow_room.clock
    sender = sender_of(lambda: errors.append(1))
    receiver.takes_silences = False
    slow_room.alarm(62)
    slow_room.silence(1)

    assert told(sender, clock, 600) == 0
    assert 5 < len(errors) < 20
    assert "takes no silences (it answered 403 to GET silences)" in caplog.text

    receiver.takes_silences = True
    assert told(sender, clock, 301)
    assert set(receiver.quiet()) == {"anomaly-1"}


# away


def test_an_alertmanager_that_is_away_loses_nothing_and_is_counted(slow_room, sender_of, receiver):
    errors = []
    sender = sender_of(lambda: errors.append(1))
    receiver.answer = httpx.ConnectError("no route")
    slow_room.alarm(62)
    assert told(sender, slow_room.clock, 3600) == 0
    assert 30 < len(errors) < 100

    slow_room.good(70)
    receiver.answer = httpx.Response(200)

    assert told(sender, slow_room.clock, 60) == 1
    assert "Back to good" in receiver.came[0]["anomaly-1"]["annotations"]["description"]


def test_an_answer_that_is_no_success_is_a_failure(slow_room, sender_of, receiver, caplog):
    errors = []
    receiver.answer = httpx.Response(503)
    slow_room.alarm(62)

    assert not sender_of(lambda: errors.append(1)).look()

    assert errors == [1]
    assert "http://alerts.example was not told (it answered 503); next attempt in 2 s" in caplog.text


def test_a_restart_goes_on_with_what_fires(slow_room, sender_of, receiver):
    slow_room.alarm(62)
    sender_of().look()
    slow_room.clock.move(5)

    assert sender_of().look()

    first, second = (one["anomaly-1"] for one in receiver.came)
    assert first["startsAt"] == second["startsAt"]
    assert first["labels"] == second["labels"]


def test_one_that_hangs_holds_back_neither_the_chat_nor_the_others(room, site_folder):
    with AlertmanagerServer(QUIET) as server, hanging() as url:
        site = configured(site_folder, f'urls = ["{url}", "{server.url}"]\ntimeout_s = 60\n')
        alertmanagers = build_alertmanagers(room.engine, site, CollectorRegistry(), console_url=lambda: PAGE)
        room.alarm(62)
        alertmanagers.start()

        assert wait_for(lambda: "anomaly-1" in server.alerts())
        room.follow()
        assert room.words() == ["ALARM"]
    alertmanagers.stop()


def ends_at(server):
    return datetime.fromisoformat(server.alerts()["anomaly-1"]["endsAt"])


@contextmanager
def hanging():
    """Listen on loopback: the system takes requests, and nobody answers them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def wait_for(condition, looks=600):
    """Look until it is so; the patience is for a busy machine and decides nothing else."""
    pause = threading.Event()
    return any(condition() or pause.wait(0.1) for _ in range(looks))


# the real one


def test_an_incident_fires_pages_and_ends(room, site_folder):
    with pager() as (address, calls):
        config = (
            "route: {receiver: pager, group_wait: 0s, group_interval: 1s}\n"
            f"receivers: [{{name: pager, webhook_configs: [{{url: '{address}', send_resolved: true}}]}}]\n"
        )
        with AlertmanagerServer(config) as server:
            site = configured(
                site_folder, f'urls = ["{server.url}"]\nrunbook_url = "https://wiki.example.org"\n'
            )
            alertmanagers = build_alertmanagers(
                room.engine, site, CollectorRegistry(), console_url=lambda: PAGE
            )
            room.alarm(62, simulated=True)
            room.fault(62)
            alertmanagers.start()

            _, call = calls.get(timeout=60)
            assert call["status"] == "firing"
            (alert,) = call["alerts"]
            assert alert["labels"]["alertname"] == "LumiwatchFirmwareFault"
            assert alert["labels"]["severity"] == "critical"
            assert alert["annotations"]["runbook_url"] == "https://wiki.example.org"
            assert alert["generatorURL"] == f"{PAGE}/incidents/{alert['labels']['incident']}"
            held = server.alerts()
            assert set(held) == {alert["labels"]["incident"]}

            room.good(70)
            _, call = calls.get(timeout=60)
            assert call["status"] == "resolved"
            assert "Back to good by itself" in call["alerts"][0]["annotations"]["description"]
            assert server.alerts() == {}
            alertmanagers.stop()


def test_a_silence_says_nothing_and_no_end_before_there_is_one(room, site_folder):
    with pager() as (address, calls):
        config = (
            "route: {receiver: pager, group_wait: 0s, group_interval: 1s, group_by: ['...']}\n"
            f"receivers: [{{name: pager, webhook_configs: [{{url: '{address}', send_resolved: true}}]}}]\n"
        )
        with AlertmanagerServer(config) as server:
            site = configured(site_folder, f'urls = ["{server.url}"]\nresend_s = 1\n')
            alertmanagers = build_alertmanagers(
                room.engine, site, CollectorRegistry(), console_url=lambda: PAGE
            )
            room.alarm(62)
            alertmanagers.start()
            assert calls.get(timeout=60)[1]["status"] == "firing"

            room.silence(1)
            assert wait_for(lambda: server.alerts()["anomaly-1"]["status"]["state"] == "suppressed")
            first = ends_at(server)
            # valid for 4 s: without a word from here it would have ended, and been said to have
            assert wait_for(lambda: ends_at(server) > first + timedelta(seconds=5))
            assert calls.empty()

            room.silences.end(room.silences.list()[0].id, author="egon")
            assert wait_for(lambda: server.alerts()["anomaly-1"]["status"]["state"] == "active")
            room.good(70)
            assert calls.get(timeout=60)[1]["status"] == "resolved"
            alertmanagers.stop()


def test_a_reload_tells_another_alertmanager_and_none(room, site_folder):
    with AlertmanagerServer(QUIET) as first, AlertmanagerServer(QUIET) as second:
        plain = load_site(site_folder)
        one = configured(site_folder, f'urls = ["{first.url}"]\n')
        settings = one.settings.alertmanager.model_copy(update={"urls": (second.url,)})
        other = replace(one, settings=one.settings.model_copy(update={"alertmanager": settings}))
        missing = settings.model_copy(update={"ca_file": Path("nowhere.pem")})
        broken = replace(one, settings=one.settings.model_copy(update={"alertmanager": missing}))
        alertmanagers = build_alertmanagers(room.engine, one, CollectorRegistry(), console_url=lambda: PAGE)
        room.alarm(62)
        alertmanagers.start()
        assert wait_for(lambda: "anomaly-1" in first.alerts())

        with pytest.raises(SettingsError, match=r"nowhere\.pem"):
            alertmanagers.prepare(broken)
        alertmanagers.prepare(other)()

        assert wait_for(lambda: "anomaly-1" in second.alerts())
        assert threads() == 1
        alertmanagers.prepare(plain)()
        assert threads() == 1, "whoever watches the threads would restart the daemon"
        alertmanagers.stop()
        assert threads() == 0


def threads():
    return sum(thread.name == "alertmanager" for thread in threading.enumerate())


def test_one_that_was_away_hears_of_it_when_it_is_back(room, site_folder):
    with AlertmanagerServer(QUIET) as server:
        site = configured(site_folder, f'urls = ["{server.url}"]\n')
        registry = CollectorRegistry()
        alertmanagers = build_alertmanagers(room.engine, site, registry, console_url=lambda: PAGE)

        def errors():
            return registry.get_sample_value(
                "lumiwatch_alertmanager_errors_total", {"alertmanager": server.url}
            )

        assert errors() == 0
        server.stop()
        room.alarm(62)
        alertmanagers.start()
        assert wait_for(errors)

        server.start()

        assert wait_for(lambda: "anomaly-1" in server.alerts())
        alertmanagers.stop()


def test_over_tls_with_a_password(room, tmp_path, site_folder):
    certificate = make_certificate(tmp_path, "alerts")
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    with AlertmanagerServer(QUIET, certificate) as server:
        lines = f'urls = ["{server.url}"]\nca_file = "{certificate.ca}"\nusername = "{USER}"\n'
        site = configured(site_folder, f'{lines}password_file = "{tmp_path / "password"}"\n')
        alertmanagers = build_alertmanagers(room.engine, site, CollectorRegistry(), console_url=lambda: PAGE)
        room.alarm(62)
        alertmanagers.start()

        assert wait_for(lambda: "anomaly-1" in server.alerts())
        alertmanagers.stop()


def test_a_stranger_with_another_certificate_is_told_nothing(room, tmp_path, site_folder):
    certificate, other = make_certificate(tmp_path, "alerts"), make_certificate(tmp_path, "other")
    with AlertmanagerServer(QUIET, certificate) as server:
        site = configured(site_folder, f'urls = ["{server.url}"]\nca_file = "{other.ca}"\n')
        registry = CollectorRegistry()
        alertmanagers = build_alertmanagers(room.engine, site, registry, console_url=lambda: PAGE)
        room.alarm(62)
        alertmanagers.start()

        labels = {"alertmanager": server.url}
        assert wait_for(lambda: registry.get_sample_value("lumiwatch_alertmanager_errors_total", labels))
        alertmanagers.stop()
        assert server.alerts() == {}


def test_the_bearer_token_is_sent_and_never_logged(slow_room, site_folder, caplog):
    (site_folder / "token").write_text("very-secret-token\n")
    slow_room.alarm(62)
    with pager(status=401) as (address, calls):
        site = configured(site_folder, f'urls = ["{address}"]\nbearer_token_file = "token"\n')
        alertmanagers = build_alertmanagers(
            slow_room.engine, site, CollectorRegistry(), console_url=lambda: PAGE, clock=slow_room.clock
        )
        alertmanagers.start()
        headers, _ = calls.get(timeout=60)
        alertmanagers.stop()

    assert headers["Authorization"] == "Bearer very-secret-token"
    assert "it answered 401" in caplog.text
    assert "very-secret" not in caplog.text


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('urls = ["alerts:9093"]', "give URLs such as"),
        ('urls = ["https://ada:secret@alerts"]', "give username and password_file instead"),
        ('urls = ["http://alerts", "http://alerts"]', "names a URL twice"),
        ('username = "ada"', "username and password_file go together"),
        (
            'username = "ada"\npassword_file = "p"\nbearer_token_file = "t"',
            "or bearer_token_file, not both",
        ),
    ],
)
def test_a_section_that_cannot_work_is_refused(site_folder, lines, words):
    with pytest.raises(SettingsError, match=words) as refused:
        configured(site_folder, lines + "\n")

    assert "secret" not in str(refused.value)


def test_a_missing_authority_names_file_and_key(site_folder, engine):
    site = configured(site_folder, 'urls = ["https://alerts"]\nca_file = "nowhere.pem"\n')

    with pytest.raises(SettingsError, match=r"nowhere\.pem.*alertmanager\.ca_file"):
        build_alertmanagers(engine, site, CollectorRegistry(), console_url=lambda: PAGE)


def test_the_documented_routes_are_valid(tmp_path):
    page = (ROOT / "docs" / "incidents.md").read_text()
    (config,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "alertmanager.yml"
    file.write_text(config)

    done = subprocess.run(
        [shutil.which("amtool"), "check-config", file], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stdout
