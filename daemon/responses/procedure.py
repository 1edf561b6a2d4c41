"""The procedure that answers an incident: propose, wait, retrain, build, bench, apply, verify, close.

Every step is written down (`steps`), can be repeated, and hands JSON to the next, so that the durable
engine (`durable`) can take the procedure up after kill -9. Knows no engine: it is handed a function
that runs one step at most once to its end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from threading import Event
from typing import Any

from sqlalchemy.engine import Engine
from sqlmodel import Session

from daemon.errors import DaemonError
from daemon.incidents.transitions import back_from_response
from daemon.journal.happenings import record_happening
from daemon.responses.approval import Approval, load, work_folder
from daemon.responses.board_left import Board, board_after
from daemon.responses.estimate import add_estimate
from daemon.responses.hardware_plan import HardwarePlan, hardware_plan, reload_plan
from daemon.responses.patience import Patience
from daemon.responses.retrain_requests import end_request
from daemon.responses.step_work import StepWork, Told
from daemon.responses.steps import (
    APPLY,
    BENCH,
    BUILD,
    CLOSE,
    CONFIRM,
    DECIDE,
    PROPOSE,
    REFERENCE,
    RETRAIN,
    ROLL_BACK,
    VERIFY,
    Step,
    StepLog,
)
from daemon.responses.verification import Verification
from daemon.responses.workshop import Applied, Benched, Built, Retrained, Task, Workshop
from daemon.site.sections import PolicySettings
from daemon.site.settings import Site
from daemon.store.database import transaction
from daemon.store.records import (
    FINAL_RESPONSE_STATES,
    ResponseState,
    StepState,
)
from hw.errors import HardwareError
from retrain.errors import RetrainError
from streams.errors import StreamsError

logger = logging.getLogger(__name__)

_FAILED = "failed"
_EXPECTED_ERRORS = (DaemonError, StreamsError, HardwareError, RetrainError)

StepRunner = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]
"""Runs a named step, or gives back the result it had before a restart."""

_StepTaker = Callable[[Step, Callable[[], Told]], dict[str, Any]]


class _Abandoned(Exception):  # noqa: N818 - ends the procedure after a failed step, inside this module only
    """A step failed; its reason is in the step's record."""


class _NotConfirmed(Exception):  # noqa: N818 - ends the procedure, inside this module only
    """The board is not to be touched; carries the state in which the response has ended."""


class ResponseProcedure:
    """Runs responses.

    Parameters
    ----------
    engine
        The site's database.
    site
        Policies and folders.
    workshop
        Does the work of the steps.
    clock
        Gives aware UTC.
    stopping
        Set when the daemon stops.
    """

    def __init__(
        self,
        engine: Engine,
        site: Site,
        workshop: Workshop,
        clock: Callable[[], datetime],
        stopping: Event,
    ) -> None:
        self._engine = engine
        self._site = site
        self._clock = clock
        self._patience = Patience(stopping)
        self._work = StepWork(engine, site, workshop, clock, self._patience)
        self._approval = Approval(engine, site, clock, self._patience)

    def wake(self) -> None:
        """Let waiting steps look at the database at once: something changed."""
        self._patience.wake()

    def run(self, response_id: str, run_step: StepRunner) -> str:
        """Run one response to its end; returns the final state.

        Called again for the same response, it goes through the finished steps without repeating them.
        """
        log = StepLog(self._engine, response_id, self._clock)
        missing = self._missing_model(response_id)
        if missing is not None:
            log.skip_rest()
            return self.give_up(response_id, missing)

        def step(which: Step, work: Callable[[], Told]) -> dict[str, Any]:
            outcome = run_step(which.name, lambda: self._guarded(log, which, work))
            if _FAILED in outcome:
                raise _Abandoned(str(outcome[_FAILED]))
            return outcome

        try:
            step(PROPOSE, lambda: self._propose(response_id, log))
            decision = step(DECIDE, lambda: self._approval.decide(response_id, log))
            if decision["state"] != ResponseState.RUNNING:
                log.skip_rest()
                return str(decision["state"])
            task = Task.model_validate(decision["task"])
            # where the site is now: it may have been restored elsewhere since the decision
            task = task.model_copy(update={"folder": work_folder(self._site, response_id)})
            self._carry_out(task, log, step)
        except _NotConfirmed as end:
            log.skip_rest()
            return str(end)
        except _Abandoned as failure:
            log.skip_rest()
            return self.give_up(response_id, str(failure))
        return ResponseState.SUCCEEDED.value

    def _missing_model(self, response_id: str) -> str | None:
        """Say what is wrong when the site no longer watches the model of a response."""
        with Session(self._engine) as session:
            model = load(session, response_id)[0].model
        if model in self._site.models:
            return None
        return f"{model} is no longer at this site: put models/{model} back and ask for a new response."

    def _propose(self, response_id: str, log: StepLog) -> Told:
        """Ask first; what is known of the outcome is added to the question."""
        proposed = self._approval.propose(response_id, log)
        add_estimate(self._engine, self._site, response_id, now=self._clock())
        return proposed

    def _carry_out(
        self,
        task: Task,
        log: StepLog,
        step: _StepTaker,
    ) -> None:
        """Everything after an approval; raises `_Abandoned` when a step fails, `_NotConfirmed` without it."""
        if task.kind == "reload":
            self._carry_out_reload(task, log, step)
            return
        retrained = Retrained.model_validate(step(RETRAIN, lambda: self._work.retrain(task, log)))
        built = Built.model_validate(step(BUILD, lambda: self._work.build(task, retrained, log)))
        benched = Benched.model_validate(step(BENCH, lambda: self._work.bench(task, built, log)))
        task = self._confirm(task, hardware_plan(task, retrained, built, benched), log, step)
        try:
            applied = Applied.model_validate(step(APPLY, lambda: self._work.apply(task, built, log)))
            verified = step(VERIFY, lambda: self._work.verify(task, applied, log))
        except _Abandoned:
            step(ROLL_BACK, lambda: self._work.roll_back(task, log))
            raise
        verification = Verification.model_validate(verified)
        reference = step(REFERENCE, lambda: self._work.reference(task, applied, verification))
        step(CLOSE, lambda: self._work.close(task, built, verification, str(reference["reference_id"])))

    def _carry_out_reload(
        self,
        task: Task,
        log: StepLog,
        step: _StepTaker,
    ) -> None:
        """Load the same package again; a board that still differs is then to be prescaled out."""
        task = self._confirm(task, reload_plan(task), log, step)
        reloaded = step(APPLY, lambda: self._work.reload(task, log))
        run, lumisection = reloaded["after"]
        verified = step(VERIFY, lambda: self._work.verify_reload(task, (run, lumisection), log))
        step(CLOSE, lambda: self._work.close_reload(task, Verification.model_validate(verified)))
        log.skip_rest()

    def _confirm(
        self,
        task: Task,
        plan: HardwarePlan,
        log: StepLog,
        step: _StepTaker,
    ) -> Task:
        """Ask for the decision before the board where the policy wants one; gives the task with its names."""
        if not task.confirm:
            return task
        answer = step(CONFIRM, lambda: self._approval.confirm(task.response_id, plan, log))
        if answer["state"] != ResponseState.RUNNING:
            raise _NotConfirmed(str(answer["state"]))
        return task.model_copy(update={"decided_by": str(answer["decided_by"])})

    # around the steps

    def _guarded(self, log: StepLog, step: Step, work: Callable[[], Told]) -> dict[str, Any]:
        """Run a step's work with its record around it; a failure becomes a result, never an exception.

        A step whose end is in its record is not done again: a crash came before the engine knew of it.
        """
        ended = log.ended(step)
        if ended is not None:
            return ended.result if ended.state == StepState.DONE else _failure(step, ended.detail)
        log.begin(step)
        try:
            detail, result = work()
        except _EXPECTED_ERRORS as error:
            reason = str(error)
        except Exception as error:
            logger.exception("step %s failed unexpectedly", step.name)
            reason = f"unexpected {type(error).__name__}: {error} (see the daemon's log)"
        else:
            log.done(step, detail, result)
            return result
        log.failed(step, reason)
        return _failure(step, reason)

    def give_up(self, response_id: str, reason: str) -> str:
        """End a response that did not succeed, and say what the board was left with; returns the state."""
        now = self._clock()
        with transaction(self._engine) as session:
            response, incident = load(session, response_id)
            if ResponseState(response.state) in FINAL_RESPONSE_STATES:
                return str(response.state)
            board = board_after(session, response_id)
            response.state = ResponseState.ROLLED_BACK if board is Board.PREVIOUS else ResponseState.FAILED
            response.ended_at = now
            match board:
                case Board.UNTOUCHED:
                    reason += " The firmware was not touched."
                case Board.PREVIOUS:
                    reason += f" The board runs package {(response.previous_package or '')[:12]} again."
                case Board.VERIFIED:
                    reason += (
                        f" The board runs the verified package {(response.candidate_package or '')[:12]}."
                    )
                case Board.UNPROVEN:
                    instruction = self._prescale_instruction(response.model)
                    incident.instruction = instruction
                    reason += f" The board may run an unproven package. {instruction}"
            response.outcome = reason
            response.decide_by = None
            back_from_response(incident)
            record_happening(session, incident, "response.ended", reason, now=now, response_id=response_id)
            if board in {Board.UNTOUCHED, Board.PREVIOUS}:
                end_request(session, incident, reason, now=now)
            return str(response.state)

    def _prescale_instruction(self, model: str) -> str:
        if model in self._site.models:
            return self._site.models[model].policy.prescale_instruction
        return str(PolicySettings.model_fields["prescale_instruction"].default)


def _failure(step: Step, reason: str) -> dict[str, Any]:
    return {_FAILED: f"{step.title}: {reason}"}
