import socket
import threading

import pytest

from hw.errors import BoardUnreachable, ProtocolError
from hw.ipbus_client import BoardAddress, IPbusClient


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address(server):
    return f"127.0.0.1:{server.getsockname()[1]}"


def answer_with(server, content):
    def serve():
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(content)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_nobody_at_the_address_is_said_with_the_address(listener):
    target = address(listener)
    listener.close()
    with pytest.raises(BoardUnreachable, match=f"board at {target} does not answer"):
        IPbusClient(target).read(0)


def test_silence_ends_after_the_timeout(listener):
    with pytest.raises(BoardUnreachable, match="does not answer"):
        IPbusClient(address(listener), timeout_s=0.1).read(0)


def test_a_closed_connection_is_no_answer(listener):
    thread = answer_with(listener, b"")
    with pytest.raises(BoardUnreachable, match="connection closed"):
        IPbusClient(address(listener)).read(0)
    thread.join()


def test_something_that_speaks_another_protocol_is_recognised(listener):
    thread = answer_with(listener, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ProtocolError, match=r"IPbus 2\.0"):
        IPbusClient(address(listener)).read(0)
    thread.join()


@pytest.mark.parametrize(
    "wrong",
    ["", "board", "board:", ":50001", "board:port", "board:99999", "http://board:80", "udp://board", "a/b:1"],
)
def test_what_is_no_address_is_refused(wrong):
    with pytest.raises(BoardUnreachable, match="not host:port"):
        IPbusClient(wrong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("board:50001", BoardAddress("tcp", "board", 50001)),
        ("tcp://10.0.0.7:1", BoardAddress("tcp", "10.0.0.7", 1)),
        ("udp://board.cern.ch:50001", BoardAddress("udp", "board.cern.ch", 50001)),
        ("udp://[::1]:50001", BoardAddress("udp", "::1", 50001)),
    ],
)
def test_an_address_says_how_and_where(text, expected):
    assert BoardAddress.parse(text) == expected
