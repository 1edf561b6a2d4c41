import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from hw import ipbus_tcp
from hw.board import Board
from hw.boards.emulated import start_emulated_board
from hw.boards.ipbus import IPbusBoard
from hw.emulator import Emulator
from hw.errors import BoardError, BoardRefused, BoardUnreachable
from hw.ipbus_client import IPbusClient
from hw.registers import Register
from hw.signing import create_signing_key
from tests.support.hw import corner_inputs, random_inputs

CLIENT_THAT_DIES = """
import os, sys, numpy as np
from hw.boards.ipbus import IPbusBoard
board = IPbusBoard(sys.argv[1])
with board.exclusive():
    board.load_inactive(np.full(1000, 12345, np.int32), start=500)
    os.kill(os.getpid(), 9)
"""


def switch_to(board, package):
    with board.exclusive():
        board.load_inactive(package.model.memory())
        return board.switch(
            structure_hash=package.model.structure_hash,
            weights_hash=package.model.weights_hash,
            package_id=package.id,
        )


def test_the_client_is_a_board(board):
    typed: Board = board
    assert typed.address == board.address


def test_it_says_what_it_runs(board, packages):
    identity = board.identify()
    assert identity.simulated
    assert (identity.package_id, identity.structure_hash) == (
        packages.first.id,
        packages.first.model.structure_hash,
    )
    assert (identity.n_inputs, identity.n_words) == (57, packages.first.model.n_words)


def test_scores_through_the_wire_are_those_of_the_emulator(board, packages):
    inputs = np.concatenate(
        [random_inputs(20_000, 57), corner_inputs(57)]
    )  # more than the board's buffer holds
    done = board.process(inputs)
    emulator = Emulator(packages.first.model)
    assert (done.scores == emulator.scores(inputs)).all()
    assert (done.accepts == emulator.accepts(inputs)).all()
    assert done.package_id == packages.first.id
    assert board.process(inputs[:0]).scores.shape == (0,)


def test_a_reload_at_run_time_is_bit_exact(board, packages):
    inputs = random_inputs(2000, 57)
    assert switch_to(board, packages.second).package_id == packages.second.id
    done = board.process(inputs)
    assert (done.scores == Emulator(packages.second.model).scores(inputs)).all()
    assert done.package_id == packages.second.id
    assert (board.read_back(active=True) == packages.second.model.memory()).all()
    assert (board.read_back() == packages.first.model.memory()).all()


def test_batches_never_mix_firmware_while_weights_change(board, running, packages):
    inputs = random_inputs(1000, 57)
    expected = {p.id: Emulator(p.model).scores(inputs) for p in (packages.first, packages.second)}
    stop = threading.Event()

    def keep_switching():
        other = IPbusBoard(running.address)
        while not stop.is_set():
            for package in (packages.second, packages.first):
                switch_to(other, package)
        other.close()

    thread = threading.Thread(target=keep_switching)
    thread.start()
    try:
        seen = set()
        for _ in range(60):
            try:
                done = board.process(inputs)
            except BoardError:  # it changed three times in a row: said, not hidden
                continue
            assert (done.scores == expected[done.package_id]).all()
            seen.add(done.package_id)
    finally:
        stop.set()
        thread.join()
    assert seen


def test_weights_of_another_structure_are_refused_by_the_board(board, packages):
    inputs = random_inputs(100, 57)
    board.load_inactive(packages.second.model.memory())
    with pytest.raises(BoardRefused, match=r"WRONG_STRUCTURE.*replace the whole firmware"):
        board.switch(
            structure_hash=packages.other.model.structure_hash,
            weights_hash=packages.second.model.weights_hash,
            package_id=packages.other.id,
        )
    assert (board.process(inputs).scores == Emulator(packages.first.model).scores(inputs)).all()
    assert board.identify().counters.refusals == 1


def test_a_bank_that_holds_something_else_is_not_switched_to(board, packages):
    with pytest.raises(BoardRefused, match="load them again"):
        board.switch(
            structure_hash=packages.second.model.structure_hash,
            weights_hash=packages.second.model.weights_hash,
            package_id=packages.second.id,
        )
    assert board.identify().epoch == 1


def test_a_client_killed_in_the_middle_of_a_load_leaves_the_old_weights_running(board, running, packages):
    killed = subprocess.run([sys.executable, "-c", CLIENT_THAT_DIES, running.address], check=False)
    assert killed.returncode == -signal.SIGKILL
    inputs = random_inputs(500, 57)
    assert board.read_back()[500] == 12345
    assert (board.process(inputs).scores == Emulator(packages.first.model).scores(inputs)).all()
    assert board.identify().package_id == packages.first.id
    # the board gives the lock to the next client once the dead one's lease has ended
    assert switch_to(board, packages.second).package_id == packages.second.id


def test_a_boot_replaces_everything_and_a_refused_one_nothing(board, packages):
    inputs = random_inputs(200, 57)
    with pytest.raises(BoardRefused, match="BAD_PACKAGE"):
        board.boot(packages.other.content[:-100])
    assert (board.process(inputs).scores == Emulator(packages.first.model).scores(inputs)).all()
    assert board.boot(packages.other.content).package_id == packages.other.id
    assert (board.process(inputs).scores == Emulator(packages.other.model).scores(inputs)).all()


@pytest.mark.parametrize(
    "inputs", [np.zeros((2, 56), np.int16), np.zeros((2, 57), np.int64), np.zeros(57, np.int16)]
)
def test_events_of_another_contract_are_refused(inputs, board, packages):
    with pytest.raises(BoardError, match="use the contract of package"):
        board.process(inputs)


def test_a_board_that_is_gone_is_unreachable_and_comes_back(packages):
    with start_emulated_board(packages.first.path, packages.trusted_path) as process:
        board = IPbusBoard(process.address)
        board.identify()
    with pytest.raises(BoardUnreachable, match=f"board at {process.address} does not answer"):
        board.identify()
    port = int(process.address.split(":")[1])
    with start_emulated_board(packages.first.path, packages.trusted_path, port=port):
        assert board.identify().package_id == packages.first.id
    board.close()


def test_a_port_in_use_is_named(packages):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BoardError, match=f"did not start: port {port} .*choose another or 0"):
            start_emulated_board(packages.first.path, packages.trusted_path, port=port)


def test_a_package_it_cannot_trust_does_not_start(packages, tmp_path):
    stranger = create_signing_key(tmp_path / "stranger.key")
    stranger.trusted.write(tmp_path / "stranger.pub")
    with pytest.raises(BoardError, match="not signed by a trusted key"):
        start_emulated_board(packages.first.path, tmp_path / "stranger.pub", log=tmp_path / "log")
    with pytest.raises(BoardError, match="cannot be read"):
        start_emulated_board(tmp_path / "nothing.lwpkg", packages.trusted_path)


def test_what_is_no_ipbus_ends_only_its_own_connection(board, running):
    host, port = running.address.split(":")
    for nonsense in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x04abcd",
        b"\x00\x00\x00\x05\x20\x00\x00\xf0\x00",
        b"\xff" * 64,
    ):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""
    assert board.identify().epoch == 1


def test_read_modify_write_and_bus_errors_reach_the_client(running):
    client = IPbusClient(running.address)
    assert client.rmw_bits(Register.CONFIG_LOCK, 0, 77) == 0
    assert client.rmw_bits(Register.REQUEST_CRC, 0, 0xF0) == 0
    assert client.rmw_bits(Register.REQUEST_CRC, 0x30, 0x01) == 0xF0
    assert int(client.read(Register.REQUEST_CRC)[0]) == 0x31
    with pytest.raises(BoardError, match="READ at 0x1000 failed with READ_ERROR"):
        client.read(0x1000)
    with pytest.raises(BoardError, match="WRITE_ERROR"):
        client.write(Register.MAGIC, 1)
    client.close()


def test_it_ends_with_its_parent(packages):
    parent = f"""
import sys, time
from pathlib import Path
from hw.boards.emulated import start_emulated_board
board = start_emulated_board(Path({str(packages.first.path)!r}), Path({str(packages.trusted_path)!r}))
print(board.address, board.pid, flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    address, pid = process.stdout.readline().split()
    board = IPbusBoard(address)
    assert board.identify().epoch == 1
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    with pytest.raises(BoardUnreachable):
        board.identify()


def test_a_running_board_keeps_no_files_that_its_death_could_leave_behind(packages, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    with start_emulated_board(packages.first.path, packages.trusted_path) as running:
        board = IPbusBoard(running.address)
        assert board.identify().package_id == packages.first.id
        board.close()
        assert list(tmp_path.glob("lumiwatch-board-*")) == []


@pytest.mark.parametrize("moment", [1, 3, 5])
def test_an_exchange_cut_short_by_ctrl_c_leaves_no_answer_for_the_next(board, packages, monkeypatch, moment):
    receive, calls = ipbus_tcp.receive_exactly, itertools.count()

    def interrupted(connection, count):
        if threading.current_thread() is threading.main_thread() and next(calls) == 2 * moment:
            raise KeyboardInterrupt
        return receive(connection, count)

    monkeypatch.setattr(ipbus_tcp, "receive_exactly", interrupted)
    inputs = random_inputs(500, 57)
    with pytest.raises(KeyboardInterrupt):
        board.process(inputs)

    assert (board.process(inputs).scores == Emulator(packages.first.model).scores(inputs)).all()
