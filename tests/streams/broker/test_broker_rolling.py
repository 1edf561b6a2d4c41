"""The embedded broker stays small, and no reader or writer notices that it forgets what was counted."""

import threading
import time
from collections import Counter

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from streams import topics
from streams.broker.bounded import BoundedBroker, resident_bytes
from streams.broker.embedded import ensure_topics
from streams.broker.limits import SMALLEST_LIMIT_BYTES, default_limit_bytes
from streams.broker.rolling import KEPT_MESSAGES
from streams.broker.wire import control_batch

GROUP = "lumiwatch-worker"
LIMIT = 24 << 20
PAYLOAD = bytes(500_000)
PARTITIONS = [TopicPartition(topics.BATCHES, 0), TopicPartition(topics.BATCHES, 1)]


@pytest.fixture
def said():
    return []


@pytest.fixture
def broker(tmp_path, said):
    with BoundedBroker(
        log=tmp_path / "broker.log", group=GROUP, limit_bytes=LIMIT, say=said.append
    ) as running:
        ensure_topics(running.bootstrap, {topics.BATCHES: 2})
        yield running


@pytest.fixture
def producer(broker):
    # gives up a request soon, as one of a client would that waits for minutes
    running = KafkaProducer(
        bootstrap_servers=broker.bootstrap,
        max_request_size=2 << 20,
        request_timeout_ms=1500,
        delivery_timeout_ms=60_000,
    )
    yield running
    running.close(timeout=5)


class Reader:
    """What a worker is to the broker: reads everything and commits what it has read."""

    def __init__(self, bootstrap):
        self._bootstrap = bootstrap
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.messages = []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._thread.join()

    def _run(self):
        consumer = KafkaConsumer(
            bootstrap_servers=self._bootstrap,
            client_id="lumiwatch-worker",
            group_id=GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
        consumer.assign(PARTITIONS)
        while not self._stopping.is_set():
            polled = consumer.poll(timeout_ms=100)
            self.messages += [(m.partition, m.offset, m.value[:8]) for ms in polled.values() for m in ms]
            if polled:
                consumer.commit()
        consumer.close()


def send(producer, numbers):
    return [producer.send(topics.BATCHES, b"%08d" % n + PAYLOAD, partition=n % 2) for n in numbers]


def until(condition, timeout_s=40.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def read_all(broker, topic):
    consumer = KafkaConsumer(
        topic, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=600
    )
    try:
        return [(message.offset, message.value) for message in consumer]
    finally:
        consumer.close()


def test_readers_and_writers_go_on_where_they_were_through_many_rolls(broker, producer, said):
    # given a reader that keeps up
    with Reader(broker.bootstrap) as reader:
        # when many times the limit is sent
        sent = send(producer, range(300))
        for future in sent:
            future.get(timeout=60)
        until(lambda: len(reader.messages) >= 300)

    # then every message came once, in order, at rising offsets without a gap
    assert broker.status.rolls >= 5
    assert Counter(number for _, _, number in reader.messages) == Counter(b"%08d" % n for n in range(300))
    for partition in (0, 1):
        offsets = [offset for place, offset, _ in reader.messages if place == partition]
        assert offsets == list(range(150))
    assert [future.get().offset for future in sent] == [n // 2 for n in range(300)]
    # and nobody was bothered with it
    assert said == []
    assert resident_bytes(broker.process_id) < 3 * LIMIT


@pytest.mark.slow
def test_without_readers_producers_wait_and_the_broker_stays_small(broker, producer, said):
    # given nobody who reads
    sent = send(producer, range(60))  # 30 MB, more than the limit
    until(lambda: said)

    # then the broker takes no more than its limit and the requests on their way, and says so
    largest = resident_bytes(broker.process_id)
    assert largest < LIMIT + (24 << 20)
    assert "the embedded broker is full" in said[0]
    assert broker.status.problem in said[0]
    assert not all(future.is_done for future in sent)

    # and with a reader all of it arrives, once, though requests timed out meanwhile
    with Reader(broker.bootstrap) as reader:
        for future in sent:
            future.get(timeout=60)
        until(lambda: len(reader.messages) >= 60)
    assert Counter(number for _, _, number in reader.messages) == Counter(b"%08d" % n for n in range(60))
    until(lambda: broker.status.problem is None)
    assert said[1:] == ["broker: there is room again, producers go on"]


def test_a_new_reader_and_one_that_comes_back_start_at_what_is_left(broker, producer):
    with Reader(broker.bootstrap) as reader:
        for future in send(producer, range(100)):
            future.get(timeout=60)
        until(lambda: broker.status.rolls >= 1 and len(reader.messages) == 100)
    until(lambda: broker.status.waiting_s == 0)
    send(producer, [100, 101])
    producer.flush()

    # a stranger sees what is left, a member of the group what it has not committed
    stranger = {value[:8] for _, value in read_all(broker, topics.BATCHES)}
    assert stranger >= {b"00000100", b"00000101"}
    assert b"00000000" not in stranger
    with Reader(broker.bootstrap) as reader:
        until(lambda: len(reader.messages) >= 2)
    assert {number for _, _, number in reader.messages} == {b"00000100", b"00000101"}


def test_the_newest_verdicts_stay_at_their_offsets(broker, producer):
    # given more verdicts than are kept
    keep = KEPT_MESSAGES[topics.VERDICTS]
    total = 2 * keep + 10
    for number in range(total):
        producer.send(topics.VERDICTS, b"%d" % number)
    producer.flush()

    # when the broker is emptied
    with Reader(broker.bootstrap):
        for future in send(producer, range(60)):
            future.get(timeout=60)
        until(lambda: broker.status.rolls >= 1)

    # then the newest are still there, where they were, and new ones follow
    until(lambda: broker.status.waiting_s == 0)
    last = producer.send(topics.VERDICTS, b"new").get(timeout=60)
    expected = [(n, b"%d" % n) for n in range(total - keep, total)] + [(total, b"new")]
    assert last.offset == total
    assert read_all(broker, topics.VERDICTS) == expected


def test_the_limit_follows_the_machine():
    assert SMALLEST_LIMIT_BYTES <= default_limit_bytes() <= 1 << 30


def test_a_marker_says_how_many_offsets_it_takes():
    batch = control_batch(1000, 7)
    assert int.from_bytes(batch[8:12], "big") == len(batch) - 12
    assert batch[16] == 2
    assert int.from_bytes(batch[23:27], "big") == 999
