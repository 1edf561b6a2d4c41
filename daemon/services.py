"""The services of one running daemon, built once and handed to API and console.

Only holds them together; what they do is in their own modules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

from sqlalchemy.engine import Engine

from daemon.auth import Authenticator
from daemon.metrics import Metrics
from daemon.operations import Operations
from daemon.settings import Site
from daemon.views import BoardStatus, Health

Check = Callable[[], str | None]
"""A readiness check: None when well, or what is wrong."""


@dataclass(frozen=True)
class Services:
    """What API and console work with."""

    site: Site
    engine: Engine
    operations: Operations
    authenticator: Authenticator
    metrics: Metrics
    board_status: Callable[[str], BoardStatus]
    checks: dict[str, Check]
    clock: Callable[[], datetime]

    def health(self) -> Health:
        """Run every check."""
        results = {name: check() for name, check in self.checks.items()}
        return Health(
            ready=not any(results.values()),
            version=installed_version(),
            site=self.site.name,
            checks={name: problem or "ok" for name, problem in results.items()},
        )


def installed_version() -> str:
    """Version of the installed distribution."""
    try:
        return version("lumiwatch")
    except PackageNotFoundError:
        return "not installed"
