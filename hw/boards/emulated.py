"""The emulated board as a process of its own: an IPbus server on loopback around one `Device`.

`python -m hw.boards.emulated --package P --trusted-key K`. Refuses to listen anywhere but on loopback.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from hw.archive import write_atomically
from hw.boards.device import BusError, Device
from hw.errors import BoardError, HardwareError, PortInUse, ProtocolError
from hw.ipbus import (
    LENGTH_BYTES,
    Info,
    Kind,
    Reply,
    Request,
    Status,
    Words,
    decode_requests,
    encode_replies,
    encode_status,
)
from hw.ipbus_client import receive_exactly
from hw.package import open_package
from hw.processes import end_with_standard_input
from hw.signing import load_trusted_key

LOOPBACK = "127.0.0.1"
MTU_BYTES = 1 << 16
BUFFERS = 8

_log = logging.getLogger("hw.boards.emulated")
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 5.0


def execute(device: Device, request: Request) -> Reply:
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
            words = device.read(request.address, 1)
            device.write(request.address, _modified(words, request))
    except BusError:
        writes = request.kind in (Kind.WRITE, Kind.WRITE_FIFO)
        return Reply(request.kind, Info.WRITE_ERROR if writes else Info.READ_ERROR)
    return Reply(request.kind, Info.OK, words, len(words))


def _modified(old: Words, request: Request) -> Words:
    if request.kind is Kind.RMW_BITS:
        return np.asarray((old & request.words[0]) | request.words[1], dtype=np.uint32)
    return np.asarray(old + request.words[0], dtype=np.uint32)


class BoardServer(socketserver.ThreadingTCPServer):
    """Serves one device to any number of clients; packets are executed one at a time.

    Parameters
    ----------
    device
        The board.
    port
        TCP port on loopback, 0 for a free one.

    Raises
    ------
    PortInUse
        When the port is taken.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, device: Device, port: int = 0) -> None:
        self.device = device
        self.lock = threading.Lock()
        try:
            super().__init__((LOOPBACK, port), _Connection)
        except OSError as error:
            raise PortInUse(
                f"port {port} on {LOOPBACK} cannot be used ({error.strerror}): choose another or 0"
            ) from error

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{LOOPBACK}:{self.server_address[1]}"


class _Connection(socketserver.BaseRequestHandler):
    server: BoardServer

    def handle(self) -> None:
        connection: socket.socket = self.request
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                length = int.from_bytes(receive_exactly(connection, LENGTH_BYTES), "big")
                if not 0 < length <= MTU_BYTES:
                    _log.warning("client %s announced a packet of %d bytes", self.client_address, length)
                    return
                answer = self._answer(receive_exactly(connection, length))
                connection.sendall(len(answer).to_bytes(LENGTH_BYTES, "big") + answer)
        except (EOFError, OSError):
            return
        except ProtocolError as error:
            _log.warning("client %s: %s", self.client_address, error)

    def _answer(self, content: bytes) -> bytes:
        packet = decode_requests(content)
        if packet.status:
            return encode_status(Status(MTU_BYTES, BUFFERS, 0), little_endian=packet.little_endian)
        with self.server.lock:
            replies = [execute(self.server.device, request) for request in packet.requests]
        return encode_replies(packet, replies)


class EmulatedBoardProcess:
    """A running emulated board; it ends with this process, or by `stop`. Usable in a `with` statement."""

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        self._process = process
        self.address = address

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Exit code, or None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """End it and wait."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_emulated_board(
    package: Path, trusted_keys: Path | Sequence[Path], *, port: int = 0, log: Path | None = None
) -> EmulatedBoardProcess:
    """Start an emulated board and wait until it answers.

    Parameters
    ----------
    package
        The `.lwpkg` it boots.
    trusted_keys
        The `.pub` file or files it trusts.
    port
        TCP port on loopback, 0 for a free one.
    log
        File its messages are added to; left out, they are kept for error messages only.

    Raises
    ------
    BoardError
        When it does not start; the message is the board's own.
    """
    keys = [trusted_keys] if isinstance(trusted_keys, Path) else list(trusted_keys)
    with tempfile.TemporaryDirectory(prefix="lumiwatch-") as folder:
        announce = Path(folder) / "address.json"
        messages = log or Path(folder) / "board.log"
        command = [sys.executable, "-m", "hw.boards.emulated", "--package", str(package), "--port", str(port)]
        for key in keys:
            command += ["--trusted-key", str(key)]
        command += ["--announce", str(announce), "--with-parent"]
        with messages.open("ab") as stream:
            offset = stream.tell()
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stream, stderr=stream)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not announce.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                EmulatedBoardProcess(process, "").stop()
                last = messages.read_bytes()[offset:].decode(errors="replace").strip().splitlines()[-1:]
                raise BoardError(f"the emulated board did not start: {last[0] if last else 'no message'}")
            time.sleep(0.02)
        address = json.loads(announce.read_text())["address"]
    return EmulatedBoardProcess(process, address)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an emulated board until it is told to stop; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hw.boards.emulated", description="An emulated board.")
    parser.add_argument("--package", type=Path, required=True, help="the .lwpkg to boot")
    parser.add_argument(
        "--trusted-key", type=Path, action="append", required=True, help="a trusted .pub file"
    )
    parser.add_argument("--port", type=int, default=0, help="TCP port on loopback; 0: a free one")
    parser.add_argument("--announce", type=Path, help="file that gets the address as JSON once it answers")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input closes")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        keys = [load_trusted_key(path) for path in options.trusted_key]
        device = Device(open_package(options.package, keys), keys)
        server = BoardServer(device, options.port)
    except HardwareError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: _stop(server))
    if options.with_parent:
        end_with_standard_input()
    if options.announce is not None:
        announcement = {"address": server.address, "pid": os.getpid()}
        write_atomically(options.announce, json.dumps(announcement).encode())
    _log.info("board answers at %s", server.address)
    with server:
        server.serve_forever(poll_interval=0.1)
    return 0


def _stop(server: BoardServer) -> None:
    # shutdown() waits for the serving loop, which this signal handler interrupts
    threading.Thread(target=server.shutdown, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
