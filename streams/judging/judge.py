"""The judge: assesses closed windows in the caller's transaction and keeps every model's verdict chain.

Chains live in memory and are folds over the stored assessments: before each verdict they catch up with
whatever other processes stored meanwhile. Knows no broker.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy.orm import defer
from sqlmodel import Session, col, func, select

from streams.conditions import Conditions
from streams.contracts.contract import Contract
from streams.counting.codec import decode_summary
from streams.errors import ReferenceProblem
from streams.explaining.explanation import explain
from streams.judging.assessment import Assessment, AssessmentSettings, assess
from streams.judging.reference import Reference, decode_reference
from streams.judging.reference_store import approved_reference_ids
from streams.judging.verdict import State, Verdict, VerdictChain
from streams.store.records import AssessmentRow, ConditionsRow, ReferenceRow, WindowRow

logger = logging.getLogger(__name__)

CHAIN_MEMORY: Final = 2000
"""Stored assessments that a rebuilt chain looks back on: thirteen hours, folded in a second."""
KEPT_REFERENCES: Final = 8


@dataclass(frozen=True)
class MonitoredModel:
    """What the stream must know of a monitored model.

    Attributes
    ----------
    contract
        Its inputs.
    assessment
        The site's decisions about its judgement.
    """

    contract: Contract
    assessment: AssessmentSettings = field(default_factory=AssessmentSettings)


@dataclass
class _Chain:
    """A model's chain after the last stored assessment, and what that was."""

    chain: VerdictChain = field(default_factory=VerdictChain)
    last_id: int = 0
    runs: set[int] = field(default_factory=set)
    last: tuple[int, int, int] | None = None
    """Run, lumisection and window of the last one."""

    def continued_by(self, place: tuple[int, int, int], revision: int) -> bool:
        """Whether a window comes after all others of its run, and its run after all other runs."""
        if revision != 1:
            return False
        if self.last is None or place[0] not in self.runs:
            return True
        return place[0] == self.last[0] and place > self.last

    def update(self, place: tuple[int, int, int], assessment: Assessment) -> Verdict:
        """Judge the next window."""
        self.runs.add(place[0])
        self.last = place
        return self.chain.update(assessment)


class Judge:
    """Assesses windows of the monitored models."""

    def __init__(self, models: Mapping[str, MonitoredModel]) -> None:
        self._models = models
        self._chains: dict[str, _Chain] = {}
        self._references: dict[str, Reference | None] = {}

    def judge(
        self,
        session: Session,
        windows: Sequence[tuple[WindowRow, Conditions | None]],
        now: datetime,
    ) -> list[Verdict]:
        """Assess closed windows of one model as they are now; store assessments and verdicts, unpublished.

        A window that got late data, or comes after a later lumisection of its run was judged, is judged in
        its place of the sequence: its verdict can mend history, and says nothing about now.

        Parameters
        ----------
        session
            A write transaction of the windows' model. If it fails, call `forget`.
        windows
            Closed, of one monitored model, in the order of their lumisections, each with the conditions of
            its lumisection, if known. Their revisions go up by one.
        """
        if not windows:
            return []
        model = windows[0][0].model
        chain = self._caught_up(session, model)
        assessments = {
            _place(window): self._assessed(session, window, conditions, now) for window, conditions in windows
        }
        verdicts: dict[tuple[int, int, int], Verdict] = {}
        for place, assessment in assessments.items():
            if not chain.continued_by(place, assessment.revision):
                chain, verdicts = _refolded(session, model, assessments)
                self._chains[model] = chain
                break
            verdicts[place] = chain.update(place, assessment)
        for window, _ in windows:
            place = _place(window)
            verdicts[place] = self._told(session, window, assessments[place], verdicts[place])
        rows = [
            _row(window, assessments[_place(window)], verdicts[_place(window)], now) for window, _ in windows
        ]
        session.add_all(rows)
        session.flush()
        chain.last_id = max(_stored_id(row.id) for row in rows)
        return [verdicts[_place(window)] for window, _ in windows]

    def forget(self, model: str) -> None:
        """Forget a model's chain: its transaction failed, so it may hold what is not stored."""
        self._chains.pop(model, None)

    def _assessed(
        self, session: Session, window: WindowRow, conditions: Conditions | None, now: datetime
    ) -> Assessment:
        """Assess a window as it is now, and count the revision."""
        model = self._models[window.model]
        window.revision += 1
        window.assessed_events = window.n_events
        session.add(window)
        return assess(
            decode_summary(window.summary),
            self._reference(session, window, conditions, model.assessment),
            conditions,
            model.contract,
            model.assessment,
            revision=window.revision,
            complete=window.complete,
            late_events=window.late_events,
            delay_s=_delay_s(session, window, now),
        )

    def _told(self, session: Session, window: WindowRow, assessment: Assessment, verdict: Verdict) -> Verdict:
        """Add its story to a warning or an alarm."""
        if verdict.state not in {State.WARNING, State.ALARM}:
            return verdict
        reference_id = assessment.reference_id
        reference = self._decoded(session, reference_id) if reference_id is not None else None
        try:
            story = explain(
                assessment,
                decode_summary(window.summary),
                reference.expectation.at_value(assessment.second_value) if reference is not None else None,
                self._models[window.model].contract,
                suspects=verdict.suspects,
                firmware_fault=verdict.firmware_fault,
            )
        except Exception:  # an alarm goes out without its story rather than not at all
            logger.exception("the verdict on LS %d of %s has no story", window.lumisection, window.model)
            return verdict
        return verdict.model_copy(update={"story": story.sentence})

    def _reference(
        self,
        session: Session,
        window: WindowRow,
        conditions: Conditions | None,
        settings: AssessmentSettings,
    ) -> Reference | None:
        """Return the reference approved by now: an approval counts from the next window on.

        Where the one of the window's own package does not cover its conditions, one of another package does.
        """
        found = [
            reference
            for reference_id in approved_reference_ids(session, window.model, window.package)[
                :KEPT_REFERENCES
            ]
            if (reference := self._decoded(session, reference_id)) is not None
        ]
        if conditions is not None:
            margins = settings.pileup_margin, settings.value_margin
            covering = (one for one in found if not one.header.uncovered(conditions, *margins))
            return next(covering, found[0] if found else None)
        return found[0] if found else None

    def _decoded(self, session: Session, reference_id: str) -> Reference | None:
        if reference_id not in self._references:
            row = session.get_one(ReferenceRow, reference_id)
            while len(self._references) >= KEPT_REFERENCES:
                self._references.pop(next(iter(self._references)))
            try:
                self._references[reference_id] = decode_reference(row.content)
            except ReferenceProblem as error:
                logger.warning("reference %s cannot be used: %s", reference_id[:12], error)
                self._references[reference_id] = None
        return self._references[reference_id]

    def _caught_up(self, session: Session, model: str) -> _Chain:
        """Return the model's chain with everything stored so far."""
        known = self._chains.get(model)
        if known is not None:
            rows = session.exec(
                select(AssessmentRow)
                .where(AssessmentRow.model == model, col(AssessmentRow.id) > known.last_id)
                .options(defer(AssessmentRow.verdict))  # type: ignore[arg-type] # SQLModel declares columns as values
                .order_by(col(AssessmentRow.id))
            ).all()
            if _append(known, rows):
                return known
        # at start, or when another process judged late data
        rebuilt, _ = _refolded(session, model, {})
        self._chains[model] = rebuilt
        return rebuilt


def _append(chain: _Chain, rows: Sequence[AssessmentRow]) -> bool:
    """Take what others stored into a chain; False: it does not simply go on, and the chain is spoilt."""
    for row in rows:
        if not chain.continued_by(_place(row), row.revision):
            return False
        chain.update(_place(row), Assessment.model_validate_json(row.assessment))
        chain.last_id = _stored_id(row.id)
    return True


def _refolded(
    session: Session, model: str, added: Mapping[tuple[int, int, int], Assessment]
) -> tuple[_Chain, dict[tuple[int, int, int], Verdict]]:
    """Judge everything stored of a model again, with some windows added in their places.

    The sequence: runs in the order in which they were first judged, in each the windows by lumisection. Of a
    window that was assessed more than once, the last assessment counts.

    Returns
    -------
    The chain, and the verdicts on the added windows.
    """
    last_id = session.exec(select(func.max(AssessmentRow.id)).where(AssessmentRow.model == model)).one() or 0
    rows = session.exec(
        select(
            AssessmentRow.run, AssessmentRow.lumisection, AssessmentRow.window_id, AssessmentRow.assessment
        )
        .where(AssessmentRow.model == model)
        .order_by(col(AssessmentRow.id).desc())
        .limit(CHAIN_MEMORY)
    ).all()
    stored = {
        (run, lumisection, window): assessment for run, lumisection, window, assessment in reversed(rows)
    }
    # a window from before this memory, or of a run from before it, is judged by itself
    forgotten = {
        place: assessment
        for place, assessment in added.items()
        if assessment.revision > 1 and place not in stored and rows
    }
    runs = {run: None for run, _, _ in (*stored, *added)}
    rank = {run: number for number, run in enumerate(runs)}
    sequence = sorted({*stored, *added} - {*forgotten}, key=lambda place: (rank[place[0]], place))
    chain = _Chain(last_id=last_id)
    verdicts = {place: VerdictChain().update(assessment) for place, assessment in forgotten.items()}
    for place in sequence:
        if place in added:
            verdicts[place] = chain.update(place, added[place])
        else:
            chain.update(place, Assessment.model_validate_json(stored[place]))
    return chain, verdicts


def _row(window: WindowRow, assessment: Assessment, verdict: Verdict, now: datetime) -> AssessmentRow:
    return AssessmentRow(
        verdict_id=verdict.id,
        window_id=_stored_id(window.id),
        model=window.model,
        run=window.run,
        lumisection=window.lumisection,
        package=window.package,
        revision=window.revision,
        state=verdict.state,
        assessment=assessment.model_dump_json(),
        verdict=verdict.model_dump_json(),
        created_at=now,
    )


def _place(row: WindowRow | AssessmentRow) -> tuple[int, int, int]:
    """Run, lumisection and window: what a window's place in the sequence follows from."""
    return row.run, row.lumisection, _stored_id(row.id if isinstance(row, WindowRow) else row.window_id)


def _stored_id(value: int | None) -> int:
    if value is None:
        raise AssertionError("a stored row has an id")
    return value


def _delay_s(session: Session, window: WindowRow, now: datetime) -> float | None:
    """Seconds since the end of a window's lumisection was announced; None if it was not."""
    row = session.get(ConditionsRow, (window.model, window.run, window.lumisection))
    ended_at = (row.announced_at or row.ended_at) if row is not None else None
    return None if ended_at is None else max((now - ended_at).total_seconds(), 0.0)
