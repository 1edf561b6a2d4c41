import os
import signal
import socket
from contextlib import closing

import numpy as np
import pytest

from hw.boards.emulated import start_emulated_board
from hw.boards.faults import FaultInjector, Faults
from hw.boards.ipbus import IPbusBoard
from hw.boards.server import BoardServer
from hw.errors import BoardError, BoardUnreachable, PortInUse
from hw.ipbus import Kind, Request
from hw.ipbus_client import IPbusClient
from hw.registers import ACTIVE_BANK, INACTIVE_BANK, Register
from tests.support.ram import RamDevice


def never(choice):
    raise AssertionError


def words(count):
    return np.zeros(count, np.uint32)


def test_tcp_and_udp_share_a_port_and_a_device():
    device = RamDevice()
    with BoardServer(device) as server:
        assert server.udp_address == f"udp://{server.address}"
        over_tcp, over_udp = IPbusClient(server.address), IPbusClient(server.udp_address)
        with closing(over_tcp), closing(over_udp):
            for number in range(6):
                assert (over_tcp, over_udp)[number % 2].rmw_sum(3, 1) == number


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_that_is_taken_is_named(kind):
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} .*choose another or 0"):
            BoardServer(RamDevice(), port)
    with BoardServer(RamDevice(), port):
        pass


def test_what_is_closed_ends_its_connections_and_frees_its_port():
    server = BoardServer(RamDevice())
    client = IPbusClient(server.address)
    assert client.read(0)[0] == 0
    server.close()
    with pytest.raises(BoardUnreachable):
        client.read(0)
    client.close()
    with BoardServer(RamDevice(), int(server.address.split(":")[1])):
        pass


def test_what_answers_but_is_no_board_of_ours_is_recognised():
    with (
        BoardServer(RamDevice()) as server,
        closing(IPbusBoard(server.udp_address)) as board,
        pytest.raises(BoardError, match="is no lumiwatch board with register map 2"),
    ):
        board.identify()


def test_nothing_can_be_asked_for_again_over_tcp():
    with BoardServer(RamDevice()) as server:
        host, port = server.address.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(bytes.fromhex("00000004 200001f2"))
            assert connection.recv(100) == b""


def test_losses_are_seeded_and_their_share_is_what_was_asked_for():
    def losses(seed):
        injector = FaultInjector(Faults(drop=0.05, seed=seed), never)
        return [injector.loses() for _ in range(20_000)]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)
    assert 0.045 < np.mean(losses(1)) < 0.055
    assert not any(FaultInjector(Faults(), never).loses() for _ in range(1000))


def test_bits_flip_after_every_so_many_transactions():
    device = RamDevice()
    with BoardServer(device, faults=Faults(flip_every=10)) as server:
        client = IPbusClient(server.address)
        with closing(client):
            for _ in range(35):
                client.read(0)
    assert sum(int(word).bit_count() for word in device.words) == 3


@pytest.mark.parametrize(
    ("request_", "counts"),
    [
        (Request(Kind.WRITE, INACTIVE_BANK + 5, words(3)), True),
        (Request(Kind.WRITE_FIFO, Register.BOOT_DATA, words(3)), True),
        (Request(Kind.WRITE, ACTIVE_BANK, words(1)), False),
        (Request(Kind.WRITE, Register.CONFIG_LOCK, words(1)), False),
        (Request(Kind.WRITE_FIFO, Register.EVENT_IN, words(1)), False),
        (Request(Kind.READ, INACTIVE_BANK, count=3), False),
    ],
)
def test_a_death_counts_writes_that_load(request_, counts):
    child = os.fork()
    if child == 0:
        FaultInjector(Faults(die_after_writes=1), never).after(request_)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (9 if counts else 0)


def test_the_options_reach_the_process(packages, tmp_path):
    """Flips are seen in memory, losses in the status, both over the process's own wire."""
    with start_emulated_board(
        packages.first.path,
        packages.trusted_path,
        faults=Faults(drop=0.2, flip_every=7, seed=5),
        flash=tmp_path / "flash",
    ) as running:
        client = IPbusClient(running.udp_address)
        with closing(client):
            n_words = packages.first.model.n_words
            for _ in range(12):
                client.read(Register.SCRATCH, 10)
            banks = [client.read(base, n_words) for base in (INACTIVE_BANK, ACTIVE_BANK)]
        expected = packages.first.model.memory().view(np.uint32)
        assert any((bank != expected).any() for bank in banks)
        assert (tmp_path / "flash" / "configuration.zip").exists()
        os.kill(running.pid, signal.SIGTERM)
        assert running._process.wait(60) == 0
