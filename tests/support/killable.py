"""A daemon that kills itself, or its board, at a named point of a response; every life is a process.

Usage: python -m tests.support.killable SITE_FOLDER DATABASE_URL. Reads one line for each life from standard
input, ``POINT`` or ``ACTION@POINT`` (or ``-``: no kill), and writes ``killed`` or ``ended`` when it is over.
A life is a fork of this process, which has imported everything and started nothing: a daemon as
`daemon.process.service` builds it, with its threads and the durable engine, without its web server. Only the
retraining job is a fake, `tests.support.fast_retrain`.

Points are ``STEP:before``, ``STEP:begun``, ``STEP:worked`` (the work is done, nothing is written down),
``STEP:recorded`` (written down, unknown to the engine), ``STEP:after``, ``STEP:job`` (a child process works),
``STEP:loaded``, ``STEP:switched`` (of the board) and ``propose:asked``.
Actions are ``self`` (the default), ``board``, ``both`` and ``job``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from dbos import Queue
from sqlmodel import Session, col, select

import retrain.job  # noqa: F401 - it loads torch, which no life has time for
from daemon.process import service
from daemon.responses import durable, estimate, jobs, patience
from daemon.responses import procedure as response
from daemon.responses.steps import Step, StepLog
from daemon.site.settings import Site
from daemon.store.records import FINAL_RESPONSE_STATES, ResponseRecord
from hw.boards.ipbus import IPbusBoard
from tests.support.kill_site import MODEL, site_for_kills

_LIFE_S = 60.0
_LOOK_S = 0.05


class Points:
    """Kills at one point, once."""

    def __init__(self, site: Site, order: str) -> None:
        action, _, point = order.rpartition("@")
        self._site = site
        self._action, self._point = action or "self", point
        self._step = ""

    def reach(self, where: str, step: str | None = None) -> None:
        """Say where the process is; it may be the last thing that it does."""
        self._step = step or self._step
        if f"{self._step}:{where}" != self._point:
            return
        self._point = ""
        if self._action in {"board", "both"}:
            board = json.loads(self._site.board_file(MODEL).read_text())
            os.kill(int(board["pid"]), signal.SIGKILL)
        if self._action in {"self", "both"}:
            os.kill(os.getpid(), signal.SIGKILL)

    def job(self, command: list[str]) -> list[str]:
        """Give the command of a job: the job itself, or one that is killed before it leaves a result."""
        if self._action == "board":
            self.reach("job")  # before it begins: later the job might be through with the board
        if self._action != "job" or f"{self._step}:job" != self._point:
            return command
        self._point = ""
        return [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]


def install(points: Points) -> None:
    """Put the points around the steps, their records, their jobs and the board."""
    run_step = durable._run_step

    def step(name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        def worked() -> dict[str, Any]:
            result = work()
            points.reach("recorded", name)
            return result

        points.reach("before", name)
        result = run_step(name, worked)
        points.reach("after", name)
        return result

    durable._run_step = step
    begin, end, run_child, add = StepLog.begin, StepLog._end, jobs.run_child, estimate.add_estimate

    def begun(log: StepLog, which: Step) -> None:
        begin(log, which)
        points.reach("begun", which.name)

    def ended(log: StepLog, which: Step, *rest: Any) -> None:
        points.reach("worked", which.name)
        end(log, which, *rest)

    def child(arguments: list[str], *, progress: Callable[[float, str], None], **rest: Any) -> None:
        def report(fraction: float, message: str) -> None:
            points.reach("job")
            progress(fraction, message)

        fake = ["tests.support.fast_retrain" if word == "retrain.job" else word for word in arguments]
        run_child(points.job(fake), progress=report, **rest)

    def asked(*arguments: Any, **rest: Any) -> None:
        points.reach("asked")
        add(*arguments, **rest)

    # a second here and half a second there, which no life has time for
    Queue.__init__.__kwdefaults__["polling_interval_sec"] = _LOOK_S
    patience._LOOK_AGAIN_S = _LOOK_S  # type: ignore[misc]
    StepLog.begin = begun  # type: ignore[method-assign]
    StepLog._end = ended  # type: ignore[method-assign, assignment]
    jobs.run_child = child  # type: ignore[assignment]
    response.add_estimate = asked  # type: ignore[attr-defined]
    for name, where in (("load_inactive", "loaded"), ("switch", "switched")):
        setattr(IPbusBoard, name, _then(getattr(IPbusBoard, name), lambda where=where: points.reach(where)))


def _then(method: Callable[..., Any], what: Callable[[], None]) -> Callable[..., Any]:
    @wraps(method)
    def both(*arguments: Any, **rest: Any) -> Any:
        result = method(*arguments, **rest)
        what()
        return result

    return both


def live(site: Site, order: str) -> None:
    """Be a daemon until the kill, or until no response is left to work on."""
    install(Points(site, order))
    daemon = service.build_daemon(site)
    deadline = time.monotonic() + _LIFE_S
    with daemon.running():
        while _unfinished(daemon.services.engine) and time.monotonic() < deadline:
            time.sleep(0.02)


def _unfinished(engine: Any) -> bool:
    with Session(engine) as session:
        found = session.exec(
            select(ResponseRecord.id).where(
                col(ResponseRecord.state).not_in([state.value for state in FINAL_RESPONSE_STATES])
            )
        ).first()
    return found is not None or bool(durable.DBOS.list_workflows(status=["PENDING", "ENQUEUED"]))


def main(folder: str, database_url: str) -> None:
    """Give one life after the other."""
    site = site_for_kills(Path(folder), database_url)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # messages to people go there too
            try:
                live(site, line.strip().removeprefix("-"))
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        word = "killed" if killed else "ended" if status == 0 else f"failed ({status})"
        sys.stdout.write(word + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
