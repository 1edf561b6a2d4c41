"""The judge: assesses closed windows in the caller's transaction and keeps every model's verdict chain.

Chains live in memory and are folds over the stored assessments: before each verdict they catch up with
whatever other processes stored meanwhile. Knows no broker.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlmodel import Session, col, select

from streams.assessment import Assessment, AssessmentSettings, assess
from streams.conditions import Conditions
from streams.contract import Contract
from streams.records import AssessmentRow, ReferenceRow, WindowRow
from streams.reference import Reference, decode_reference
from streams.reference_store import approved_reference_id
from streams.summary_codec import decode_summary
from streams.verdict import Verdict, VerdictChain

CHAIN_MEMORY: Final = 5000
"""Stored assessments that a rebuilt chain looks back on."""
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
    chain: VerdictChain = field(default_factory=VerdictChain)
    last_id: int = 0


class Judge:
    """Assesses windows of the monitored models."""

    def __init__(self, models: Mapping[str, MonitoredModel]) -> None:
        self._models = models
        self._chains: dict[str, _Chain] = {}
        self._references: dict[str, Reference] = {}

    def judge(
        self, session: Session, window: WindowRow, conditions: Conditions | None, now: datetime
    ) -> Verdict:
        """Assess a closed window as it is now and store assessment and verdict, unpublished.

        Parameters
        ----------
        session
            A write transaction of the window's model.
        window
            Closed, of a monitored model. Its revision goes up by one.
        conditions
            Conditions of its lumisection, if known.
        """
        model = self._models[window.model]
        window.revision += 1
        window.assessed_events = window.n_events
        session.add(window)
        assessment = assess(
            decode_summary(window.summary),
            self._reference(session, window),
            conditions,
            model.contract,
            model.assessment,
            revision=window.revision,
            complete=window.complete,
            late_events=window.late_events,
        )
        chain = self._caught_up(session, window.model)
        if window.revision == 1:
            verdict = chain.chain.update(assessment)
        else:
            verdict = self._revised(session, window, assessment)
        row = AssessmentRow(
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
        session.add(row)
        session.flush()
        if window.revision == 1:
            chain.last_id = _stored_id(row.id)
        return verdict

    def _reference(self, session: Session, window: WindowRow) -> Reference | None:
        """Return the reference approved by now: an approval counts from the next window on."""
        found = approved_reference_id(session, window.model, window.package)
        if found is None:
            return None
        if found not in self._references:
            row = session.get_one(ReferenceRow, found)
            while len(self._references) >= KEPT_REFERENCES:
                self._references.pop(next(iter(self._references)))
            self._references[found] = decode_reference(row.content)
        return self._references[found]

    def _caught_up(self, session: Session, model: str) -> _Chain:
        """Return the model's chain with everything stored so far."""
        known = self._chains.get(model)
        if known is not None:
            rows = session.exec(
                select(AssessmentRow)
                .where(AssessmentRow.model == model, col(AssessmentRow.id) > known.last_id)
                .order_by(col(AssessmentRow.id))
            ).all()
            if all(row.revision == 1 for row in rows):
                for row in rows:
                    known.chain.update(Assessment.model_validate_json(row.assessment))
                    known.last_id = _stored_id(row.id)
                return known
        # at start, or when late data revised what the chain has already seen
        history, last_id = _history(session, model)
        rebuilt = _Chain(last_id=last_id)
        for assessment in history.values():
            rebuilt.chain.update(assessment)
        self._chains[model] = rebuilt
        return rebuilt

    def _revised(self, session: Session, window: WindowRow, assessment: Assessment) -> Verdict:
        """Judge a window again in its old place of the sequence."""
        history, _ = _history(session, window.model)
        history[_stored_id(window.id)] = assessment
        chain = VerdictChain()
        for window_id, stored in history.items():
            verdict = chain.update(stored)
            if window_id == window.id:
                return verdict
        raise AssertionError("unreachable: the window is in the history")


def _history(session: Session, model: str) -> tuple[dict[int, Assessment], int]:
    """Window id -> its latest assessment, in the order of the first ones; and the last row's id."""
    rows = session.exec(
        select(AssessmentRow)
        .where(AssessmentRow.model == model)
        .order_by(col(AssessmentRow.id).desc())
        .limit(CHAIN_MEMORY)
    ).all()
    history: dict[int, Assessment] = {}
    for row in reversed(rows):
        history[row.window_id] = Assessment.model_validate_json(row.assessment)
    return history, _stored_id(rows[0].id) if rows else 0


def _stored_id(value: int | None) -> int:
    if value is None:
        raise AssertionError("a stored row has an id")
    return value
