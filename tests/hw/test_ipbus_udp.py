import random
import socket
from contextlib import closing, contextmanager

import numpy as np
import pytest

from hw.boards.faults import Faults
from hw.boards.server import BoardServer
from hw.errors import BoardBusy, BoardError, BoardUnreachable
from hw.ipbus import Kind, Request, decode_requests
from hw.ipbus_client import IPbusClient, read, write, write_fifo
from hw.ipbus_udp import MTU_BYTES
from tests.support.bad_network import BadNetwork
from tests.support.ram import FIFO, RAM_WORDS, RamDevice


@contextmanager
def served(device, **options):
    with BoardServer(device, **options) as server:
        yield server


def port_of(server):
    return int(server.address.split(":")[1])


def sums(address, count):
    return [Request(Kind.RMW_SUM, address, np.ones(1, np.uint32)) for _ in range(count)]


def work(address, seed=1):
    """Do what leaves a trace when something is executed twice, out of order or not at all."""
    rng = np.random.default_rng(seed)
    client = IPbusClient(address)
    with closing(client):
        block = rng.integers(0, 2**32, 3000, dtype=np.uint32)
        client.write(0, block)
        assert (client.read(0, 3000) == block).all()
        client.dispatch(write_fifo(FIFO, block))
        assert (client.read_fifo(FIFO, 3000) == block).all()
        client.write(4000, 0)
        replies = client.dispatch(sums(4000, 400))
        assert [int(reply.words[0]) for reply in replies] == list(range(400))
        assert [client.rmw_sum(4000, 0xFFFF_FFFF) for _ in range(5)] == [400, 399, 398, 397, 396]
        assert client.rmw_bits(4000, 0xFF, 0x1_0000) == 395
        assert int(client.read(4000)[0]) == 0x1_0000 | (395 & 0xFF)


def test_udp_does_what_tcp_does():
    over_tcp, over_udp = RamDevice(), RamDevice()
    with served(over_tcp) as server:
        work(server.address)
    with served(over_udp) as server:
        work(server.udp_address)
    assert (over_udp.words == over_tcp.words).all()
    assert over_udp.accesses == over_tcp.accesses


@pytest.mark.parametrize("seed", range(4))
def test_lost_packets_and_answers_change_nothing(seed):
    perfect, lossy = RamDevice(), RamDevice()
    with served(perfect) as server:
        work(server.udp_address, seed)
    with served(lossy, faults=Faults(drop=0.1, seed=seed)) as server:
        work(server.udp_address, seed)
    assert lossy.accesses == perfect.accesses
    assert (lossy.words == perfect.words).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_network_that_loses_doubles_delays_and_reorders_changes_nothing(seed):
    perfect, device = RamDevice(), RamDevice()
    with served(perfect) as server:
        work(server.udp_address, seed)
    with (
        served(device) as server,
        BadNetwork(port_of(server), lost=0.03, doubled=0.1, late=0.1, seed=seed) as network,
    ):
        work(network.address, seed)
    assert device.accesses == perfect.accesses
    assert network.largest <= MTU_BYTES


@pytest.mark.parametrize("seed", range(4))
def test_doubles_of_earlier_answers_do_not_disturb_short_exchanges(seed):
    with (
        served(RamDevice()) as server,
        BadNetwork(port_of(server), doubled=0.5, late=0.3, seed=seed) as network,
        closing(IPbusClient(network.address)) as client,
    ):
        client.write(9, 0)
        assert [client.rmw_sum(9, 1) for _ in range(100)] == list(range(100))


def test_answers_that_are_slow_are_waited_for_and_not_taken_for_lost_ones():
    device = RamDevice()
    with served(device, faults=Faults(slow_reply_s=0.15)) as server:
        client = IPbusClient(server.udp_address, timeout_s=1.0)
        with closing(client):
            assert [int(reply.words[0]) for reply in client.dispatch(sums(9, 800))] == list(range(800))
            assert client.rmw_sum(9, 1) == 800
    assert [access for access in device.accesses if access[0] == "write"] == [("write", 9, 1)] * 801


def test_an_answer_that_is_lost_is_asked_for_again_and_nothing_is_executed_twice():
    device, asked = RamDevice(), []

    def lose(content):
        """Lose the first answer with data, and note what goes by."""
        asked.append(content[3] & 0xF)
        return asked.count(0) == 2 and content[3] & 0xF == 0

    with served(device) as server, BadNetwork(port_of(server)) as network:
        client = IPbusClient(network.address)
        with closing(client):
            network.lose_next = lose
            assert client.rmw_sum(5, 7) == 0
    assert int(device.words[5]) == 7
    # status there and back, the packet and its lost answer, status, resend request, the answer again
    assert asked == [1, 1, 0, 0, 1, 1, 2, 0]


def test_a_request_that_is_lost_is_sent_again():
    device, asked = RamDevice(), []

    def lose(content):
        asked.append(content[3] & 0xF)
        return asked.count(0) == 1 and content[3] & 0xF == 0

    with served(device) as server, BadNetwork(port_of(server)) as network:
        client = IPbusClient(network.address)
        with closing(client):
            network.lose_next = lose
            assert client.rmw_sum(5, 7) == 0
    assert int(device.words[5]) == 7
    assert asked == [1, 1, 0, 1, 1, 0, 0]


def test_packet_ids_go_round():
    device = RamDevice()
    with served(device, faults=Faults(drop=0.1, seed=3)) as server:
        server._datagrams._order._next = 65530
        client = IPbusClient(server.udp_address)
        with closing(client):
            for number in range(20):
                assert client.rmw_sum(1, 1) == number


def test_clients_one_after_the_other_do_not_disturb_each_other():
    device = RamDevice()
    with served(device) as server:
        clients = [IPbusClient(server.udp_address) for _ in range(3)]
        for number in range(12):
            assert clients[number % 3].rmw_sum(1, 1) == number
        for client in clients:
            client.close()


def test_a_board_that_starts_again_is_found_again():
    device = RamDevice()
    with served(device) as server:
        client, port = IPbusClient(server.udp_address), port_of(server)
        for number in range(5):
            assert client.rmw_sum(1, 1) == number
    with pytest.raises(BoardUnreachable, match="does not answer"):
        client.read(1)
    with served(device, port=port):
        assert client.rmw_sum(1, 1) == 5
    client.close()


def test_another_client_in_between_is_noticed():
    """A packet of somebody else takes the number of ours: its reply is not mistaken for ours."""
    device = RamDevice()
    with served(device) as server, BadNetwork(port_of(server)) as network:
        other = IPbusClient(server.udp_address)
        intruded = []

        def intrude(content):
            packet = decode_requests(content)
            if packet.requests and not intruded and packet.requests[0].address == 77:
                intruded.append(True)
                other.read(0, 5)
            return False

        network.lose_next = intrude
        client = IPbusClient(network.address)
        with closing(client), closing(other), pytest.raises(BoardBusy, match="somebody else"):
            client.read(77, 4)
        with closing(client):
            assert (client.read(77, 4) == 0).all()


def test_bus_errors_are_said():
    with served(RamDevice()) as server:
        client = IPbusClient(server.udp_address)
        with closing(client):
            with pytest.raises(BoardError, match="READ at 0x1000 failed with READ_ERROR"):
                client.read(RAM_WORDS)
            replies = client.dispatch([*write(0, 5), *read(0)])
            assert int(replies[-1].words[0]) == 5


def test_silence_ends_after_the_timeout():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        client = IPbusClient(f"udp://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
        with closing(client), pytest.raises(BoardUnreachable, match=r"does not answer \(timeout\)"):
            client.read(0)


def test_what_is_no_ipbus_is_dropped_in_silence_and_remembered():
    with served(RamDevice()) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for nonsense in (
                b"",
                b"abc",
                b"GET / HTTP/1.1\r\n\r\n",
                bytes(64),
                random.Random(1).randbytes(2000),
            ):
                stranger.sendto(nonsense, ("127.0.0.1", port_of(server)))
        client = IPbusClient(server.udp_address)
        with closing(client):
            assert client.rmw_sum(0, 1) == 0
        assert 0x45 in server._datagrams._order.status().traffic
