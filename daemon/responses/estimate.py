"""What an answer may bring, as far as anybody knows before a decision: data at hand, and this site's history.

Counts and remembers, and never guesses: what was not done here before is unknown. Knows no approval.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from statistics import median
from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.errors import DaemonError
from daemon.journal.happenings import record_happening
from daemon.responses.approval import load
from daemon.responses.policy import LEAST_INVASIVE, Proposal
from daemon.responses.steps import APPLY, BENCH, BUILD, RETRAIN, VERIFY
from daemon.site.settings import Site
from daemon.store.database import transaction
from daemon.store.records import ResponseRecord, ResponseState, ResponseStepRecord, StepState
from streams.errors import RecorderError, StreamsError
from streams.events.recorder import recent_dataset

logger = logging.getLogger(__name__)

_WORK: Final = frozenset({RETRAIN.name, BUILD.name, BENCH.name, APPLY.name})
_REMEMBERED: Final = 20
"""Responses of a model that are looked back at."""


class Past(BaseModel):
    """How one strategy did at this site.

    Attributes
    ----------
    times, succeeded
        Responses that took it, and those among them that were verified.
    work_s, verify_s
        Median time from the approval to the reconfigured board, without waits for people, and of the
        verification; None where unknown.
    accept_rate, expected_rate
        What the latest verified one reached, and what was to be reached.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: str
    times: int = 0
    succeeded: int = 0
    work_s: float | None = None
    verify_s: float | None = None
    accept_rate: float | None = None
    expected_rate: float | None = None

    @property
    def words(self) -> str:
        """One phrase for people, of a strategy that was taken before."""
        text = f"{self.strategy}: verified {self.succeeded} of {self.times} times"
        if self.work_s is not None:
            text += f", {_duration(self.work_s)} to the board"
        if self.verify_s is not None:
            text += f" and {_duration(self.verify_s)} to verify"
        if self.accept_rate is not None and self.expected_rate is not None:
            text += f", accept rate {self.accept_rate:.2%} of {self.expected_rate:.2%} last time"
        return text


class Estimate(BaseModel):
    """What is known before a decision.

    Attributes
    ----------
    plan, plan_reason
        The expected way onto the board.
    events_at_hand, events_needed
        Drifted events that are recorded, counted up to what is needed; None where nothing is retrained.
    strategies
        In the order of the proposal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: str
    plan_reason: str
    events_at_hand: int | None = None
    events_needed: int | None = None
    strategies: tuple[Past, ...] = ()
    summary: str
    trial: dict[str, Any] | None = None  # see `trial.Tried`; added later, where a trial was made


def add_estimate(engine: Engine, site: Site, response_id: str, *, now: datetime) -> None:
    """Add to a proposal what is known, once, and tell it as `response.estimated`.

    A proposal whose estimate cannot be made goes without: it must never wait for one.
    """
    with Session(engine) as session:
        response, _ = load(session, response_id)
    if response.estimate is not None or response.state != ResponseState.PROPOSED:
        return
    try:
        found = estimate(engine, site, response)
    except (DaemonError, StreamsError, OSError, ValueError):
        logger.exception("what %s may bring cannot be told; it is proposed without", response_id)
        return
    with transaction(engine) as session:
        response, incident = load(session, response_id)
        response.estimate = found.model_dump(mode="json", exclude={"trial"})
        record_happening(
            session,
            incident,
            "response.estimated",
            found.summary,
            now=now,
            response_id=response_id,
            detail={"estimate": response.estimate},
        )


def estimate(engine: Engine, site: Site, response: ResponseRecord) -> Estimate:
    """Say what is known of a response that is proposed.

    Raises
    ------
    StreamsError
        Recorded events are not readable.
    """
    proposal = Proposal.model_validate(response.proposal)
    history = _history(engine, response.model)
    names = [option.strategy for option in proposal.options if option.strategy != LEAST_INVASIVE]
    strategies = tuple(_past(name, history) for name in names)
    if proposal.kind == "reload":
        reason = "the same weights are written once more, nothing is retrained"
        return _estimate(proposal, reason, strategies, "")
    settings = site.models[response.model].settings.retrain
    at_hand = _events_at_hand(site, response.model, proposal, settings.minimum_events)
    enough = at_hand >= settings.minimum_events
    events = (
        f"{'At least ' if enough else ''}{at_hand:,} events from LS {proposal.first_lumisection} of run "
        f"{proposal.run} on are at hand, {settings.minimum_events:,} are needed"
        f"{'' if enough else f'; once approved it waits {_duration(settings.events_timeout_s)} for more'}."
    )
    found = _estimate(proposal, "only weights change, the structure stays", strategies, events)
    return found.model_copy(update={"events_at_hand": at_hand, "events_needed": settings.minimum_events})


def _estimate(proposal: Proposal, reason: str, strategies: tuple[Past, ...], events: str) -> Estimate:
    parts = [f"Expected plan: {proposal.expected_plan}, {reason}."]
    if events:
        parts.append(events)
    parts += [f"{one.words}." for one in strategies if one.times]
    unknown = [one.strategy for one in strategies if not one.times]
    if unknown:
        parts.append(f"Unknown, for they were not done here before: {', '.join(unknown)}.")
    return Estimate(
        plan=proposal.expected_plan, plan_reason=reason, strategies=strategies, summary=" ".join(parts)
    )


def _events_at_hand(site: Site, model: str, proposal: Proposal, needed: int) -> int:
    try:
        return recent_dataset(
            site.recent_dir,
            model,
            run=proposal.run,
            first_lumisection=proposal.first_lumisection,
            last_lumisection=proposal.last_lumisection,
            package=proposal.package,
            max_events=needed,
        ).n_events
    except RecorderError:
        return 0


def _history(engine: Engine, model: str) -> list[tuple[ResponseRecord, dict[str, ResponseStepRecord]]]:
    """Read the latest responses that took a strategy, newest first, with their finished steps."""
    with Session(engine) as session:
        responses = session.exec(
            select(ResponseRecord)
            .where(ResponseRecord.model == model, col(ResponseRecord.strategy).is_not(None))
            .order_by(col(ResponseRecord.created_at).desc())
            .limit(_REMEMBERED)
        ).all()
        rows = session.exec(
            select(ResponseStepRecord).where(
                col(ResponseStepRecord.response_id).in_([response.id for response in responses]),
                ResponseStepRecord.state == StepState.DONE,
            )
        ).all()
    steps: dict[str, dict[str, ResponseStepRecord]] = {}
    for row in rows:
        steps.setdefault(row.response_id, {})[row.name] = row
    return [(response, steps.get(response.id, {})) for response in responses]


def _past(strategy: str, history: Sequence[tuple[ResponseRecord, dict[str, ResponseStepRecord]]]) -> Past:
    taken = [(response, steps) for response, steps in history if response.strategy == strategy]
    verified = [steps for response, steps in taken if response.state == ResponseState.SUCCEEDED]
    result = verified[0][VERIFY.name].result if verified and VERIFY.name in verified[0] else {}
    return Past(
        strategy=strategy,
        times=len(taken),
        succeeded=len(verified),
        work_s=_median([_work_s(steps) for _, steps in taken if APPLY.name in steps]),
        verify_s=_median([_seconds(steps[VERIFY.name]) for steps in verified if VERIFY.name in steps]),
        accept_rate=result.get("mean_accept_rate"),
        expected_rate=result.get("expected_rate"),
    )


def _work_s(steps: dict[str, ResponseStepRecord]) -> float:
    return sum(_seconds(row) for name, row in steps.items() if name in _WORK)


def _seconds(row: ResponseStepRecord) -> float:
    if row.started_at is None or row.ended_at is None:
        return 0.0
    return (row.ended_at - row.started_at).total_seconds()


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
