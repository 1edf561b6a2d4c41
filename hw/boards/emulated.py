"""The emulated board as a process of its own: IPbus servers on loopback around one `Device`.

`python -m hw.boards.emulated --package P --trusted-key K`. Refuses to know the protocol and the registers.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Self

from hw.archive import write_atomically
from hw.boards.device import Device
from hw.boards.faults import Faults
from hw.boards.flash import Flash
from hw.boards.server import BoardServer
from hw.errors import BoardError, HardwareError
from hw.package import open_package
from hw.processes import end_with_standard_input
from hw.signing import load_trusted_key

_log = logging.getLogger("hw.boards.emulated")
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 5.0
_NO_FAULTS = Faults()


class EmulatedBoardProcess:
    """A running emulated board; it ends with this process, or by `stop`. Usable in a `with` statement."""

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        self._process = process
        self.address = address

    @property
    def udp_address(self) -> str:
        """Where it answers over UDP; it takes one client at a time there."""
        return f"udp://{self.address}"

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
    package: Path,
    trusted_keys: Path | Sequence[Path],
    *,
    port: int = 0,
    log: Path | None = None,
    faults: Faults = _NO_FAULTS,
    flash: Path | None = None,
) -> EmulatedBoardProcess:
    """Start an emulated board and wait until it answers.

    Parameters
    ----------
    package
        The `.lwpkg` it boots.
    trusted_keys
        The `.pub` file or files it trusts.
    port
        Port on loopback, the same for TCP and UDP; 0 for a free one.
    log
        File its messages are added to; left out, they are kept for error messages only.
    faults
        What goes wrong on purpose.
    flash
        Folder of its flash: what was proven last is what it boots, instead of the package.

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
        command += ["--announce", str(announce), "--with-parent", *_fault_arguments(faults)]
        if flash is not None:
            command += ["--flash", str(flash)]
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
    parser.add_argument("--port", type=int, default=0, help="port on loopback, TCP and UDP; 0: a free one")
    parser.add_argument(
        "--flash", type=Path, help="folder that keeps the proven firmware; it is booted first"
    )
    parser.add_argument("--announce", type=Path, help="file that gets the address as JSON once it answers")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input closes")
    _add_fault_options(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    faults = Faults(**{field.name: getattr(options, field.name) for field in fields(Faults)})
    try:
        keys = [load_trusted_key(path) for path in options.trusted_key]
        flash = None if options.flash is None else Flash(options.flash)
        device = Device(open_package(options.package, keys), keys, flash=flash)
        server = BoardServer(device, options.port, faults=faults)
    except HardwareError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    with server:
        if options.with_parent:
            end_with_standard_input()
        if options.announce is not None:
            announcement = {"address": server.address, "udp": server.udp_address, "pid": os.getpid()}
            write_atomically(options.announce, json.dumps(announcement).encode())
        _log.info("board answers at %s and %s", server.address, server.udp_address)
        stop.wait()
    return 0


def _add_fault_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("faults, to prove that they are noticed")
    for field in fields(Faults):
        kind = type(field.default)
        group.add_argument(_option(field.name), dest=field.name, type=kind, default=field.default)


def _fault_arguments(faults: Faults) -> list[str]:
    given = {field.name: getattr(faults, field.name) for field in fields(Faults)}
    chosen = {name: value for name, value in given.items() if value != getattr(_NO_FAULTS, name)}
    return [word for name, value in chosen.items() for word in (_option(name), str(value))]


def _option(name: str) -> str:
    return "--" + name.removesuffix("_s").replace("_", "-")


if __name__ == "__main__":
    sys.exit(main())
