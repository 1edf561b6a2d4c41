"""The form that "Approve..." opens: the strategies of the proposal, and a comment.

Source: Mattermost, interactive dialogs (limits of titles, names and texts). Refuses to know who may fill it
in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from daemon.alerts.rendering import escape
from daemon.responses.policy import Proposal
from daemon.store import views
from daemon.store.records import DecisionStage

FORMS_PATH: Final = "/chat/mattermost/dialogs"
LONGEST_COMMENT: Final = 2000

_STRATEGY: Final = "strategy"
_COMMENT: Final = "comment"


@dataclass(frozen=True)
class Approval:
    """What a person filled in; `strategy` None means what the proposal offers first."""

    strategy: str | None
    comment: str


class FieldErrors(Exception):  # noqa: N818 - what it holds
    """Some fields cannot be taken; `errors` says why, by name of the field."""

    def __init__(self, errors: dict[str, str]) -> None:
        super().__init__(", ".join(errors))
        self.errors = errors


def approval_form(response: views.ResponseDetail, stage: DecisionStage, state: str) -> dict[str, Any]:
    """Write the form for one question of a response.

    Parameters
    ----------
    response
        With its proposal, and with what goes onto the board where that is asked.
    stage
        The question; only the first offers strategies.
    state
        Comes back with what the person fills in.
    """
    proposal = Proposal.model_validate(response.proposal)
    hardware = response.hardware if stage is DecisionStage.HARDWARE else None
    summary = proposal.summary if hardware is None else str(hardware["summary"])
    comment = {
        "display_name": "Comment",
        "name": _COMMENT,
        "type": "textarea",
        "optional": True,
        "max_length": LONGEST_COMMENT,
        "help_text": "Goes into the history of the incident, with your name.",
    }
    return {
        "callback_id": response.id,
        "title": "Approve for the board" if stage is DecisionStage.HARDWARE else "Approve the response",
        "introduction_text": f"**{escape(response.id)}:** {escape(summary)}",
        "elements": [comment] if stage is DecisionStage.HARDWARE else [_strategies(proposal), comment],
        "submit_label": "Approve",
        "notify_on_cancel": False,
        "state": state,
    }


def read_approval(proposal: Proposal, stage: DecisionStage, submission: dict[str, Any]) -> Approval:
    """Read what a person filled in.

    Raises
    ------
    FieldErrors
        The strategy is not offered, or the comment is too long.
    """
    errors: dict[str, str] = {}
    strategy = submission.get(_STRATEGY) or None
    comment = submission.get(_COMMENT) or ""
    options = proposal.options if stage is DecisionStage.RESPONSE else ()
    offered = {option.strategy: option for option in options}
    if strategy is not None and strategy not in offered:
        errors[_STRATEGY] = f"Not offered; choose one of: {', '.join(offered) or 'none'}."
    if not isinstance(comment, str) or len(comment) > LONGEST_COMMENT:
        errors[_COMMENT] = f"At most {LONGEST_COMMENT} characters."
    if errors:
        raise FieldErrors(errors)
    if strategy is not None and offered[strategy].default:
        strategy = None
    return Approval(strategy, str(comment).strip())


def _strategies(proposal: Proposal) -> dict[str, Any]:
    return {
        "display_name": "Strategy",
        "name": _STRATEGY,
        "type": "select",
        "options": [{"text": option.text, "value": option.strategy} for option in proposal.options],
        "default": proposal.options[0].strategy,
        "help_text": "Listed from the least invasive on; the first lets lumiwatch choose among them.",
    }
