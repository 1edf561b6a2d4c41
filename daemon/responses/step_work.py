"""The work of a response's steps, each with its records: what the workshop did, in tables and lineage.

Every method can be repeated after a crash. Knows neither the order of the steps nor who approved.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.errors import StepFailed, VerificationFailed
from daemon.incidents.life import position
from daemon.incidents.transitions import close_incident
from daemon.journal.happenings import ACTOR, record_happening
from daemon.journal.lineage import Artefact, add_edge
from daemon.responses.approval import load
from daemon.responses.patience import Patience
from daemon.responses.policy import RELOAD
from daemon.responses.steps import APPLY, BENCH, BUILD, RETRAIN, ROLL_BACK, VERIFY, Step, StepLog
from daemon.responses.verification import Verification, VerificationState, verify, verify_integrity
from daemon.responses.workshop import Applied, Benched, Built, Retrained, Task, Workshop
from daemon.site.settings import Site
from daemon.store.database import transaction
from daemon.store.records import IncidentRecord, ResponseRecord, ResponseState, VerdictRecord
from streams.judging.verdict import Verdict
from streams.store.records import WindowRow

Told = tuple[str, dict[str, Any]]
"""What a step says to people, and what it hands to the next one."""


class StepWork:
    """Does the steps of responses, and writes down what came of them.

    Parameters
    ----------
    engine
        The site's database.
    site
        Policies.
    workshop
        Does the real work.
    clock
        Gives aware UTC.
    patience
        How to wait for windows.
    """

    def __init__(
        self,
        engine: Engine,
        site: Site,
        workshop: Workshop,
        clock: Callable[[], datetime],
        patience: Patience,
    ) -> None:
        self._engine = engine
        self._site = site
        self._workshop = workshop
        self._clock = clock
        self._patience = patience

    def reload(self, task: Task, log: StepLog) -> Told:
        """Load the same package once more; windows beyond `after` hold its events only."""
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

    def verify_reload(self, task: Task, after: tuple[int, int], log: StepLog) -> Told:
        """Wait until the board agrees with its emulator again, in windows after the reload."""
        policy = self._site.models[task.model].policy

        def look() -> Verification:
            verdicts = [one for one in self._verdicts_of(task, task.package) if position(one) > after]
            return verify_integrity(
                verdicts, needed=policy.verify_lumisections, allowed_misses=policy.verify_allowed_misses
            )

        return self._await_verification(task, log, look)

    def close_reload(self, task: Task, verification: Verification) -> Told:
        """End response and incident."""
        text = f"Resolved by reloading package {task.package[:12]}: the board agrees with its emulator again."
        with transaction(self._engine) as session:
            response, incident = load(session, task.response_id)
            if response.state == ResponseState.RUNNING:
                self._succeed(session, response, incident, text, {"package": task.package}, verification)
        return text, {}

    def retrain(self, task: Task, log: StepLog) -> Told:
        """Retrain, and note what the candidate was made from."""
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

    def build(self, task: Task, retrained: Retrained, log: StepLog) -> Told:
        """Build and sign a package; a plan that the policy does not approve by itself is refused."""
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

    def bench(self, task: Task, built: Built, log: StepLog) -> Told:
        """Prove the package bit by bit; raises `StepFailed` when it is not."""
        benched = self._workshop.bench(task, built, _reporter(log, BENCH))
        if not benched.passed:
            raise StepFailed(f"the bench did not pass, the board was not touched: {benched.summary}")
        return benched.summary, Benched.model_dump(benched, mode="json")

    def apply(self, task: Task, built: Built, log: StepLog) -> Told:
        """Make the package run on the board."""
        applied = self._workshop.apply(task, built, _reporter(log, APPLY))
        return applied.summary, applied.model_dump(mode="json")

    def verify(self, task: Task, applied: Applied, log: StepLog) -> Told:
        """Wait until the windows of the new package agree with the reference."""
        settings = self._site.models[task.model].settings

        def look() -> Verification:
            return verify(
                self._verdicts_of(task, applied.package_id),
                needed=settings.policy.verify_lumisections,
                allowed_misses=settings.policy.verify_allowed_misses,
                rate_band=settings.watch.rate_band,
            )

        return self._await_verification(task, log, look)

    def _await_verification(self, task: Task, log: StepLog, look: Callable[[], Verification]) -> Told:
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

    def reference(self, task: Task, applied: Applied, verification: Verification) -> Told:
        """Register the reference that the verified windows make."""
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

    def close(self, task: Task, built: Built, verification: Verification, reference_id: str) -> Told:
        """End response and incident."""
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

    def roll_back(self, task: Task, log: StepLog) -> Told:
        """Bring the package of before the response back."""
        return self._workshop.roll_back(task, _reporter(log, ROLL_BACK)), {"package": task.package}

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
