"""Requests into as few packets as a board's MTU allows, and the replies of cut requests back together. Pure.

Refuses to know how packets travel. A request stays one transaction, which a board executes in one go, unless
it does not fit into a packet by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hw.errors import ProtocolError
from hw.ipbus import MAXIMUM_TRANSACTIONS, WORD_BYTES, Info, Kind, Reply, Request, Words

_EMPTY: Words = np.empty(0, dtype=np.uint32)
_SMALLEST_PACKET_WORDS = 8
_INCREMENTING = frozenset({Kind.READ, Kind.WRITE})


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Requests that travel in one packet.

    Parameters
    ----------
    requests
        In order.
    owners
        For each, the index of the request that it is, or is a part of.
    """

    requests: tuple[Request, ...]
    owners: tuple[int, ...]


def pack(requests: Sequence[Request], mtu_bytes: int) -> Iterator[Packed]:
    """Cut requests into packets that fit, counting both directions.

    Raises
    ------
    ProtocolError
        When the board takes packets in which not even the shortest request fits.
    """
    room = mtu_bytes // WORD_BYTES
    if room < _SMALLEST_PACKET_WORDS:
        raise ProtocolError(f"the board takes packets of {mtu_bytes} bytes: check that it speaks IPbus 2.0")
    packet: list[Request] = []
    owners: list[int] = []
    out_words = in_words = 1
    for owner, whole in enumerate(requests):
        for request in _pieces(whole, room - 1):
            too_long = (
                out_words + request.wire_words > room
                or in_words + request.reply_words > room
                or len(packet) == MAXIMUM_TRANSACTIONS
            )
            if packet and too_long:
                yield Packed(tuple(packet), tuple(owners))
                packet, owners, out_words, in_words = [], [], 1, 1
            packet.append(request)
            owners.append(owner)
            out_words += request.wire_words
            in_words += request.reply_words
    if packet:
        yield Packed(tuple(packet), tuple(owners))


def unpack(requests: Sequence[Request], packets: Sequence[tuple[Packed, Sequence[Reply]]]) -> list[Reply]:
    """Give one reply for every request; of a cut one it says the first failure."""
    parts: list[list[Reply]] = [[] for _ in requests]
    for packed, replies in packets:
        for owner, reply in zip(packed.owners, replies, strict=True):
            parts[owner].append(reply)
    return [found[0] if len(found) == 1 else _joined(found) for found in parts]


def _pieces(request: Request, room: int) -> Iterator[Request]:
    """Cut a request whose words, or whose reply's, do not fit into `room`."""
    if request.wire_words <= room and request.reply_words <= room:
        yield request
        return
    size = room - 2
    for start in range(0, max(request.count, len(request.words)), size):
        address = request.address + start if request.kind in _INCREMENTING else request.address
        count = max(0, min(size, request.count - start))
        yield Request(request.kind, address, request.words[start : start + size], count)


def _joined(replies: Sequence[Reply]) -> Reply:
    failed = [reply.info for reply in replies if reply.info is not Info.OK]
    words = np.concatenate([_EMPTY, *(reply.words for reply in replies)])
    return Reply(
        replies[0].kind, failed[0] if failed else Info.OK, words, sum(reply.count for reply in replies)
    )
