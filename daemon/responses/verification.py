"""Does the new firmware agree with the reference? A pure judgement over its windows' verdicts.

The inputs stay drifted after a reconfiguration, so only the families `score` and `rate` count, and
the accept rate's band; and bits must be those of the emulator. Knows no database and no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from streams.judging.verdict import State, Verdict

JUDGED_STATES = frozenset({State.GOOD, State.WARNING, State.ALARM})
FAMILIES = frozenset({"score", "rate"})


class VerificationState(StrEnum):
    """What the windows so far say."""

    WAITING = "waiting"
    PASSED = "passed"
    FAILED = "failed"


class Verification(BaseModel):
    """Judgement over the windows of a new package so far.

    Attributes
    ----------
    misses
        Lumisections that do not agree.
    mean_accept_rate, expected_rate
        Over the judged windows; None before the first.
    """

    model_config = ConfigDict(frozen=True)

    state: VerificationState
    judged: int
    needed: int
    misses: tuple[int, ...] = ()
    mean_accept_rate: float | None = None
    expected_rate: float | None = None
    run: int | None = None
    first_lumisection: int | None = None
    last_lumisection: int | None = None
    summary: str


def verify(
    verdicts: Sequence[Verdict], *, needed: int, allowed_misses: int, rate_band: float
) -> Verification:
    """Judge the windows of a new package.

    Parameters
    ----------
    verdicts
        Of the new package only, in data order. Windows that were not judged do not count.
    needed
        Judged windows to look at.
    allowed_misses
        So many of them may disagree.
    rate_band
        Largest relative deviation of the accept rate that agrees.
    """
    judged = [verdict for verdict in verdicts if verdict.state in JUDGED_STATES][:needed]
    if not judged:
        return Verification(
            state=VerificationState.WAITING,
            judged=0,
            needed=needed,
            summary="No judged window of the new package yet.",
        )
    misses = tuple(verdict.lumisection for verdict in judged if not _agrees(verdict, rate_band))
    events = sum(verdict.n_events for verdict in judged)
    mean_rate = sum(verdict.accept_rate * verdict.n_events for verdict in judged) / max(events, 1)
    expected = judged[-1].expected_rate
    if len(misses) > allowed_misses:
        state = VerificationState.FAILED
    else:
        state = VerificationState.PASSED if len(judged) >= needed else VerificationState.WAITING
    return Verification(
        state=state,
        judged=len(judged),
        needed=needed,
        misses=misses,
        mean_accept_rate=mean_rate,
        expected_rate=expected,
        run=judged[-1].run,
        first_lumisection=judged[0].lumisection,
        last_lumisection=judged[-1].lumisection,
        summary=_sentence(len(judged), needed, allowed_misses, misses, mean_rate, expected),
    )


def verify_integrity(verdicts: Sequence[Verdict], *, needed: int, allowed_misses: int) -> Verification:
    """Judge whether a firmware agrees with its emulator again.

    Parameters
    ----------
    verdicts
        Of lumisections after it was loaded again, in data order. Those without checked events do not count.
    needed, allowed_misses
        Windows to look at, and how many of them may hold a mismatch. The fault must have ended too.
    """
    checked = [
        verdict for verdict in verdicts if verdict.integrity is not None and verdict.integrity.n_checked
    ]
    misses = tuple(
        verdict.lumisection for verdict in checked if verdict.integrity and verdict.integrity.n_mismatched
    )
    state = VerificationState.WAITING
    if len(misses) > allowed_misses:
        state = VerificationState.FAILED
    elif len(checked) >= needed and not checked[-1].firmware_fault:
        state = VerificationState.PASSED
    agree = len(checked) - len(misses)
    text = f"{agree} of {len(checked)} windows agree with the emulator (at least {needed} are looked at)"
    if misses:
        text += f"; LS {', '.join(str(lumisection) for lumisection in misses)} do not"
    return Verification(
        state=state,
        judged=len(checked),
        needed=needed,
        misses=misses,
        run=checked[-1].run if checked else None,
        first_lumisection=checked[0].lumisection if checked else None,
        last_lumisection=checked[-1].lumisection if checked else None,
        summary=f"{text}.",
    )


def _agrees(verdict: Verdict, rate_band: float) -> bool:
    if FAMILIES.intersection(verdict.families) or verdict.firmware_fault:
        return False
    return verdict.rate_deviation is None or abs(verdict.rate_deviation) <= rate_band


def _sentence(
    judged: int, needed: int, allowed: int, misses: tuple[int, ...], rate: float, expected: float | None
) -> str:
    text = f"{judged - len(misses)} of {judged} windows agree (at least {needed - allowed} of {needed} must)"
    if misses:
        text += f"; LS {', '.join(str(lumisection) for lumisection in misses)} do not"
    if expected is not None:
        text += f"; accept rate {rate:.2%}, expected {expected:.2%}"
    return text + "."
