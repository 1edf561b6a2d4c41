"""A board's side of reliable IPbus over UDP: which packet comes next, and the replies it may have to repeat.

Refuses to know sockets and what the packets do.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from hw.ipbus import PacketKind, packet_header
from hw.ipbus_status import (
    CONTROL_HEADERS,
    TRAFFIC_EVENTS,
    Arrival,
    Status,
    arrival_byte,
    packet_id_after,
)


class PacketOrder:
    """The order of control packets, and the history of a board.

    Parameters
    ----------
    mtu_bytes
        Largest packet the board takes and gives.
    buffers
        Replies it keeps.
    """

    def __init__(self, mtu_bytes: int, buffers: int) -> None:
        self._mtu_bytes = mtu_bytes
        self._buffers = buffers
        self._next = 1
        self._replies: OrderedDict[int, bytes] = OrderedDict()
        self._traffic: deque[int] = deque([0] * TRAFFIC_EVENTS, TRAFFIC_EVENTS)
        self._received: deque[int] = deque([0] * CONTROL_HEADERS, CONTROL_HEADERS)
        self._sent: deque[int] = deque([0] * CONTROL_HEADERS, CONTROL_HEADERS)

    def accept(self, packet_id: int) -> bool:
        """Say whether a control packet is to be executed; if so the next one is expected."""
        accepted = packet_id in (0, self._next)
        self._note(Arrival.CONTROL, dropped=not accepted)
        if accepted:
            self._received.append(_control(packet_id))
        if packet_id and accepted:
            self._next = packet_id_after(packet_id)
        return accepted

    def replied(self, packet_id: int, reply: bytes) -> None:
        """Keep the reply to a packet, instead of the oldest one; nobody can ask for the reply to packet 0."""
        self._sent.append(_control(packet_id))
        if packet_id:
            self._replies[packet_id] = reply
            while len(self._replies) > self._buffers:
                self._replies.popitem(last=False)

    def resend(self, packet_id: int) -> bytes | None:
        """Give the reply to a packet once more, if it is still kept."""
        reply = self._replies.get(packet_id)
        self._note(Arrival.RESEND, dropped=reply is None)
        return reply

    def refused(self) -> None:
        """Note that something arrived that is no packet for this board."""
        self._note(Arrival.OTHER, dropped=True)

    def status(self) -> Status:
        """Give the board's status; the question belongs to its history."""
        self._note(Arrival.STATUS, dropped=False)
        return Status(
            self._mtu_bytes,
            self._buffers,
            self._next,
            tuple(self._traffic),
            tuple(self._received),
            tuple(self._sent),
        )

    def _note(self, arrival: Arrival, *, dropped: bool) -> None:
        self._traffic.append(arrival_byte(arrival, dropped=dropped))


def _control(packet_id: int) -> int:
    return int(packet_header(packet_id, PacketKind.CONTROL)[0])
