"""Keeps an MLflow registry up to date while the daemon runs, in a thread of its own.

Looks at the site's records every few seconds and speaks to the server only when something has changed. An
outage holds nothing up here: it is counted, shown and made up for. Without a server the thread waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from daemon.mlflow.registry import bring_up_to_date
from daemon.mlflow.server import MlflowAway, MlflowServer
from daemon.mlflow.versions import Firmware, Standing, firmware
from daemon.site.settings import Site

logger = logging.getLogger(__name__)

LOOK_S: Final = 5.0
_FIRST_RETRY_S: Final = 10.0
_LONGEST_RETRY_S: Final = 600.0
_STOP_S: Final = 5.0


class MlflowExport:
    """Tells one site's MLflow server, from `start` to `stop`.

    Parameters
    ----------
    engine
        The site's database.
    site
        As it is now: a changed section [mlflow] counts once `prepare` has built it.
    registry
        Where failures and what waits are counted.
    clock
        Gives aware UTC.

    Raises
    ------
    SettingsError
        A file of [mlflow] cannot be read.
    """

    def __init__(
        self, engine: Engine, site: Site, registry: CollectorRegistry, clock: Callable[[], datetime]
    ) -> None:
        self._engine, self._site, self._clock = engine, site, clock
        self._errors = Counter(
            "lumiwatch_mlflow_errors_total", "Attempts to tell MLflow that failed.", registry=registry
        )
        self._behind = Gauge(
            "lumiwatch_mlflow_waiting_packages",
            "Packages that MLflow was not told of yet.",
            registry=registry,
        )
        self._settings = site.settings.mlflow
        self._server = MlflowServer.of_site(site)
        self._told: frozenset[Firmware] = frozenset()
        self._problem: str | None = None
        self._failures = 0
        self._not_before: datetime | None = None
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="mlflow", daemon=True)

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; what was not told is told after the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def prepare(self, site: Site) -> Callable[[], None]:
        """Build what a new configuration asks for; returns what puts it in place, which cannot fail.

        Raises
        ------
        SettingsError
            A file of [mlflow] cannot be read; nothing has changed.
        """
        settings = site.settings.mlflow
        if settings == self._settings:
            return lambda: None
        server = MlflowServer.of_site(site)

        def take() -> None:
            self._settings, self._server = settings, server
            self._told, self._problem, self._not_before = frozenset(), None, None
            self._behind.set(0)

        return take

    def note(self) -> str | None:
        """Say what MLflow was not told, and why; None: it knows everything."""
        return self._problem

    def look(self) -> bool:
        """Tell what has changed; returns whether something was told."""
        server, now = self._server, self._clock()
        if server is None or (self._not_before is not None and now < self._not_before):
            return False
        try:
            wanted = firmware(self._engine, self._site)
            facts = frozenset(wanted)
            if facts == self._told:
                return False
            lines = bring_up_to_date(server, self._engine, self._site, wanted, now)
        except (MlflowAway, SQLAlchemyError, OSError) as error:
            self._failed(str(error).splitlines()[0], now)
            return False
        if server is not self._server:  # exchanged meanwhile
            return False
        for line in lines:
            logger.info("MLflow: %s", line)
        self._told, self._failures, self._not_before, self._problem = facts, 0, None, None
        self._behind.set(0)
        return bool(lines)

    def _failed(self, words: str, now: datetime) -> None:
        self._failures += 1
        wait_s = min(_FIRST_RETRY_S * 2.0 ** min(self._failures - 1, 16), _LONGEST_RETRY_S)
        self._not_before = now + timedelta(seconds=wait_s)
        self._errors.inc()
        waiting = self._waiting()
        self._behind.set(waiting)
        self._problem = f"MLflow was not told of {waiting} packages: {words}"
        logger.warning("%s; next attempt in %.0f s", self._problem, wait_s)

    def _waiting(self) -> int:
        try:
            now = firmware(self._engine, self._site)
        except SQLAlchemyError:
            return 0
        return sum(one not in self._told and one.standing is not Standing.WITHDRAWN for one in now)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except Exception:
                self._errors.inc()
                logger.exception("MLflow could not be told; the next look is in %.0f s", LOOK_S)
            self._stopping.wait(LOOK_S)
