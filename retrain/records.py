"""What the database keeps of trainings and candidates, with their parents.

Refuses to know how either is made; `daemon` opens the database.
"""

from __future__ import annotations

import json
from datetime import datetime

from sqlalchemy import Column, DateTime, Engine
from sqlmodel import Field, Session, SQLModel, select

from retrain.errors import JobError
from retrain.messages import RetrainResult, TrainResult
from streams.store.database import write_session


class TrainingRow(SQLModel, table=True):
    """One training, or one retraining that found a candidate. Times are UTC.

    Attributes
    ----------
    id
        Training id: sha256 hex of the record.
    kind
        `train` or `retrain`.
    record_json
        The result as the job wrote it.
    """

    __tablename__ = "retrain_trainings"

    id: str = Field(primary_key=True)
    kind: str
    model: str = Field(index=True)
    contract_hash: str
    dataset_ids_json: str
    record_json: str
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class CandidateRow(SQLModel, table=True):
    """One candidate: a firmware model that is not on a board yet.

    Attributes
    ----------
    weights_hash
        Of its weight memory.
    parent_weights_hash
        Of the firmware it was made from; None for a first training.
    path
        The model file.
    strategy
        `train`, or the strategy's name.
    """

    __tablename__ = "retrain_candidates"

    id: int | None = Field(default=None, primary_key=True)
    training_id: str = Field(foreign_key="retrain_trainings.id", index=True)
    model: str = Field(index=True)
    structure_hash: str
    weights_hash: str = Field(index=True)
    parent_weights_hash: str | None = None
    parent_package: str | None = None
    strategy: str
    path: str
    sha256: str


def record_training(
    session: Session,
    result: TrainResult | RetrainResult,
    *,
    now: datetime,
) -> TrainingRow:
    """Note the result of a job that made a model; noting it again changes nothing. The caller commits.

    Parameters
    ----------
    session
        Of a database with this module's tables.
    result
        Of a finished job.
    now
        Aware UTC.

    Raises
    ------
    JobError
        When the job made no model, or the time has no zone.
    """
    if now.tzinfo is None:
        raise JobError("the time of a training has no zone: pass an aware datetime in UTC")
    if result.training_id is None or result.model is None:
        raise JobError(f"the job made no model ({result.status}): there is nothing to record")
    known = session.get(TrainingRow, result.training_id)
    if known is not None:
        return known
    training = TrainingRow(
        id=result.training_id,
        kind=result.task,
        model=result.model_name,
        contract_hash=result.contract_hash,
        dataset_ids_json=json.dumps(result.dataset_ids),
        record_json=result.model_dump_json(),
        recorded_at=now,
    )
    session.add(training)
    session.flush()
    retrained = result if isinstance(result, RetrainResult) else None
    session.add(
        CandidateRow(
            training_id=training.id,
            model=result.model_name,
            structure_hash=result.model.structure_hash,
            weights_hash=result.model.weights_hash,
            parent_weights_hash=retrained.parent_weights_hash if retrained else None,
            parent_package=retrained.parent_package if retrained else None,
            strategy=(retrained.chosen if retrained else None) or "train",
            path=str(result.model.path),
            sha256=result.model.sha256,
        )
    )
    session.flush()
    return training


def record_result(engine: Engine, result: TrainResult | RetrainResult, *, finished_at: datetime) -> str:
    """Note the result of a job in a transaction of its own, and return its training id.

    Raises as `record_training`.
    """
    with write_session(engine, lock="retrain") as session:
        return record_training(session, result, now=finished_at).id


def candidates_of(session: Session, training_id: str) -> list[CandidateRow]:
    """Return the candidates of one training."""
    return list(session.exec(select(CandidateRow).where(CandidateRow.training_id == training_id)).all())
