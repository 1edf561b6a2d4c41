"""Long work in child processes that report progress as JSON lines on standard output.

A line is ``{"progress": 0.3, "message": "..."}``; anything else goes to the log file. The child
dies with the daemon. Knows nothing of what the child does.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event

from daemon.errors import ChildFailed
from hw.processes import die_with_parent

ProgressCallback = Callable[[float, str], None]
_POLL_S = 0.2
_GRACE_S = 3.0
_MAXIMUM_LINE_BYTES = 65536


class Interrupted(BaseException):
    """The daemon stops: unfinished work is left as it is and taken up at the next start.

    Not an `Exception`, so that no handler between the work and the workflow engine takes it for a failure.
    """


def run_child(
    arguments: Sequence[str],
    *,
    log: Path,
    timeout_s: float,
    stopping: Event,
    progress: ProgressCallback,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program to its end, passing its progress on.

    Parameters
    ----------
    arguments
        Program and arguments; no shell.
    log
        File for standard error, and for output that is not progress.
    timeout_s
        After this time the child and its children are killed.
    stopping
        Set when the daemon stops: the child is killed and `Interrupted` raised.
    progress
        Called with a fraction 0..1 and a sentence.
    environment
        Variables on top of this process's own.

    Raises
    ------
    ChildFailed
        The program cannot be started, ran out of time or ended with an error; says the last line it wrote.
    Interrupted
        The daemon stops.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    name = " ".join(arguments[1:3]) if len(arguments) > 2 else arguments[0]
    with log.open("ab") as log_file:
        try:
            with _signals_held() as heard:
                process = subprocess.Popen(
                    list(arguments),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log_file,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                    preexec_fn=die_with_parent(),  # noqa: PLW1509 - one system call, no lock is taken
                )
        except OSError as error:
            raise ChildFailed(f"{name} cannot be started ({error}): check the installation") from error
        try:
            for number in heard:
                signal.raise_signal(number)
            _follow(process, name, log_file.write, progress, time.monotonic() + timeout_s, stopping)
        finally:
            _end(process)
    if process.returncode != 0:
        raise ChildFailed(f"{name} ended with exit code {process.returncode}: {_last_line(log)} (log: {log})")


@contextlib.contextmanager
def _signals_held() -> Iterator[list[int]]:
    """Keep signals that ask this process to end, for whoever started this to raise afterwards.

    What libraries have registered to run after a fork runs within, and Python forgets whatever is raised
    there: a Ctrl-C of that moment would be lost. Only the main thread hears signals.
    """
    heard: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    ends = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in ends.items() if callable(handler)}
    try:
        for number in before:
            signal.signal(number, lambda number, _frame: heard.append(number))
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow(
    process: subprocess.Popen[bytes],
    name: str,
    write_log: Callable[[bytes], object],
    progress: ProgressCallback,
    deadline: float,
    stopping: Event,
) -> None:
    """Read lines until the child closes its output; wait for its end."""
    assert process.stdout is not None  # noqa: S101 - asked for above
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if stopping.is_set():
                raise Interrupted
            if time.monotonic() > deadline:
                raise ChildFailed(f"{name} ran out of time: raise its timeout in model.toml, or see its log")
            if not selector.select(_POLL_S):
                continue
            chunk = os.read(process.stdout.fileno(), _MAXIMUM_LINE_BYTES)
            if not chunk:
                break
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                _report(line, write_log, progress)
            pending = pending[-_MAXIMUM_LINE_BYTES:]
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)


def _report(line: bytes, write_log: Callable[[bytes], object], progress: ProgressCallback) -> None:
    try:
        content = json.loads(line)
        fraction, message = float(content["progress"]), str(content.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        write_log(line + b"\n")
        return
    progress(min(max(fraction, 0.0), 1.0), message)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that neither the child nor its own children are left."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it wrote nothing"
