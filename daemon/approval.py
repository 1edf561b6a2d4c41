"""The first half of a response: the proposal, and the wait for a decision that may take days.

The decision itself is written by `operations`; here it is only awaited, in the database, so that
nothing can be lost between the two. Knows no workflow engine.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from sqlalchemy.engine import Engine
from sqlmodel import Session, select

from daemon.database import transaction
from daemon.happenings import record_happening
from daemon.lineage import Artefact, add_edge
from daemon.patience import Patience
from daemon.policy import RELOAD, Proposal, strategies_to_try
from daemon.policy import propose as propose_answer
from daemon.records import (
    DecisionKind,
    DecisionRecord,
    IncidentRecord,
    IncidentState,
    ResponseRecord,
    ResponseState,
)
from daemon.settings import Site
from daemon.steps import DECIDE, StepLog
from daemon.workshop import Task
from streams.judging.verdict import INTEGRITY, Verdict

POLICY_OPERATOR: Final = "policy"
"""The name under which a model's policy decides by itself."""


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
        log.prepare()
        now = self._clock()
        with transaction(self._engine) as session:
            response, incident = load(session, response_id)
            policy = self._site.models[response.model].policy
            if response.state != ResponseState.PREPARING:
                return "Proposed.", {}
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
            if proposal.expected_plan in policy.auto_plan_kinds:
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
        started = log.started_at(DECIDE)
        while True:
            with transaction(self._engine) as session:
                response, incident = load(session, response_id)
                if response.state not in {ResponseState.PREPARING, ResponseState.PROPOSED}:
                    return self._decided(response, incident)
                timeout_s = self._site.models[response.model].policy.decision_timeout_s
                if (self._clock() - started).total_seconds() > timeout_s:
                    response.state = ResponseState.WITHDRAWN
                    response.ended_at = self._clock()
                    response.outcome = f"Withdrawn: no decision within {timeout_s / 3600:.1f} h."
                    return response.outcome, {"state": response.state}
            self._patience.wait()

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
            folder=self._site.state_dir / "responses" / response.id,
        )
        return f"Approved by {response.decided_by}.", {
            "state": ResponseState.RUNNING.value,
            "task": task.model_dump(mode="json"),
        }


def load(session: Session, response_id: str) -> tuple[ResponseRecord, IncidentRecord]:
    """Load a response that exists, and its incident."""
    response = session.exec(select(ResponseRecord).where(ResponseRecord.id == response_id)).one()
    incident = session.exec(select(IncidentRecord).where(IncidentRecord.id == response.incident_id)).one()
    return response, incident
