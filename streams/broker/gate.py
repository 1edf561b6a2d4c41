"""The gate in front of the embedded broker: it relays Kafka's frames and can make producers wait.

The embedded broker keeps whatever it is sent. The gate counts what is produced, and holds back further
``Produce`` requests while `streams.broker.rolling` makes room; a producer feels nothing but a slow
broker. It reads the headers of requests and of responses and refuses to know what is in them.

A connection has two threads, one for each direction; they spend their time in the kernel, so that the
gate costs about a tenth of a core at 90 MB/s in and out.
"""

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, Self

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 1 << 20
_HEAD_BYTES: Final = 512
"""A request's header and, of a ``Produce``, all before its topics fit into this, or it is refused."""
_LOOK_S: Final = 0.1
_PRODUCE: Final = 0
_FETCH: Final = 1
_FIRST_FLEXIBLE_PRODUCE: Final = 9
_FIRST_TRANSACTIONAL_PRODUCE: Final = 3
_HANG_UP: Final = getattr(select, "POLLRDHUP", 0)  # Linux says when the other end has closed; others say less


class Kind(Enum):
    """What a request is to the gate."""

    PRODUCE = "produce"
    FETCH = "fetch"
    OTHER = "other"


@dataclass(frozen=True)
class Request:
    """What the gate knows of a request: its head.

    Attributes
    ----------
    correlation
        Number that the response repeats.
    client
        Client id, as the client calls itself.
    answered
        Whether a response will come: none does to a ``Produce`` with ``acks=0``.
    """

    kind: Kind
    correlation: int
    client: str
    answered: bool = True


def parse_request(head: bytes | memoryview) -> Request:
    """Read the header of a request frame, without its four bytes of length.

    Raises
    ------
    ValueError
        It is no Kafka request, or longer than any client's in earnest.
    """
    try:
        key, version, correlation, length = struct.unpack_from(">hhih", head)
        client = bytes(head[10 : 10 + max(length, 0)])
        if len(client) < length:
            raise ValueError("a client id that does not end")
        name = client.decode(errors="replace")
        if key == _PRODUCE:
            acks = _acks(head, 10 + max(length, 0), version)
            return Request(Kind.PRODUCE, correlation, name, answered=acks != 0)
    except (struct.error, IndexError) as error:
        raise ValueError("a request header that does not end") from error
    return Request(Kind.FETCH if key == _FETCH else Kind.OTHER, correlation, name)


def _acks(head: bytes | memoryview, place: int, version: int) -> int:
    """Acks of a ``Produce`` whose body begins at `place`; header and body are flexible from version 9 on."""
    if version >= _FIRST_FLEXIBLE_PRODUCE:
        if head[place] != 0:
            raise ValueError("a request header with tagged fields")
        length, place = _varint(head, place + 1)
        place += max(length - 1, 0)
    elif version >= _FIRST_TRANSACTIONAL_PRODUCE:
        (length,) = struct.unpack_from(">h", head, place)
        place += 2 + max(length, 0)
    acks: int = struct.unpack_from(">h", head, place)[0]
    return acks


def _varint(head: bytes | memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = head[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


class Gate:
    """Relays connections on loopback to a broker on another port of loopback.

    Parameters
    ----------
    port
        Where clients connect, and what the broker must advertise; 0 takes a free one.
    upstream_port
        Where the broker listens; may be set later, before the first client comes.
    exempt
        Client ids that begin so are never held: whoever empties the broker must be able to write.
    master
        Client ids that begin so pass even while the gate is sealed.
    """

    def __init__(
        self, port: int = 0, *, upstream_port: int = 0, exempt: tuple[str, ...] = (), master: str = "\0"
    ) -> None:
        self.upstream_port = upstream_port
        self._exempt = (*exempt, master)
        self._master = master
        self._changed = threading.Condition()
        self._held = self._sealed = self._closed = False
        self._pending = dict.fromkeys(Kind, 0)
        self._waiting = 0
        self._produced_bytes = 0
        self._allowance: float = float("inf")
        self._connections: set[_Connection] = set()
        self._listener = socket.create_server((HOST, port))
        self.port: int = self._listener.getsockname()[1]

    @property
    def bootstrap(self) -> str:
        """Address for clients, ``127.0.0.1:port``."""
        return f"{HOST}:{self.port}"

    @property
    def produced_bytes(self) -> int:
        """Bytes of ``Produce`` requests that were let through."""
        return self._produced_bytes

    @property
    def waiting(self) -> int:
        """Connections of which a request waits now."""
        return self._waiting

    @property
    def held(self) -> bool:
        """Whether producers have to wait."""
        return self._held

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="broker-gate", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            connections = list(self._connections)
            self._changed.notify_all()
        # a thread that waits in accept() is woken by shutdown, not by close
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in connections:
            connection.close()

    def allow(self, more_bytes: int) -> None:
        """Let so many bytes be produced from now on; then producers wait as if held."""
        with self._changed:
            self._allowance = self._produced_bytes + more_bytes
            self._changed.notify_all()

    def hold(self) -> None:
        """Let no further ``Produce`` request pass, but those of exempt clients."""
        self._held = True

    def release(self) -> None:
        """Let ``Produce`` requests pass again."""
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def settled(self, timeout_s: float) -> bool:
        """Wait until the broker has answered every ``Produce`` request that passed; False: not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._pending[Kind.PRODUCE] == 0, timeout_s)

    @contextlib.contextmanager
    def sealed(self, timeout_s: float) -> Iterator[bool]:
        """Let nothing pass but the master's requests.

        Yields True once all other requests are answered, ``Fetch`` requests apart, which may wait long for
        messages and get half of `timeout_s`; False when they are not.
        """
        with self._changed:
            self._sealed = True
        try:
            with self._changed:
                self._changed.wait_for(lambda: not any(self._pending.values()), timeout_s / 2)
                quiet = self._changed.wait_for(
                    lambda: not (self._pending[Kind.PRODUCE] or self._pending[Kind.OTHER]), timeout_s / 2
                )
            yield quiet
        finally:
            with self._changed:
                self._sealed = False
                self._changed.notify_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection((HOST, self.upstream_port))
            except OSError:
                client.close()  # the broker is gone; its keeper says so
                continue
            connection = _Connection(self, client, broker)
            with self._changed:
                if self._closed:
                    connection.close()
                    return
                self._connections.add(connection)
            connection.start()

    def admit(self, request: Request, size: int, gone: Callable[[], bool]) -> bool:
        """Wait until a request may pass and count it in; False when its client went away meanwhile.

        A client that leaves more behind than the kernel keeps unread is not known to be gone: its request
        passes, and what it sends again is counted once by its identity.
        """
        with self._changed:
            if self._must_wait(request):
                self._waiting += 1
                try:
                    while self._must_wait(request):
                        self._changed.wait(_LOOK_S)
                        if self._closed or gone():
                            return False
                finally:
                    self._waiting -= 1
            if request.kind is Kind.PRODUCE:
                self._produced_bytes += size
            if request.answered and not request.client.startswith(self._master):
                self._pending[request.kind] += 1
            return True

    def answered(self, request: Request) -> None:
        """Count a request out."""
        if request.client.startswith(self._master):
            return
        with self._changed:
            self._pending[request.kind] -= 1
            if not self._pending[request.kind]:
                self._changed.notify_all()

    def forget(self, connection: "_Connection") -> None:
        """Drop a connection that has ended."""
        with self._changed:
            self._connections.discard(connection)

    def _must_wait(self, request: Request) -> bool:
        if self._sealed and not request.client.startswith(self._master):
            return True
        if request.kind is not Kind.PRODUCE or request.client.startswith(self._exempt):
            return False
        return self._held or self._produced_bytes >= self._allowance


class _Connection:
    """A client's connection and the one to the broker that belongs to it."""

    def __init__(self, gate: Gate, client: socket.socket, broker: socket.socket) -> None:
        for end in (client, broker):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._gate = gate
        self._client = client
        self._broker = broker
        self._pending: dict[int, Request] = {}
        self._lock = threading.Lock()
        self._hang_up = select.poll()
        self._hang_up.register(client, _HANG_UP)
        self._client_is_gone = False
        self._threads = [
            threading.Thread(target=target, name="broker-gate-relay", daemon=True)
            for target in (self._requests, self._responses)
        ]

    def start(self) -> None:
        """Relay until one end closes."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End both directions."""
        for end in (self._client, self._broker):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _requests(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            _relay(self._client, self._broker.sendall, _HEAD_BYTES, self._admit)
        # the broker answers what it has got, then closes
        with contextlib.suppress(OSError):
            self._broker.shutdown(socket.SHUT_WR)

    def _responses(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            _relay(self._broker, self._send_to_client, 8, self._answered)
        self.close()
        self._threads[0].join()
        with self._lock:
            left, self._pending = list(self._pending.values()), {}
        for request in left:
            self._gate.answered(request)
        self._client.close()
        self._broker.close()
        self._gate.forget(self)

    def _send_to_client(self, content: memoryview) -> None:
        """Send, or only read on: what the broker still answers must be counted although nobody listens."""
        if not self._client_is_gone:
            try:
                self._client.sendall(content)
            except OSError:
                self._client_is_gone = True

    def _admit(self, frame: memoryview, size: int) -> bool:
        request = parse_request(frame[4:])
        if not self._gate.admit(request, size, lambda: bool(self._hang_up.poll(0))):
            return False
        if request.answered:
            with self._lock:
                self._pending[request.correlation] = request
        return True

    def _answered(self, frame: memoryview, _size: int) -> bool:
        correlation: int = struct.unpack_from(">i", frame, 4)[0]
        with self._lock:
            request = self._pending.pop(correlation, None)
        if request is not None:
            self._gate.answered(request)
        return True


def _relay(
    source: socket.socket,
    send: Callable[[memoryview], None],
    head_bytes: int,
    admit: Callable[[memoryview, int], bool],
) -> None:
    """Send on frame after frame until the source ends or `admit` says no.

    `admit` sees the first bytes of a frame, `head_bytes` of them or all, and its size with the length field,
    before any of it is sent on.
    """
    buffer = memoryview(bytearray(CHUNK_BYTES))
    filled = 0  # bytes that wait in the buffer; they begin with a frame
    while True:
        needed = 4
        size = 0
        if filled >= 4:
            size = 4 + struct.unpack_from(">i", buffer)[0]
            if size < 8:
                raise ValueError("a frame without a header")
            needed = min(size, head_bytes)
        if filled < needed or not size:
            count = source.recv_into(buffer[filled:])
            if not count:
                return
            filled += count
            continue
        if not admit(buffer[:needed], size):
            return
        first = min(filled, size)
        send(buffer[:first])
        _keep(buffer, first, filled)
        filled -= first
        left = size - first
        while left:
            count = source.recv_into(buffer)
            if not count:
                return
            part = min(count, left)
            send(buffer[:part])
            left -= part
            _keep(buffer, part, count)
            filled = count - part


def _keep(buffer: memoryview, start: int, end: int) -> None:
    """Move what follows a frame to the front of the buffer."""
    if start < end:
        buffer[: end - start] = bytes(buffer[start:end])
