"""Rolling: making the embedded broker forget what was counted, so that its memory stays bounded.

The embedded broker deletes no single message, but frees the memory of a deleted topic at once. When it
holds too much, producers are made to wait until workers have committed everything, and then the topics are
deleted and made anew, *at the offsets where they stood*: the first batch of the new log is a marker that
claims all earlier offsets, as the log of a compacted topic may. Positions and committed offsets of every
client stay true, sequence numbers of idempotent producers too, and nobody has to be started again.

Knows offsets and bytes, and refuses to know any message.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError
from kafka.structs import OffsetAndMetadata

from streams.broker.gate import Gate
from streams.broker.wire import high_watermarks, mark_offsets
from streams.errors import BrokerError
from streams.topics import BATCHES, CONDITIONS, DEAD_LETTERS, EVENTS, SUMMARIES, VERDICTS

logger = logging.getLogger(__name__)

MASTER: Final = "lumiwatch-broker"
"""Client id of whoever rolls; the gate lets it pass always."""
TIMEOUT_MS: Final = 10_000
LOOK_S: Final = 0.1
HOPE_S: Final = 3.0
"""How long producers wait for a roll that is not urgent yet."""
SAY_AFTER_S: Final = 5.0
SEAL_S: Final = 4.0
KEPT_MESSAGES: Final[Mapping[str, int]] = {VERDICTS: 1000, EVENTS: 1000, DEAD_LETTERS: 200}
"""Topics that people and other programs read at leisure: their newest messages stay."""
_COUNTED: Final = (BATCHES, CONDITIONS, SUMMARIES)


@dataclass(frozen=True)
class RollingStatus:
    """How full the broker is.

    Attributes
    ----------
    held_bytes, limit_bytes
        What it holds, and what it may.
    rolls
        How often it was emptied.
    waiting_s
        For how long producers have been waiting; 0 when they need not.
    problem
        Why they wait, for people; None while they do not wait for long.
    """

    held_bytes: int = 0
    limit_bytes: int = 0
    rolls: int = 0
    waiting_s: float = 0.0
    problem: str | None = None


class Rolling:
    """Watches a broker behind its gate and empties it when it is full. A context manager.

    From half of the limit on it rolls when that makes producers wait for moments only; at the limit they wait
    as long as it takes.

    Parameters
    ----------
    gate
        In front of the broker, with `MASTER` as its master.
    limit_bytes
        What the broker may hold.
    group
        The workers' consumer group.
    memory
        Gives the broker's resident memory in bytes, or None where that cannot be told.
    say
        Called with a line for people when producers wait for long, and when they no longer do.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        limit_bytes: int,
        group: str,
        memory: Callable[[], int | None],
        say: Callable[[str], None],
    ) -> None:
        self._gate = gate
        self._limit = limit_bytes
        self._group = group
        self._memory = memory
        self._say = say
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broker-rolling", daemon=True)
        self._empty_memory = memory() or 0
        self._counted_from = 0  # bytes that the gate had seen at the last roll
        self._next_attempt = limit_bytes // 2
        self._floor: dict[TopicPartition, int] = {}
        self._held_since: float | None = None
        self._said = False
        self._rolls = 0
        self.status = RollingStatus(limit_bytes=limit_bytes)

    def __enter__(self) -> Self:
        self._gate.allow(self._limit)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(TIMEOUT_MS / 1000)
        self._gate.release()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            try:
                self._look()
            except (KafkaError, BrokerError, OSError) as error:
                # the broker's end is noticed by its keeper; anything else is tried again
                logger.warning(
                    "the embedded broker cannot be emptied: %s", str(error) or type(error).__name__
                )
                self._stopping.wait(1.0)

    def _look(self) -> None:
        produced, held_bytes = self._produced_bytes(), self._held_bytes()
        # memory that a roll does not give back is no reason to roll again and again
        urgent = held_bytes >= self._limit and produced >= self._limit // 8
        if urgent:
            self._hold()
        if urgent or self._held_since is not None or produced >= self._next_attempt:
            self._try_to_roll(urgent=urgent)
        self._report(held_bytes)

    def _produced_bytes(self) -> int:
        return self._gate.produced_bytes - self._counted_from

    def _held_bytes(self) -> int:
        resident = (self._memory() or 0) - self._empty_memory
        return max(self._produced_bytes(), resident)

    def _try_to_roll(self, *, urgent: bool) -> None:
        self._hold()
        with _admin(self._gate.bootstrap) as admin:
            deadline = time.monotonic() + HOPE_S
            while not self._stopping.is_set():
                if self._gate.settled(HOPE_S) and self._drained(admin) and self._roll(admin):
                    self._release()
                    return
                if not urgent and time.monotonic() > deadline:
                    # workers are busy and there is room yet: not before it has become less
                    self._next_attempt += self._limit // 8
                    self._release()
                    return
                if urgent:
                    self._report(self._held_bytes())
                self._stopping.wait(LOOK_S / 2)

    def _hold(self) -> None:
        self._gate.hold()
        self._held_since = self._held_since or time.monotonic()

    def _release(self) -> None:
        self._gate.release()
        if self._said:
            self._say("broker: there is room again, producers go on")
        self._held_since, self._said = None, False

    def _drained(self, admin: KafkaAdminClient) -> bool:
        return self._backlog(admin) == 0

    def _backlog(self, admin: KafkaAdminClient) -> int:
        """Messages that workers have not committed; summaries are the last, for batches become summaries."""
        backlog = 0
        for topic in _COUNTED:
            # committed before end: what is committed meanwhile makes the answer too large, never too small
            committed = admin.list_group_offsets({self._group: None}).get(self._group, {})
            for partition, end in self._ends(admin, topic).items():
                known = committed.get(partition)
                done = max(known.offset if known is not None else 0, self._floor.get(partition, 0))
                backlog += max(0, end - done)
        return backlog

    def _ends(self, admin: KafkaAdminClient, topic: str) -> dict[TopicPartition, int]:
        (description,) = admin.describe_topics([topic])
        partitions = [TopicPartition(topic, entry["partition_index"]) for entry in description["partitions"]]
        return high_watermarks(self._gate.upstream_port, MASTER, partitions)

    def _roll(self, admin: KafkaAdminClient) -> bool:
        """Make the topics anew; False when some client's request is still under way."""
        begun = time.monotonic()
        with self._gate.sealed(SEAL_S) as quiet:
            if not quiet or not self._drained(admin):
                return False
            for topic in _COUNTED:
                self._make_anew(admin, topic, keep=0)
            for topic, keep in KEPT_MESSAGES.items():
                ends = self._ends(admin, topic)
                grown = {tp: end - self._floor.get(tp, 0) for tp, end in ends.items()}
                if any(count > 2 * keep for count in grown.values()):
                    self._make_anew(admin, topic, keep=keep)
        self._rolls += 1
        self._counted_from = self._gate.produced_bytes
        self._gate.allow(self._limit)
        self._next_attempt = self._limit // 2
        logger.info("the embedded broker was emptied in %.0f ms", 1000 * (time.monotonic() - begun))
        return True

    def _make_anew(self, admin: KafkaAdminClient, topic: str, *, keep: int) -> None:
        ends = self._ends(admin, topic)
        groups = _commits(admin, topic)
        kept = {tp: _newest(self._gate.bootstrap, tp, end, keep) for tp, end in ends.items()} if keep else {}
        admin.delete_topics([topic], timeout_ms=TIMEOUT_MS)
        _create(admin, topic, len(ends))
        for partition, end in ends.items():
            messages = kept.get(partition, [])
            first = messages[0].offset if messages else end
            mark_offsets(self._gate.upstream_port, MASTER, partition, first)
            self._floor[partition] = first
            _send_again(self._gate.bootstrap, partition, messages)
        for group, offsets in groups.items():
            with contextlib.suppress(KafkaError):
                # without them a reader starts at the marker, which is as good
                admin.alter_group_offsets(group, offsets)

    def _report(self, held_bytes: int) -> None:
        waiting_s = 0.0 if self._held_since is None else time.monotonic() - self._held_since
        problem = None
        if waiting_s >= SAY_AFTER_S:
            problem = (
                f"the embedded broker is full ({held_bytes >> 20} of {self._limit >> 20} MiB), so producers "
                "wait until the workers have counted what it holds: see why they do not keep up "
                "(worker.log), or name a Kafka (kafka.bootstrap)"
            )
            if not self._said:
                self._said = True
                self._say(f"broker: {problem}")
        self.status = RollingStatus(held_bytes, self._limit, self._rolls, waiting_s, problem)


@contextlib.contextmanager
def _admin(bootstrap: str) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(
        bootstrap_servers=bootstrap,
        client_id=MASTER,
        request_timeout_ms=TIMEOUT_MS,
        bootstrap_timeout_ms=TIMEOUT_MS,
    )
    try:
        yield client
    finally:
        client.close()


def _commits(admin: KafkaAdminClient, topic: str) -> dict[str, dict[TopicPartition, OffsetAndMetadata]]:
    """Return what every group has committed on a topic."""
    groups = [group["group_id"] for group in admin.list_groups()]
    found = admin.list_group_offsets(dict.fromkeys(groups)) if groups else {}
    return {
        group: {tp: offset for tp, offset in offsets.items() if tp.topic == topic}
        for group, offsets in found.items()
    }


def _create(admin: KafkaAdminClient, topic: str, partitions: int) -> None:
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    while True:
        try:
            admin.create_topics([NewTopic(topic, partitions, 1)], timeout_ms=TIMEOUT_MS)
        except TopicAlreadyExistsError:
            return
        except KafkaError:
            # a topic that is deleted and not there again would stop everything: not for the first error
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_S)
        else:
            return


def _newest(bootstrap: str, partition: TopicPartition, end: int, count: int) -> list[Any]:
    """Read the newest messages of a partition, the oldest of them first."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id=MASTER,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    messages: list[Any] = []
    try:
        consumer.assign([partition])
        consumer.seek(partition, max(0, end - count))
        deadline = time.monotonic() + TIMEOUT_MS / 1000
        while consumer.position(partition) < end and time.monotonic() < deadline:
            for polled in consumer.poll(timeout_ms=int(LOOK_S * 1000)).values():
                messages += polled
    finally:
        consumer.close(timeout_ms=1000)
    return [message for message in messages if end - count <= message.offset < end]


def _send_again(bootstrap: str, partition: TopicPartition, messages: list[Any]) -> None:
    """Put messages at the end of a partition; they get the offsets that they had."""
    if not messages:
        return
    producer = KafkaProducer(
        bootstrap_servers=bootstrap, client_id=MASTER, enable_idempotence=False, acks="all", retries=0
    )
    try:
        futures = [
            producer.send(
                partition.topic,
                message.value,
                key=message.key,
                headers=list(message.headers),
                partition=partition.partition,
                timestamp_ms=message.timestamp,
            )
            for message in messages
        ]
        for future in futures:
            future.get(timeout=TIMEOUT_MS / 1000)
    finally:
        producer.close(timeout=1)
