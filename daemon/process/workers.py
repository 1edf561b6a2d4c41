"""The stream workers of a site as the daemon sees them: how far behind, since when silent, what they did.

Reads their latest reports and turns them into sentences and metrics. Starts and stops none of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from daemon.store.views import WorkerView
from streams.topics import BATCHES, CONDITIONS, SUMMARIES
from streams.worker_status import WorkerReport, worker_reports

logger = logging.getLogger(__name__)

BEHIND_S: Final = 10.0
"""A worker that handles data older than this, while more waits, is said to be behind."""

_GAUGES: Final = (
    ("lumiwatch_worker_lag_messages", "Messages that wait for the worker.", "lag_messages"),
    ("lumiwatch_worker_lag_seconds", "Age of the data at hand while more waits.", "lag_s"),
    ("lumiwatch_worker_events_per_second", "Events counted per second of late.", "events_per_s"),
    ("lumiwatch_worker_resident_memory_bytes", "Memory in use.", "rss_bytes"),
)
_REFUSED_FROM: Final = (BATCHES, SUMMARIES, CONDITIONS)
_COUNTERS: Final = {
    "batches": "Batches counted.",
    "summaries": "Summaries read.",
    "repeated": "Summaries of batches that were counted before.",
    "late": "Summaries that came after their window had closed.",
    "conditions": "Conditions read.",
    "verdicts": "Verdicts published.",
    "recorder_kept": "Events written for retraining.",
    "recorder_thinned": "Events not written because their lumisection has enough.",
    "recorder_dropped": "Events not written because the disk did not keep up.",
    "recorder_failures": "Batches that could not be written.",
    "integrity_failures": "Batches whose emulator failed.",
}


def workers(engine: Engine, now: datetime) -> list[WorkerView]:
    """Give the workers of the site, by name; one that ended as it should is not among them."""
    return [_view(report, now) for report in worker_reports(engine)]


def _view(report: WorkerReport, now: datetime) -> WorkerView:
    stale = report.stale(now)
    behind = not stale and report.lag_s > BEHIND_S and report.lag_messages > 0
    if stale:
        silent_s = (now - report.seen_at).total_seconds()
        words = f"Worker {report.worker!r} has said nothing for {_duration(silent_s)}"
    elif behind:
        words = (
            f"Worker {report.worker!r} is {report.lag_messages:,} messages "
            f"({_duration(report.lag_s)}, {report.lag_lumisections:.1f} lumisections) behind"
        )
    else:
        words = f"Worker {report.worker!r} keeps up"
    return WorkerView(
        worker=report.worker,
        host=report.host,
        seen_at=report.seen_at,
        stale=stale,
        behind=behind,
        lag_messages=report.lag_messages,
        lag_s=round(report.lag_s, 1),
        events_per_s=round(report.events_per_s),
        rss_bytes=report.rss_bytes,
        words=words,
        counters=report.counters,
        lumisections={name: model.lumisection for name, model in report.models.items()},
    )


class WorkerMetrics(Collector):
    """Exports the reports at each scrape; a worker is forgotten after a day, so that names are bounded.

    Parameters
    ----------
    engine
        The site's database.
    models
        Names of the monitored models: others are not exported.
    clock
        Gives aware UTC.
    """

    def __init__(self, engine: Engine, models: Iterable[str], clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._models = frozenset(models)
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Read the reports; a database that does not answer gives none, and readiness says so."""
        try:
            reports = worker_reports(self._engine)
        except SQLAlchemyError as error:
            logger.warning("the status of the workers cannot be read: %s", str(error).splitlines()[0])
            reports = []
        yield from _families(reports, self._models, self._clock())

    def describe(self) -> Iterator[Metric]:
        """Name the metrics without reading the database."""
        return _families([], self._models, self._clock())


def _families(reports: list[WorkerReport], models: frozenset[str], now: datetime) -> Iterator[Metric]:
    for name, text, attribute in _GAUGES:
        gauge = GaugeMetricFamily(name, text, labels=["worker"])
        for report in reports:
            gauge.add_metric([report.worker], getattr(report, attribute))
        yield gauge
    up = GaugeMetricFamily("lumiwatch_worker_up", "1 if the worker reported of late.", labels=["worker"])
    model_lag = GaugeMetricFamily(
        "lumiwatch_worker_model_lag_seconds",
        "Age of the model's latest batch when it was counted.",
        labels=["worker", "model"],
    )
    for report in reports:
        up.add_metric([report.worker], 0.0 if report.stale(now) else 1.0)
        for name in models:
            progress = report.models.get(name)
            model_lag.add_metric([report.worker, name], progress.lag_s if progress is not None else 0.0)
    refused = CounterMetricFamily(
        "lumiwatch_worker_dead_letters", "Messages refused, by their topic.", labels=["worker", "topic"]
    )
    for report in reports:
        for topic in _REFUSED_FROM:
            refused.add_metric([report.worker, topic], report.counters.get(f"dead_letters.{topic}", 0))
    yield up
    yield model_lag
    yield refused
    for name, text in _COUNTERS.items():
        counter = CounterMetricFamily(f"lumiwatch_worker_{name}", text, labels=["worker"])
        for report in reports:
            counter.add_metric([report.worker], report.counters.get(name, 0))
        yield counter


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
