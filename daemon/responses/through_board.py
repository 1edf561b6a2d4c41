"""A board in the path of replayed data: what hands a board's answers to a replay, which knows no boards."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hw.board import Board
from streams.events.replay import FirmwareOutput


def score_on(board: Board) -> Callable[[npt.NDArray[np.int16]], FirmwareOutput]:
    """Put a board into the path of the data: it scores each block of events and names its package."""

    def score(inputs: npt.NDArray[np.int16]) -> FirmwareOutput:
        answer = board.process(inputs)
        return FirmwareOutput(answer.scores.astype(np.int32), answer.accepts, answer.package_id)

    return score
