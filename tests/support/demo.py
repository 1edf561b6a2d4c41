"""Runs the real `lumiwatch demo` as a person would, in a process of its own, and looks at what it leaves."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

TIMEOUT_S = 240.0


@dataclass
class RunningDemo:
    """A demo that runs; `folder` is its folder, `screen` holds everything it has printed."""

    process: subprocess.Popen[bytes]
    folder: Path
    screen_file: Path

    @property
    def screen(self) -> str:
        return self.screen_file.read_text(encoding="utf-8", errors="replace")

    @property
    def site(self) -> Path:
        return self.folder / "site"

    def wait_for(self, pattern: str, timeout_s: float = TIMEOUT_S) -> re.Match[str]:
        """Wait until the demo has printed something that matches."""
        deadline = time.monotonic() + timeout_s
        while (found := re.search(pattern, self.screen)) is None:
            assert self.process.poll() is None, f"the demo ended early:\n{self.screen}"
            assert time.monotonic() < deadline, f"no {pattern!r} on the screen:\n{self.screen}"
            time.sleep(0.1)
        return found

    def ended(self, timeout_s: float = TIMEOUT_S) -> tuple[int, dict[str, Any]]:
        """Wait for the end: exit code, and the summary it wrote."""
        code = self.process.wait(timeout_s)
        summary = self.folder / "summary.json"
        assert summary.exists(), f"the demo left no summary:\n{self.screen}"
        return code, json.loads(summary.read_text())

    def descendants(self) -> list[psutil.Process]:
        """Every process that the demo has started, directly or not."""
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[RunningDemo]:
    """Start a demo on a free port; whatever happens, nothing of it is left behind."""
    screen = folder.with_name(f"{folder.name}.screen")
    with screen.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon.cli", "demo", "--folder", str(folder), "--port", "0", *options],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, "COLUMNS": "200"},
        )
    running = RunningDemo(process, folder, screen)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def lumiwatch(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one `lumiwatch` command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "daemon.cli", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "400", **environment},
        check=False,
    )
