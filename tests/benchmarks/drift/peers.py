"""The peers' environment and the pipe to it. Knows no tool by name.

The environment stands beside lumiwatch's own, in ``.venv-peers``, and is built from the package index when
it is missing or its list has changed.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

FOLDER = Path(__file__).parent
ENVIRONMENT = FOLDER.parents[2] / ".venv-peers"
REQUIREMENTS = FOLDER / "peers.txt"


def ensure_environment(folder: Path = ENVIRONMENT) -> Path:
    """Build the peers' environment where it is missing or out of date; return its Python.

    Raises
    ------
    subprocess.CalledProcessError
        A package cannot be installed: the package index is not reached.
    """
    python, stamp = folder / "bin" / "python", folder / ".installed"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    sys.stderr.write(f"installing the peers into {folder.name} (1.5 GB, two to five minutes) ...\n")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]
    subprocess.run([str(python), *install, str(REQUIREMENTS)], check=True)
    stamp.write_text(wanted, encoding="utf-8")
    return python


class Peers:
    """Tools in a process of their own, asked about one lumisection after another."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", names: Sequence[str], reference: npt.NDArray[np.int16]
    ) -> None:
        self._process = process
        self._stdin().write(json.dumps(list(names)).encode() + b"\n")
        self._send(reference)

    def decide(self, inputs: npt.NDArray[np.int16]) -> dict[str, tuple[bool, float]]:
        """Return each tool's decision about a lumisection, int16 of shape (events, inputs), and its seconds.

        Raises
        ------
        RuntimeError
            The process has ended; its words are on standard error.
        """
        self._send(inputs)
        line = self._process.stdout.readline() if self._process.stdout else b""
        if not line:
            raise self._ended()
        answers: dict[str, Any] = json.loads(line)
        return {name: (bool(drift), float(seconds)) for name, (drift, seconds) in answers.items()}

    def _send(self, block: npt.NDArray[np.int16]) -> None:
        try:
            self._stdin().write(b"%d\n" % len(block))
            self._stdin().write(np.ascontiguousarray(block).data)
            self._stdin().flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _ended(self) -> RuntimeError:
        return RuntimeError(f"the peers ended with {self._process.wait()}: see their words above")

    def _stdin(self) -> Any:
        return self._process.stdin

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


@contextmanager
def peers(python: Path, names: Sequence[str], reference: npt.NDArray[np.int16]) -> Iterator[Peers]:
    """Start the tools on a reference sample, int16 of shape (events, inputs)."""
    with (
        subprocess.Popen(
            [str(python), str(FOLDER / "peer_runner.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process,
        Peers(process, names, reference) as started,
    ):
        yield started
