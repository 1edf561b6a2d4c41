"""Two things that the embedded broker is asked for in Kafka's own bytes, because no client library does it.

Knows how to place a marker (a batch of no message that lets a new log go on at the offsets of an old one)
and how to ask where a log ends; refuses to know why a log is made anew (`streams.broker.rolling`).
"""

import io
import socket
import struct
import time
from collections.abc import Sequence
from typing import Final

import crc32c
from kafka import TopicPartition

from streams.errors import BrokerError

HOST: Final = "127.0.0.1"
TIMEOUT_S: Final = 10.0
_LARGEST_MARKER: Final = 2**31 - 1
_BEYOND: Final = 2**62
_PRODUCE: Final = 0
_FETCH: Final = 1
_WAIT_MS: Final = 10
"""With no time to wait at all, the embedded broker does not look."""


def mark_offsets(port: int, client: str, partition: TopicPartition, end: int) -> None:
    """Let the next message of an empty partition get the offset `end`.

    Sends control batches, of which clients show none to their users, with `end` as their next offset. Only
    the embedded broker takes a control batch from a client.

    Parameters
    ----------
    port
        Where the broker itself listens on loopback.
    client
        Client id to use.

    Raises
    ------
    BrokerError
        The broker refuses.
    """
    while end > 0:
        offsets = min(end, _LARGEST_MARKER)
        end -= offsets
        _produce(port, client, partition, control_batch(offsets, int(time.time() * 1000)))


def control_batch(offsets: int, timestamp_ms: int) -> bytes:
    """Return a record batch (format 2) of one control record that takes so many offsets.

    The format: https://kafka.apache.org/documentation/#recordbatch. The record says "commit", of a
    transaction that nobody began.
    """
    key, value = struct.pack(">hh", 0, 1), struct.pack(">hi", 0, 0)
    record = b"\0" + _varint(0) + _varint(offsets - 1)
    record += _varint(len(key)) + key + _varint(len(value)) + value + _varint(0)
    is_control = 0x20
    checked = struct.pack(
        ">hiqqqhii", is_control, offsets - 1, timestamp_ms, timestamp_ms, -1, -1, -1, 1
    )  # attributes, last offset delta, timestamps, producer id, epoch, sequence, number of records
    checked += _varint(len(record)) + record
    rest = struct.pack(">ibI", 0, 2, crc32c.crc32c(checked)) + checked
    return struct.pack(">qi", 0, len(rest)) + rest


def _varint(value: int) -> bytes:
    zigzag = value << 1
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*out, zigzag])


def high_watermarks(
    port: int, client: str, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """Return the offset that the next message of each partition will get.

    Asked by a Fetch that fetches nothing: the embedded broker answers ListOffsets with the *first* offset of
    the newest batch, plus one, which is wrong where a batch has several messages.

    Raises
    ------
    BrokerError
        The broker does not know a partition.
    """
    topics: dict[bytes, list[int]] = {}
    for partition in partitions:
        topics.setdefault(partition.topic.encode(), []).append(partition.partition)
    body = struct.pack(">iiiib", -1, _WAIT_MS, 0, 1, 0)  # no replica, wait, least and most bytes, isolation
    body += struct.pack(">i", len(topics))
    for name, numbers in topics.items():
        body += struct.pack(">h", len(name)) + name + struct.pack(">i", len(numbers))
        body += b"".join(struct.pack(">iqi", number, _BEYOND, 1) for number in numbers)
    answer = io.BytesIO(_ask(port, client, _FETCH, 4, body))
    found: dict[TopicPartition, int] = {}
    answer.seek(4)  # throttle time
    for _ in range(_read(answer, ">i")):
        topic = answer.read(_read(answer, ">h")).decode()
        for _ in range(_read(answer, ">i")):
            number, error, high = _read(answer, ">i"), _read(answer, ">h"), _read(answer, ">q")
            answer.seek(8, io.SEEK_CUR)  # last stable offset
            answer.seek(16 * max(0, _read(answer, ">i")), io.SEEK_CUR)  # aborted transactions
            answer.seek(max(0, _read(answer, ">i")), io.SEEK_CUR)  # records
            if error:
                raise BrokerError(f"the embedded broker does not know {topic}[{number}] (error {error})")
            found[TopicPartition(topic, number)] = high
    if set(found) != set(partitions):
        raise BrokerError(
            "the embedded broker does not say where its partitions end: see its log (broker.log)"
        )
    return found


def _produce(port: int, client: str, partition: TopicPartition, batch: bytes) -> None:
    """Send a record batch as it is: no client library makes a control batch."""
    name = partition.topic.encode()
    body = struct.pack(">hhi", -1, -1, int(TIMEOUT_S * 1000))  # no transaction, acks, timeout
    body += struct.pack(">ih", 1, len(name)) + name
    body += struct.pack(">iii", 1, partition.partition, len(batch)) + batch
    answer = _ask(port, client, _PRODUCE, 3, body)
    (error,) = struct.unpack_from(">h", answer, 4 + 2 + len(name) + 4 + 4)  # topics, name, partitions, index
    if error:
        raise BrokerError(f"the embedded broker refuses the marker of {partition.topic} (error {error})")


def _ask(port: int, client: str, key: int, version: int, body: bytes) -> bytes:
    """Send one request on a connection of its own and return the body of the response."""
    sender = client.encode()
    content = struct.pack(">hhih", key, version, 1, len(sender)) + sender + body
    with socket.create_connection((HOST, port), timeout=TIMEOUT_S) as connection:
        connection.sendall(struct.pack(">i", len(content)) + content)
        with connection.makefile("rb") as stream:
            head = stream.read(4)
            if len(head) < 4:
                raise BrokerError("the embedded broker closed a connection: see its log (broker.log)")
            return stream.read(struct.unpack(">i", head)[0])[4:]


def _read(stream: io.BytesIO, form: str) -> int:
    value: int = struct.unpack(form, stream.read(struct.calcsize(form)))[0]
    return value
