"""Verdicts and events over the real embedded broker."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer
from prometheus_client import CollectorRegistry
from sqlalchemy.engine import Engine

from daemon.incidents.intake import take_verdict
from daemon.journal.publisher import EventPublisher
from daemon.operations import utc_now
from daemon.process.consumer import GROUP, VerdictConsumer
from daemon.process.metrics import Metrics
from daemon.site.settings import Site
from daemon.store import queries
from streams import topics
from streams.broker.embedded import EmbeddedBroker, ensure_topics
from streams.judging.verdict import Verdict
from tests.support.daemon import make_verdict


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("broker")
    with EmbeddedBroker(log=folder / "broker.log") as broker:
        ensure_topics(broker.bootstrap, partitions=1)
        yield broker.bootstrap


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def send(bootstrap: str, *payloads: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for payload in payloads:
        producer.send(topics.VERDICTS, payload).get(timeout=60)
    producer.close()


def read(bootstrap: str, topic: str, count: int) -> list[dict[str, Any]]:
    consumer = KafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    found: list[dict[str, Any]] = []
    wait_for(
        lambda: bool(
            found.extend(
                json.loads(message.value)
                for batch in consumer.poll(timeout_ms=200).values()
                for message in batch
            )
            or len(found) >= count
        )
    )
    consumer.close()
    return found


def counter(registry: CollectorRegistry, name: str) -> float:
    return registry.get_sample_value(name) or 0.0


def test_verdicts_arrive_once_and_hostile_messages_are_buried(bootstrap: str, site: Site, engine: Engine):
    metrics = Metrics(site.models)
    attempts: list[str] = []

    def take(verdict: Verdict) -> None:
        attempts.append(verdict.id)
        if len(attempts) == 1:
            raise OSError("the database is away for a moment")
        take_verdict(engine, site, verdict, now=utc_now())

    good = [make_verdict(lumisection) for lumisection in (63, 64)]
    hostile = [b"", b"{", b"\x00\xff", b'{"id": 1}', b"[" * 10000]
    payloads = [verdict.model_dump_json().encode() for verdict in good]
    send(bootstrap, payloads[0], *hostile, payloads[1], payloads[0])
    consumer = VerdictConsumer(bootstrap, take, metrics)
    consumer.start()
    try:
        wait_for(lambda: len(attempts) >= 4)
        wait_for(lambda: consumer.problem is None)
    finally:
        consumer.stop()

    timeline = queries.verdict_timeline(engine, "anomaly")
    assert [verdict.id for verdict in timeline] == [verdict.id for verdict in good]
    assert attempts[0] == attempts[1]  # what failed was read again
    assert counter(metrics.registry, "lumiwatch_verdict_messages_malformed_total") == len(hostile)
    letters = read(bootstrap, topics.DEAD_LETTERS, len(hostile))
    assert all(letter["reason"] and letter["topic"] == topics.VERDICTS for letter in letters)


def test_what_was_taken_is_not_delivered_again(bootstrap: str, site: Site):
    taken: list[Verdict] = []
    send(bootstrap, make_verdict(90).model_dump_json().encode())
    first = VerdictConsumer(bootstrap, taken.append, Metrics(site.models))
    first.start()
    wait_for(lambda: any(verdict.lumisection == 90 for verdict in taken))
    time.sleep(0.5)
    first.stop()
    taken.clear()

    send(bootstrap, make_verdict(91).model_dump_json().encode())
    second = VerdictConsumer(bootstrap, taken.append, Metrics(site.models))
    second.start()
    wait_for(lambda: bool(taken))
    second.stop()

    assert [verdict.lumisection for verdict in taken] == [91]
    assert GROUP == "lumiwatch-daemon"


def test_events_are_published_in_order_and_once(bootstrap: str, site: Site, engine: Engine):
    take_verdict(engine, site, make_verdict(63), now=utc_now())
    take_verdict(engine, site, make_verdict(64, families=("score",)), now=utc_now())
    for _ in range(2):  # the second publisher finds nothing left
        publisher = EventPublisher(engine, bootstrap, Metrics(site.models))
        publisher.start()
        time.sleep(1.0)
        publisher.stop()

    events = read(bootstrap, topics.EVENTS, 2)

    assert [event["kind"] for event in events] == ["incident.opened", "incident.extended"]
    assert events[0]["incident_id"] == "anomaly-1"


def test_without_a_broker_the_consumer_says_so_and_stops(site: Site):
    consumer = VerdictConsumer("127.0.0.1:9", lambda _: None, Metrics(site.models))
    consumer.start()
    time.sleep(0.3)

    assert consumer.problem is not None
    started = time.monotonic()
    consumer.stop()
    assert time.monotonic() - started < 6
