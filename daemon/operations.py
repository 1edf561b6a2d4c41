"""What people can do: acknowledge, note, resolve, ask for a response, decide on one.

API, console, chat and command line all call these functions with the operator's name, so that the
same rights hold on every path. Knows no web framework; the durable workflow is behind a protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.database import transaction
from daemon.errors import DecisionRefused, NotFound, NotPermitted, NotPossibleNow
from daemon.happenings import record_happening
from daemon.incidents import check_transition
from daemon.policy import LEAST_INVASIVE, Proposal, check_choice, check_may_decide, outcome_of
from daemon.records import (
    DecisionKind,
    DecisionRecord,
    IncidentRecord,
    IncidentState,
    ResponseRecord,
    ResponseState,
)
from daemon.settings import Site
from daemon.transitions import close_incident, create_response


class Workflows(Protocol):
    """Starts and wakes the durable workflow of a response."""

    def start(self, response_id: str) -> None:
        """Run the workflow of this response; starting it twice is the same as once."""

    def wake(self, response_id: str) -> None:
        """Tell a waiting workflow to look at the database again; harmless when it does not wait."""


def utc_now() -> datetime:
    """Read the wall clock."""
    return datetime.now(UTC)


class Operations:
    """The acts of operators, each in one transaction.

    Parameters
    ----------
    engine
        The site's database.
    site
        Models and their policies.
    workflows
        Where responses run.
    clock
        Gives aware UTC.
    on_decision
        Called after each decision, to count it.
    """

    def __init__(
        self,
        engine: Engine,
        site: Site,
        workflows: Workflows,
        clock: Callable[[], datetime] = utc_now,
        on_decision: Callable[[DecisionKind], None] | None = None,
    ) -> None:
        self._engine = engine
        self._site = site
        self._workflows = workflows
        self._clock = clock
        self._on_decision = on_decision

    def acknowledge(self, incident_id: str, *, operator: str, comment: str = "") -> None:
        """Say that someone looks after the incident.

        Raises
        ------
        NotFound, NotPossibleNow
            No such incident, or it is resolved or acknowledged already.
        """
        now = self._clock()
        with transaction(self._engine) as session:
            incident = _incident(session, incident_id)
            if incident.acknowledged_by is not None:
                raise NotPossibleNow(
                    f"incident {incident_id} was already acknowledged by {incident.acknowledged_by}"
                )
            if incident.state == IncidentState.OPEN:
                check_transition(incident_id, IncidentState(incident.state), IncidentState.ACKNOWLEDGED)
                incident.state = IncidentState.ACKNOWLEDGED
            elif incident.state == IncidentState.RESOLVED:
                raise NotPossibleNow(f"incident {incident_id} is resolved: nothing is left to acknowledge")
            incident.acknowledged_by = operator
            incident.acknowledged_at = now
            record_happening(
                session,
                incident,
                "incident.acknowledged",
                _said(f"{operator} acknowledged the incident.", comment),
                now=now,
                actor=operator,
            )

    def note(self, incident_id: str, *, operator: str, text: str) -> None:
        """Add a line to the incident's history.

        Raises
        ------
        NotFound
            No such incident.
        """
        now = self._clock()
        with transaction(self._engine) as session:
            incident = _incident(session, incident_id)
            record_happening(session, incident, "incident.note", text, now=now, actor=operator)

    def resolve(self, incident_id: str, *, operator: str, comment: str) -> None:
        """End an incident by hand; a proposal that still waits is withdrawn.

        Raises
        ------
        NotFound, NotPermitted, NotPossibleNow
            No such incident, not an approver of the model, or a response is at work on it.
        """
        now = self._clock()
        with transaction(self._engine) as session:
            incident = _incident(session, incident_id)
            self._check_approver(incident.model, operator, f"resolve incident {incident_id}")
            if incident.state == IncidentState.RESPONDING:
                raise NotPossibleNow(
                    f"a response is at work on incident {incident_id}: wait until it has ended"
                )
            check_transition(incident_id, IncidentState(incident.state), IncidentState.RESOLVED)
            text = _said(f"{operator} resolved the incident.", comment)
            withdrawn = close_incident(session, incident, text, actor=operator, now=now)
        for response_id in withdrawn:
            self._workflows.wake(response_id)

    def propose(self, incident_id: str, *, operator: str) -> str:
        """Ask for a new response, for instance after a rejection or a rollback.

        Returns
        -------
        str
            Id of the response; its proposal appears as soon as the workflow has written it.

        Raises
        ------
        NotFound, NotPermitted, NotPossibleNow
            No such incident, not an approver of the model, resolved, or a response is under way.
        """
        now = self._clock()
        with transaction(self._engine) as session:
            incident = _incident(session, incident_id)
            self._check_approver(incident.model, operator, f"ask for a response to {incident_id}")
            if not self._site.models[incident.model].has_firmware:
                raise NotPossibleNow(
                    f"{incident.model} is watched by histograms and has no firmware to reconfigure: resolve "
                    f"{incident_id} once its cause is mended"
                )
            response_id = create_response(session, incident, requested_by=operator, now=now)
        self._workflows.start(response_id)
        return response_id

    def approve(
        self,
        response_id: str,
        *,
        operator: str,
        strategy: str | None = None,
        comment: str = "",
        via: str = "api",
    ) -> None:
        """Approve a proposal; `strategy` None means the least invasive that passes.

        Raises
        ------
        NotFound, NotPermitted, InvalidChoice, DecisionRefused
            See `decide`.
        """
        self.decide(
            response_id, DecisionKind.APPROVE, operator=operator, strategy=strategy, comment=comment, via=via
        )

    def reject(self, response_id: str, *, operator: str, comment: str = "", via: str = "api") -> None:
        """Reject a proposal: the firmware stays untouched and the incident open.

        Raises
        ------
        NotFound, NotPermitted, DecisionRefused
            See `decide`.
        """
        self.decide(response_id, DecisionKind.REJECT, operator=operator, comment=comment, via=via)

    def prescale_out(self, response_id: str, *, operator: str, comment: str = "", via: str = "api") -> None:
        """Close a proposal with the instruction to prescale the algorithm out.

        Raises
        ------
        NotFound, NotPermitted, DecisionRefused
            See `decide`.
        """
        self.decide(response_id, DecisionKind.PRESCALE_OUT, operator=operator, comment=comment, via=via)

    def decide(
        self,
        response_id: str,
        kind: DecisionKind,
        *,
        operator: str,
        strategy: str | None = None,
        comment: str = "",
        via: str = "api",
    ) -> None:
        """Write one decision down, exactly once, and wake the workflow.

        Raises
        ------
        NotFound
            No such response.
        NotPermitted
            The operator is not among the approvers the proposal lists.
        InvalidChoice
            The strategy is not offered.
        DecisionRefused
            The response does not wait (any more), the incident is resolved, or this operator has decided.
        """
        now = self._clock()
        with transaction(self._engine) as session:
            response = _response(session, response_id)
            incident = _incident(session, response.incident_id)
            _check_waits(response, incident)
            proposal = Proposal.model_validate(response.proposal)
            check_may_decide(proposal, response_id, operator)
            chosen = check_choice(proposal, kind, strategy)
            earlier = _decisions(session, response_id)
            if any(decision.operator == operator for decision in earlier):
                raise DecisionRefused(
                    f"{operator} has already decided {response_id}: a decision is single-use"
                )
            session.add(
                DecisionRecord(
                    response_id=response_id,
                    operator=operator,
                    kind=kind,
                    strategy=chosen,
                    comment=comment,
                    via=via,
                    at=now,
                )
            )
            answers = [(DecisionKind(decision.kind), decision.strategy) for decision in earlier]
            outcome = outcome_of([*answers, (kind, chosen)], proposal.approvals_needed)
            if outcome is not None:
                operators = [*[decision.operator for decision in earlier], operator]
                strategies = [decision.strategy for decision in earlier] + [chosen]
                _settle(
                    session, incident, response, outcome, operators=operators, strategies=strategies, now=now
                )
            record_happening(
                session,
                incident,
                "response.decided",
                _said(_decision_text(operator, kind, chosen, response_id), comment),
                now=now,
                actor=operator,
                response_id=response_id,
                detail={
                    "decision": kind.value,
                    "strategy": chosen or LEAST_INVASIVE,
                    "final": outcome is not None,
                },
            )
        if self._on_decision is not None:
            self._on_decision(kind)
        self._workflows.wake(response_id)

    def _check_approver(self, model: str, operator: str, act: str) -> None:
        approvers = self._site.models[model].policy.approvers if model in self._site.models else ()
        if operator not in approvers:
            raise NotPermitted(
                f"operator {operator!r} may not {act}: approvers of {model} are {', '.join(approvers)}"
            )


def _settle(
    session: Session,
    incident: IncidentRecord,
    response: ResponseRecord,
    outcome: DecisionKind,
    *,
    operators: list[str],
    strategies: list[str | None],
    now: datetime,
) -> None:
    """Move response and incident on, in the transaction that holds the last decision."""
    response.decided_at = now
    response.decided_by = ", ".join(operators)
    if outcome is DecisionKind.APPROVE:
        check_transition(incident.id, IncidentState(incident.state), IncidentState.RESPONDING)
        incident.state = IncidentState.RESPONDING
        response.state = ResponseState.RUNNING
        named = [strategy for strategy in strategies if strategy is not None]
        response.strategy_requested = named[-1] if named else None
        return
    response.ended_at = now
    if outcome is DecisionKind.REJECT:
        response.state = ResponseState.REJECTED
        response.outcome = f"Rejected by {operators[-1]}; the firmware was not touched."
        return
    response.state = ResponseState.PRESCALED_OUT
    instruction = next(
        option.text
        for option in Proposal.model_validate(response.proposal).alternatives
        if option.decision == "prescale_out"
    )
    response.outcome = f"{operators[-1]} chose to prescale out; the firmware was not touched."
    incident.instruction = instruction
    incident.state = IncidentState.ACKNOWLEDGED
    if incident.acknowledged_by is None:
        incident.acknowledged_by = operators[-1]
        incident.acknowledged_at = now
    record_happening(
        session,
        incident,
        "incident.instruction",
        instruction,
        now=now,
        actor=operators[-1],
        response_id=response.id,
    )


def _check_waits(response: ResponseRecord, incident: IncidentRecord) -> None:
    if incident.state == IncidentState.RESOLVED:
        raise DecisionRefused(
            f"incident {incident.id} is already resolved: {response.id} needs no decision any more"
        )
    if response.state != ResponseState.PROPOSED:
        by = f" (decided by {response.decided_by})" if response.decided_by else ""
        raise DecisionRefused(f"response {response.id} is {response.state}{by} and waits for no decision")


def _decision_text(operator: str, kind: DecisionKind, strategy: str | None, response_id: str) -> str:
    if kind is DecisionKind.APPROVE:
        what = strategy or "the least invasive strategy that passes"
        return f"{operator} approved {response_id}: {what}."
    if kind is DecisionKind.REJECT:
        return f"{operator} rejected {response_id}."
    return f"{operator} chose to prescale out instead of {response_id}."


def _decisions(session: Session, response_id: str) -> list[DecisionRecord]:
    return list(
        session.exec(
            select(DecisionRecord)
            .where(DecisionRecord.response_id == response_id)
            .order_by(col(DecisionRecord.at))
        ).all()
    )


def _incident(session: Session, incident_id: str) -> IncidentRecord:
    record = session.get(IncidentRecord, incident_id)
    if record is None:
        raise NotFound(f"no incident {incident_id!r}; `lumiwatch incidents` lists them")
    return record


def _response(session: Session, response_id: str) -> ResponseRecord:
    record = session.get(ResponseRecord, response_id)
    if record is None:
        raise NotFound(f"no response {response_id!r}; `lumiwatch incidents show` lists them")
    return record


def _said(text: str, comment: str) -> str:
    return f"{text} {comment}" if comment else text
