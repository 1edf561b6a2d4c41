"""A small IPbus 2.0 client over TCP: registers and FIFOs of a board by address, many transactions at once.

Refuses to know what the registers mean.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from hw.errors import BoardError, BoardUnreachable, ProtocolError
from hw.ipbus import (
    LENGTH_BYTES,
    MAXIMUM_COUNT,
    MAXIMUM_TRANSACTIONS,
    WORD_BYTES,
    Info,
    Kind,
    Reply,
    Request,
    Status,
    Words,
    decode_replies,
    decode_status,
    encode_requests,
    encode_status_request,
)

_MAXIMUM_REPLY_BYTES = 1 << 24
_WINDOW_PACKETS = 8
"""Packets sent ahead of their answers; small enough that both sides' socket buffers hold them."""


def read(address: int, count: int = 1) -> list[Request]:
    """Ask for `count` words from consecutive addresses."""
    return [
        Request(Kind.READ, address + start, count=min(MAXIMUM_COUNT, count - start))
        for start in range(0, count, MAXIMUM_COUNT)
    ]


def read_fifo(address: int, count: int) -> list[Request]:
    """Ask for `count` words from one address."""
    return [
        Request(Kind.READ_FIFO, address, count=min(MAXIMUM_COUNT, count - start))
        for start in range(0, count, MAXIMUM_COUNT)
    ]


def write(address: int, words: Words | int) -> list[Request]:
    """Write words to consecutive addresses."""
    data = np.atleast_1d(np.asarray(words, dtype=np.uint32))
    return [
        Request(Kind.WRITE, address + start, data[start : start + MAXIMUM_COUNT])
        for start in range(0, len(data), MAXIMUM_COUNT)
    ]


def write_fifo(address: int, words: Words) -> list[Request]:
    """Write words to one address."""
    return [
        Request(Kind.WRITE_FIFO, address, words[start : start + MAXIMUM_COUNT])
        for start in range(0, len(words), MAXIMUM_COUNT)
    ]


class IPbusClient:
    """A connection to one board. It connects at the first use, and again after a failure; thread-safe.

    Parameters
    ----------
    address
        `host:port`.
    timeout_s
        Longest time to wait for the board at any point.

    Raises
    ------
    BoardUnreachable
        When the address is no `host:port`.
    """

    def __init__(self, address: str, *, timeout_s: float = 5.0) -> None:
        host, separator, port = address.rpartition(":")
        if not separator or not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise BoardUnreachable(f"board address {address!r} is not host:port: write e.g. 127.0.0.1:50001")
        self.address = address
        self._target = (host.strip("[]"), int(port))
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._status = Status(0, 0, 0)

    def close(self) -> None:
        """End the connection; the next call connects again."""
        with self._lock:
            self._disconnect()

    def dispatch(self, requests: Sequence[Request]) -> list[Reply]:
        """Send requests in order, in as few packets as the board allows, and wait for all answers.

        Raises
        ------
        BoardUnreachable
            When the board does not answer in time.
        BoardError
            When a transaction fails on the bus.
        ProtocolError
            When the answers are no IPbus 2.0.
        """
        with self._lock:
            try:
                connection = self._connected()
                replies = self._exchange(connection, requests)
            except (OSError, EOFError) as error:
                self._disconnect()
                raise BoardUnreachable(
                    f"board at {self.address} does not answer ({error or 'timeout'}): "
                    "check that it is running and that the address is right"
                ) from error
            except BaseException:
                # answers of an exchange that was cut short, by Ctrl-C for instance, are not for later ones
                self._disconnect()
                raise
        for request, reply in zip(requests, replies, strict=True):
            if reply.info is not Info.OK:
                raise BoardError(
                    f"board at {self.address}: {request.kind.name} at {request.address:#x} failed with "
                    f"{reply.info.name}: check that client and firmware use the same register map"
                )
        return replies

    def read(self, address: int, count: int = 1) -> Words:
        """Read `count` words from consecutive addresses: uint32, (count,)."""
        return _joined(self.dispatch(read(address, count)))

    def read_fifo(self, address: int, count: int) -> Words:
        """Read `count` words from one address: uint32, (count,)."""
        return _joined(self.dispatch(read_fifo(address, count)))

    def write(self, address: int, words: Words | int) -> None:
        """Write one word, or words to consecutive addresses."""
        self.dispatch(write(address, words))

    def rmw_bits(self, address: int, and_term: int, or_term: int) -> int:
        """Do `X = (X & and_term) | or_term` in one step and give the old X."""
        terms = np.array([and_term, or_term], dtype=np.uint32)
        return int(self.dispatch([Request(Kind.RMW_BITS, address, terms)])[0].words[0])

    def _connected(self) -> socket.socket:
        if self._socket is None:
            connection = socket.create_connection(self._target, timeout=self._timeout_s)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = connection
            _send(connection, encode_status_request())
            self._status = decode_status(_receive(connection))
        return self._socket

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, connection: socket.socket, requests: Sequence[Request]) -> list[Reply]:
        window = max(1, min(self._status.buffers, _WINDOW_PACKETS))
        under_way: list[Sequence[Request]] = []
        replies: list[Reply] = []
        for packet in _packets(requests, self._status.mtu_bytes // WORD_BYTES):
            if len(under_way) == window:
                replies += decode_replies(_receive(connection), 0, under_way.pop(0))
            _send(connection, encode_requests(0, packet))
            under_way.append(packet)
        for packet in under_way:
            replies += decode_replies(_receive(connection), 0, packet)
        return replies


def _packets(requests: Sequence[Request], maximum_words: int) -> Iterator[Sequence[Request]]:
    """Cut requests into packets that fit, counting both directions."""
    packet: list[Request] = []
    out_words = in_words = 1
    for request in requests:
        too_long = (
            out_words + request.wire_words > maximum_words
            or in_words + request.reply_words > maximum_words
            or len(packet) == MAXIMUM_TRANSACTIONS
        )
        if packet and too_long:
            yield packet
            packet, out_words, in_words = [], 1, 1
        packet.append(request)
        out_words += request.wire_words
        in_words += request.reply_words
    if packet:
        yield packet


def _joined(replies: Sequence[Reply]) -> Words:
    return np.concatenate([np.empty(0, np.uint32), *(reply.words for reply in replies)])


def _send(connection: socket.socket, packet: bytes) -> None:
    connection.sendall(len(packet).to_bytes(LENGTH_BYTES, "big") + packet)


def _receive(connection: socket.socket) -> bytes:
    length = int.from_bytes(receive_exactly(connection, LENGTH_BYTES), "big")
    if not 0 < length <= _MAXIMUM_REPLY_BYTES:
        raise ProtocolError(f"the board announced {length} bytes: check that it speaks IPbus 2.0")
    return receive_exactly(connection, length)


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
