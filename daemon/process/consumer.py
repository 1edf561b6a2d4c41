"""Reads `lumiwatch.verdicts` in a thread of its own and hands each verdict on.

An offset is committed only after the verdict's database transaction; what is delivered twice is
taken once (`intake`). A message that is no verdict goes to the dead letters, never stops the reader.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any, Final

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from daemon.errors import BrokerAway
from daemon.process.broker import check_broker
from daemon.process.metrics import Metrics
from streams import topics
from streams.broker.security import PLAINTEXT, KafkaSecurity
from streams.dead_letter import encode_dead_letter, refuse
from streams.errors import MalformedMessage
from streams.judging.verdict import Verdict, decode_verdict

logger = logging.getLogger(__name__)

GROUP: Final = "lumiwatch-daemon"
_POLL_MS = 200
_RETRY_S = 2.0
_SILENCE_S = 5.0  # without a message: then the broker is asked whether it is there


class VerdictConsumer:
    """Follows the verdicts of all models.

    Parameters
    ----------
    bootstrap
        Kafka address, ``host:port``.
    take
        Called with each verdict; must store it before it returns. When it raises, the verdict is read
        again: nothing is committed.
    metrics
        Counts what is malformed and what is contained.
    security
        How to speak to the broker.
    """

    def __init__(
        self,
        bootstrap: str,
        take: Callable[[Verdict], None],
        metrics: Metrics,
        security: KafkaSecurity = PLAINTEXT,
    ) -> None:
        self._bootstrap = bootstrap
        self._security = security
        self._take = take
        self._metrics = metrics
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="verdict-consumer", daemon=True)
        self.problem: str | None = "not connected yet"

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop reading; returns when the thread has ended or the time is over."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001 - the reader must outlive broker and database outages
                self.problem = str(error) or type(error).__name__
                self._metrics.contained_errors.labels("consumer").inc()
                logger.warning("verdicts cannot be read (%s); next attempt in %.0f s", self.problem, _RETRY_S)
                self._stopping.wait(_RETRY_S)

    def _follow(self) -> None:
        check_broker(self._bootstrap, self._security)
        consumer = KafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=GROUP,
            client_id="lumiwatch-daemon",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            **self._security.client_options(),
        )
        try:
            # partitions are taken without joining the group: the daemon is the only reader of its group,
            # and a group that forgets a killed member late would keep its successor waiting
            partitions = consumer.partitions_for_topic(topics.VERDICTS)
            if not partitions:
                raise BrokerAway(
                    f"topic {topics.VERDICTS} does not exist: start the broker with `lumiwatch up`"
                )
            consumer.assign([TopicPartition(topics.VERDICTS, partition) for partition in sorted(partitions)])
            heard_at = time.monotonic()
            while not self._stopping.is_set():
                polled: dict[Any, list[Any]] = consumer.poll(timeout_ms=_POLL_MS)
                if polled:
                    heard_at = time.monotonic()
                elif time.monotonic() - heard_at > _SILENCE_S:
                    # the client goes on polling a broker that is gone, and says nothing
                    check_broker(self._bootstrap, self._security)
                    heard_at = time.monotonic()
                self.problem = None
                for message in (message for batch in polled.values() for message in batch):
                    self._handle(message)
                if polled:
                    consumer.commit()
        finally:
            consumer.close(timeout_ms=2000)

    def _handle(self, message: Any) -> None:
        payload: bytes = message.value or b""
        try:
            verdict = decode_verdict(payload)
        except MalformedMessage as error:
            self._metrics.messages_malformed.inc()
            self._bury(message, payload, error.reason)
            return
        self._take(verdict)

    def _bury(self, message: Any, payload: bytes, reason: str) -> None:
        logger.warning("a message on %s is no verdict: %s", message.topic, reason)
        letter = refuse(
            payload,
            reason,
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            at=datetime.now(UTC),
        )
        producer = KafkaProducer(
            bootstrap_servers=self._bootstrap, client_id="lumiwatch-daemon", **self._security.client_options()
        )
        try:
            producer.send(topics.DEAD_LETTERS, encode_dead_letter(letter), key=message.topic.encode()).get(
                timeout=10
            )
        except KafkaError as error:
            logger.warning("the dead letter could not be sent (%s); it is only in this log", error)
        finally:
            producer.close(timeout=2)
