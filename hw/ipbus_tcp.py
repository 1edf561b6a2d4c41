"""IPbus 2.0 over TCP: packets in a row behind their lengths, some of them under way at once.

Refuses to know what the requests are for.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from hw.errors import ProtocolError
from hw.ipbus import LENGTH_BYTES, Reply, Request, decode_replies, encode_requests
from hw.ipbus_packing import Packed, pack, unpack
from hw.ipbus_status import decode_status, encode_status_request

_MAXIMUM_REPLY_BYTES = 1 << 24
_WINDOW_PACKETS = 8
"""Packets sent ahead of their answers; small enough that both sides' socket buffers hold them."""


class TcpLink:
    """A connection to a board, made with the object.

    Parameters
    ----------
    host, port
        Where it listens.
    timeout_s
        Longest time to wait for the board at any point.

    Raises
    ------
    OSError, EOFError
        When the board does not answer; also later.
    """

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._send(encode_status_request())
            self._status = decode_status(self._receive())
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def exchange(self, requests: Sequence[Request]) -> list[Reply]:
        """Send requests in order and give all replies, which may say that they failed.

        Raises
        ------
        OSError, EOFError
            When the board does not answer.
        ProtocolError
            When the answers are no IPbus 2.0.
        """
        window = max(1, min(self._status.buffers, _WINDOW_PACKETS))
        under_way: list[Packed] = []
        answered: list[tuple[Packed, Sequence[Reply]]] = []
        for packed in pack(requests, self._status.mtu_bytes):
            if len(under_way) == window:
                answered.append(self._answer(under_way.pop(0)))
            self._send(encode_requests(0, packed.requests))
            under_way.append(packed)
        answered += [self._answer(packed) for packed in under_way]
        return unpack(requests, answered)

    def _answer(self, packed: Packed) -> tuple[Packed, Sequence[Reply]]:
        return packed, decode_replies(self._receive(), 0, packed.requests)

    def _send(self, packet: bytes) -> None:
        self._socket.sendall(len(packet).to_bytes(LENGTH_BYTES, "big") + packet)

    def _receive(self) -> bytes:
        length = int.from_bytes(receive_exactly(self._socket, LENGTH_BYTES), "big")
        if not 0 < length <= _MAXIMUM_REPLY_BYTES:
            raise ProtocolError(f"the board announced {length} bytes: check that it speaks IPbus 2.0")
        return receive_exactly(self._socket, length)


def receive_exactly(connection: socket.socket, count: int) -> bytes:
    """Read exactly `count` bytes.

    Raises
    ------
    EOFError
        When the other side closes the connection before.
    """
    buffer = bytearray(count)
    view = memoryview(buffer)
    while view:
        received = connection.recv_into(view)
        if not received:
            raise EOFError("connection closed")
        view = view[received:]
    return bytes(buffer)
