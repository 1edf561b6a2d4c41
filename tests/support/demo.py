"""The real `lumiwatch demo` as a person runs it, and what it leaves behind."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.commands import RunningCommand, running

TIMEOUT_S = 240.0


@dataclass
class RunningDemo:
    """A demo that runs in `folder`."""

    command: RunningCommand
    folder: Path

    @property
    def screen(self) -> str:
        """Everything it has printed."""
        return self.command.screen

    @property
    def site(self) -> Path:
        return self.folder / "site"

    def wait_for(self, pattern: str) -> str:
        """Wait until the demo has printed something that matches; returns the last group, or all of it."""
        found = self.command.wait_for(pattern, TIMEOUT_S)
        return found[found.re.groups]

    def ended(self) -> tuple[int, dict[str, Any]]:
        """Wait for the end: exit code, and the summary it wrote."""
        code = self.command.process.wait(TIMEOUT_S)
        summary = self.folder / "summary.json"
        assert summary.exists(), f"the demo left no summary:\n{self.screen}"
        return code, json.loads(summary.read_text())


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[RunningDemo]:
    """Start a demo on a free port; whatever happens, nothing of it is left behind."""
    screen = folder.with_name(f"{folder.name}.screen")
    with running(screen, "demo", "--folder", folder, "--port", "0", *options) as command:
        yield RunningDemo(command, folder)
