"""The services of one running daemon, built once and handed to API and console.

Only holds them together; what they do is in their own modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

from sqlalchemy.engine import Engine

from daemon.access.control import AccessControl
from daemon.access.logins import Logins
from daemon.access.sign_on import Entrance
from daemon.chat.service import Chat
from daemon.console.login_page import LoginPage
from daemon.operations import Operations
from daemon.process.metrics import Metrics
from daemon.responses.by_hand import ByHand
from daemon.responses.scrubbing import LastScrub
from daemon.site.reload import Reloader
from daemon.site.settings import Site
from daemon.store.views import BoardStatus, Health

Check = Callable[[], str | None]
"""A readiness check: None when well, or what is wrong."""


@dataclass(frozen=True)
class Services:
    """What API and console work with."""

    site: Site
    engine: Engine
    operations: Operations
    access: AccessControl
    logins: Logins
    entrance: Entrance
    metrics: Metrics
    board_status: Callable[[str], BoardStatus]
    checks: dict[str, Check]
    clock: Callable[[], datetime]
    reloader: Reloader | None = None  # None: this process does not read its configuration again
    notes: Mapping[str, Check] = field(default_factory=dict)  # what is to be known, no lack of readiness
    chat: Chat | None = None  # takes answers from the chat, where the site has one
    by_hand: ByHand | None = None  # None: this process works on no boards
    last_scrub: Callable[[str], LastScrub | None] = lambda _: None

    @property
    def login_page(self) -> LoginPage:
        """The page that asks to log in."""
        return LoginPage(self.site.name, self.entrance.display)

    def health(self) -> Health:
        """Run every check."""
        results = {name: check() for name, check in self.checks.items()}
        notes = {name: note() for name, note in self.notes.items()}
        return Health(
            ready=not any(results.values()),
            version=installed_version(),
            site=self.site.name,
            checks={name: problem or "ok" for name, problem in results.items()},
            notes={name: said for name, said in notes.items() if said is not None},
        )

    def status(self) -> str:
        """Say in one sentence how the daemon is."""
        health = self.health()
        wrong = [f"{name}: {said}" for name, said in health.checks.items() if said != "ok"]
        wrong += [f"{name}: {said}" for name, said in health.notes.items()]
        watching = f"watching {', '.join(self.site.models)}"
        return f"{watching}; {'; '.join(wrong)}" if wrong else watching


def installed_version() -> str:
    """Version of the installed distribution."""
    try:
        return version("lumiwatch")
    except PackageNotFoundError:
        return "not installed"
