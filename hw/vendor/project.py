"""A vendor's project: files and commands, written the same everywhere, run only where its programs are.

What it does not find it does not make up: without a program there is a project, a list of commands and an
error. Refuses to know what is inside the files.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from hw.errors import ToolchainAbsent, ToolchainError
from hw.vendor import tools

LOG = "lumiwatch.log"
"""Output of every command that `run` started, in the project's folder."""

_DAY_S = 86_400.0
_SHELL = set("|&;<>$`\n")


@dataclass(frozen=True, slots=True)
class VendorProject:
    """One project for a vendor's tool.

    Parameters
    ----------
    tool
        Name for people, e.g. "Vitis HLS".
    files
        Content by path relative to the project's folder.
    commands
        What to run there, in order: a program and its arguments, no shell syntax.
    needs
        Programs that must be on PATH.
    outputs
        Files that exist when all commands have succeeded.

    Raises
    ------
    ToolchainError
        When a path leaves the folder, or a command needs a shell or a program that is not in `needs`.
    """

    tool: str
    files: Mapping[str, bytes] = field(repr=False)
    commands: tuple[str, ...]
    needs: tuple[str, ...]
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for path in (*self.files, *self.outputs):
            pure = PurePosixPath(path)
            if pure.is_absolute() or ".." in pure.parts or path != str(pure) or path in ("", ".", LOG):
                raise ToolchainError(f"{self.tool}: {path!r} is no path inside a project: use a relative one")
        for command in self.commands:
            if _SHELL & set(command):
                raise ToolchainError(
                    f"{self.tool}: {command!r} needs a shell: use one program and its arguments"
                )
            if shlex.split(command)[0] not in self.needs:
                raise ToolchainError(
                    f"{self.tool}: {command!r} runs a program that the project does not name"
                )

    def write(self, folder: Path) -> None:
        """Write all files.

        Parameters
        ----------
        folder
            New, empty, or with the same project in it.

        Raises
        ------
        ToolchainError
            When a file is there with other content.
        """
        for path, content in self.files.items():
            target = folder / path
            if target.exists() and (target.is_dir() or target.read_bytes() != content):
                raise ToolchainError(f"{target} belongs to another project: give a new folder")
        for path, content in self.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


@dataclass(frozen=True, slots=True)
class VendorRun:
    """What a finished run left.

    Parameters
    ----------
    folder
        The project.
    outputs
        Where each of the project's outputs is.
    versions
        Of each program, as it says.
    seconds
        Wall time.
    """

    folder: Path
    outputs: Mapping[str, Path]
    versions: Mapping[str, str]
    seconds: float


def absent(project: VendorProject, folder: Path, missing: tuple[tools.Presence, ...]) -> ToolchainAbsent:
    """Give the error for a project whose programs are not here."""
    reasons = "; ".join(presence.reason for presence in missing)
    first = project.commands[0]
    more = f" and {len(project.commands) - 1} more" if len(project.commands) > 1 else ""
    return ToolchainAbsent(
        f"{project.tool}: {reasons}. The project is in {folder}: run there `{first}`{more}",
        tuple(project.commands),
    )


def run(project: VendorProject, folder: Path, *, timeout_s: float = _DAY_S) -> VendorRun:
    """Write a project and run its commands in its folder.

    Parameters
    ----------
    project
        What to write and run.
    folder
        New, empty, or with the same project in it.
    timeout_s
        Wall time for all commands together; then they and their children are killed.

    Raises
    ------
    ToolchainAbsent
        When a program is missing; the project has been written, `commands` are what to run where it is.
    ToolchainError
        When a command fails, takes too long, or leaves no output.
    """
    project.write(folder)
    presences = [tools.find(name) for name in project.needs]
    if missing := tuple(presence for presence in presences if presence.path is None):
        raise absent(project, folder, missing)
    paths = {presence.name: str(presence.path) for presence in presences}
    started = time.monotonic()
    with (folder / LOG).open("wb") as log:
        for command in project.commands:
            program, *arguments = shlex.split(command)
            log.write(f"$ {command}\n".encode())
            log.flush()
            left = timeout_s - (time.monotonic() - started)
            status = _run([paths[program], *arguments], folder, log.fileno(), left)
            if status is None:
                raise ToolchainError(
                    f"{project.tool}: `{command}` ran past {timeout_s:g} s: give it more, see {folder / LOG}"
                )
            if status != 0:
                raise ToolchainError(
                    f"{project.tool}: `{command}` failed ({_first_error(folder / LOG, status)}): "
                    f"see {folder / LOG}"
                )
    outputs = {path: folder / path for path in project.outputs}
    for path, target in outputs.items():
        if not target.is_file() or target.stat().st_size == 0:
            raise ToolchainError(f"{project.tool} succeeded but left no {path}: see {folder / LOG}")
    versions = {presence.name: presence.version for presence in presences}
    return VendorRun(folder, outputs, versions, time.monotonic() - started)


def _run(command: list[str], folder: Path, log: int, timeout_s: float) -> int | None:
    """Run one command in a session of its own; None when it ran out of time."""
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # these programs start others: a timeout ends them all
        )
    except OSError as error:
        raise ToolchainError(f"{command[0]} cannot be started ({error}): check its installation") from error
    try:
        return process.wait(max(0.0, timeout_s))
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _first_error(log: Path, status: int) -> str:
    """Give the last command's first line that speaks of an error, or its exit status."""
    text = log.read_text(errors="replace")
    lines = text[text.rfind("\n$ ") + 1 :].splitlines()[1:]
    found = next((line.strip() for line in lines if "error" in line.lower()), "")
    return found[:200] or f"exit status {status}"
