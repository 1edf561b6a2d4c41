"""What a response asks: the proposal, the decision before the board, and waits that may take days.

The decision itself is written by `operations`; here it is only awaited, in the database, so that
nothing can be lost between the two. Knows no workflow engine.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import Engine
from sqlmodel import Session, select

from daemon.journal.happenings import record_happening
from daemon.journal.lineage import Artefact, add_edge
from daemon.responses.decisions import withdraw_undecided
from daemon.responses.hardware_plan import HardwarePlan
from daemon.responses.patience import Patience
from daemon.responses.policy import RELOAD, Proposal, strategies_to_try
from daemon.responses.policy import propose as propose_answer
from daemon.responses.retrain_requests import response_at_work
from daemon.responses.steps import CONFIRM, DECIDE, Step, StepLog
from daemon.responses.workshop import Task
from daemon.site.settings import Site
from daemon.store.database import transaction
from daemon.store.records import (
    DecisionKind,
    DecisionRecord,
    IncidentRecord,
    IncidentState,
    ResponseRecord,
    ResponseState,
)
from streams.judging.verdict import INTEGRITY, Verdict

POLICY_OPERATOR: Final = "policy"
"""The name under which a model's policy decides by itself."""

_WAITING: Final = frozenset(
    {ResponseState.PREPARING, ResponseState.PROPOSED, ResponseState.HARDWARE_PROPOSED}
)


class Approval:
    """Proposes, and waits.

    Parameters
    ----------
    engine
        The site's database.
    site
        Policies and folders.
    clock
        Gives aware UTC.
    patience
        How to wait.
    """

    def __init__(self, engine: Engine, site: Site, clock: Callable[[], datetime], patience: Patience) -> None:
        self._engine = engine
        self._site = site
        self._clock = clock
        self._patience = patience

    def propose(self, response_id: str, log: StepLog) -> tuple[str, dict[str, Any]]:
        """Write the proposal, once; a policy may approve it at once."""
        now = self._clock()
        with Session(self._engine) as session:
            model = load(session, response_id)[0].model
        log.prepare(confirm=self._site.models[model].policy.hardware_approvals_needed > 0)
        with transaction(self._engine) as session:
            response, incident = load(session, response_id)
            policy = self._site.models[response.model].policy
            if response.state != ResponseState.PREPARING:
                summary = response.proposal.get("summary", response.outcome or "Withdrawn.")
                return str(summary), {}
            verdict = Verdict.model_validate(incident.latest_verdict)
            proposal = propose_answer(
                policy,
                verdict,
                onset_lumisection=incident.onset_lumisection,
                firmware_fault=INTEGRITY in incident.families,
            )
            response.proposal = proposal.model_dump(mode="json")
            response.previous_package = verdict.package
            response.state = ResponseState.PROPOSED
            response.decide_by = now + timedelta(seconds=policy.decision_timeout_s)
            add_edge(
                session,
                Artefact("response", response_id),
                Artefact("incident", incident.id),
                "answers",
                now=now,
            )
            record_happening(
                session,
                incident,
                "response.proposed",
                proposal.summary,
                now=now,
                response_id=response_id,
                detail={"proposal": response.proposal},
            )
            busy = response_at_work(session, response.model) is not None
            if proposal.expected_plan in policy.auto_plan_kinds and not busy:
                self._approve_by_policy(session, response, incident, now)
        return proposal.summary, {}

    def _approve_by_policy(
        self, session: Session, response: ResponseRecord, incident: IncidentRecord, now: datetime
    ) -> None:
        session.add(
            DecisionRecord(
                response_id=response.id,
                operator=POLICY_OPERATOR,
                kind=DecisionKind.APPROVE,
                comment="auto_plan_kinds of model.toml",
                via="policy",
                at=now,
            )
        )
        response.state = ResponseState.RUNNING
        response.decide_by = None
        response.decided_at = now
        response.decided_by = POLICY_OPERATOR
        incident.state = IncidentState.RESPONDING
        text = "The model's policy approves weight updates by itself."
        record_happening(
            session,
            incident,
            "response.decided",
            text,
            now=now,
            actor=POLICY_OPERATOR,
            response_id=response.id,
        )

    def decide(self, response_id: str, log: StepLog) -> tuple[str, dict[str, Any]]:
        """Wait until operators have decided, the incident is resolved, or the time is over."""
        return self._await(response_id, DECIDE, log, self._decided)

    def confirm(self, response_id: str, plan: HardwarePlan, log: StepLog) -> tuple[str, dict[str, Any]]:
        """Ask for the decision before the board is touched, and wait for it as for the first one."""
        now = self._clock()
        with transaction(self._engine) as session:
            response, incident = load(session, response_id)
            if response.hardware is None:
                response.hardware = plan.model_dump(mode="json")
                response.state = ResponseState.HARDWARE_PROPOSED
                response.decide_by = now + timedelta(seconds=self._timeout_s(response))
                record_happening(
                    session,
                    incident,
                    "response.hardware_proposed",
                    plan.summary,
                    now=now,
                    response_id=response_id,
                    detail={"hardware": response.hardware},
                )
        return self._await(response_id, CONFIRM, log, _confirmed)

    def _await(
        self,
        response_id: str,
        step: Step,
        log: StepLog,
        tell: Callable[[ResponseRecord, IncidentRecord], tuple[str, dict[str, Any]]],
    ) -> tuple[str, dict[str, Any]]:
        """Look until a response waits no longer; escalate, and withdraw it, when it is time."""
        started = log.started_at(step)
        while True:
            with transaction(self._engine) as session:
                response, incident = load(session, response_id)
                if response.state not in _WAITING:
                    return tell(response, incident)
                now = self._clock()
                timeout_s = self._timeout_s(response)
                # a proposal of an earlier lumiwatch has no time in its record
                if now >= (response.decide_by or started + timedelta(seconds=timeout_s)):
                    outcome = f"Withdrawn: no decision within {timeout_s / 3600:.1f} h."
                    withdraw_undecided(session, incident, response, outcome, now=now)
                    return outcome, {"state": ResponseState.WITHDRAWN.value}
                _escalate_when_due(session, response, incident, started, now)
            self._patience.wait()

    def _timeout_s(self, response: ResponseRecord) -> float:
        return self._site.models[response.model].policy.decision_timeout_s

    def _decided(self, response: ResponseRecord, incident: IncidentRecord) -> tuple[str, dict[str, Any]]:
        if response.state != ResponseState.RUNNING:
            return response.outcome or str(response.state), {"state": str(response.state)}
        proposal = Proposal.model_validate(response.proposal)
        policy = self._site.models[response.model].policy
        same_run = incident.last_run == proposal.run
        task = Task(
            response_id=response.id,
            incident_id=incident.id,
            model=response.model,
            simulated=incident.simulated,
            run=proposal.run,
            first_lumisection=proposal.first_lumisection,
            last_lumisection=incident.last_lumisection if same_run else proposal.last_lumisection,
            package=proposal.package,
            reference_id=proposal.reference_id,
            kind=proposal.kind,
            strategies=(
                (RELOAD,)
                if proposal.kind == "reload"
                else strategies_to_try(policy, response.strategy_requested)
            ),
            decided_by=response.decided_by or "",
            automatic=response.decided_by == POLICY_OPERATOR,
            confirm=proposal.hardware_approvals_needed > 0,
            folder=work_folder(self._site, response.id),
        )
        return f"Approved by {response.decided_by}.", {
            "state": ResponseState.RUNNING.value,
            "task": task.model_dump(mode="json"),
        }


def work_folder(site: Site, response_id: str) -> Path:
    """Give the folder for files of a response."""
    return site.state_dir / "responses" / response_id


def load(session: Session, response_id: str) -> tuple[ResponseRecord, IncidentRecord]:
    """Load a response that exists, and its incident."""
    response = session.exec(select(ResponseRecord).where(ResponseRecord.id == response_id)).one()
    incident = session.exec(select(IncidentRecord).where(IncidentRecord.id == response.incident_id)).one()
    return response, incident


def _confirmed(response: ResponseRecord, _incident: IncidentRecord) -> tuple[str, dict[str, Any]]:
    if response.state != ResponseState.RUNNING:
        return response.outcome or str(response.state), {"state": str(response.state)}
    decided_by = response.decided_by or ""
    return f"Approved for the board by {decided_by}.", {
        "state": ResponseState.RUNNING.value,
        "decided_by": decided_by,
    }


def _escalate_when_due(
    session: Session, response: ResponseRecord, incident: IncidentRecord, started: datetime, now: datetime
) -> None:
    """Tell more people, once for each wait, when nobody has decided for long."""
    if response.escalated_at is not None or not response.proposal:
        return
    proposal = Proposal.model_validate(response.proposal)
    after_s = proposal.escalate_after_s
    if after_s is None or (now - started).total_seconds() < after_s:
        return
    response.escalated_at = now
    names = " and ".join(proposal.escalate_to)
    record_happening(
        session,
        incident,
        "response.escalated",
        f"{names}: {response.id} has waited {after_s / 60:.0f} min for a decision.",
        now=now,
        response_id=response.id,
        detail={"to": list(proposal.escalate_to), "state": response.state},
    )
