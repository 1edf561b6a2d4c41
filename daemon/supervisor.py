"""Child processes of one command: started in order, watched, stopped together.

`lumiwatch up` and `lumiwatch demo` run the broker, the worker, the daemon and the emulated board
as processes of their own. This module starts them so that none can outlive the command, whatever
ends it: Ctrl-C, SIGTERM, an error, or SIGKILL. It knows nothing of what the processes do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from daemon.errors import ProcessFailed
from hw.processes import die_with_parent

_STOP_TIMEOUT_S = 10.0


@dataclass
class Child:
    """One process of the command.

    Attributes
    ----------
    name
        What people call it: "worker", "daemon".
    process
        The running process.
    log
        File that holds its standard output and error.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self, lines: int = 5) -> str:
        """Return the last lines of the process's log."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


@dataclass
class Supervisor:
    """Starts processes and stops them all, newest first, when the context is left.

    Parameters
    ----------
    log_dir
        Folder for one log file per process.
    """

    log_dir: Path
    children: list[Child] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all()

    def start(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Child:
        """Start `python -m ...` style arguments in a session of their own, so that Ctrl-C reaches only us.

        Parameters
        ----------
        name
            What people call the process; its log is `<log_dir>/<name>.log`.
        arguments
            Arguments for this Python interpreter, for example `["-m", "daemon.cli", "worker"]`.
        environment
            Variables set in addition to this process's own.
        """
        log = self.log_dir / f"{name}.log"
        with log.open("ab") as sink:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509  # one ctypes call; no thread runs here yet
            )
        child = Child(name, process, log)
        self.children.append(child)
        return child

    def wait_ready(self, child: Child, ready: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait until `ready()` is true.

        Raises
        ------
        ProcessFailed
            The process ended, or was not ready in time; the message carries the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check(child)
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{child.name} was not ready after {timeout_s:.0f} s; see {child.log}")
            time.sleep(0.1)

    def check(self, *only: Child) -> None:
        """Raise ProcessFailed if one of the children (default: any) has ended by itself."""
        for child in only or tuple(self.children):
            code = child.process.poll()
            if code is not None:
                raise ProcessFailed(
                    f"{child.name} ended with status {code}: {child.tail(1)} (log: {child.log})"
                )

    def stop(self, child: Child) -> None:
        """End one process: SIGTERM, then SIGKILL to its whole session if it does not listen."""
        if child.process.poll() is None:
            child.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(_STOP_TIMEOUT_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        self.children.remove(child)

    def stop_all(self) -> None:
        """End every process, newest first."""
        for child in reversed(tuple(self.children)):
            self.stop(child)
