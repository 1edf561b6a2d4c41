"""What people can do: acknowledge, note, resolve, ask for a response or a retraining, decide on one.

API, console, chat and command line all call these functions with the operator's name, so that the
same rights hold on every path. Knows no web framework; the durable workflow is behind a protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy.engine import Engine
from sqlmodel import Session

from daemon.access.roles import Act
from daemon.errors import NotFound, NotPermitted, NotPossibleNow
from daemon.incidents.life import check_transition
from daemon.incidents.transitions import close_incident, create_response
from daemon.journal.happenings import record_happening
from daemon.responses.decisions import take_decision
from daemon.responses.retrain_requests import request_retraining
from daemon.site.settings import Site
from daemon.store.database import transaction
from daemon.store.queries import site_model
from daemon.store.records import (
    DecisionKind,
    IncidentRecord,
    IncidentState,
    ResponseRecord,
)


class Workflows(Protocol):
    """Starts and wakes the durable workflow of a response."""

    def start(self, response_id: str) -> None:
        """Run the workflow of this response; starting it twice is the same as once."""

    def wake(self, response_id: str) -> None:
        """Tell a waiting workflow to look at the database again; harmless when it does not wait."""


class Access(Protocol):
    """Knows the rights of people."""

    def check(self, operator: str, act: Act) -> None:
        """Raise `NotPermitted` where somebody may not do this now."""


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
    access
        Asked at the beginning of each act.
    """

    def __init__(
        self,
        engine: Engine,
        site: Site,
        workflows: Workflows,
        clock: Callable[[], datetime] = utc_now,
        on_decision: Callable[[DecisionKind], None] | None = None,
        *,
        access: Access,
    ) -> None:
        self._engine = engine
        self._site = site
        self._workflows = workflows
        self._clock = clock
        self._on_decision = on_decision
        self._access = access

    def acknowledge(self, incident_id: str, *, operator: str, comment: str = "") -> None:
        """Say that someone looks after the incident.

        Raises
        ------
        NotFound, NotPossibleNow
            No such incident, or it is resolved or acknowledged already.
        """
        self._access.check(operator, Act.ACKNOWLEDGE)
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
        self._access.check(operator, Act.NOTE)
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
        self._access.check(operator, Act.RESOLVE)
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
        self._access.check(operator, Act.RESPOND)
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

    def request_retrain(self, model: str, *, operator: str, reason: str, via: str = "api") -> str:
        """Ask for a retraining without an alarm: the same proposal, approvals and steps.

        Returns
        -------
        str
            Id of the response, such as ``anomaly-4-r1``. Its incident is the model's unresolved one, or a new
            one of kind `requested`.

        Raises
        ------
        NotFound, NotPermitted, NotPossibleNow
            No such model, no right to ask, no firmware, nothing judged yet, or a response is under way.
        """
        self._access.check(operator, Act.RETRAIN)
        watched = site_model(self._site, model)
        now = self._clock()
        with transaction(self._engine) as session:
            response_id = request_retraining(
                session, watched, operator=operator, reason=reason, via=via, now=now
            )
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
        """Answer what a response asks, to begin or to touch the board, exactly once; wake the workflow.

        Raises
        ------
        NotFound
            No such response.
        NotPermitted
            The operator is not among the approvers the proposal lists.
        InvalidChoice
            The strategy is not offered.
        DecisionRefused
            The response does not wait (any more), the time is over, the incident is resolved, another
            response of the model is at work, or this operator has decided.
        """
        self._access.check(operator, Act.DECIDE)
        now = self._clock()
        with transaction(self._engine) as session:
            response = _response(session, response_id)
            incident = _incident(session, response.incident_id)
            take_decision(
                session,
                incident,
                response,
                kind,
                operator=operator,
                strategy=strategy,
                comment=comment,
                via=via,
                now=now,
            )
        if self._on_decision is not None:
            self._on_decision(kind)
        self._workflows.wake(response_id)

    def _check_approver(self, model: str, operator: str, act: str) -> None:
        if model not in self._site.models:
            raise NotPossibleNow(f"{model} is no longer at this site: put models/{model} back to {act}")
        approvers = self._site.models[model].policy.approvers
        if operator not in approvers:
            raise NotPermitted(
                f"operator {operator!r} may not {act}: approvers of {model} are {', '.join(approvers)}"
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
