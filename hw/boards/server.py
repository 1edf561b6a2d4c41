"""IPbus servers on loopback around one emulated board: TCP for any number of clients, UDP beside it.

Both listen on the same port. Refuses to listen anywhere but on loopback, and to know what the registers mean.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from hw.boards.device import BusError
from hw.boards.faults import FaultInjector, Faults
from hw.boards.packet_order import PacketOrder
from hw.errors import PortInUse, ProtocolError
from hw.ipbus import (
    LENGTH_BYTES,
    Info,
    Kind,
    PacketKind,
    Reply,
    Request,
    RequestPacket,
    Words,
    decode_requests,
    encode_replies,
)
from hw.ipbus_status import Status, encode_status
from hw.ipbus_tcp import receive_exactly
from hw.ipbus_udp import MTU_BYTES as UDP_MTU_BYTES

LOOPBACK = "127.0.0.1"
TCP_MTU_BYTES = 1 << 16
TCP_BUFFERS = 8
UDP_BUFFERS = 16

_LARGEST_DATAGRAM = 1 << 16
_RECEIVE_BUFFER_BYTES = 1 << 20
_PORT_TRIALS = 20
_REFUSAL_S = 1.0
_NO_FAULTS = Faults()

_log = logging.getLogger(__name__)


class Registers(Protocol):
    """What can be served; its methods raise `BusError` where there is nothing to read or write."""

    def read(self, address: int, count: int) -> Words:
        """Read consecutive words."""
        ...

    def read_fifo(self, address: int, count: int) -> Words:
        """Read words from one address."""
        ...

    def write(self, address: int, words: Words) -> None:
        """Write consecutive words."""
        ...

    def write_fifo(self, address: int, words: Words) -> None:
        """Write words to one address."""
        ...

    def flip_bit(self, choice: random.Random) -> None:
        """Flip one bit of the weight memory, behind everybody's back."""
        ...


def execute(device: Registers, request: Request) -> Reply:
    """Do one IPbus transaction on a device; what the device refuses becomes a bus error."""
    try:
        if request.kind is Kind.READ:
            words = device.read(request.address, request.count)
        elif request.kind is Kind.READ_FIFO:
            words = device.read_fifo(request.address, request.count)
        elif request.kind is Kind.WRITE:
            device.write(request.address, request.words)
            return Reply(request.kind, Info.OK, count=len(request.words))
        elif request.kind is Kind.WRITE_FIFO:
            device.write_fifo(request.address, request.words)
            return Reply(request.kind, Info.OK, count=len(request.words))
        else:
            words = device.read(request.address, 1).copy()
            device.write(request.address, _modified(words, request))
    except BusError:
        writes = request.kind in (Kind.WRITE, Kind.WRITE_FIFO)
        return Reply(request.kind, Info.WRITE_ERROR if writes else Info.READ_ERROR)
    return Reply(request.kind, Info.OK, words, len(words))


def _modified(old: Words, request: Request) -> Words:
    if request.kind is Kind.RMW_BITS:
        return np.asarray((old & request.words[0]) | request.words[1], dtype=np.uint32)
    return np.asarray(old + request.words[0], dtype=np.uint32)


class BoardServer:
    """Serves one device over TCP and UDP until it is closed; packets are executed one at a time.

    Usable in a `with` statement.

    Parameters
    ----------
    device
        The board.
    port
        Port on loopback, the same for TCP and UDP; 0 for a free one.
    faults
        What goes wrong on purpose.

    Raises
    ------
    PortInUse
        When the port is taken.
    """

    def __init__(self, device: Registers, port: int = 0, *, faults: Faults = _NO_FAULTS) -> None:
        self._device = device
        self._lock = threading.Lock()
        self.faults = FaultInjector(faults, device.flip_bit)
        self._stream, self._datagrams = _listen(self, port)
        self._threads = [
            threading.Thread(target=self._stream.serve, name="board-tcp", daemon=True),
            threading.Thread(target=self._datagrams.serve, name="board-udp", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def address(self) -> str:
        """Where it listens over TCP: `host:port`."""
        return f"{LOOPBACK}:{self._stream.port}"

    @property
    def udp_address(self) -> str:
        """Where it listens over UDP: `udp://host:port`."""
        return f"udp://{self.address}"

    def answer(self, packet: RequestPacket) -> bytes:
        """Execute a control packet and give the reply."""
        with self._lock:
            replies = []
            for request in packet.requests:
                replies.append(execute(self._device, request))
                self.faults.after(request)
        self.faults.hold_back()
        return encode_replies(packet, replies)

    def close(self) -> None:
        """End both servers and every connection."""
        self._stream.close()
        self._datagrams.close()
        for thread in self._threads:
            thread.join()
        self.disconnect()

    def disconnect(self) -> None:
        """End every TCP connection; clients may connect again."""
        self._stream.disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Stream:
    """The TCP side: a thread for every connection."""

    def __init__(self, server: BoardServer, port: int) -> None:
        self._server = server
        self._connections: set[socket.socket] = set()
        self._socket = socket.create_server((LOOPBACK, port))
        self.port: int = self._socket.getsockname()[1]

    def serve(self) -> None:
        """Take connections until it is closed."""
        with self._socket:
            while True:
                try:
                    connection, client = self._socket.accept()
                except OSError:  # closed
                    return
                self._connections.add(connection)
                threading.Thread(target=self._handle, args=(connection, client), daemon=True).start()

    def close(self) -> None:
        """Make the serving thread give the port back and end."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def abandon(self) -> None:
        """Give the port back where nobody has served yet."""
        self._socket.close()

    def disconnect(self) -> None:
        """End every connection."""
        for connection in tuple(self._connections):
            with suppress(OSError):  # its client was faster
                connection.shutdown(socket.SHUT_RDWR)

    def _handle(self, connection: socket.socket, client: object) -> None:
        with connection, suppress(EOFError, OSError):
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while True:
                    answer = self._answer(_packet(connection))
                    connection.sendall(len(answer).to_bytes(LENGTH_BYTES, "big") + answer)
            except ProtocolError as error:
                _log.warning("client %s: %s", client, error)
                _refuse(connection)
            finally:
                self._connections.discard(connection)

    def _answer(self, content: bytes) -> bytes:
        packet = decode_requests(content)
        if packet.kind is PacketKind.STATUS:
            status = Status(TCP_MTU_BYTES, TCP_BUFFERS, 0)
            return encode_status(status, little_endian=packet.little_endian)
        if packet.kind is PacketKind.RESEND:
            raise ProtocolError("nothing gets lost over TCP: there is nothing to send again")
        return self._server.answer(packet)


def _packet(connection: socket.socket) -> bytes:
    length = int.from_bytes(receive_exactly(connection, LENGTH_BYTES), "big")
    if not 0 < length <= TCP_MTU_BYTES:
        raise ProtocolError(f"a packet of {length} bytes is announced: check what is sent to this port")
    return receive_exactly(connection, length)


def _refuse(connection: socket.socket) -> None:
    """End a connection in good order: what was sent and not read would make it a reset."""
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(_REFUSAL_S)
    connection.recv(TCP_MTU_BYTES)


class _Datagrams:
    """The UDP side: one socket, one order of packets for all clients, as in firmware."""

    def __init__(self, server: BoardServer, port: int) -> None:
        self._server = server
        self._order = PacketOrder(UDP_MTU_BYTES, UDP_BUFFERS)
        self._closing = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            self._socket.bind((LOOPBACK, port))
        except OSError:
            self._socket.close()
            raise

    def serve(self) -> None:
        """Answer until it is closed."""
        with self._socket:
            while True:
                content, client = self._socket.recvfrom(_LARGEST_DATAGRAM)
                if self._closing:
                    return
                if self._server.faults.loses():
                    continue
                reply = self._reply(content)
                if reply is not None and not self._server.faults.loses():
                    self._socket.sendto(reply, client)

    def close(self) -> None:
        """Make the serving thread give the port back and end."""
        self._closing = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self._socket.getsockname())

    def _reply(self, content: bytes) -> bytes | None:
        """Give the answer to a packet; nothing where the protocol wants silence."""
        try:
            packet = decode_requests(content)
        except ProtocolError as error:
            self._order.refused()
            _log.warning("UDP: %s", error)
            return None
        if packet.kind is PacketKind.STATUS:
            return encode_status(self._order.status(), little_endian=packet.little_endian)
        if packet.kind is PacketKind.RESEND:
            return self._order.resend(packet.packet_id)
        if len(content) > UDP_MTU_BYTES:
            self._order.refused()
            _log.warning("UDP: a packet of %d bytes, at most %d are taken", len(content), UDP_MTU_BYTES)
            return None
        if not self._order.accept(packet.packet_id):
            return None
        reply = self._server.answer(packet)
        self._order.replied(packet.packet_id, reply)
        return reply


def _listen(server: BoardServer, port: int) -> tuple[_Stream, _Datagrams]:
    """Take the same port for TCP and UDP."""
    for trial in range(1, _PORT_TRIALS + 1):
        try:
            stream = _Stream(server, port)
        except OSError as error:
            raise _in_use(port, error) from error
        try:
            return stream, _Datagrams(server, stream.port)
        except OSError as error:
            stream.abandon()
            if port or trial == _PORT_TRIALS:
                raise _in_use(port, error) from error
    raise AssertionError  # the last trial returns or raises


def _in_use(port: int, error: OSError) -> PortInUse:
    return PortInUse(f"port {port} on {LOOPBACK} cannot be used ({error.strerror}): choose another or 0")
