"""The last lines of what the jobs of a response wrote: training, build and benches.

Reads a bounded piece from the end, whatever the size of the file. Knows no job and changes nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from daemon.site.settings import Site
from daemon.store.views import View

MOST_LINES: Final = 40
MOST_BYTES: Final = 16_384
_JOBS: Final = ("retrain", "build", "bench", "board-bench")
_COLOURS: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class JobLog(View):
    """The end of one log.

    Parameters
    ----------
    job
        Name of the job.
    lines
        The last ones, oldest first; what cannot be printed is left out.
    size_bytes
        Of the whole file.
    whole
        Whether these are all lines.
    """

    job: str
    lines: tuple[str, ...]
    size_bytes: int
    whole: bool


def job_logs(site: Site, response_id: str) -> list[JobLog]:
    """Give the logs of a response's jobs that have written something, in the order of the work."""
    folder = site.state_dir / "responses" / response_id
    found = [(job, folder / job / "job.log") for job in _JOBS]
    return [log for job, file in found if (log := _read(job, file)) is not None]


def _read(job: str, file: Path) -> JobLog | None:
    try:
        with file.open("rb") as content:
            size = content.seek(0, 2)
            start = max(size - MOST_BYTES, 0)
            content.seek(start)
            text = content.read(MOST_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return None
    lines = [_printable(line) for line in text.removesuffix("\n").split("\n")]
    if start > 0:
        lines = lines[1:]  # its beginning was cut off
    whole = start == 0 and len(lines) <= MOST_LINES
    return JobLog(job=job, lines=tuple(lines[-MOST_LINES:]), size_bytes=size, whole=whole) if size else None


def _printable(line: str) -> str:
    plain = _COLOURS.sub("", line.removesuffix("\r").rsplit("\r", 1)[-1])
    return "".join(character for character in plain if character.isprintable() or character == "\t")
