"""What the database and the running daemon say of themselves at each scrape: readiness, and what waits.

Values are read when Prometheus asks, so that they are true after a restart too. Knows no web.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col

from daemon.process.services import Check, installed_version
from daemon.site.reload import Reloader
from daemon.store.records import EventRecord, NotificationRecord, NotificationState

logger = logging.getLogger(__name__)

_WAITING = "lumiwatch_notifications_waiting"
_OLDEST = "lumiwatch_notifications_oldest_waiting_seconds"
_UNPUBLISHED = "lumiwatch_events_unpublished"
_SIZE = "lumiwatch_database_size_bytes"
_STORED = {
    _WAITING: "Messages that no channel has taken yet.",
    _OLDEST: "Age of the oldest message that waits; 0 without any.",
    _UNPUBLISHED: "Events that Kafka has not got yet.",
    _SIZE: "Size of the database.",
}


class SiteMetrics(Collector):
    """Exports readiness, the configuration's state, and what waits in the database.

    Parameters
    ----------
    engine
        The site's database.
    checks
        The daemon's readiness checks, by name.
    reloader
        Knows how the last reading of the configuration went.
    clock
        Gives aware UTC.
    """

    def __init__(
        self, engine: Engine, checks: Mapping[str, Check], reloader: Reloader, clock: Callable[[], datetime]
    ) -> None:
        self._engine = engine
        self._checks = checks
        self._reloader = reloader
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Read the values; a database that does not answer gives none, and `lumiwatch_ready` says so."""
        build = GaugeMetricFamily("lumiwatch_build_info", "The version that runs.", labels=["version"])
        build.add_metric([installed_version()], 1)
        yield build
        ready = GaugeMetricFamily("lumiwatch_ready", "1 if what the daemon needs is there.", labels=["check"])
        for name, check in self._checks.items():
            ready.add_metric([name], 0 if check() else 1)
        yield ready
        state = self._reloader.state
        yield GaugeMetricFamily(
            "lumiwatch_config_last_reload_successful",
            "1 if the configuration was not refused.",
            value=state.refused is None,
        )
        yield GaugeMetricFamily(
            "lumiwatch_config_last_reload_success_timestamp_seconds",
            "When the configuration in effect was read.",
            value=state.at.timestamp(),
        )
        try:
            stored = self._stored()
        except SQLAlchemyError as error:
            logger.warning("what waits cannot be read: %s", str(error).splitlines()[0])
            return
        for name, value in stored.items():
            yield GaugeMetricFamily(name, _STORED[name], value=value)

    def describe(self) -> Iterator[Metric]:
        """Name the metrics without reading anything."""
        names = ("build_info", "ready", "config_last_reload_successful")
        for name in (*(f"lumiwatch_{name}" for name in names), *_STORED):
            yield GaugeMetricFamily(name, "")

    def _stored(self) -> dict[str, float]:
        with Session(self._engine) as session:
            connection = session.connection()
            count, oldest = connection.execute(
                select(func.count(), func.min(col(NotificationRecord.created_at))).where(
                    col(NotificationRecord.state) == NotificationState.PENDING
                )
            ).one()
            unpublished = connection.execute(
                select(func.count()).where(col(EventRecord.published).is_(False))
            ).scalar_one()
            size = (
                "SELECT pg_database_size(current_database())"
                if self._engine.dialect.name == "postgresql"
                else "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
            )
            return {
                _WAITING: count,
                _OLDEST: 0.0 if oldest is None else max((self._clock() - oldest).total_seconds(), 0.0),
                _UNPUBLISHED: unpublished,
                _SIZE: connection.execute(text(size)).scalar_one(),
            }
