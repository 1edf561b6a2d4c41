"""The peers' environment and the pipe to it. Knows no tool by name.

The environment stands beside lumiwatch's own, in ``.venv-peers``, and is built from the package index when
it is missing or its list has changed. The peers take seconds for a lumisection, so what they once answered
about the same events and the same sample is kept there too.
"""

import hashlib
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
    # --clear below forgets the answers of other versions too
    sys.stderr.write(f"installing the peers into {folder.name} (1.5 GB, two to five minutes) ...\n")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]
    subprocess.run([str(python), *install, str(REQUIREMENTS)], check=True)
    stamp.write_text(wanted, encoding="utf-8")
    return python


class Peers:
    """Tools in a process of their own, asked about one lumisection after another.

    Parameters
    ----------
    answers
        File of what was answered before, a line of JSON each; it is added to. None: nothing is kept.
    """

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        names: Sequence[str],
        reference: npt.NDArray[np.int16],
        answers: Path | None = None,
    ) -> None:
        self._process = process
        self._answers = answers
        self._known: dict[str, Any] = {}
        if answers is not None and answers.exists():
            lines = answers.read_text(encoding="utf-8").splitlines()
            self._known = {key: answer for line in lines for key, answer in json.loads(line).items()}
        first = json.dumps(list(names)).encode() + b"\n"
        self._asked = hashlib.sha256(first + np.ascontiguousarray(reference).tobytes())
        self._stdin().write(first)
        self._send(reference)

    def decide(self, inputs: npt.NDArray[np.int16], *, again: bool = False) -> dict[str, tuple[bool, float]]:
        """Return each tool's decision about a lumisection, and its seconds.

        Parameters
        ----------
        inputs
            int16, shape (events, inputs).
        again
            Ask even where the answer is known, for the time it takes now.

        Raises
        ------
        RuntimeError
            The process has ended; its words are on standard error.
        """
        asked = self._asked.copy()
        asked.update(np.ascontiguousarray(inputs).tobytes())
        key = asked.hexdigest()
        if again or key not in self._known:
            self._send(inputs)
            line = self._process.stdout.readline() if self._process.stdout else b""
            if not line:
                raise self._ended()
            self._known[key] = json.loads(line)
            if self._answers is not None:
                with self._answers.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({key: self._known[key]}) + "\n")
        return {name: (bool(drift), float(seconds)) for name, (drift, seconds) in self._known[key].items()}

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
def peers(
    python: Path, names: Sequence[str], reference: npt.NDArray[np.int16], answers: Path | None = None
) -> Iterator[Peers]:
    """Start the tools on a reference sample, int16 of shape (events, inputs)."""
    with (
        subprocess.Popen(
            [str(python), str(FOLDER / "peer_runner.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process,
        Peers(process, names, reference, answers) as started,
    ):
        yield started
