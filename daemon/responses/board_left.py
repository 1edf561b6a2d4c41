"""What a response that did not succeed left on the board, told from the records of its steps."""

from __future__ import annotations

from enum import Enum, auto

from sqlmodel import Session, select

from daemon.responses.steps import APPLY, ROLL_BACK, VERIFY
from daemon.store.records import ResponseStepRecord, StepState


class Board(Enum):
    """What the board runs after a response that did not succeed."""

    UNTOUCHED = auto()
    PREVIOUS = auto()
    VERIFIED = auto()
    UNPROVEN = auto()


def board_after(session: Session, response_id: str) -> Board:
    """Tell from the steps what the board was left with."""
    rows = session.exec(select(ResponseStepRecord).where(ResponseStepRecord.response_id == response_id)).all()
    states = {row.name: row.state for row in rows}
    if states.get(ROLL_BACK.name) == StepState.DONE:
        return Board.PREVIOUS
    if states.get(VERIFY.name) == StepState.DONE:
        return Board.VERIFIED
    begun = states.get(APPLY.name) in {StepState.DONE, StepState.FAILED, StepState.RUNNING}
    return Board.UNPROVEN if begun else Board.UNTOUCHED
