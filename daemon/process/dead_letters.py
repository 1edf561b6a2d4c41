"""Reads the newest dead letters of a site, for a person who asks. Keeps nothing and commits nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

from daemon.errors import BrokerAway
from daemon.process.broker import bootstrap_of, check_broker
from daemon.site.settings import Site
from streams.dead_letter import DeadLetter, decode_dead_letter
from streams.errors import MalformedMessage
from streams.topics import DEAD_LETTERS

_POLL_MS: Final = 300
_QUIET_POLLS: Final = 4
"""Empty answers in a row after which everything has been read: the embedded broker answers late."""


def newest_dead_letters(site: Site, limit: int) -> list[DeadLetter]:
    """Return the newest dead letters, the oldest of them first.

    The embedded broker keeps a few hundred; a Kafka keeps what its retention says.

    Parameters
    ----------
    limit
        At most this many, at least 1.

    Raises
    ------
    SettingsError
        No broker is configured or announced.
    BrokerAway
        None answers, or its topics are not there yet.
    """
    bootstrap, security = bootstrap_of(site), site.kafka_security
    check_broker(bootstrap, security)
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id="lumiwatch-dead-letters",
        enable_auto_commit=False,
        **security.client_options(),
    )
    try:
        numbers = consumer.partitions_for_topic(DEAD_LETTERS)
        if not numbers:
            raise BrokerAway(f"topic {DEAD_LETTERS} does not exist: start the site with `lumiwatch up`")
        partitions = [TopicPartition(DEAD_LETTERS, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        first, end = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        for partition in partitions:
            # the embedded broker may name an end that is too low: then a little more is read, never less
            consumer.seek(partition, max(first[partition], end[partition] - limit))
        letters = sorted(_read(consumer, limit), key=lambda letter: letter.at)
        return letters[-limit:]
    finally:
        consumer.close(timeout_ms=2000)


def _read(consumer: KafkaConsumer, limit: int) -> Iterator[DeadLetter]:
    kept: dict[int, deque[DeadLetter]] = {}
    quiet = 0
    while quiet < _QUIET_POLLS:
        polled: dict[Any, list[Any]] = consumer.poll(timeout_ms=_POLL_MS)
        quiet = 0 if polled else quiet + 1
        for message in (message for messages in polled.values() for message in messages):
            try:
                letter = decode_dead_letter(message.value or b"")
            except MalformedMessage:
                continue  # anyone may write to the topic; whoever refuses messages writes letters
            kept.setdefault(message.partition, deque(maxlen=limit)).append(letter)
    for letters in kept.values():
        yield from letters
