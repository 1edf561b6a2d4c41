"""A site with one person of each role, and its API served over real HTTP on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from argon2 import PasswordHasher
from fastapi import FastAPI
from sqlalchemy.engine import Engine

from daemon.access.control import AccessControl
from daemon.access.logins import Logins
from daemon.access.sign_on import Entrance
from daemon.api import application
from daemon.operations import Operations
from daemon.process.metrics import Metrics
from daemon.process.services import Services
from daemon.site.settings import Site, load_site
from daemon.store.views import BoardStatus
from tests.support.daemon import HandClock, NoWorkflows

ROLES = {"vera": "viewer", "olga": "operator", "egon": "expert", "ada": "admin"}
CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
"""Passwords of a test need not withstand anybody."""
PEOPLE = "".join(
    f'[operators.{name}]\nfull_name = "{name.capitalize()} Example"\nrole = "{role}"\n\n'
    for name, role in ROLES.items()
)


def declare(site_folder: Path, more: str = "", people: str = PEOPLE) -> None:
    """Declare people in a copy of the example site; ada and egon may decide."""
    file = site_folder / "lumiwatch.toml"
    example = file.read_text().split("# people of a test\n", 1)[0]
    file.write_text(f"{example}\n# people of a test\n{people}{more}")
    model = site_folder / "models" / "anomaly" / "model.toml"
    model.write_text(model.read_text().replace('approvers = ["local"]', 'approvers = ["ada", "egon"]'))


def redeclare(access: AccessControl, site_folder: Path, people: str) -> None:
    """Declare other people and let them count, as a reload does; ada alone may decide."""
    declare(site_folder, people=people)
    for file in (site_folder / "models").glob("*/model.toml"):
        file.write_text(file.read_text().replace('approvers = ["ada", "egon"]', 'approvers = ["ada"]'))
    access.people.prepare(load_site(site_folder))()


@dataclass(frozen=True)
class Served:
    """A site's API that answers at an address."""

    url: str
    services: Services

    def client(self, token: str | None = None) -> httpx.Client:
        """Make a client, with somebody's token if one is given."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def token(self, person: str) -> str:
        """Make a token for somebody."""
        return self.services.access.tokens.create(person, "a test", days=1, by="test")[1]


def make_services(engine: Engine, site: Site, clock: HandClock) -> Services:
    """Build what the API works with; no response runs."""
    access, metrics = AccessControl(engine, site, clock, CHEAP), Metrics(site.models)
    return Services(
        site=site,
        engine=engine,
        operations=Operations(engine, site, NoWorkflows(), clock, access=access),
        access=access,
        logins=Logins(engine, access, clock, metrics.count_login),
        entrance=Entrance(site, access.people, clock),
        metrics=metrics,
        board_status=lambda model: BoardStatus(model=model, address="nowhere", reachable=False),
        checks={},
        clock=clock,
    )


@contextmanager
def served(services: Services) -> Iterator[Served]:
    """Serve the API of a site until the block ends."""
    app = FastAPI(openapi_url="/api/v1/openapi.json")
    application.install(app, services)
    with listening(app) as url:
        yield Served(url, services)


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """Serve an application on loopback, in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
