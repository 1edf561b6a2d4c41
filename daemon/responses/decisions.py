"""Decisions on responses: who is asked, what an answer changes, all inside a caller's transaction.

A response asks at most twice: whether to begin, and, where the policy says so, whether the proven package may
go onto the board. Each question is answered once by each operator. Knows no workflow and no web.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final

from sqlmodel import Session, col, select

from daemon.errors import DecisionRefused
from daemon.incidents.life import check_transition
from daemon.incidents.transitions import back_from_response
from daemon.journal.happenings import record_happening
from daemon.responses.policy import (
    LEAST_INVASIVE,
    Proposal,
    approvals_of,
    check_choice,
    check_distinct,
    check_may_decide,
    outcome_of,
)
from daemon.responses.retrain_requests import end_request, response_at_work
from daemon.store import views
from daemon.store.records import (
    DecisionKind,
    DecisionRecord,
    DecisionStage,
    IncidentRecord,
    IncidentState,
    ResponseRecord,
    ResponseState,
)

_STAGES: Final[Mapping[str, DecisionStage]] = MappingProxyType(
    {
        ResponseState.PROPOSED.value: DecisionStage.RESPONSE,
        ResponseState.HARDWARE_PROPOSED.value: DecisionStage.HARDWARE,
    }
)
_UNTOUCHED: Final = "the firmware was not touched."


def take_decision(
    session: Session,
    incident: IncidentRecord,
    response: ResponseRecord,
    kind: DecisionKind,
    *,
    operator: str,
    strategy: str | None,
    comment: str,
    via: str,
    now: datetime,
) -> None:
    """Write one operator's answer down, and move the response on when it was the last one needed.

    Raises
    ------
    NotPermitted
        The operator is not among the approvers the proposal lists.
    InvalidChoice
        The strategy is not offered, or this question has none.
    DecisionRefused
        The response does not wait (any more), the time is over, the incident is resolved, another response
        of the model is at work, or this operator has decided.
    """
    stage = _stage_that_waits(session, response, incident, kind, now)
    proposal = Proposal.model_validate(response.proposal)
    check_may_decide(proposal, response.id, operator)
    chosen = check_choice(proposal, kind, strategy, stage)
    decisions = decisions_on(session, response.id)
    earlier = [decision for decision in decisions if decision.stage == stage]
    if any(decision.operator == operator for decision in earlier):
        raise DecisionRefused(f"{operator} has already decided {response.id}: a decision is single-use")
    if stage is DecisionStage.HARDWARE and kind is DecisionKind.APPROVE:
        before = [one.operator for one in decisions if one.stage == DecisionStage.RESPONSE]
        check_distinct(proposal, response.id, operator, before)
    session.add(
        DecisionRecord(
            response_id=response.id,
            stage=stage,
            operator=operator,
            kind=kind,
            strategy=chosen,
            comment=comment,
            via=via,
            at=now,
        )
    )
    answers = [(DecisionKind(decision.kind), decision.strategy) for decision in earlier]
    outcome = outcome_of([*answers, (kind, chosen)], approvals_of(proposal, stage))
    record_happening(
        session,
        incident,
        "response.decided",
        _said(_words(operator, kind, chosen, response.id, stage), comment),
        now=now,
        actor=operator,
        response_id=response.id,
        detail={
            "decision": kind.value,
            "strategy": chosen or LEAST_INVASIVE,
            "final": outcome is not None,
            "stage": stage.value,
        },
    )
    if outcome is not None:
        operators = [*[decision.operator for decision in earlier], operator]
        strategies = [*[decision.strategy for decision in earlier], chosen]
        _settle(session, incident, response, outcome, stage, operators, strategies, now)


def decisions_on(session: Session, response_id: str) -> list[DecisionRecord]:
    """List what was decided on a response, oldest first."""
    return list(
        session.exec(
            select(DecisionRecord)
            .where(DecisionRecord.response_id == response_id)
            .order_by(col(DecisionRecord.at))
        ).all()
    )


def waits_for(response: ResponseRecord, decisions: Sequence[DecisionRecord]) -> views.Waiting | None:
    """Say what a response asks operators now; None while it asks nothing.

    Parameters
    ----------
    decisions
        All that were made on it.
    """
    stage = _STAGES.get(response.state)
    if stage is None:
        return None
    proposal = Proposal.model_validate(response.proposal)
    approved = [one.operator for one in decisions if one.stage == stage]
    excluded = set(approved)
    if stage is DecisionStage.HARDWARE and proposal.distinct_approvers:
        excluded |= {one.operator for one in decisions}
    return views.Waiting(
        stage=stage,
        needed=approvals_of(proposal, stage),
        approved_by=approved,
        missing=[name for name in proposal.approvers if name not in excluded],
        until=response.decide_by,
        escalated_to=list(proposal.escalate_to) if response.escalated_at is not None else [],
    )


def withdraw_undecided(
    session: Session, incident: IncidentRecord, response: ResponseRecord, outcome: str, *, now: datetime
) -> None:
    """End a response that nobody decided: the firmware stays as it is, the incident stays open."""
    _end(incident, response, ResponseState.WITHDRAWN, outcome, now)
    record_happening(session, incident, "response.ended", outcome, now=now, response_id=response.id)
    end_request(session, incident, outcome, now=now)


def _stage_that_waits(
    session: Session, response: ResponseRecord, incident: IncidentRecord, kind: DecisionKind, now: datetime
) -> DecisionStage:
    if incident.state == IncidentState.RESOLVED:
        raise DecisionRefused(
            f"incident {incident.id} is already resolved: {response.id} needs no decision any more"
        )
    stage = _STAGES.get(response.state)
    if stage is None:
        by = f" (decided by {response.decided_by})" if response.decided_by else ""
        raise DecisionRefused(f"response {response.id} is {response.state}{by} and waits for no decision")
    if response.decide_by is not None and now >= response.decide_by:
        raise DecisionRefused(
            f"the time to decide {response.id} ended at {response.decide_by:%Y-%m-%d %H:%M} UTC: "
            f"ask for a new response (`lumiwatch incidents respond {incident.id}`)"
        )
    other = response_at_work(session, response.model)
    if kind is DecisionKind.APPROVE and other is not None and other.id != response.id:
        raise DecisionRefused(
            f"response {other.id} is at work on {response.model}: decide {response.id} when it has ended"
        )
    return stage


def _settle(
    session: Session,
    incident: IncidentRecord,
    response: ResponseRecord,
    outcome: DecisionKind,
    stage: DecisionStage,
    operators: Sequence[str],
    strategies: Sequence[str | None],
    now: datetime,
) -> None:
    """Move response and incident on, in the transaction that holds the last decision."""
    before = [] if stage is DecisionStage.RESPONSE else [response.decided_by or ""]
    response.decided_by = ", ".join(dict.fromkeys([*before, *operators]))
    response.decided_at = now
    response.decide_by = response.escalated_at = None
    if outcome is DecisionKind.APPROVE:
        response.state = ResponseState.RUNNING
        if stage is DecisionStage.RESPONSE:
            check_transition(incident.id, IncidentState(incident.state), IncidentState.RESPONDING)
            incident.state = IncidentState.RESPONDING
            named = [strategy for strategy in strategies if strategy is not None]
            response.strategy_requested = named[-1] if named else None
        return
    if outcome is DecisionKind.REJECT:
        text = f"Rejected by {operators[-1]}; {_UNTOUCHED}"
        _end(incident, response, ResponseState.REJECTED, text, now)
        end_request(session, incident, text, now=now)
        return
    text = f"{operators[-1]} chose to prescale out; {_UNTOUCHED}"
    _end(incident, response, ResponseState.PRESCALED_OUT, text, now)
    _instruct(session, incident, response, operators[-1], now)


def _end(
    incident: IncidentRecord, response: ResponseRecord, state: ResponseState, outcome: str, now: datetime
) -> None:
    response.state = state
    response.ended_at = now
    response.outcome = outcome
    response.decide_by = None
    back_from_response(incident)


def _instruct(
    session: Session, incident: IncidentRecord, response: ResponseRecord, operator: str, now: datetime
) -> None:
    """Tell the shift to prescale out."""
    instruction = next(
        option.text
        for option in Proposal.model_validate(response.proposal).alternatives
        if option.decision == "prescale_out"
    )
    incident.instruction = instruction
    incident.state = IncidentState.ACKNOWLEDGED
    if incident.acknowledged_by is None:
        incident.acknowledged_by = operator
        incident.acknowledged_at = now
    record_happening(
        session,
        incident,
        "incident.instruction",
        instruction,
        now=now,
        actor=operator,
        response_id=response.id,
    )


def _words(
    operator: str, kind: DecisionKind, strategy: str | None, response_id: str, stage: DecisionStage
) -> str:
    if kind is DecisionKind.REJECT:
        return f"{operator} rejected {response_id}."
    if kind is DecisionKind.PRESCALE_OUT:
        return f"{operator} chose to prescale out instead of {response_id}."
    if stage is DecisionStage.HARDWARE:
        return f"{operator} approved {response_id} for the board."
    return f"{operator} approved {response_id}: {strategy or 'the least invasive strategy that passes'}."


def _said(text: str, comment: str) -> str:
    return f"{text} {comment}" if comment else text
