"""Publishes what happened (`daemon_events`) to `lumiwatch.events`, in order, at least once.

An event is marked as published after the broker has it, so an outage or a crash delays events and
loses none; readers drop repeated ones by `id`.
"""

from __future__ import annotations

import json
import logging
from threading import Event, Thread

from kafka import KafkaProducer
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.process.broker import check_broker
from daemon.process.metrics import Metrics
from daemon.store.database import transaction
from daemon.store.records import EventRecord
from daemon.store.views import EventView
from streams import topics
from streams.broker.security import PLAINTEXT, KafkaSecurity

logger = logging.getLogger(__name__)

_PAUSE_S = 0.5
_RETRY_S = 2.0
_BATCH = 100


class EventPublisher:
    """Follows the events table in a thread of its own.

    Parameters
    ----------
    engine
        The site's database.
    bootstrap
        Kafka address, ``host:port``.
    metrics
        Counts what is contained.
    security
        How to speak to the broker.
    """

    def __init__(
        self, engine: Engine, bootstrap: str, metrics: Metrics, security: KafkaSecurity = PLAINTEXT
    ) -> None:
        self._engine = engine
        self._bootstrap = bootstrap
        self._security = security
        self._metrics = metrics
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="event-publisher", daemon=True)

    def start(self) -> None:
        """Start publishing."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop; what is not published yet is published at the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001 - must outlive broker and database outages
                self._metrics.contained_errors.labels("publisher").inc()
                logger.warning("events cannot be published (%s); next attempt in %.0f s", error, _RETRY_S)
                self._stopping.wait(_RETRY_S)

    def _follow(self) -> None:
        check_broker(self._bootstrap, self._security)
        producer = KafkaProducer(
            bootstrap_servers=self._bootstrap, client_id="lumiwatch-daemon", **self._security.client_options()
        )
        try:
            while not self._stopping.is_set():
                if not self._publish_some(producer):
                    self._stopping.wait(_PAUSE_S)
        finally:
            producer.close(timeout=2)

    def _publish_some(self, producer: KafkaProducer) -> int:
        with Session(self._engine) as session:
            records = session.exec(
                select(EventRecord)
                .where(col(EventRecord.published).is_(False))
                .order_by(col(EventRecord.sequence))
                .limit(_BATCH)
            ).all()
        if not records:
            return 0
        sent = []
        for record in records:
            event = EventView.model_validate(record.model_dump())
            key = (record.model or "site").encode()
            content = json.dumps({"version": 1, **event.model_dump(mode="json")}).encode()
            sent.append(producer.send(topics.EVENTS, content, key=key))
        for future in sent:
            future.get(timeout=10)
        with transaction(self._engine) as session:
            for record in records:
                stored = session.get(EventRecord, record.sequence)
                if stored is not None:
                    stored.published = True
        return len(records)
