"""Status and resend packets of IPbus 2.0, and the numbers of packets: what makes UDP reliable. Pure.

Refuses to know sockets and what a control packet carries.

A board executes a control packet only when its id is the one that comes next, counting 1 to 65535 and then
1 again, and drops every other one in silence; id 0 stands outside that order. It keeps its last replies and
sends one of them again when asked, without executing anything. Its status says which id comes next, so a
client can tell a lost request from a lost reply.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from hw.errors import ProtocolError
from hw.ipbus import PacketKind, packet_header, packet_words, read_packet_header

LAST_PACKET_ID = 0xFFFF
TRAFFIC_EVENTS = 16
"""Arrivals that the status remembers."""

CONTROL_HEADERS = 4
"""Headers of control packets, received and sent, that the status remembers."""

_STATUS_WORDS = 16
_DROPPED = 0x40


class Arrival(IntEnum):
    """A packet in the status's history, as firmware codes it."""

    CONTROL = 2
    STATUS = 3
    RESEND = 4
    OTHER = 5


@dataclass(frozen=True, slots=True)
class Status:
    """The board's answer to a status request.

    Parameters
    ----------
    mtu_bytes
        Largest packet it takes and gives.
    buffers
        Packets that may be under way at once, and replies it keeps.
    next_packet_id
        The id it expects.
    traffic
        One byte for each of the last 16 arrivals, the oldest first; 0 before there was one.
    received, sent
        Headers of the last four control packets and replies, the oldest first; 0 before there was one.
    """

    mtu_bytes: int
    buffers: int
    next_packet_id: int
    traffic: tuple[int, ...] = (0,) * TRAFFIC_EVENTS
    received: tuple[int, ...] = (0,) * CONTROL_HEADERS
    sent: tuple[int, ...] = (0,) * CONTROL_HEADERS


def arrival_byte(arrival: Arrival, *, dropped: bool) -> int:
    """Give the byte with which the status remembers an arrival."""
    return arrival | (_DROPPED if dropped else 0)


def packet_id_after(packet_id: int) -> int:
    """Give the id that follows; 0 is left out."""
    return packet_id % LAST_PACKET_ID + 1


def packets_between(first: int, last: int) -> int:
    """Give how many steps lead from one id to another, on the ring without 0."""
    return (last - first) % LAST_PACKET_ID


def encode_resend_request(packet_id: int) -> bytes:
    """Give the bytes that ask for the reply to a control packet once more."""
    return packet_header(packet_id, PacketKind.RESEND).astype(">u4").tobytes()


def encode_status_request() -> bytes:
    """Give the bytes of a status request."""
    words = np.zeros(_STATUS_WORDS, dtype=np.uint32)
    words[0] = packet_header(0, PacketKind.STATUS)[0]
    return words.astype(">u4").tobytes()


def encode_status(status: Status, *, little_endian: bool = False) -> bytes:
    """Give the bytes of the board's status."""
    words = np.zeros(_STATUS_WORDS, dtype=np.uint32)
    words[0] = packet_header(0, PacketKind.STATUS)[0]
    words[1:3] = status.mtu_bytes, status.buffers
    words[3] = packet_header(status.next_packet_id, PacketKind.CONTROL)[0]
    words[4:8] = np.array(status.traffic, dtype=np.uint8).view(">u4")
    words[8:12] = status.received
    words[12:16] = status.sent
    return words.astype("<u4" if little_endian else ">u4").tobytes()


def decode_status(content: bytes) -> Status:
    """Read the board's status.

    Raises
    ------
    ProtocolError
        When it is none.
    """
    words, _ = packet_words(content)
    if len(words) != _STATUS_WORDS or read_packet_header(int(words[0]))[1] is not PacketKind.STATUS:
        raise ProtocolError("the board did not answer with its status: check that it speaks IPbus 2.0")
    return Status(
        mtu_bytes=int(words[1]),
        buffers=int(words[2]),
        next_packet_id=(int(words[3]) >> 8) & 0xFFFF,
        traffic=tuple(words[4:8].astype(">u4").tobytes()),
        received=tuple(int(word) for word in words[8:12]),
        sent=tuple(int(word) for word in words[12:16]),
    )
