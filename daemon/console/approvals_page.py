"""Approvals: everything that waits for a decision, who has decided, who is missing and until when.

Decides nothing itself: it leads to where one decides.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from nicegui import ui

from daemon.access.roles import Act
from daemon.console.layout import Visit, badge, heading, link, table
from daemon.console.live import Live
from daemon.console.looks import RESPONSES
from daemon.console.wording import date_and_clock, duration_words, short
from daemon.process.services import Services
from daemon.store import decision_queries, room_queries, views
from daemon.store.records import DecisionKind, DecisionStage
from streams.store.records import ReferenceState

_QUESTIONS: Final = {
    DecisionStage.RESPONSE: "Shall this response begin?",
    DecisionStage.HARDWARE: "May the proven package go onto the board?",
}
_ANSWERS: Final = {
    DecisionKind.APPROVE: "approved",
    DecisionKind.REJECT: "rejected",
    DecisionKind.PRESCALE_OUT: "prescale out",
}


@dataclass(frozen=True)
class Approvals:
    """What the page shows.

    Parameters
    ----------
    responses
        That wait, oldest first.
    references
        That wait, newest first.
    decided
        The latest decisions: response and answer.
    looked_at
        To the minute: times left are told from it.
    """

    responses: tuple[views.ResponseDetail, ...]
    references: tuple[views.ReferenceView, ...]
    decided: tuple[tuple[str, views.DecisionView], ...]
    looked_at: datetime


def look(services: Services) -> Approvals:
    """Read everything."""
    now = services.clock()
    return Approvals(
        responses=tuple(decision_queries.waiting_responses(services.engine)),
        references=tuple(
            one for one in room_queries.references(services.engine) if one.state == ReferenceState.PROPOSED
        ),
        decided=tuple(decision_queries.latest_decisions(services.engine)),
        looked_at=now - timedelta(seconds=now.second, microseconds=now.microsecond),
    )


async def build(visit: Visit, services: Services) -> None:
    """Fill the page of approvals."""
    heading("Approvals")
    await Live(lambda: look(services), lambda found: _show(found, visit)).refresh()


def _show(found: Approvals, visit: Visit) -> None:
    if not found.responses and not found.references:
        ui.label("Nothing waits for a decision.").classes("lw-notice quiet").props('role="status"')
    for response in found.responses:
        _response(response, visit, found.looked_at)
    if found.references:
        with ui.element("section").classes("lw-panel").props('aria-label="References"'):
            heading("References that wait", 2)
            ui.label("Each is put into use with the command lumiwatch reference approve.").classes("lw-muted")
            rows = [
                (short(one.id), one.model, one.built_from, date_and_clock(one.created_at))
                for one in found.references
            ]
            table(("reference", "model", "built from", "made"), rows)
    with ui.element("section").classes("lw-panel").props('aria-label="Decided"'):
        heading("Decided lately", 2)
        if not found.decided:
            ui.label("Nothing so far.").classes("lw-muted")
        else:
            table(
                ("time", "response", "who", "answer", "through", "comment"),
                [
                    (date_and_clock(one.at), name, one.operator, _answer(one), one.via, one.comment)
                    for name, one in found.decided
                ],
            )


def _response(response: views.ResponseDetail, visit: Visit, now: datetime) -> None:
    waits = response.waits_for
    if waits is None:
        return
    with ui.element("section").classes("lw-panel") as panel:
        with ui.element("div").classes("lw-row lw-spread"):
            with ui.element("div").classes("lw-row"):
                heading(response.id, 2)
                badge(RESPONSES[response.state])
            link("Look and decide", f"/incidents/{response.incident_id}")
        ui.label(_QUESTIONS[waits.stage]).classes("lw-step-title")
        about = response.hardware if waits.stage is DecisionStage.HARDWARE else response.proposal
        ui.label(str((about or {}).get("summary", "The proposal is being prepared.")))
        table(("what", "who or when"), _facts(response, waits, now))
        ui.label(_yours(waits, visit)).classes("lw-muted")
    panel.props["aria-label"] = f"Response {response.id}"


def _facts(response: views.ResponseDetail, waits: views.Waiting, now: datetime) -> list[tuple[str, str]]:
    given = ", ".join(waits.approved_by) or "nobody yet"
    rows = [
        ("model", response.model),
        ("asked for by", f"{response.requested_by}, {date_and_clock(response.created_at)}"),
        ("approved by", f"{given} ({len(waits.approved_by)} of {waits.needed})"),
        ("may still answer", ", ".join(waits.missing) or "nobody: see policy.approvers in model.toml"),
        ("until", until_words(waits.until, now)),
    ]
    if waits.escalated_to:
        rows.append(("escalated to", ", ".join(waits.escalated_to)))
    return rows


def until_words(until: datetime | None, now: datetime) -> str:
    """Say when a wait ends: ``2026-07-01 04:00:00 UTC, in 58 min``."""
    if until is None:
        return "no limit"
    left = f"in {duration_words(until - now)}" if until > now else "the time is over"
    return f"{date_and_clock(until)}, {left}"


def _yours(waits: views.Waiting, visit: Visit) -> str:
    name = visit.operator.name
    if name in waits.approved_by:
        return f"You are logged in as {name} and have approved this."
    allowed = name in waits.missing and visit.may(Act.DECIDE)
    return f"You are logged in as {name} and may {'' if allowed else 'not '}decide this."


def _answer(decision: views.DecisionView) -> str:
    board = ", for the board" if decision.stage is DecisionStage.HARDWARE else ""
    strategy = f" with {decision.strategy.replace('_', ' ')}" if decision.strategy else ""
    return f"{_ANSWERS[decision.kind]}{strategy}{board}"
