"""The daemon as a process: start, rights over HTTP, stop."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy.engine import Engine

from daemon.access.people import default_token_file
from daemon.errors import PortInUse
from daemon.incidents.intake import take_verdict
from daemon.operations import utc_now
from daemon.process.console_address import bind
from daemon.site.settings import Site, load_site
from tests.support.daemon import make_verdict
from tests.support.daemon_process import daemon_process


@contextmanager
def served(site: Site) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Serve a site in a process of its own, at a free port; its log is beside the site."""
    with daemon_process(site, site.folder.parent / "daemon.log") as daemon:
        yield daemon.process, daemon.client


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Engine, httpx.Client]]:
    from daemon.store.database import open_database  # noqa: PLC0415 - only here
    from tests.support.daemon import copy_site  # noqa: PLC0415 - only here

    site = load_site(copy_site(tmp_path_factory.mktemp("served")))
    with served(site) as (_, client):
        engine = open_database(site.database_url)
        yield site, engine, client
        engine.dispose()


def test_a_port_in_use_is_one_clear_error_and_nothing_is_started(site_folder: Path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        site = load_site(site_folder, overrides={"console": {"port": other.getsockname()[1]}})

        with pytest.raises(PortInUse, match=r"in use.*console\.port"):
            bind(site)
    assert not site.state_dir.exists()


def test_sigterm_stops_it_cleanly(site: Site):
    with served(site) as (process, client):
        assert client.get("/-/healthy").json() == {"status": "ok"}

        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_ready_says_what_is_missing(running: tuple[Site, Engine, httpx.Client]):
    answer = running[2].get("/-/ready")

    assert answer.status_code == 503
    assert answer.json()["checks"]["database"] == "ok"
    assert "kafka.bootstrap" in answer.json()["checks"]["broker"]


def test_metrics_exist_from_the_start(running: tuple[Site, Engine, httpx.Client]):
    text = running[2].get("/metrics").text

    assert 'lumiwatch_verdicts_total{model="anomaly",state="alarm"} 0.0' in text
    assert 'lumiwatch_incidents_unresolved{model="anomaly"}' in text


@pytest.mark.parametrize(
    "path",
    [
        "models",
        "incidents",
        "responses",
        "notifications",
        "events",
        "packages",
        "references",
        "audit",
        "configuration",
    ],
)
def test_nothing_is_read_without_a_token(running: tuple[Site, Engine, httpx.Client], path: str):
    client = running[2]

    assert client.get(f"/api/v1/{path}").status_code == 200
    for authorization in ("", "Bearer wrong", "Basic x", "Bearer"):
        answer = client.get(f"/api/v1/{path}", headers={"Authorization": authorization})
        assert answer.status_code == 401
        assert answer.json()["error"] == "NotAuthenticated"


def test_other_host_names_are_refused(running: tuple[Site, Engine, httpx.Client]):
    assert running[2].get("/-/healthy", headers={"Host": "evil.example"}).status_code == 400


def test_the_login_link_opens_the_console_and_may_read_but_not_act(
    running: tuple[Site, Engine, httpx.Client],
):
    site, _, client = running
    token = default_token_file(site).read_text().strip()
    with httpx.Client(base_url=client.base_url, timeout=20, trust_env=False) as browser:
        assert browser.get("/").status_code == 401
        assert browser.get("/login", params={"token": "wrong"}).status_code == 401

        cookie = browser.get("/login", params={"token": token}).headers["set-cookie"]

        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert browser.get("/").status_code == 200
        assert browser.get("/api/v1/models").status_code == 200
        assert browser.get("/api/v1/me").json()["name"] == "local"
        assert browser.post("/api/v1/incidents/anomaly-1/notes", json={"text": "x"}).status_code == 401


def test_an_incident_is_read_acknowledged_and_decided_over_http(running: tuple[Site, Engine, httpx.Client]):
    site, engine, client = running
    take_verdict(engine, site, make_verdict(63, onset_lumisection=61), now=utc_now())
    model = client.get("/api/v1/models/anomaly").json()
    assert model["incident"]["id"] == "anomaly-1"
    assert client.get("/api/v1/models/anomaly/verdicts").json()[0]["lumisection"] == 63

    detail = client.post("/api/v1/incidents/anomaly-1/acknowledge", json={"comment": "on it"}).json()
    assert detail["state"] == "acknowledged"

    refused = client.post("/api/v1/responses/anomaly-1-r1/decisions", json={"decision": "approve"})
    assert refused.status_code == 409  # its workflow has not proposed anything yet
    assert "waits for no decision" in refused.json()["detail"]
    assert client.get("/api/v1/responses/anomaly-1-r1").json()["state"] == "preparing"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("models/none", 404),
        ("models/none/verdicts", 404),
        ("incidents/none-1", 404),
        ("responses/none-1-r1", 404),
        ("lineage/0000000000", 404),
        ("incidents?limit=0", 422),
        ("models/anomaly/board", 200),
        ("models/anomaly/windows", 200),
        ("models/anomaly/references", 200),
        ("openapi.json", 200),
    ],
)
def test_answers(running: tuple[Site, Engine, httpx.Client], path: str, status: int):
    assert running[2].get(f"/api/v1/{path}").status_code == status


def test_a_board_that_is_not_there_is_an_answer(running: tuple[Site, Engine, httpx.Client]):
    board = running[2].get("/api/v1/models/anomaly/board").json()

    assert not board["reachable"]
    assert "lumiwatch up" in board["error"]


def test_a_decision_that_makes_no_sense_is_refused(running: tuple[Site, Engine, httpx.Client]):
    url = "/api/v1/responses/anomaly-1-r1/decisions"

    assert running[2].post(url, json={"decision": "explode"}).status_code == 422
    assert running[2].post(url, json={"decision": "approve", "force": True}).status_code == 422
