"""A site with a chat: operators with chat users, the stand-in server, and the daemon's API before it."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Barrier, Event

import pytest
from fastapi import FastAPI

from daemon.alerts.service import Alerts, build_alerts
from daemon.api import application
from daemon.chat.service import build_buttons, build_chat
from daemon.incidents.intake import take_verdict
from daemon.incidents.silences import Silences
from daemon.operations import Operations
from daemon.process.assembly import build_daemon
from daemon.process.metrics import Metrics
from daemon.process.services import Services
from daemon.responses.approval import Approval
from daemon.responses.patience import Patience
from daemon.responses.steps import StepLog
from daemon.site.settings import Site
from tests.support.daemon import HandClock, NoWorkflows, copy_site, make_verdict
from tests.support.mattermost import MattermostServer, serving, through

ADA, EMMY, LISE, VERA, EVE = (name.ljust(26, "0") for name in ("ada", "emmy", "lise", "vera", "eve"))
"""Chat users: two approvers, an operator who is none, a viewer, and a stranger."""

COMMAND_TOKEN = "m4tt3rm0stc0mm4ndt0k3nxyz"
CALLBACK = "http://lumiwatch.example:8642"

SETTINGS = """
[mattermost]
url = "{url}"
token_file = "chat-token"
channel_id = "live-channel"
replay_channel_id = "replay-channel"
callback_url = "{callback}/"
command_token_file = "command-token"

[operators.ada]
mattermost_user_id = "{ada}"
[operators.emmy]
mattermost_user_id = "{emmy}"
role = "expert"
[operators.lise]
mattermost_user_id = "{lise}"
[operators.vera]
mattermost_user_id = "{vera}"
role = "viewer"
"""


@dataclass
class Room:
    """What a test works with."""

    app: FastAPI
    services: Services
    alerts: Alerts
    server: MattermostServer
    clock: HandClock

    def propose(self, response_id: str) -> str:
        """Write the proposal of a response, as its workflow does."""
        engine, site = self.services.engine, self.services.site
        approval = Approval(engine, site, self.clock, Patience(Event()))
        approval.propose(response_id, StepLog(engine, response_id, self.clock))
        return response_id

    def alarm(self, lumisection: int = 62, **changes: object) -> str:
        """Raise an alarm with its proposal; gives the id of the response."""
        verdict = make_verdict(lumisection, **changes)
        taken = take_verdict(self.services.engine, self.services.site, verdict, now=self.clock())
        (response_id,) = taken.start_responses
        return self.propose(response_id)

    def deliver(self) -> None:
        """Tell what happened, and send all of it."""
        self.alerts._notifier.tell()
        self.alerts._notifier._outbox.deliver_due(self.clock())

    def head(self, incident: str = "anomaly-1") -> dict:
        """Post that heads the thread of an incident."""
        return self.server.head_of(incident)

    def refused(self) -> dict[str, float]:
        """Count of refusals by reason, without zeros."""
        samples = self.services.metrics.registry.collect()
        return {
            sample.labels["reason"]: sample.value
            for family in samples
            for sample in family.samples
            if sample.name == "lumiwatch_chat_refused_total" and sample.value
        }


def at_once(function: Callable[[str], object], *arguments: str) -> list:
    """Call a function with each argument, in threads that begin together."""
    barrier = Barrier(len(arguments))

    def call(argument: str) -> object:
        barrier.wait()
        return function(argument)

    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(call, arguments))


def write_site(folder: Path, url: str, *, callback: str = CALLBACK) -> Path:
    """Give a copy of the example site a chat, and approvers who use it."""
    target = copy_site(folder)
    file = target / "lumiwatch.toml"
    people = {"ada": ADA, "emmy": EMMY, "lise": LISE, "vera": VERA}
    file.write_text(file.read_text() + SETTINGS.format(url=url, callback=callback, **people))
    (target / "chat-token").write_text("secret\n")
    (target / "command-token").write_text(COMMAND_TOKEN + "\n")
    (target / "command-token").chmod(0o600)
    model = target / "models" / "anomaly" / "model.toml"
    model.write_text(model.read_text().replace('approvers = ["local"]', 'approvers = ["ada", "emmy"]'))
    return target


@pytest.fixture
def server() -> MattermostServer:
    return MattermostServer()


@pytest.fixture
def site_folder(tmp_path: Path, server: MattermostServer) -> Iterator[Path]:
    with serving(server) as url:
        yield write_site(tmp_path, url)


@pytest.fixture
def room(site: Site, clock: HandClock, server: MattermostServer) -> Iterator[Room]:
    """The daemon's API and alerts as they are built, but with a clock that is moved by hand."""
    built = build_daemon(site).services
    metrics = Metrics(site.models)
    operations = Operations(built.engine, site, NoWorkflows(), clock, access=built.access)
    buttons = build_buttons(site, clock)
    alerts = build_alerts(built.engine, site, buttons=buttons)
    chat = build_chat(
        built.engine,
        site,
        operations=operations,
        silencer=Silences(built.engine, site, clock),
        access=built.access,
        alerts=alerts,
        buttons=buttons,
        registry=metrics.registry,
        clock=clock,
    )
    services = replace(built, operations=operations, metrics=metrics, clock=clock, chat=chat)
    app = FastAPI()
    application.install(app, services)
    server.reach = through(app)
    yield Room(app, services, alerts, server, clock)
    alerts.stop()
    built.engine.dispose()


@pytest.fixture(autouse=True)
def _no_ticket_in_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test whose log holds what a ticket is made of."""
    caplog.set_level(logging.DEBUG, logger="daemon")
    yield
    assert "signature" not in caplog.text
    assert COMMAND_TOKEN not in caplog.text
