"""IPbus 2.0 over UDP, made reliable as the protocol means it: numbered packets, status and resend requests.

Packets and answers may be lost, doubled or late; nothing is executed twice and nothing out of order. A packet
without an answer in time makes the client ask for the status: what the board has executed it is asked to
answer again, what it has not is sent again. Nothing in a status tells an old one from a new one, so every
exchange has a port of its own, which no answer to an earlier one reaches. Refuses to know what the requests
are for, and to share a board with a second client: packets are numbered for the board, not for a client; TCP
is for boards that are shared.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hw.errors import BoardBusy, ProtocolError
from hw.ipbus import (
    MAXIMUM_TRANSACTIONS,
    PacketKind,
    Reply,
    Request,
    decode_replies,
    encode_requests,
    packet_words,
    read_packet_header,
)
from hw.ipbus_packing import Packed, pack, unpack
from hw.ipbus_status import (
    Status,
    decode_status,
    encode_resend_request,
    encode_status_request,
    packet_id_after,
    packets_between,
)

MTU_BYTES = 1472
"""What an Ethernet frame of 1500 bytes leaves beside the headers of IP and UDP."""

_LARGEST_DATAGRAM = 1 << 16
_WINDOW_PACKETS = 16
_FIRST_WAIT_S = 0.02
_LONGEST_WAIT_S = 0.5


@dataclass(slots=True)
class _UnderWay:
    """A packet that was sent at least once."""

    packet_id: int
    packed: Packed
    content: bytes
    first_transaction: int
    replies: list[Reply] | None = None


class UdpLink:
    """The way to a board over UDP; the board is first asked when something is exchanged.

    Parameters
    ----------
    host, port
        Where it listens.
    timeout_s
        Longest time without any progress.

    Raises
    ------
    OSError
        When the address cannot be reached; also later.
    """

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        self._family: int = found[0]
        self._target: tuple[Any, ...] = found[4]
        self._timeout_s = timeout_s
        self._socket = self._open()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def exchange(self, requests: Sequence[Request]) -> list[Reply]:
        """Send requests in order and give all replies, which may say that they failed.

        Raises
        ------
        OSError
            When the board does not answer.
        BoardBusy
            When another client's packets come in between, or the board was started again.
        ProtocolError
            When the answers are no IPbus 2.0.
        """
        status = self._synchronised()
        window = max(1, min(status.buffers, _WINDOW_PACKETS))
        waiting = pack(requests, min(status.mtu_bytes, MTU_BYTES))
        answered: list[tuple[Packed, Sequence[Reply]]] = []
        under_way: list[_UnderWay] = []
        packet_id, wait_s, deadline = status.next_packet_id, _FIRST_WAIT_S, self._deadline()
        while True:
            for packed in _up_to(waiting, window - len(under_way)):
                under_way.append(self._send(packet_id, packed))
                packet_id = packet_id_after(packet_id)
            if not under_way:
                return unpack(requests, answered)
            if self._answered(under_way, wait_s) or self._recover(under_way, deadline):
                wait_s, deadline = _FIRST_WAIT_S, self._deadline()
            else:
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            while under_way and (replies := under_way[0].replies) is not None:
                answered.append((under_way.pop(0).packed, replies))

    def _send(self, packet_id: int, packed: Packed) -> _UnderWay:
        # a number nobody else uses makes the reply recognisable: ids of packets are the same for every client
        first = secrets.randbelow(MAXIMUM_TRANSACTIONS)
        content = encode_requests(packet_id, packed.requests, first_transaction=first)
        self._socket.send(content)
        return _UnderWay(packet_id, packed, content, first)

    def _answered(self, under_way: Sequence[_UnderWay], wait_s: float) -> bool:
        """Wait for one answer; false when none came in time."""
        until = time.monotonic() + wait_s
        while (content := self._receive(until)) is not None:
            if self._take(content, under_way):
                return True
        return False

    def _take(self, content: bytes, under_way: Sequence[_UnderWay]) -> bool:
        """Keep an answer that is waited for; false when it is none, or an old one."""
        packet_id, kind = _header(content)
        for packet in under_way:
            if kind is PacketKind.CONTROL and packet.packet_id == packet_id and packet.replies is None:
                packet.replies = self._decoded(content, packet)
                return True
        return False

    def _decoded(self, content: bytes, packet: _UnderWay) -> list[Reply]:
        try:
            return decode_replies(
                content, packet.packet_id, packet.packed.requests, first_transaction=packet.first_transaction
            )
        except ProtocolError as error:
            raise self._not_alone() from error

    def _recover(self, under_way: Sequence[_UnderWay], deadline: float) -> bool:
        """Find out what is lost and send it, or ask for it, again; true when an answer came after all."""
        for _ in range(2):
            if (status := self._status(deadline, under_way)) is None:
                return True
            executed = packets_between(under_way[0].packet_id, status.next_packet_id)
            if executed <= len(under_way):
                break
            # an answer to an earlier question, perhaps: a new port gets answers to new ones only
            self._renew()
        else:
            raise self._not_alone()
        for index, packet in enumerate(under_way):
            if index >= executed:
                self._socket.send(packet.content)
            elif packet.replies is None:
                self._socket.send(encode_resend_request(packet.packet_id))
        return False

    def _synchronised(self) -> Status:
        """Ask which packet comes next, on a port that no late answer can reach."""
        self._renew()
        status = self._status(self._deadline(), ())
        if status is None:
            raise ProtocolError("the board did not answer with its status: check that it speaks IPbus 2.0")
        return status

    def _status(self, deadline: float, under_way: Sequence[_UnderWay]) -> Status | None:
        """Ask for the status; nothing when an answer that was waited for came instead."""
        wait_s = _FIRST_WAIT_S
        while time.monotonic() < deadline:
            self._socket.send(encode_status_request())
            until = time.monotonic() + wait_s
            while (content := self._receive(until)) is not None:
                if _header(content)[1] is PacketKind.STATUS:
                    return decode_status(content)
                if self._take(content, under_way):
                    return None
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
        raise TimeoutError("timeout")

    def _receive(self, until: float) -> bytes | None:
        remaining = until - time.monotonic()
        if remaining <= 0:
            return None
        self._socket.settimeout(remaining)
        try:
            return self._socket.recv(_LARGEST_DATAGRAM)
        except TimeoutError:
            return None

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout_s

    def _open(self) -> socket.socket:
        opened = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            opened.connect(self._target)
        except OSError:
            opened.close()
            raise
        return opened

    def _renew(self) -> None:
        self._socket.close()
        self._socket = self._open()

    def _not_alone(self) -> BoardBusy:
        host, port = self._target[:2]
        return BoardBusy(
            f"board at udp://{host}:{port} has taken packets from somebody else or was started again: "
            "try again, and use tcp:// where several clients share a board"
        )


def _header(content: bytes) -> tuple[int, PacketKind]:
    return read_packet_header(int(packet_words(content)[0][0]))


def _up_to(packets: Iterator[Packed], count: int) -> Iterator[Packed]:
    for _, packed in zip(range(count), packets, strict=False):
        yield packed
