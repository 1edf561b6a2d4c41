"""The gate passes frames on unchanged, holds what it is told to hold, and knows when all is answered."""

import contextlib
import socket
import struct
import threading
import time

import pytest

from streams.broker.gate import Gate, Kind, parse_request

FETCH, METADATA, PRODUCE = 1, 3, 0


def frame(key=METADATA, correlation=1, client=b"producer", version=3, body=b""):
    content = struct.pack(">hhih", key, version, correlation, len(client)) + client + body
    return struct.pack(">i", len(content)) + content


def produce(correlation=1, client=b"producer", acks=-1, size=10):
    return frame(PRODUCE, correlation, client, body=struct.pack(">hhi", -1, acks, 1000) + b"x" * size)


class Server:
    """A stand-in for the broker: keeps the frames that it gets and answers those it is told to answer."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.frames = []
        self.connections = []
        self.answering = threading.Event()
        self.answering.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        # a client may be gone when its answer comes
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
            while head := stream.read(4):
                content = stream.read(struct.unpack(">i", head)[0])
                self.frames.append(content)
                self.answering.wait()
                connection.sendall(struct.pack(">i", 8) + content[4:8] + b"done")

    def close(self):
        self.answering.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


@pytest.fixture
def gate(server):
    with Gate(upstream_port=server.port, exempt=("worker",), master="master") as running:
        yield running


@pytest.fixture
def connect(gate):
    """Return a function that connects a client to the gate."""
    opened = []

    def to_gate():
        opened.append(socket.create_connection(("127.0.0.1", gate.port), timeout=10))
        return opened[-1]

    yield to_gate
    for connection in opened:
        connection.close()


def answer(connection):
    content = b""
    while len(content) < 12:
        content += connection.recv(12 - len(content))
    return struct.unpack_from(">i", content, 4)[0]


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@pytest.mark.parametrize("size", [0, 600, 3_000_000])
def test_frames_pass_unchanged_whatever_their_size(server, gate, connect, size):
    client = connect()
    first, second = produce(1, size=size), frame(METADATA, 2)
    client.sendall(first + second)

    assert [answer(client), answer(client)] == [1, 2]
    assert server.frames == [first[4:], second[4:]]
    assert gate.produced_bytes == len(first)


def test_a_frame_may_arrive_byte_by_byte(server, connect):
    client = connect()
    for byte in produce(7):
        client.sendall(bytes([byte]))
    assert answer(client) == 7
    assert server.frames == [produce(7)[4:]]


def test_only_producers_are_held_and_workers_are_none(server, gate, connect):
    # given a gate that holds
    gate.hold()
    producer, worker, reader = connect(), connect(), connect()

    # when everybody sends
    producer.sendall(produce(1))
    worker.sendall(produce(2, client=b"worker-0"))
    reader.sendall(frame(FETCH, 3))
    assert (answer(worker), answer(reader)) == (2, 3)
    until(lambda: gate.waiting == 1)

    # then the producer's request passes once it is released
    assert len(server.frames) == 2
    gate.release()
    assert answer(producer) == 1
    assert gate.waiting == 0


def test_producers_wait_once_their_allowance_is_spent(server, gate, connect):
    # given an allowance that one request spends
    gate.allow(100)
    producer = connect()
    producer.sendall(produce(1, size=100) + produce(2))
    assert answer(producer) == 1
    until(lambda: gate.waiting == 1)
    assert len(server.frames) == 1

    # then the next one passes with the next allowance
    gate.allow(100)
    assert answer(producer) == 2


def test_the_request_of_a_client_that_gave_up_is_never_passed_on(server, gate, connect):
    # given a producer that waits
    gate.hold()
    producer = connect()
    producer.sendall(produce(1, size=20_000))
    until(lambda: gate.waiting == 1)

    # when it gives up, as a client does after its time-out, and sends again
    producer.close()
    until(lambda: gate.waiting == 0)
    again = connect()
    again.sendall(produce(2))
    gate.release()

    # then the broker sees it once
    assert answer(again) == 2
    assert server.frames == [produce(2)[4:]]


def test_it_says_when_every_produce_request_is_answered(server, gate, connect):
    server.answering.clear()
    client = connect()
    client.sendall(produce(1))
    until(lambda: len(server.frames) == 1)
    gate.hold()

    assert not gate.settled(0.05)
    server.answering.set()
    assert gate.settled(10)


def test_a_request_counts_until_the_broker_answers_even_if_its_client_is_gone(server, gate, connect):
    server.answering.clear()
    client = connect()
    client.sendall(produce(1))
    until(lambda: len(server.frames) == 1)
    client.close()

    assert not gate.settled(0.1)
    server.answering.set()
    assert gate.settled(10)


def test_a_connection_that_the_broker_drops_counts_no_longer(server, gate, connect):
    server.answering.clear()
    client = connect()
    client.sendall(produce(1))
    until(lambda: len(server.frames) == 1)
    server.connections[0].shutdown(socket.SHUT_RDWR)

    assert gate.settled(10)
    assert client.recv(1) == b""


def test_no_answer_is_awaited_where_none_comes(server, gate, connect):
    server.answering.clear()
    connect().sendall(produce(1, acks=0))
    until(lambda: len(server.frames) == 1)
    assert gate.settled(0.01)


def test_while_sealed_only_the_master_passes(server, gate, connect):
    client, worker, master = connect(), connect(), connect()
    with gate.sealed(1.0) as quiet:
        assert quiet
        client.sendall(frame(METADATA, 1))
        worker.sendall(produce(2, client=b"worker-0"))
        until(lambda: gate.waiting == 2)
        master.sendall(frame(METADATA, 3, client=b"master"))
        assert answer(master) == 3
        assert len(server.frames) == 1
    assert (answer(client), answer(worker)) == (1, 2)


def test_a_seal_waits_for_answers_but_not_for_ever_for_fetches(server, gate, connect):
    server.answering.clear()
    connect().sendall(frame(FETCH, 1))
    until(lambda: len(server.frames) == 1)
    with gate.sealed(0.1) as quiet:
        assert quiet
    connect().sendall(frame(METADATA, 2))
    until(lambda: len(server.frames) == 2)
    with gate.sealed(0.1) as quiet:
        assert not quiet


@pytest.mark.parametrize(
    "hostile", [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x08\0\0\0\x03\0\0\0\x01", frame(client=b"x" * 600)]
)
def test_what_is_no_request_ends_its_connection_only(server, gate, connect, hostile):
    stranger, client = connect(), connect()
    stranger.sendall(hostile)
    assert stranger.recv(1) == b""

    client.sendall(frame(METADATA, 1))
    assert answer(client) == 1
    assert len(server.frames) == 1


def test_leaving_the_gate_ends_every_connection(server):
    with Gate(upstream_port=server.port) as gate:
        client = socket.create_connection(("127.0.0.1", gate.port), timeout=10)
        client.sendall(frame(METADATA, 1))
        assert answer(client) == 1
        gate.hold()
        client.sendall(produce(2))
        until(lambda: gate.waiting == 1)
    assert client.recv(1) == b""
    client.close()


@pytest.mark.parametrize(
    ("version", "before_acks"),
    [(2, b""), (3, b"\xff\xff"), (3, b"\0\x02tx"), (9, b"\0\0"), (9, b"\0\x03tx")],
    ids=["old", "no transaction", "a transaction", "flexible", "flexible with a transaction"],
)
@pytest.mark.parametrize("acks", [-1, 0, 1])
def test_acks_are_read_in_every_version(version, before_acks, acks):
    head = frame(PRODUCE, 5, b"me", version, before_acks + struct.pack(">h", acks))[4:]
    request = parse_request(head)
    assert (request.kind, request.correlation, request.client) == (Kind.PRODUCE, 5, "me")
    assert request.answered == (acks != 0)


def test_a_client_without_an_id_is_a_client(server, connect):
    client = connect()
    content = struct.pack(">hhih", METADATA, 0, 9, -1)
    client.sendall(struct.pack(">i", len(content)) + content)
    assert answer(client) == 9
