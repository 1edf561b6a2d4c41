"""What will happen next with a response, and who is waited for, as sentences for people.

Pure functions over views. Knows no database and no clock.
"""

from __future__ import annotations

from daemon.responses.policy import RELOAD, Proposal
from daemon.store import views
from daemon.store.records import DecisionStage, ResponseState

QUESTIONS = {
    DecisionStage.RESPONSE: "whether to begin",
    DecisionStage.HARDWARE: "whether the package may go onto the board",
}


def what_next(response: views.ResponseDetail) -> str:
    """Say what will happen next."""
    if response.waits_for is not None:
        return waiting_words(response.waits_for)
    match response.state:
        case ResponseState.PREPARING:
            return "The proposal is being prepared."
        case ResponseState.RUNNING:
            return _running(response)
        case ResponseState.REJECTED:
            return (
                "The firmware stays as it is. Ask for another response with "
                f"`lumiwatch incidents respond {response.incident_id}`."
            )
        case ResponseState.PRESCALED_OUT:
            return f"The firmware stays as it is. {_instruction(response)}"
        case _:
            return response.outcome or "It has ended."


def waiting_words(waits: views.Waiting) -> str:
    """Say what is asked, who has approved, who is missing, and until when."""
    lacking = waits.needed - len(waits.approved_by)
    text = f"It waits for {lacking} approval{'s' if lacking > 1 else ''} of {' or '.join(waits.missing)}"
    text += f" ({QUESTIONS[waits.stage]})"
    if waits.approved_by:
        text += f"; approved by {' and '.join(waits.approved_by)}"
    if waits.until is not None:
        text += f"; withdrawn without an answer by {waits.until:%Y-%m-%d %H:%M} UTC"
    if waits.escalated_to:
        text += f"; escalated to {' and '.join(waits.escalated_to)}"
    return f"{text}."


def _running(response: views.ResponseDetail) -> str:
    proposal = Proposal.model_validate(response.proposal)
    end = f"{proposal.verify_lumisections} lumisections then verify it"
    if response.hardware is not None:
        return f"The board is reconfigured; {end}, or it is rolled back."
    reload = proposal.kind == RELOAD
    prepares = (
        "It compares the board with its package" if reload else "It retrains, builds and proves a package"
    )
    needed = proposal.hardware_approvals_needed
    if needed:
        approvals = "one more approval" if needed == 1 else f"{needed} more approvals"
        return f"{prepares}, and asks for {approvals} before it reconfigures the board; {end}."
    return f"{prepares} and reconfigures the board; {end}{'' if reload else ', or it is rolled back'}."


def _instruction(response: views.ResponseDetail) -> str:
    proposal = Proposal.model_validate(response.proposal)
    return next(one.text for one in proposal.alternatives if one.decision == "prescale_out")
