"""A worker that stands still while messages wait is ended; one that merely waits, or works, is not."""

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from streams.broker.embedded import EmbeddedBroker, ensure_topics
from streams.broker.security import PLAINTEXT
from streams.topics import BATCHES, SUMMARIES
from streams.watchdog import GroupReach, Reach, Standstill, Watchdog

ONE, OTHER = (BATCHES, 0), (BATCHES, 1)
PATIENCE_S = 60.0


class Seen:
    """What a watchdog sees, for a test to change; counts how often the process was ended."""

    def __init__(self):
        self.now_s = 1000.0
        self.reaches = {ONE: Reach(5, 10), OTHER: Reach(7, 7)}
        self.own = {ONE}
        self.handled = {}
        self.ended = 0
        self.away = False

    def ask(self):
        if self.away:
            raise ConnectionError("no broker")
        return self.reaches

    def end(self):
        self.ended += 1


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
def look(seen):
    """Return a function that lets time pass and the watchdog look; it tells whether the process was ended."""
    watchdog = Watchdog(
        seen.ask, lambda: seen.own, lambda: seen.handled, PATIENCE_S, seen.end, lambda: seen.now_s
    )

    def run(seconds=0.0):
        seen.now_s += seconds
        watchdog.look()
        return seen.ended > 0

    return run


def test_messages_that_wait_and_are_never_handled_end_the_process(look):
    assert not look()
    assert not look(PATIENCE_S - 1)
    assert look(1)


def test_time_without_messages_does_not_count(look, seen):
    seen.reaches = {ONE: Reach(10, 10)}
    assert not look()
    seen.reaches = {ONE: Reach(10, 11)}
    assert not look(10 * PATIENCE_S)
    assert not look(PATIENCE_S - 1)
    assert look(1)


def test_whoever_moves_is_left_alone_however_much_waits(look, seen):
    look()
    for at in range(6, 20):
        seen.reaches = {ONE: Reach(at, 1_000_000)}
        assert not look(PATIENCE_S - 1)


def test_what_is_handled_and_not_committed_does_not_wait(look, seen):
    seen.handled = {ONE: 10}
    look()
    assert not look(2 * PATIENCE_S)


def test_what_others_leave_standing_is_theirs(look, seen):
    seen.reaches = {ONE: Reach(5, 5), OTHER: Reach(7, 9)}
    look()
    assert not look(2 * PATIENCE_S)


def test_a_worker_without_partitions_answers_for_the_group(look, seen):
    seen.own = set()
    look()
    assert look(PATIENCE_S)


def test_a_partition_that_came_from_another_is_given_its_time(look, seen):
    seen.reaches = {ONE: Reach(5, 5), OTHER: Reach(7, 9)}
    look()
    seen.own = {ONE, OTHER}
    assert not look(2 * PATIENCE_S)
    assert not look(PATIENCE_S - 1)
    assert look(1)


def test_a_partition_of_many_that_stands_still_is_enough(look, seen):
    seen.own = {ONE, OTHER}
    for offset in range(10):
        seen.reaches = {ONE: Reach(5, 10), OTHER: Reach(offset, 100)}
        ended = look(PATIENCE_S / 9)
    assert ended


def test_a_broker_that_is_away_is_no_fault_of_the_worker(look, seen):
    look()
    seen.away = True
    assert not look(2 * PATIENCE_S)
    seen.away = False
    assert not look(PATIENCE_S)
    assert look(PATIENCE_S)


def test_a_watchdog_that_cannot_look_says_so_once(look, seen, caplog):
    seen.away = True
    look()
    look()
    assert [record.message for record in caplog.records] == ["the watchdog cannot ask the broker: no broker"]


def test_how_long_is_told_for_the_partition_that_waits_longest():
    standstill = Standstill()
    own = {ONE, OTHER}
    standstill.seconds({ONE: Reach(1, 2), OTHER: Reach(3, 3)}, own, {}, 10.0)
    standstill.seconds({ONE: Reach(1, 2), OTHER: Reach(3, 4)}, own, {}, 15.0)
    assert standstill.seconds({ONE: Reach(1, 2), OTHER: Reach(3, 4)}, own, {}, 20.0) == 10.0


def test_the_reach_of_a_group_is_what_the_broker_says(tmp_path):
    with EmbeddedBroker(log=tmp_path / "broker.log") as broker:
        ensure_topics(broker.bootstrap, {BATCHES: 2})
        reach = GroupReach(broker.bootstrap, PLAINTEXT, "some-group", (BATCHES, SUMMARIES))
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
        for _ in range(5):
            producer.send(BATCHES, b"x", partition=1).get(timeout=60)
        producer.close()

        # nothing is committed yet
        assert reach() == {ONE: Reach(0, 0), OTHER: Reach(0, 5), (SUMMARIES, 0): Reach(0, 0)}

        consumer = KafkaConsumer(
            bootstrap_servers=broker.bootstrap, group_id="some-group", enable_auto_commit=False
        )
        consumer.assign([TopicPartition(*OTHER)])
        consumer.commit({TopicPartition(*OTHER): OffsetAndMetadata(3, "", -1)})
        consumer.close()
        assert reach()[OTHER] == Reach(3, 5)
        reach.close()
