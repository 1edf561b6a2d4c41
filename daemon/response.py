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
from sqlmodel import Session, col, select

from daemon.approval import Approval, load
from daemon.board_left import Board, board_after
from daemon.database import transaction
from daemon.errors import DaemonError, StepFailed, VerificationFailed
from daemon.happenings import ACTOR, record_happening
from daemon.incidents import position
from daemon.lineage import Artefact, add_edge
from daemon.patience import Patience
from daemon.policy import RELOAD
from daemon.records import (
    FINAL_RESPONSE_STATES,
    IncidentRecord,
    IncidentState,
    ResponseRecord,
    ResponseState,
    VerdictRecord,
)
from daemon.settings import Site
from daemon.steps import (
    APPLY,
    BENCH,
    BUILD,
    CLOSE,
    DECIDE,
    PROPOSE,
    REFERENCE,
    RETRAIN,
    ROLL_BACK,
    VERIFY,
    Step,
    StepLog,
)
from daemon.transitions import close_incident
from daemon.verification import Verification, VerificationState, verify, verify_integrity
from daemon.workshop import Applied, Benched, Built, Retrained, Task, Workshop
from hw.errors import HardwareError
from retrain.errors import RetrainError
from streams.errors import StreamsError
from streams.judging.verdict import Verdict
from streams.store.records import WindowRow

logger = logging.getLogger(__name__)

_FAILED = "failed"
_EXPECTED_ERRORS = (DaemonError, StreamsError, HardwareError, RetrainError)

StepRunner = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]
"""Runs a named step, or gives back the result it had before a restart."""


class _Abandoned(Exception):  # noqa: N818 - ends the procedure after a failed step, inside this module only
    """A step failed; its reason is in the step's record."""


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
        self._workshop = workshop
        self._clock = clock
        self._patience = Patience(stopping)
        self._approval = Approval(engine, site, clock, self._patience)

    def wake(self) -> None:
        """Let waiting steps look at the database at once: something changed."""
        self._patience.wake()

    def run(self, response_id: str, run_step: StepRunner) -> str:
        """Run one response to its end; returns the final state.

        Called again for the same response, it goes through the finished steps without repeating them.
        """
        log = StepLog(self._engine, response_id, self._clock)

        def step(which: Step, work: Callable[[], tuple[str, dict[str, Any]]]) -> dict[str, Any]:
            outcome = run_step(which.name, lambda: self._guarded(log, which, work))
            if _FAILED in outcome:
                raise _Abandoned(str(outcome[_FAILED]))
            return outcome

        try:
            step(PROPOSE, lambda: self._approval.propose(response_id, log))
            decision = step(DECIDE, lambda: self._approval.decide(response_id, log))
            if decision["state"] != ResponseState.RUNNING:
                log.skip_rest()
                return str(decision["state"])
            self._carry_out(Task.model_validate(decision["task"]), log, step)
        except _Abandoned as failure:
            log.skip_rest()
            return self.give_up(response_id, str(failure))
        return ResponseState.SUCCEEDED.value

    def _carry_out(
        self,
        task: Task,
        log: StepLog,
        step: Callable[[Step, Callable[[], tuple[str, dict[str, Any]]]], dict[str, Any]],
    ) -> None:
        """Everything after an approval; raises `_Abandoned` when a step fails."""
        if task.kind == "reload":
            self._carry_out_reload(task, log, step)
            return
        retrained = Retrained.model_validate(step(RETRAIN, lambda: self._retrain(task, log)))
        built = Built.model_validate(step(BUILD, lambda: self._build(task, retrained, log)))
        step(BENCH, lambda: self._bench(task, built, log))
        try:
            applied = Applied.model_validate(step(APPLY, lambda: self._apply(task, built, log)))
            verified = step(VERIFY, lambda: self._verify(task, applied, log))
        except _Abandoned:
            step(ROLL_BACK, lambda: self._roll_back(task, log))
            raise
        verification = Verification.model_validate(verified)
        reference = step(REFERENCE, lambda: self._reference(task, applied, verification))
        step(CLOSE, lambda: self._close(task, built, verification, str(reference["reference_id"])))

    def _carry_out_reload(
        self,
        task: Task,
        log: StepLog,
        step: Callable[[Step, Callable[[], tuple[str, dict[str, Any]]]], dict[str, Any]],
    ) -> None:
        """Load the same package again; a board that still differs is then to be prescaled out."""
        reloaded = step(APPLY, lambda: self._reload(task, log))
        run, lumisection = reloaded["after"]
        verified = step(VERIFY, lambda: self._verify_reload(task, (run, lumisection), log))
        step(CLOSE, lambda: self._close_reload(task, Verification.model_validate(verified)))
        log.skip_rest()

    def _reload(self, task: Task, log: StepLog) -> tuple[str, dict[str, Any]]:
        applied = self._workshop.reload(task, _reporter(log, APPLY))
        with transaction(self._engine) as session:
            response, _ = load(session, task.response_id)
            response.strategy = RELOAD
            # windows that have begun hold events of the board as it was
            begun = session.exec(
                select(WindowRow.run, WindowRow.lumisection)
                .where(WindowRow.model == task.model)
                .order_by(col(WindowRow.run).desc(), col(WindowRow.lumisection).desc())
                .limit(1)
            ).first()
        after = list(begun or (task.run, task.last_lumisection))
        return applied.summary, {"after": after, **applied.model_dump(mode="json")}

    def _verify_reload(self, task: Task, after: tuple[int, int], log: StepLog) -> tuple[str, dict[str, Any]]:
        policy = self._site.models[task.model].policy

        def look() -> Verification:
            verdicts = [one for one in self._verdicts_of(task, task.package) if position(one) > after]
            return verify_integrity(
                verdicts, needed=policy.verify_lumisections, allowed_misses=policy.verify_allowed_misses
            )

        return self._await_verification(task, log, look)

    def _close_reload(self, task: Task, verification: Verification) -> tuple[str, dict[str, Any]]:
        text = f"Resolved by reloading package {task.package[:12]}: the board agrees with its emulator again."
        with transaction(self._engine) as session:
            response, incident = load(session, task.response_id)
            if response.state == ResponseState.RUNNING:
                self._succeed(session, response, incident, text, {"package": task.package}, verification)
        return text, {}

    def _retrain(self, task: Task, log: StepLog) -> tuple[str, dict[str, Any]]:
        retrained = self._workshop.retrain(task, _reporter(log, RETRAIN))
        now = self._clock()
        with transaction(self._engine) as session:
            response, _ = load(session, task.response_id)
            response.strategy = retrained.strategy
            response.training_id = retrained.training_id
            training = Artefact("training", retrained.training_id)
            add_edge(session, training, Artefact("response", task.response_id), "asked for by", now=now)
            for dataset_id in retrained.dataset_ids:
                add_edge(session, training, Artefact("dataset", dataset_id), "trained on", now=now)
        return retrained.summary, retrained.model_dump(mode="json")

    def _build(self, task: Task, retrained: Retrained, log: StepLog) -> tuple[str, dict[str, Any]]:
        built = self._workshop.build(task, retrained, _reporter(log, BUILD))
        if task.automatic and built.plan_kind not in self._site.models[task.model].policy.auto_plan_kinds:
            raise StepFailed(
                f"the plan is {built.plan_kind!r}, which the policy does not allow without an approval: "
                f"ask for a new response and approve it"
            )
        now = self._clock()
        with transaction(self._engine) as session:
            response, _ = load(session, task.response_id)
            response.candidate_package = built.package_id
            package = Artefact("package", built.package_id)
            add_edge(session, package, Artefact("training", retrained.training_id), "made from", now=now)
            add_edge(session, package, Artefact("package", task.package), "succeeds", now=now)
        return built.summary, built.model_dump(mode="json")

    def _bench(self, task: Task, built: Built, log: StepLog) -> tuple[str, dict[str, Any]]:
        benched = self._workshop.bench(task, built, _reporter(log, BENCH))
        if not benched.passed:
            raise StepFailed(f"the bench did not pass, the board was not touched: {benched.summary}")
        return benched.summary, Benched.model_dump(benched, mode="json")

    def _apply(self, task: Task, built: Built, log: StepLog) -> tuple[str, dict[str, Any]]:
        applied = self._workshop.apply(task, built, _reporter(log, APPLY))
        return applied.summary, applied.model_dump(mode="json")

    def _verify(self, task: Task, applied: Applied, log: StepLog) -> tuple[str, dict[str, Any]]:
        settings = self._site.models[task.model].settings

        def look() -> Verification:
            return verify(
                self._verdicts_of(task, applied.package_id),
                needed=settings.policy.verify_lumisections,
                allowed_misses=settings.policy.verify_allowed_misses,
                rate_band=settings.watch.rate_band,
            )

        return self._await_verification(task, log, look)

    def _await_verification(
        self, task: Task, log: StepLog, look: Callable[[], Verification]
    ) -> tuple[str, dict[str, Any]]:
        """Look until the firmware is verified; raises `VerificationFailed` when it is not, or not in time."""
        timeout_s = self._site.models[task.model].policy.verify_timeout_s
        started = log.started_at(VERIFY)
        while True:
            found = look()
            log.progress(VERIFY, min(found.judged / found.needed, 1.0), found.summary)
            if found.state is VerificationState.PASSED:
                return found.summary, found.model_dump(mode="json")
            if found.state is VerificationState.FAILED:
                raise VerificationFailed(f"the firmware does not do what it should: {found.summary}")
            if (self._clock() - started).total_seconds() > timeout_s:
                raise VerificationFailed(f"not verified within {timeout_s:.0f} s: {found.summary}")
            self._patience.wait()

    def _reference(
        self, task: Task, applied: Applied, verification: Verification
    ) -> tuple[str, dict[str, Any]]:
        first, last, run = verification.first_lumisection, verification.last_lumisection, verification.run
        if first is None or last is None or run is None:
            raise StepFailed("the verification names no windows: ask for a new response")
        reference_id = self._workshop.successor_reference(task, applied.package_id, run, first, last)
        now = self._clock()
        with transaction(self._engine) as session:
            response, _ = load(session, task.response_id)
            response.reference_id = reference_id
            reference = Artefact("reference", reference_id)
            add_edge(session, reference, Artefact("package", applied.package_id), "describes", now=now)
            if task.reference_id is not None:
                add_edge(session, reference, Artefact("reference", task.reference_id), "succeeds", now=now)
        text = f"{reference_id[:12]} from LS {first}-{last} of run {run}, approved by {task.decided_by}."
        return text, {"reference_id": reference_id}

    def _close(
        self, task: Task, built: Built, verification: Verification, reference_id: str
    ) -> tuple[str, dict[str, Any]]:
        with transaction(self._engine) as session:
            response, incident = load(session, task.response_id)
            text = (
                f"Resolved by {response.strategy}: package {built.package_id[:12]} on the board, "
                f"{verification.summary}"
            )
            if response.state != ResponseState.RUNNING:
                return text, {}
            detail = {"reference_id": reference_id, "package": built.package_id}
            self._succeed(session, response, incident, text, detail, verification)
        return text, {}

    def _succeed(
        self,
        session: Session,
        response: ResponseRecord,
        incident: IncidentRecord,
        text: str,
        detail: dict[str, Any],
        verification: Verification,
    ) -> None:
        """Close response and incident, in the caller's transaction."""
        now = self._clock()
        if verification.run is not None and verification.last_lumisection is not None:
            incident.last_run, incident.last_lumisection = verification.run, verification.last_lumisection
        response.state = ResponseState.SUCCEEDED
        response.ended_at = now
        response.outcome = text
        response.progress = 1.0
        record_happening(
            session, incident, "response.ended", text, now=now, response_id=response.id, detail=detail
        )
        close_incident(session, incident, text, actor=ACTOR, now=now)

    def _roll_back(self, task: Task, log: StepLog) -> tuple[str, dict[str, Any]]:
        return self._workshop.roll_back(task, _reporter(log, ROLL_BACK)), {"package": task.package}

    # around the steps

    def _guarded(
        self, log: StepLog, step: Step, work: Callable[[], tuple[str, dict[str, Any]]]
    ) -> dict[str, Any]:
        """Run a step's work with its record around it; a failure becomes a result, never an exception."""
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
        return {_FAILED: f"{step.title}: {reason}"}

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
                    instruction = self._site.models[response.model].policy.prescale_instruction
                    incident.instruction = instruction
                    reason += f" The board may run an unproven package. {instruction}"
            response.outcome = reason
            if incident.state == IncidentState.RESPONDING:
                acknowledged = incident.acknowledged_by is not None
                incident.state = IncidentState.ACKNOWLEDGED if acknowledged else IncidentState.OPEN
            record_happening(session, incident, "response.ended", reason, now=now, response_id=response_id)
            return str(response.state)

    def _verdicts_of(self, task: Task, package_id: str) -> list[Verdict]:
        with Session(self._engine) as session:
            rows = session.exec(
                select(VerdictRecord)
                .where(
                    VerdictRecord.model == task.model,
                    VerdictRecord.package == package_id,
                    VerdictRecord.simulated == task.simulated,
                )
                .order_by(
                    col(VerdictRecord.run), col(VerdictRecord.lumisection), col(VerdictRecord.received_at)
                )
            ).all()
        latest = {(row.run, row.lumisection): Verdict.model_validate(row.payload) for row in rows}
        return list(latest.values())  # one per window: the verdict after late data replaces the earlier one


def _reporter(log: StepLog, step: Step) -> Callable[[float, str], None]:
    def report(fraction: float, message: str) -> None:
        log.progress(step, fraction, message)

    return report
