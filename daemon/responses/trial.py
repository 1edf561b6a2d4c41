"""A retraining on trial while its proposal waits: what a decision would bring, measured, not remembered.

One child process at a time, in a folder of its own beside the response's work. Nothing of it is ever built or
loaded: an approved response retrains for itself. The proposal waits for no trial, and a trial ends with the
wait. Knows no workflow: what is done and what is to do stands in the database and in the folder, so a daemon
that is killed takes it up where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, select

from daemon.errors import DaemonError
from daemon.journal.happenings import record_happening
from daemon.process.children import Interrupted
from daemon.responses.approval import load, work_folder
from daemon.responses.board_work import package_path
from daemon.responses.drifted_events import DriftedEvents
from daemon.responses.policy import Proposal, strategies_to_try
from daemon.responses.retraining import run_retraining
from daemon.responses.workshop import Task
from daemon.site.keys import site_trusted_keys
from daemon.site.settings import Site
from daemon.store.database import transaction
from daemon.store.records import IncidentRecord, ResponseRecord, ResponseState
from hw.errors import HardwareError
from hw.package import open_package
from streams.errors import StreamsError

if TYPE_CHECKING:
    from retrain.evaluate import Evaluation
    from retrain.messages import RetrainResult

logger = logging.getLogger(__name__)

TRIAL: Final = "trial"
"""Key of an estimate under which a trial's outcome is kept, and name of its folder."""
_LOOK_S: Final = 2.0
_STOP_S: Final = 5.0


class Tried(BaseModel):
    """What a trial came to.

    Attributes
    ----------
    summary
        For people, with its origin.
    chosen
        The strategy that passed first; None: none did, none was needed, or there was no trial.
    accept_rate, expected_rate, score_distance
        Of the candidate on held-out recorded events.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    summary: str
    chosen: str | None = None
    accept_rate: float | None = None
    expected_rate: float | None = None
    score_distance: float | None = None


class Trials:
    """Tries out proposals that wait, from `start` to `stop`, where ``retrain.trial`` of a model says so.

    Parameters
    ----------
    engine, site, clock
        As of `Workbench`.
    on_contained
        Called for every failure that was contained, to count it.
    """

    def __init__(
        self,
        engine: Engine,
        site: Site,
        clock: Callable[[], datetime],
        on_contained: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine, self._site, self._clock = engine, site, clock
        self._on_contained = on_contained
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="trials", daemon=True)

    def start(self) -> None:
        """Begin to look for proposals."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; a trial under way begins again at the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def look(self) -> str | None:
        """Try out the oldest proposal that asks for it; returns the response's id if there was one."""
        response = self._next()
        if response is None:
            return None
        try:
            tried = self._try(response)
        except Interrupted:
            return response.id
        except (DaemonError, StreamsError, HardwareError, OSError) as error:
            tried = Tried(summary=f"The trial could not be made: {str(error).splitlines()[0]}")
        self._tell(response.id, tried)
        return response.id

    def _next(self) -> ResponseRecord | None:
        with Session(self._engine) as session:
            waiting = session.exec(
                select(ResponseRecord)
                .where(ResponseRecord.state == ResponseState.PROPOSED)
                .order_by(col(ResponseRecord.created_at))
            ).all()
        for response in waiting:
            model = self._site.models.get(response.model)
            asked_for = model is not None and model.settings.retrain.trial
            retrains = response.proposal.get("kind", "retrain") == "retrain"
            if asked_for and retrains and response.estimate is not None and TRIAL not in response.estimate:
                return response
        return None

    def _try(self, response: ResponseRecord) -> Tried:
        over = _Over(self._stopping, lambda: self._waits(response.id))
        proposal = Proposal.model_validate(response.proposal)
        folder = work_folder(self._site, response.id) / TRIAL
        with Session(self._engine) as session:
            incident = session.get_one(IncidentRecord, response.incident_id)
        task = Task(
            response_id=response.id,
            incident_id=response.incident_id,
            model=response.model,
            simulated=incident.simulated,
            run=proposal.run,
            first_lumisection=proposal.first_lumisection,
            last_lumisection=proposal.last_lumisection,
            package=proposal.package,
            reference_id=proposal.reference_id,
            strategies=strategies_to_try(self._site.models[response.model].policy, None),
            decided_by="",
            automatic=False,
            folder=folder,
        )
        file = package_path(self._engine, self._site, task.package)
        package = open_package(file, site_trusted_keys(self._site))
        events = DriftedEvents(self._engine, self._site, over, self._clock)
        result = run_retraining(
            self._site, task, folder, package, events, progress=lambda *_: None, stopping=over
        )
        return tried_of(result)

    def _waits(self, response_id: str) -> bool:
        with Session(self._engine) as session:
            response = session.get(ResponseRecord, response_id)
        return response is not None and response.state == ResponseState.PROPOSED

    def _tell(self, response_id: str, tried: Tried) -> None:
        with transaction(self._engine) as session:
            response, incident = load(session, response_id)
            known = response.estimate
            if response.state != ResponseState.PROPOSED or known is None or TRIAL in known:
                return
            outcome: dict[str, Any] = tried.model_dump(mode="json")
            response.estimate = {**known, TRIAL: outcome, "summary": f"{known['summary']} {tried.summary}"}
            record_happening(
                session,
                incident,
                "response.tried",
                tried.summary,
                now=self._clock(),
                response_id=response_id,
                detail={TRIAL: outcome},
            )

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except SQLAlchemyError as error:
                self._on_contained()
                logger.warning("trials: the database does not answer (%s)", str(error).splitlines()[0])
            except Exception:
                self._on_contained()
                logger.exception("a trial broke off")
            self._stopping.wait(_LOOK_S)


class _Over(Event):
    """Set when the daemon stops, or when the proposal no longer waits, which is looked up once a second."""

    def __init__(self, stopping: Event, waits: Callable[[], bool]) -> None:
        super().__init__()
        self._daemon_stops, self._waits, self._asked_at = stopping, waits, monotonic()

    def is_set(self) -> bool:
        if not super().is_set() and monotonic() - self._asked_at > 1:
            self._asked_at = monotonic()
            if self._daemon_stops.is_set() or not self._waits():
                self.set()
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        until = None if timeout is None else monotonic() + timeout
        while not self.is_set():
            left = 1.0 if until is None else until - monotonic()
            if left <= 0:
                return False
            super().wait(min(left, 1.0))
        return True


def tried_of(result: RetrainResult) -> Tried:
    """Say what a retraining on trial came to."""
    before = result.baseline
    origin = f"Trial on {before.events:,} recorded events that nothing was tuned on"
    now = f"now accept rate {_rate(before)} and score distance {before.score_distance:.3f}"
    passed = next((one for one in result.strategies if one.strategy == result.chosen), None)
    if passed is None or passed.evaluation is None:
        return Tried(summary=f"{origin}: {now}; {result.reason.rstrip('.')}.")
    after = passed.evaluation
    failed = [one.strategy for one in result.strategies if not one.passed]
    then = f"{_rate(after)} and {after.score_distance:.3f}, {passed.words_changed} words to load"
    words = f"{origin}: {now}; with {passed.strategy} {then}"
    if failed:
        words += f"; {', '.join(failed)} did not pass"
    return Tried(
        summary=f"{words}.",
        chosen=passed.strategy,
        accept_rate=after.accept_rate,
        expected_rate=after.reference_rate,
        score_distance=after.score_distance,
    )


def _rate(found: Evaluation) -> str:
    return f"{found.accept_rate:.2%} ± {found.accept_rate_error:.2%} of {found.reference_rate:.2%}"
