"""IPbus 2.0 on the wire: packets and transactions as bytes, both directions. Pure: no sockets, no registers.

After "The IPbus Protocol, version 2.0" (https://ipbus.web.cern.ch/doc/user/html/). Over TCP every packet is
preceded by its length in bytes, a 32-bit big-endian integer. Status and resend packets, which make UDP
reliable, are in `hw.ipbus_status`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from hw.errors import ProtocolError

Words = npt.NDArray[np.uint32]

MAXIMUM_COUNT = 255
"""Most data words of one transaction."""

MAXIMUM_TRANSACTIONS = 4096
"""Transaction ids have 12 bits."""

LENGTH_BYTES = 4
WORD_BYTES = 4

_VERSION = 2
_TRANSACTION_IDS = 1 << 12
_EMPTY: Words = np.empty(0, dtype=np.uint32)


class PacketKind(IntEnum):
    """What a packet is for."""

    CONTROL = 0
    """Transactions, or the replies to them."""
    STATUS = 1
    """Asks the board what it has received and sent, or tells it."""
    RESEND = 2
    """Asks for the reply to an earlier control packet once more."""


class Kind(IntEnum):
    """What a transaction does."""

    READ = 0
    WRITE = 1
    READ_FIFO = 2
    """Non-incrementing read: every word from the same address."""
    WRITE_FIFO = 3
    """Non-incrementing write: every word to the same address."""
    RMW_BITS = 4
    """X = (X & AND) | OR; answers the old X."""
    RMW_SUM = 5
    """X = X + A; answers the old X."""


class Info(IntEnum):
    """How a transaction went."""

    OK = 0
    BAD_HEADER = 1
    READ_ERROR = 4
    WRITE_ERROR = 5
    READ_TIMEOUT = 6
    WRITE_TIMEOUT = 7
    REQUEST = 15


_READS = frozenset({Kind.READ, Kind.READ_FIFO})
_WRITES = frozenset({Kind.WRITE, Kind.WRITE_FIFO})
_INFOS = frozenset(Info)
_PACKET_KINDS = frozenset(PacketKind)
_RMW_WORDS = {Kind.RMW_BITS: 2, Kind.RMW_SUM: 1}


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One transaction as the client asks for it.

    Parameters
    ----------
    kind
        What to do.
    address
        32-bit word address.
    words
        Data of a write, or the terms of a read-modify-write; uint32.
    count
        Words to read (reads only).
    """

    kind: Kind
    address: int
    words: Words = field(default_factory=lambda: _EMPTY, repr=False)
    count: int = 0

    @property
    def wire_words(self) -> int:
        """Words this request takes in a packet."""
        return 2 + len(self.words)

    @property
    def reply_words(self) -> int:
        """Most words its reply takes in a packet."""
        return 1 + (1 if self.kind in _RMW_WORDS else self.count)


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """One transaction as the board answers it.

    Parameters
    ----------
    kind
        As in the request.
    info
        How it went.
    words
        Data read, or the old value of a read-modify-write; uint32.
    count
        Words read or written.
    """

    kind: Kind
    info: Info
    words: Words = field(default_factory=lambda: _EMPTY, repr=False)
    count: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class RequestPacket:
    """A packet as the board receives it.

    Parameters
    ----------
    packet_id
        16 bits; 0 where order is kept by the transport. Of a resend request: the packet it asks about.
    kind
        Status and resend requests have no transactions.
    requests
        In order.
    transaction_ids
        The client's number of each request, which its reply must carry; one more after a bad header.
    bad_header
        True when a transaction header was wrong: what followed it is lost.
    little_endian
        The byte order the client chose.
    """

    packet_id: int
    kind: PacketKind
    requests: tuple[Request, ...]
    transaction_ids: tuple[int, ...]
    bad_header: bool
    little_endian: bool


def encode_requests(packet_id: int, requests: Sequence[Request], *, first_transaction: int = 0) -> bytes:
    """Give the bytes of a control packet, big-endian, without the TCP length.

    Parameters
    ----------
    packet_id
        16 bits.
    requests
        At most `MAXIMUM_TRANSACTIONS`.
    first_transaction
        Number of the first one; the others count on from there, in 12 bits.

    Raises
    ------
    ProtocolError
        When a request cannot be expressed.
    """
    if len(requests) > MAXIMUM_TRANSACTIONS:
        raise ProtocolError(
            f"{len(requests)} transactions in one packet, at most {MAXIMUM_TRANSACTIONS}: split it"
        )
    parts: list[Words] = [packet_header(packet_id, PacketKind.CONTROL)]
    for index, request in enumerate(requests):
        count = request.count if request.kind in _READS else len(request.words)
        if request.kind in _RMW_WORDS:
            if count != _RMW_WORDS[request.kind]:
                raise ProtocolError(
                    f"{request.kind.name} takes {_RMW_WORDS[request.kind]} words, not {count}"
                )
            count = 1
        if not 0 < count <= MAXIMUM_COUNT:
            raise ProtocolError(
                f"{count} words in one transaction, 1 to {MAXIMUM_COUNT} are possible: split it"
            )
        head = _transaction(first_transaction + index, count, request.kind, Info.REQUEST)
        parts.append(np.array([head, request.address], dtype=np.uint32))
        parts.append(request.words)
    return np.concatenate(parts).astype(">u4").tobytes()


def decode_requests(content: bytes) -> RequestPacket:
    """Read a packet a client sent.

    Raises
    ------
    ProtocolError
        When it is no IPbus 2.0 packet this package understands.
    """
    words, little_endian = packet_words(content)
    packet_id, kind = read_packet_header(int(words[0]))
    if kind is not PacketKind.CONTROL:
        return RequestPacket(packet_id, kind, (), (), False, little_endian)
    requests: list[Request] = []
    numbers: list[int] = []
    position = 1
    while position < len(words):
        numbers.append((int(words[position]) >> 16) & 0xFFF)
        request, position = _request(words, position)
        if request is None:
            return RequestPacket(packet_id, kind, tuple(requests), tuple(numbers), True, little_endian)
        requests.append(request)
    return RequestPacket(packet_id, kind, tuple(requests), tuple(numbers), False, little_endian)


def _request(words: Words, position: int) -> tuple[Request | None, int]:
    head = int(words[position])
    count, kind = (head >> 8) & 0xFF, (head >> 4) & 0xF
    if (
        head >> 28 != _VERSION
        or head & 0xF != Info.REQUEST
        or kind > Kind.RMW_SUM
        or position + 2 > len(words)
    ):
        return None, position
    address = int(words[position + 1])
    carried = _RMW_WORDS.get(Kind(kind), count if kind in _WRITES else 0)
    end = position + 2 + carried
    if end > len(words):
        return None, position
    request = Request(Kind(kind), address, words[position + 2 : end], count if kind in _READS else 0)
    return request, end


def encode_replies(packet: RequestPacket, replies: Sequence[Reply]) -> bytes:
    """Give the bytes of the board's answer to a control packet, in the client's byte order."""
    parts: list[Words] = [packet_header(packet.packet_id, PacketKind.CONTROL)]
    for number, reply in zip(packet.transaction_ids, replies, strict=False):
        parts.append(np.array([_transaction(number, reply.count, reply.kind, reply.info)], dtype=np.uint32))
        parts.append(reply.words)
    if packet.bad_header:
        number = packet.transaction_ids[-1]
        parts.append(np.array([_transaction(number, 0, Kind.READ, Info.BAD_HEADER)], dtype=np.uint32))
    return np.concatenate(parts).astype("<u4" if packet.little_endian else ">u4").tobytes()


def decode_replies(
    content: bytes, packet_id: int, requests: Sequence[Request], *, first_transaction: int = 0
) -> list[Reply]:
    """Read the board's answer to `requests`; replies may say that they failed.

    Parameters
    ----------
    content
        The packet.
    packet_id, requests, first_transaction
        As they were encoded.

    Raises
    ------
    ProtocolError
        When the answer does not belong to the requests.
    """
    words, _ = packet_words(content)
    if read_packet_header(int(words[0])) != (packet_id, PacketKind.CONTROL):
        raise ProtocolError(
            f"the board answered packet {packet_id} with header {int(words[0]):#010x}: reconnect"
        )
    replies: list[Reply] = []
    position = 1
    for index, request in enumerate(requests):
        if position >= len(words):
            raise ProtocolError(f"the board answered {index} of {len(requests)} transactions: reconnect")
        head = int(words[position])
        count, info = (head >> 8) & 0xFF, head & 0xF
        number = (first_transaction + index) % _TRANSACTION_IDS
        if head >> 28 != _VERSION or (head >> 16) & 0xFFF != number or info not in _INFOS:
            raise ProtocolError(f"the board answered transaction {index} with {head:#010x}: reconnect")
        if info != Info.BAD_HEADER and (head >> 4) & 0xF != request.kind:
            raise ProtocolError(f"the board answered transaction {index} with another type: reconnect")
        carried = 0 if request.kind in _WRITES or info == Info.BAD_HEADER else count
        end = position + 1 + carried
        if end > len(words):
            raise ProtocolError(f"the board's answer to transaction {index} is cut short: reconnect")
        replies.append(Reply(request.kind, Info(info), words[position + 1 : end], count))
        position = end
    return replies


def packet_words(content: bytes) -> tuple[Words, bool]:
    """Give a packet's words, uint32, and whether it is little-endian, which its first byte tells.

    Raises
    ------
    ProtocolError
        When it is empty or no whole number of words.
    """
    if len(content) < WORD_BYTES or len(content) % WORD_BYTES:
        raise ProtocolError(f"{len(content)} bytes are no IPbus packet: check what is sent to this port")
    little_endian = content[0] >> 4 != _VERSION and content[3] >> 4 == _VERSION
    return np.frombuffer(content, dtype="<u4" if little_endian else ">u4").astype(np.uint32), little_endian


def read_packet_header(word: int) -> tuple[int, PacketKind]:
    """Give packet id and kind.

    Raises
    ------
    ProtocolError
        When it is no header of IPbus 2.0.
    """
    if word >> 28 != _VERSION or (word >> 4) & 0xF != 0xF or word & 0xF not in _PACKET_KINDS:
        raise ProtocolError(f"{word:#010x} is no IPbus 2.0 packet header: check what is sent to this port")
    return (word >> 8) & 0xFFFF, PacketKind(word & 0xF)


def packet_header(packet_id: int, kind: PacketKind) -> Words:
    """Give the first word of a packet: uint32, (1,)."""
    return np.array([_VERSION << 28 | (packet_id & 0xFFFF) << 8 | 0xF0 | kind], dtype=np.uint32)


def _transaction(number: int, count: int, kind: Kind, info: Info) -> int:
    return _VERSION << 28 | number % _TRANSACTION_IDS << 16 | count << 8 | kind << 4 | info
