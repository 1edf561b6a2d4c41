import contextlib
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlmodel import Session, SQLModel, select

from retrain.choice import choose
from retrain.errors import JobError
from retrain.evaluate import Criteria
from retrain.messages import ModelFile, RetrainResult, TrainResult
from retrain.records import CandidateRow, TrainingRow, candidates_of, record_result
from retrain.selection import SelectionSettings
from retrain.selection import select as select_events
from retrain.strategies import strategies_named
from streams.store.database import open_engine

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'records.db'}")
    SQLModel.metadata.create_all(engine, tables=[TrainingRow.__table__, CandidateRow.__table__])
    yield engine
    engine.dispose()


def model_file(model):
    return ModelFile(
        path=Path("model.npz"),
        sha256="00" * 32,
        structure_hash=model.structure_hash,
        weights_hash=model.weights_hash,
    )


@pytest.fixture(scope="module")
def train_result(trained):
    return TrainResult(
        model_name="anomaly",
        contract_hash=trained.firmware.contract_hash,
        training_id=trained.record.id,
        dataset_ids=[trained.record.dataset_id],
        model=model_file(trained.firmware),
        record=trained.record,
        seconds=1.0,
    )


@pytest.fixture(scope="module")
def retrain_result(firmware, reference, drifted, contract):
    selection = select_events(reference, drifted, contract, SelectionSettings())
    choice = choose(firmware, selection, strategies_named(["input_recalibration"]), criteria=Criteria())
    return RetrainResult(
        status="candidate",
        reason=choice.reason,
        chosen=choice.chosen,
        model_name="anomaly",
        contract_hash=contract.hash,
        training_id="11" * 32,
        model=model_file(choice.model),
        parent_weights_hash=firmware.weights_hash,
        parent_package="22" * 32,
        dataset_ids=list(selection.dataset_ids),
        baseline=choice.baseline,
        strategies=list(choice.outcomes),
        seconds=1.0,
    )


def test_a_candidate_is_kept_with_its_parents(engine, train_result, retrain_result):
    # given a first training and a retraining of it
    record_result(engine, train_result, finished_at=NOW)
    training_id = record_result(engine, retrain_result, finished_at=NOW)
    # then the candidate leads back to the firmware it was made from
    with Session(engine) as session:
        (candidate,) = candidates_of(session, training_id)
        (parent,) = session.exec(
            select(CandidateRow).where(CandidateRow.weights_hash == candidate.parent_weights_hash)
        ).all()
        row = session.get(TrainingRow, training_id)
    assert (parent.strategy, parent.training_id) == ("train", train_result.training_id)
    assert (candidate.strategy, candidate.parent_package) == ("input_recalibration", "22" * 32)
    # and the whole result can be read again
    assert RetrainResult.model_validate_json(row.record_json) == retrain_result


def test_recording_twice_changes_nothing(engine, train_result):
    record_result(engine, train_result, finished_at=NOW)
    record_result(engine, train_result, finished_at=NOW.replace(year=2027))
    with Session(engine) as session:
        (row,) = session.exec(select(TrainingRow)).all()
        assert row.recorded_at.year == 2026
        assert len(candidates_of(session, train_result.training_id)) == 1


def test_it_is_recorded_whatever_another_process_writes_meanwhile(engine, train_result):
    other = sqlite3.connect(engine.url.database, timeout=0, isolation_level=None)
    other.execute("CREATE TABLE other (number INTEGER)")

    def write(_connection, _cursor, statement, *_rest):
        if statement.startswith("SELECT"):  # a transaction that has read and not yet written
            with contextlib.suppress(
                sqlite3.OperationalError
            ):  # it has to wait, for it does not hold the lock
                other.execute("INSERT INTO other VALUES (1)")

    event.listen(engine, "after_cursor_execute", write)
    training_id = record_result(engine, train_result, finished_at=NOW)
    event.remove(engine, "after_cursor_execute", write)

    other.close()
    with Session(engine) as session:
        assert session.get(TrainingRow, training_id) is not None


def test_a_job_without_a_model_or_a_time_without_a_zone_is_not_recorded(engine, retrain_result):
    none = retrain_result.model_copy(update={"status": "none_passed", "model": None, "training_id": None})
    with pytest.raises(JobError, match="made no model"):
        record_result(engine, none, finished_at=NOW)
    with pytest.raises(JobError, match="no zone"):
        record_result(engine, retrain_result, finished_at=NOW.replace(tzinfo=None))
