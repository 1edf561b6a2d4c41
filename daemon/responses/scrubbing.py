"""Scrubbing: looks at the weights of every model's board again and again, in a thread of its own.

Radiation flips bits that nobody has written. What is found becomes an incident (`incidents.flipped`); how a
board is read and repaired is in `board_work`. A board that does not answer is no finding of scrubbing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Event, Thread
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.errors import DaemonError
from daemon.incidents.flipped import LEFT_WRONG, Looked, record_other_package, sentence, take_scrub
from daemon.journal.happenings import ACTOR
from daemon.operations import Workflows
from daemon.process.children import Interrupted
from daemon.responses.board_work import BoardWork
from daemon.responses.steps import APPLY, ROLL_BACK, VERIFY
from daemon.site.settings import Site
from daemon.store.records import ResponseRecord, ResponseState
from hw.errors import HardwareError
from hw.scrub import ScrubOutcome, ScrubReport

logger = logging.getLogger(__name__)

_LOOK_S: Final = 1.0
_STOP_S: Final = 10.0
_TRIES: Final = 3
"""Repairs that may fail one after the other; then flipped bits are only told, until the board is right."""
_TOUCHING: Final = (APPLY.name, VERIFY.name, ROLL_BACK.name)


@dataclass(frozen=True)
class LastScrub:
    """The last look at a board.

    Parameters
    ----------
    at
        When.
    words
        One sentence: what came of it, or why there was none.
    report
        What was found and done; None when there was no look.
    """

    at: datetime
    words: str
    report: ScrubReport | None = None

    @property
    def wrong(self) -> bool:
        """Whether it left wrong weights on the board."""
        return self.report is not None and self.report.outcome in LEFT_WRONG


class Scrubbing:
    """Scrubs the boards of a site, from `start` to `stop`.

    Parameters
    ----------
    engine
        The site's database.
    site
        As it is now: intervals count from the next look on.
    boards
        Reads and repairs.
    workflows
        Where the responses run that a fault asks for.
    registry
        Where looks and flipped words are counted.
    clock
        Gives aware UTC.
    on_opened, on_contained
        Called with the model of every incident that opened, and for every failure that was contained.
    """

    def __init__(
        self,
        engine: Engine,
        site: Site,
        boards: BoardWork,
        workflows: Workflows,
        registry: CollectorRegistry,
        clock: Callable[[], datetime],
        *,
        on_opened: Callable[[str], None] = lambda _: None,
        on_contained: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine, self._site, self._boards = engine, site, boards
        self._workflows, self._clock = workflows, clock
        self._on_opened, self._on_contained = on_opened, on_contained
        self._flipped = Counter(
            "lumiwatch_scrub_flipped_words_total",
            "Weight words on boards that were found with flipped bits.",
            ["model"],
            registry=registry,
        )
        self._looked_at = Gauge(
            "lumiwatch_scrub_last_success_timestamp_seconds",
            "When the weights on a board were last compared with the package.",
            ["model"],
            registry=registry,
        )
        self._wrong = Gauge(
            "lumiwatch_scrub_wrong_words",
            "Weight words that are wrong on a board since the last look.",
            ["model"],
            registry=registry,
        )
        for model in site.models.values():
            if model.has_firmware:
                self._flipped.labels(model.name)
                self._wrong.labels(model.name).set(0)
        self._last: dict[str, LastScrub] = {}
        self._strangers: dict[str, str] = {}
        self._failures: dict[str, int] = {}
        self._next_s: dict[str, float] = {}
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="scrubbing", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for a look or a repair that has begun."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def last(self, model: str) -> LastScrub | None:
        """Give the last look at the board of a model since this process started."""
        return self._last.get(model)

    def look(self, model: str) -> ScrubReport | None:
        """Look at the board of a model once, unless a response works on it.

        Returns
        -------
        ScrubReport or None
            None: nothing could be compared now; `last` says why.
        """
        if self._at_work(model):
            self._note(model, "not now: a response works on the board")
            return None
        repair = self._site.models[model].settings.firmware.scrub_repair
        try:
            looked, running = self._boards.scrub(
                model, repair=repair and self._failures.get(model, 0) < _TRIES, operator=ACTOR
            )
        except (DaemonError, HardwareError) as error:
            self._note(model, f"not compared: {error}")
            return None
        self.take(looked, running)
        return looked.report

    def take(self, looked: Looked, running: str, *, actor: str = ACTOR, why: str = "") -> str | None:
        """Write down and tell what a look came to; returns the incident that it is about.

        Parameters
        ----------
        running
            Package that the board runs.
        actor, why
            As of `take_scrub`.
        """
        model, report, now = looked.model, looked.report, self._clock()
        if report.outcome is ScrubOutcome.OTHER_PACKAGE:
            if self._strangers.get(model) != running:
                record_other_package(self._engine, model, running, report.package_id, now=now)
                self._strangers[model] = running
            self._note(model, f"not compared: the board runs package {running[:12]}", report)
            return None
        self._strangers.pop(model, None)
        taken = take_scrub(self._engine, looked, now=now, actor=actor, why=why)
        if report.outcome is ScrubOutcome.FAILED:
            self._failures[model] = self._failures.get(model, 0) + 1
        elif report.outcome is not ScrubOutcome.FLIPPED:
            self._failures.pop(model, None)
        self._flipped.labels(model).inc(taken.new_words)
        self._looked_at.labels(model).set(now.timestamp())
        self._wrong.labels(model).set(len(report.flipped) if report.outcome in LEFT_WRONG else 0)
        self._note(model, sentence(report) if report.flipped else report.reason, report)
        if taken.new_words:
            logger.warning("%s", sentence(report), extra={"model": model, "incident": taken.incident})
        if taken.opened:
            self._on_opened(model)
        for response_id in taken.start_responses:
            self._workflows.start(response_id)
        for response_id in (*taken.start_responses, *taken.wake_responses):
            self._workflows.wake(response_id)
        return taken.incident

    def look_when_due(self) -> None:
        """Look at every board whose time has come; one that fails holds up no other."""
        for name, model in self._site.models.items():
            interval_s = model.settings.firmware.scrub_interval_s
            if not model.has_firmware or not interval_s or time.monotonic() < self._next_s.get(name, 0.0):
                continue
            if self._stopping.is_set():
                return
            try:
                self.look(name)
            except Interrupted:
                return
            except Exception:
                self._on_contained()
                logger.exception("the board of %s could not be scrubbed; going on", name)
            self._next_s[name] = time.monotonic() + interval_s

    def _at_work(self, model: str) -> bool:
        """Whether a response is at a step that works on the board, or proves it."""
        with Session(self._engine) as session:
            found = session.exec(
                select(ResponseRecord.id).where(
                    ResponseRecord.model == model,
                    ResponseRecord.state == ResponseState.RUNNING,
                    col(ResponseRecord.current_step).in_(_TOUCHING),
                )
            ).first()
        return found is not None

    def _note(self, model: str, words: str, report: ScrubReport | None = None) -> None:
        before = self._last.get(model)
        if before is None or before.words != words:
            logger.info("scrubbing %s: %s", model, words)
        self._last[model] = LastScrub(self._clock(), words, report)

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            self.look_when_due()
