"""Reading what waits for decisions, and what was decided: plain functions like `queries`. Changes nothing."""

from __future__ import annotations

from typing import Final

from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.responses.decisions import waits_for
from daemon.store import views
from daemon.store.records import DecisionRecord, ResponseRecord, ResponseState

WAITING: Final = (ResponseState.PROPOSED, ResponseState.HARDWARE_PROPOSED)
"""States in which a response waits for a decision."""


def waiting_responses(engine: Engine) -> list[views.ResponseDetail]:
    """Give every response that waits for a decision with what was decided on it so far, oldest first."""
    with Session(engine) as session:
        records = session.exec(
            select(ResponseRecord)
            .where(col(ResponseRecord.state).in_([state.value for state in WAITING]))
            .order_by(col(ResponseRecord.created_at))
        ).all()
        decisions = session.exec(
            select(DecisionRecord)
            .where(col(DecisionRecord.response_id).in_([record.id for record in records]))
            .order_by(col(DecisionRecord.at))
        ).all()
    made: dict[str, list[DecisionRecord]] = {}
    for decision in decisions:
        made.setdefault(decision.response_id, []).append(decision)
    return [
        views.ResponseDetail(
            **record.model_dump(),
            waits_for=waits_for(record, made.get(record.id, [])),
            decisions=[_decision(decision) for decision in made.get(record.id, [])],
            steps=[],
        )
        for record in records
    ]


def latest_decisions(engine: Engine, *, limit: int = 20) -> list[tuple[str, views.DecisionView]]:
    """Give the latest decisions with the responses they were made on, newest first."""
    query = select(DecisionRecord).order_by(col(DecisionRecord.at).desc()).limit(limit)
    with Session(engine) as session:
        return [(record.response_id, _decision(record)) for record in session.exec(query).all()]


def _decision(record: DecisionRecord) -> views.DecisionView:
    return views.DecisionView.model_validate(record.model_dump())
