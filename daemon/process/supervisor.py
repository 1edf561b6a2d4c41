"""Child processes of one command: started in order, watched, started again, stopped together.

`lumiwatch up` and `lumiwatch demo` run the broker, the worker, the daemon and the emulated board
as processes of their own. This module starts them so that none can outlive the command, whatever
ends it: Ctrl-C, SIGTERM, an error, or SIGKILL. One that ends by itself is started again, after a
pause that grows, until it fails too often. It knows nothing of what the processes do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
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
LONGEST_LOG_BYTES = 32 * 1024 * 1024
"""A log that grows beyond this is kept once as `<name>.log.1`, and begins anew."""
_WRONG_INPUT = 2  # exit code of a command whose settings are wrong: trying again mends nothing

Arguments = Callable[[], Sequence[str]]
"""Gives the arguments of a process each time that it is started: they may depend on what happened since."""


@dataclass(frozen=True)
class RestartPolicy:
    """How often a process that ends by itself is started again.

    Attributes
    ----------
    first_pause_s, longest_pause_s
        Wait before the first restart; it doubles with each further one, up to the longest.
    failures, within_s
        So many ends in this time are too many.
    """

    first_pause_s: float = 0.5
    longest_pause_s: float = 8.0
    failures: int = 5
    within_s: float = 120.0


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
    arguments, environment
        What it is started with.
    restarts
        Whether it is started again when it ends by itself.
    started_s, ends_s
        When it was started last, and when it ended by itself lately; monotonic.
    due_s
        When it is to be started again; None while it runs.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    arguments: Arguments
    environment: Mapping[str, str]
    restarts: bool
    started_s: float
    ends_s: list[float] = field(default_factory=list)
    due_s: float | None = None

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
    say
        Called with a line for the person at the terminal when a process ended and when it runs again.
    policy
        When to start again, and when to give up.
    clock
        Monotonic seconds.
    """

    log_dir: Path
    say: Callable[[str], None]
    policy: RestartPolicy = RestartPolicy()
    clock: Callable[[], float] = time.monotonic
    children: list[Child] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all()

    def start(
        self,
        name: str,
        arguments: Arguments,
        environment: Mapping[str, str] | None = None,
        *,
        restarts: bool = True,
    ) -> Child:
        """Start `python -m ...` style arguments in a session of their own, so that Ctrl-C reaches only us.

        Parameters
        ----------
        name
            What people call the process; its log is `<log_dir>/<name>.log`.
        arguments
            Gives the arguments for this Python interpreter, such as `["-m", "daemon.cli", "worker"]`.
        environment
            Variables set in addition to this process's own.
        restarts
            Start it again when it ends by itself; else `check` raises.
        """
        log = self.log_dir / f"{name}.log"
        extra = dict(environment or {})
        child = Child(name, _spawn(arguments(), log, extra), log, arguments, extra, restarts, self.clock())
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
            if child.process.poll() is not None:
                raise ProcessFailed(_obituary(child))
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{child.name} was not ready after {timeout_s:.0f} s; see {child.log}")
            time.sleep(0.1)

    def check(self) -> None:
        """Start again what has ended by itself; to be called about twice a second, from one thread.

        Raises
        ------
        ProcessFailed
            A process ended that is not to be started again, or one ended too often.
        """
        for child in tuple(self.children):
            _bound(child.log)
            if child.process.poll() is None:
                continue
            if child.due_s is None:
                self._plan_restart(child)
            elif self.clock() >= child.due_s:
                child.process = _spawn(child.arguments(), child.log, child.environment)
                child.started_s, child.due_s = self.clock(), None
                self.say(f"{child.name} was started again")

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

    def _plan_restart(self, child: Child) -> None:
        now, policy = self.clock(), self.policy
        wrong_input = (
            child.process.returncode == _WRONG_INPUT
            and not child.ends_s
            and now - child.started_s < policy.within_s
        )
        if not child.restarts or wrong_input:
            raise ProcessFailed(_obituary(child))
        child.ends_s = [end for end in child.ends_s if now - end < policy.within_s] + [now]
        failures = len(child.ends_s)
        if failures >= policy.failures:
            raise ProcessFailed(
                f"{_obituary(child)}; this was end {failures} within {policy.within_s:.0f} s, "
                "so it is not started again: mend what the log says"
            )
        pause_s = min(policy.first_pause_s * 2 ** (failures - 1), policy.longest_pause_s)
        child.due_s = now + pause_s
        self.say(f"{_obituary(child)}; starting it again in {pause_s:g} s")


def _spawn(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with log.open("ab") as sink:
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
            preexec_fn=die_with_parent(),  # noqa: PLW1509  # one ctypes call, prepared before the fork
        )


def _bound(log: Path) -> None:
    """Begin a long log anew; the process goes on writing to the same file, whose end is now its beginning."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > LONGEST_LOG_BYTES:
            try:
                shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            finally:  # even if the disk is full, and just then
                os.truncate(log, 0)


def _obituary(child: Child) -> str:
    """Say how a process ended, with the last line that it wrote."""
    code = child.process.returncode
    killed = code < 0 and -code in set(signal.Signals)
    how = f"was killed by {signal.Signals(-code).name}" if killed else f"ended with status {code}"
    last = child.tail(1)
    return f"{child.name} {how}{': ' if last else ''}{last} (log: {child.log})"
