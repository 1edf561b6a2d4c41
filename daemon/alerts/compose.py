"""Turns what the daemon knows of an incident into messages: the head of its thread, and the replies below.

The head always tells the present state of the whole incident and is edited in place; a reply tells one
happening. Refuses to know the database and the chat: views come in, messages come out.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from daemon.alerts.message import AlertMessage, Answer, Comparison, Offer, Proposal, RunConditions, Stage
from daemon.store import views
from daemon.store.records import DecisionKind, DecisionStage, IncidentKind, IncidentState, ResponseState
from streams.judging.verdict import INTEGRITY

_MAX_INPUTS = 6

_ENDED = {
    ResponseState.SUCCEEDED: Stage.RECONFIGURED,
    ResponseState.REJECTED: Stage.REJECTED,
    ResponseState.PRESCALED_OUT: Stage.PRESCALED_OUT,
    ResponseState.ROLLED_BACK: Stage.ROLLED_BACK,
    ResponseState.FAILED: Stage.FAILED,
}
_DECIDED = {
    DecisionKind.APPROVE.value: Stage.APPROVED,
    DecisionKind.REJECT.value: Stage.REJECTED,
    DecisionKind.PRESCALE_OUT.value: Stage.PRESCALED_OUT,
}
_ASKS = {
    ResponseState.PROPOSED: DecisionStage.RESPONSE,
    ResponseState.HARDWARE_PROPOSED: DecisionStage.HARDWARE,
}


class Means(Protocol):
    """Means of one input in the window and in its reference."""

    @property
    def actual(self) -> float:
        """Of the window, in `unit`."""
        ...

    @property
    def expected(self) -> float:
        """Of the reference, in `unit`."""
        ...

    @property
    def unit(self) -> str:
        """Physical unit."""
        ...

    @property
    def relative(self) -> bool:
        """Whether a ratio of the two means anything: not for angles and the like."""
        ...


def head(
    incident: views.IncidentDetail,
    response: views.ResponseDetail | None,
    *,
    site: str,
    console_url: str,
    conditions: RunConditions | None,
    means: Mapping[str, Means],
) -> AlertMessage:
    """Write the head of an incident's thread as of now.

    Parameters
    ----------
    incident
        With its opening and latest verdict.
    response
        The latest response, or None.
    site, console_url
        Name of the site; address of the incident's page.
    conditions
        Of the latest alarming lumisection; None falls back on run and lumisections alone.
    means
        By input name, as far as the stream kept them.
    """
    verdict = incident.latest_verdict or incident.opening_verdict
    fallback = RunConditions(
        run=incident.run,
        first_lumisection=incident.first_lumisection,
        last_lumisection=max(incident.last_lumisection, incident.first_lumisection),
    )
    return AlertMessage(
        incident_id=incident.id,
        stage=stage_of(incident, response),
        model=incident.model,
        site=site,
        reason=incident.resolution or incident.reason,
        story=story_of(incident),
        replay=incident.simulated,
        simulated=incident.simulated,
        onset_lumisection=incident.onset_lumisection,
        exceeded=tuple(incident.families),
        conditions=conditions or fallback,
        comparisons=comparisons_of(verdict, means),
        proposal=_proposal(response),
        offers=offers_of(incident),
        console_url=console_url,
        details=_details(incident, response),
    )


def offers_of(incident: views.IncidentDetail) -> tuple[Offer, ...]:
    """Say which answers make sense now: none to a resolved incident, a decision only where one is awaited."""
    if incident.state is IncidentState.RESOLVED:
        return ()
    offers = [Offer(answer=Answer.ACKNOWLEDGE)] if incident.acknowledged_by is None else []
    latest = incident.responses[-1] if incident.responses else None
    if latest is not None and latest.state in _ASKS:
        offers += [
            Offer(answer=answer, response_id=latest.id, stage=_ASKS[latest.state])
            for answer in (Answer.APPROVE, Answer.REJECT, Answer.PRESCALE_OUT)
        ]
    if INTEGRITY not in incident.families:  # a firmware fault is silenced by name alone
        offers.append(Offer(answer=Answer.SILENCE))
    return tuple(offers)


def story_of(incident: views.IncidentDetail) -> str:
    """Return what the latest verdict of an incident tells as its cause, else the one that opened it."""
    verdicts = (incident.latest_verdict, incident.opening_verdict)
    return next((str(one["story"]) for one in verdicts if one and one.get("story")), "")


def reply(
    incident: views.IncidentDetail,
    event: views.EventView,
    response: views.ResponseDetail | None,
    *,
    console_url: str,
) -> AlertMessage | None:
    """Write the reply for one event of an incident; None for events that only change the head."""
    stage = _stage_of_event(incident, event, response)
    if stage is None:
        return None
    return AlertMessage(
        incident_id=incident.id,
        stage=stage,
        model=incident.model,
        reason=event.text,
        replay=event.simulated,
        simulated=event.simulated,
        proposal=_proposal(response) if stage is Stage.PROPOSED else None,
        console_url=console_url,
        details=_results(response) if event.kind == "response.ended" else (),
    )


def stage_of(incident: views.IncidentView, response: views.ResponseView | None) -> Stage:
    """Say where an incident is; a proposal that waits for an answer leaves it an alarm."""
    if incident.state is IncidentState.RESOLVED:
        return Stage.RESOLVED
    if response is not None:
        if response.state is ResponseState.RUNNING:
            return Stage.PROGRESS
        if response.state is ResponseState.HARDWARE_PROPOSED:
            return Stage.PROPOSED
        if response.state in _ENDED:
            return _ENDED[response.state]
    if incident.kind is IncidentKind.REQUESTED:
        return Stage.PROPOSED
    return Stage.ACKNOWLEDGED if incident.state is IncidentState.ACKNOWLEDGED else Stage.ALARM


def comparisons_of(verdict: Mapping[str, Any], means: Mapping[str, Means]) -> tuple[Comparison, ...]:
    """Lines of the table: the accept rate first, then the inputs that deviate most.

    Parameters
    ----------
    verdict
        A verdict as stored.
    means
        By input name; inputs without means show their shift alone.
    """
    rows: list[Comparison] = []
    actual, expected = verdict.get("accept_rate"), verdict.get("expected_rate")
    if actual is not None and expected is not None:
        rows.append(Comparison.of_rate(float(actual), float(expected)))
    integrity = verdict.get("integrity") or {}
    if integrity.get("n_mismatched"):
        share = 100.0 * float(integrity["ratio"])
        note = f"{integrity['n_mismatched']} of {integrity['n_checked']} checked"
        rows.append(
            Comparison(quantity="differs from emulator", actual=share, expected=0.0, unit="%", note=note)
        )
    for shift in _telling(verdict.get("worst_inputs") or ()):
        name = str(shift.get("name", "input"))
        note = _statistics(shift)
        if name in means:
            mean = means[name]
            deviation = mean.actual / mean.expected - 1.0 if mean.relative and mean.expected else None
            rows.append(
                Comparison(
                    quantity=f"{name} mean",
                    actual=mean.actual,
                    expected=mean.expected,
                    unit=mean.unit,
                    deviation=deviation,
                    note=note,
                )
            )
        else:
            rows.append(Comparison(quantity=name, note=note))
    return tuple(rows)


def _telling(shifts: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Keep the inputs that deviate about as much as the worst one; the others say nothing to a shifter."""
    ordered = list(shifts)[:_MAX_INPUTS]
    worst = max((float(shift.get("ks_distance", 0.0)) for shift in ordered), default=0.0)
    return [shift for shift in ordered if float(shift.get("ks_distance", 0.0)) >= worst / 2]


def _statistics(shift: Mapping[str, Any]) -> str:
    parts = []
    if isinstance(shift.get("ks_distance"), int | float):
        parts.append(f"KS D {shift['ks_distance']:.3f}")
    if isinstance(shift.get("mean_shift_lsb"), int | float):
        parts.append(f"mean {shift['mean_shift_lsb']:+.2f} LSB")
    return ", ".join(parts)


def _proposal(response: views.ResponseDetail | None) -> Proposal | None:
    if response is None or not response.proposal:
        return None
    offered = response.proposal
    if response.state is ResponseState.HARDWARE_PROPOSED and response.hardware is not None:
        missing = response.waits_for.missing if response.waits_for is not None else ()
        return Proposal(
            response_id=response.id,
            strategies=(),
            summary=str(response.hardware["summary"]),
            approvers=tuple(missing),
        )
    if response.state is not ResponseState.PROPOSED:
        return None
    return Proposal(
        response_id=response.id,
        strategies=tuple(
            option["strategy"] for option in offered.get("options", ()) if not option.get("default")
        ),
        summary=offered.get("summary", "Retrain the model."),
        approvers=tuple(offered.get("approvers", ())),
    )


def _details(incident: views.IncidentDetail, response: views.ResponseDetail | None) -> tuple[str, ...]:
    lines = []
    if incident.acknowledged_by is not None:
        lines.append(f"Acknowledged by {incident.acknowledged_by}.")
    if incident.instruction is not None:
        lines.append(f"Instruction: {incident.instruction}")
    if response is not None and response.state is ResponseState.RUNNING:
        step = next((step for step in response.steps if step.name == response.current_step), None)
        where = f"{step.title}, " if step is not None else ""
        lines.append(f"{response.id}: {where}{100 * response.progress:.0f} % done.")
    elif response is not None and response.outcome is not None:
        lines.append(f"{response.id}: {response.outcome}")
    elif response is not None and response.estimate is not None:
        lines.append(f"{response.id}: {response.estimate['summary']}")
    return tuple(lines)


def _results(response: views.ResponseDetail | None) -> tuple[str, ...]:
    if response is None:
        return ()
    return tuple(f"{step.title}: {step.detail}" for step in response.steps if step.detail)


def _stage_of_event(
    incident: views.IncidentView, event: views.EventView, response: views.ResponseDetail | None
) -> Stage | None:
    match event.kind:
        case "incident.opened":
            return Stage.ALARM
        case "incident.acknowledged" | "incident.note" | "incident.instruction":
            return Stage.ACKNOWLEDGED
        case "incident.resolved" | "incident.recovered":
            told_by_response = response is not None and response.state is ResponseState.SUCCEEDED
            return None if told_by_response else Stage.RESOLVED
        case "response.proposed" | "response.hardware_proposed" | "response.escalated" | "incident.requested":
            return Stage.PROPOSED
        case "incident.scrubbed":
            return Stage.PROGRESS
        case "response.decided":
            return _DECIDED.get(str(event.detail.get("decision")))
        case "response.ended" if response is not None:
            solved = response.state is ResponseState.SUCCEEDED and incident.state is IncidentState.RESOLVED
            return Stage.RESOLVED if solved else _ENDED.get(response.state, stage_of(incident, response))
        case _:
            return None
