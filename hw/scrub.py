"""Scrubbing: reading the active weights of a board back, naming flipped bits and putting them right.

Radiation flips bits in memory that nobody has written. Refuses to know when to look, and whom to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from hw.apply import ApplyReport, apply
from hw.board import Board
from hw.errors import BoardError
from hw.models import Model
from hw.package import Package
from hw.signing import TrustedKey

_WORD_BITS = 32
_TRIALS = 3


class FlippedWord(BaseModel):
    """A word of the weight memory that is not what was loaded.

    Parameters
    ----------
    index
        Its place in the bank.
    segment
        The parameters it belongs to, `dense1.weight` for instance.
    offset
        Its place in that segment.
    expected, found
        Its raw values.
    bits
        Numbers of the flipped bits, 0 the least significant.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    index: int
    segment: str
    offset: int
    expected: int
    found: int
    bits: tuple[int, ...]


class ScrubOutcome(StrEnum):
    """What a look at a board came to."""

    CLEAN = "clean"
    """Every word is right."""
    REPAIRED = "repaired"
    """Words were wrong; they are right again and the golden vectors agree."""
    FLIPPED = "flipped"
    """Words are wrong and were left so."""
    FAILED = "failed"
    """Words are wrong and could not be put right."""
    OTHER_PACKAGE = "other_package"
    """The board runs another package than the one to compare with."""


class ScrubReport(BaseModel):
    """What a look at a board found and did.

    Parameters
    ----------
    board
        Its address.
    package_id
        What its weights were compared with.
    words
        Words compared.
    flipped
        The wrong ones.
    outcome
        What it came to.
    reason
        One sentence.
    repair
        What the repair did to the board; None when nothing was tried, or when it broke off.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    board: str
    package_id: str
    words: int
    flipped: tuple[FlippedWord, ...]
    outcome: ScrubOutcome
    reason: str
    repair: ApplyReport | None = None

    @property
    def wrong_weights(self) -> bool:
        """Whether the board scored, or scores, with wrong weights: an incident of integrity."""
        return bool(self.flipped)

    @property
    def flipped_bits(self) -> int:
        """How many bits differed."""
        return sum(len(word.bits) for word in self.flipped)


def flipped_words(
    expected: npt.NDArray[np.int32], found: npt.NDArray[np.int32], model: Model
) -> tuple[FlippedWord, ...]:
    """Name every word that differs. Pure.

    Parameters
    ----------
    expected, found
        int32, (n_words,): what was loaded and what was read back.
    model
        Says which segment a word belongs to.
    """
    different = expected.view(np.uint32) ^ found.view(np.uint32)
    segments = model.segments()
    starts = np.array([segment.start for segment in segments])
    words: list[FlippedWord] = []
    for index in np.flatnonzero(different).tolist():
        segment = segments[int(np.searchsorted(starts, index, side="right")) - 1]
        bits = tuple(bit for bit in range(_WORD_BITS) if int(different[index]) >> bit & 1)
        words.append(
            FlippedWord(
                index=index,
                segment=segment.name,
                offset=index - segment.start,
                expected=int(expected[index]),
                found=int(found[index]),
                bits=bits,
            )
        )
    return tuple(words)


def scrub(
    package: Package, board: Board, trusted_keys: Sequence[TrustedKey], *, repair: bool = True
) -> ScrubReport:
    """Compare a board's active weights with the package it runs, and load them again when bits have flipped.

    Events keep being scored all the while. The repair is an `apply` of the same package: the right words go
    into the inactive bank, are read back and switched to, and the golden vectors are played.

    Parameters
    ----------
    package
        What should run on the board.
    board
        Where.
    trusted_keys
        Whose signatures count, for the repair.
    repair
        False to look only.

    Raises
    ------
    BoardUnreachable
        When the board does not answer.
    BoardError
        When the board's firmware changes in every look.
    """
    expected = package.model.memory()
    found = _active_words(board, package.id)
    if found is None:
        return _report(board, package, (), ScrubOutcome.OTHER_PACKAGE, "the board runs another package")
    wrong = flipped_words(expected, found, package.model)
    if not wrong:
        return _report(board, package, (), ScrubOutcome.CLEAN, f"all {len(expected)} words are right")
    what = f"{len(wrong)} of {len(expected)} words have flipped bits, the first in {wrong[0].segment}"
    if not repair:
        return _report(board, package, wrong, ScrubOutcome.FLIPPED, what)
    outcome, reason, repaired = _repaired(package, board, trusted_keys)
    return _report(board, package, wrong, outcome, f"{what}; {reason}", repaired)


def _active_words(board: Board, package_id: str) -> npt.NDArray[np.int32] | None:
    """Read the active bank while nothing changes; nothing when another package runs."""
    for _ in range(_TRIALS):
        before = board.identify()
        if before.package_id != package_id:
            return None
        words = board.read_back(active=True)
        if board.identify().epoch == before.epoch:
            return words
    raise BoardError(f"board at {board.address} changes its firmware in every look: stop the other clients")


def _repaired(
    package: Package, board: Board, trusted_keys: Sequence[TrustedKey]
) -> tuple[ScrubOutcome, str, ApplyReport | None]:
    try:
        report = apply(package, board, trusted_keys)
    except BoardError as error:
        return ScrubOutcome.FAILED, str(error), None
    if not report.ok:
        return ScrubOutcome.FAILED, report.reason, report
    return ScrubOutcome.REPAIRED, f"loaded again and proven: {report.reason}", report


def _report(
    board: Board,
    package: Package,
    flipped: tuple[FlippedWord, ...],
    outcome: ScrubOutcome,
    reason: str,
    repair: ApplyReport | None = None,
) -> ScrubReport:
    return ScrubReport(
        board=board.address,
        package_id=package.id,
        words=package.model.n_words,
        flipped=flipped,
        outcome=outcome,
        reason=reason,
        repair=repair,
    )
