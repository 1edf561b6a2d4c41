"""The steps of a response as records: what runs, since when, how far, with what result.

Console, command line and chat read these rows while the work goes on. Knows no workflow engine and
nothing of what a step does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.journal.happenings import record_happening
from daemon.store.database import transaction
from daemon.store.records import (
    IncidentRecord,
    ResponseRecord,
    ResponseStepRecord,
    StepState,
)

_PROGRESS_INTERVAL_S = 0.25


@dataclass(frozen=True)
class Step:
    """One kind of step; `share` is its part of the whole response's progress, in percent."""

    name: str
    title: str
    share: int


PROPOSE: Final = Step("propose", "Propose", 2)
DECIDE: Final = Step("decide", "Wait for a decision", 1)
RETRAIN: Final = Step("retrain", "Retrain", 25)
BUILD: Final = Step("build", "Build and sign the firmware package", 25)
BENCH: Final = Step("bench", "Prove it bit by bit", 10)
CONFIRM: Final = Step("confirm", "Wait for the decision before the board", 0)
APPLY: Final = Step("apply", "Reconfigure the board", 5)
VERIFY: Final = Step("verify", "Verify on new lumisections", 29)
REFERENCE: Final = Step("reference", "Register the successor reference", 2)
CLOSE: Final = Step("close", "Close", 1)
ROLL_BACK: Final = Step("roll_back", "Roll back to the previous package", 0)

STEPS: Final = (PROPOSE, DECIDE, RETRAIN, BUILD, BENCH, CONFIRM, APPLY, VERIFY, REFERENCE, CLOSE)
"""In order; `CONFIRM` is only where the policy wants it, `ROLL_BACK` is added only when it is needed."""


class StepLog:
    """Writes the step records of one response.

    Parameters
    ----------
    engine
        The site's database.
    response_id
        Of an existing response.
    clock
        Gives aware UTC.
    """

    def __init__(self, engine: Engine, response_id: str, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._response_id = response_id
        self._clock = clock
        self._last_progress_s = 0.0

    def prepare(self, *, confirm: bool) -> None:
        """Add all steps as pending; those that exist stay as they are.

        Parameters
        ----------
        confirm
            A decision is asked for before the board is touched.
        """
        with transaction(self._engine) as session:
            for step in STEPS:
                if confirm or step is not CONFIRM:
                    self._row(session, step)

    def ended(self, step: Step) -> ResponseStepRecord | None:
        """Give the record of a step that has ended; None before."""
        with Session(self._engine) as session:
            return session.exec(
                select(ResponseStepRecord).where(
                    ResponseStepRecord.response_id == self._response_id,
                    ResponseStepRecord.name == step.name,
                    col(ResponseStepRecord.state).in_([StepState.DONE.value, StepState.FAILED.value]),
                )
            ).first()

    def begin(self, step: Step) -> None:
        """Mark a step as running; a step taken up after a restart keeps its first start."""
        now = self._clock()
        with transaction(self._engine) as session:
            row = self._row(session, step)
            row.state = StepState.RUNNING
            row.started_at = row.started_at or now
            row.ended_at = None
            response = self._response(session)
            response.current_step = step.name
            response.progress = _before(step)

    def progress(self, step: Step, fraction: float, detail: str) -> None:
        """Report how far a running step is; too frequent reports are dropped.

        Parameters
        ----------
        fraction
            0 to 1.
        """
        if fraction < 1 and time.monotonic() - self._last_progress_s < _PROGRESS_INTERVAL_S:
            return
        self._last_progress_s = time.monotonic()
        with transaction(self._engine) as session:
            row = self._row(session, step)
            row.progress = fraction
            row.detail = detail
            self._response(session).progress = _before(step) + step.share / 100 * fraction

    def done(self, step: Step, detail: str, result: Mapping[str, Any]) -> None:
        """Mark a step as done, with its result."""
        self._end(step, StepState.DONE, detail, result)

    def failed(self, step: Step, detail: str) -> None:
        """Mark a step as failed, with the reason."""
        self._end(step, StepState.FAILED, detail, {})

    def skip_rest(self) -> None:
        """Mark every step that has not begun as skipped."""
        with transaction(self._engine) as session:
            rows = session.exec(
                select(ResponseStepRecord).where(
                    ResponseStepRecord.response_id == self._response_id,
                    col(ResponseStepRecord.state) == StepState.PENDING,
                )
            ).all()
            for row in rows:
                row.state = StepState.SKIPPED

    def started_at(self, step: Step) -> datetime:
        """Tell when a step first began (now, if it has not)."""
        with transaction(self._engine) as session:
            return self._row(session, step).started_at or self._clock()

    def _end(self, step: Step, state: StepState, detail: str, result: Mapping[str, Any]) -> None:
        now = self._clock()
        with transaction(self._engine) as session:
            row = self._row(session, step)
            row.state = state
            row.started_at = row.started_at or now
            row.ended_at = now
            row.detail = detail
            row.result = dict(result)
            if state is StepState.DONE:
                row.progress = 1.0
            response = self._response(session)
            if state is StepState.DONE and step is not ROLL_BACK:
                response.progress = _before(step) + step.share / 100
            incident = session.get(IncidentRecord, response.incident_id)
            if incident is not None and step not in {
                PROPOSE,
                DECIDE,
                CONFIRM,
                CLOSE,
            }:  # these tell their own story
                record_happening(
                    session,
                    incident,
                    "response.step",
                    f"{step.title}: {detail}",
                    now=now,
                    response_id=self._response_id,
                    detail={"step": step.name, "state": state.value, **row.result},
                )

    def _row(self, session: Session, step: Step) -> ResponseStepRecord:
        row = session.exec(
            select(ResponseStepRecord).where(
                ResponseStepRecord.response_id == self._response_id, ResponseStepRecord.name == step.name
            )
        ).first()
        if row is None:
            number = STEPS.index(step) + 1 if step in STEPS else len(STEPS) + 1
            row = ResponseStepRecord(
                response_id=self._response_id, number=number, name=step.name, title=step.title
            )
            session.add(row)
        return row

    def _response(self, session: Session) -> ResponseRecord:
        return session.exec(select(ResponseRecord).where(ResponseRecord.id == self._response_id)).one()


def _before(step: Step) -> float:
    """Progress of the whole response at the beginning of a step, 0..1."""
    if step not in STEPS:
        return 1.0
    return sum(earlier.share for earlier in STEPS[: STEPS.index(step)]) / 100
