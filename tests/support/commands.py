"""`lumiwatch` as people run it: one command to its end, or a long one that is watched and interrupted."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass
class RunningCommand:
    """A command that runs; `screen` is everything it has printed."""

    process: subprocess.Popen[bytes]
    screen_file: Path

    @property
    def screen(self) -> str:
        return self.screen_file.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, pattern: str, timeout_s: float = 60.0) -> re.Match[str]:
        """Wait until the command has printed something that matches."""
        deadline = time.monotonic() + timeout_s
        while (found := re.search(pattern, self.screen)) is None:
            assert self.process.poll() is None, f"the command ended early:\n{self.screen}"
            assert time.monotonic() < deadline, f"no {pattern!r} on the screen:\n{self.screen}"
            time.sleep(0.05)
        return found

    def family(self) -> list[psutil.Process]:
        """The command's process and every one that it has started, directly or not."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def descendants(self) -> list[psutil.Process]:
        """Every process that the command has started, directly or not."""
        return self.family()[1:]

    def interrupt(self) -> int:
        """Press Ctrl-C; returns the exit code when the command, its children and their ports are gone."""
        family = self.family()
        ports = listening(family)
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(60)
        _, alive = psutil.wait_procs(family[1:], timeout=60)
        assert alive == []
        assert not ports & listening(psutil.process_iter())
        return code


def listening(processes: Iterable[psutil.Process]) -> set[int]:
    """TCP ports that processes listen on."""
    found: set[int] = set()
    for process in processes:
        try:
            connections = process.net_connections(kind="tcp")
        except psutil.Error:
            continue
        found |= {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}
    return found


def _heed_ctrl_c() -> None:
    """Undo what a shell does to background jobs, also when these tests are one: they ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def running(screen: Path, *arguments: object, **environment: str) -> Iterator[RunningCommand]:
    """Start a command; whatever happens, nothing of it is left behind."""
    with screen.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon.cli", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, "COLUMNS": "200", "PYTHONUNBUFFERED": "1", **environment},
            preexec_fn=_heed_ctrl_c,  # noqa: PLW1509 - one system call, no lock is taken
        )
    command = RunningCommand(process, screen)
    try:
        yield command
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def lumiwatch(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "daemon.cli", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "400", **environment},
        check=False,
    )
