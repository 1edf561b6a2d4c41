from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import Session, SQLModel, create_engine, select

from hw.apply import apply
from hw.records import BoardOperationRecord, last_package, packages_of, record_operation, record_package

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def session():
    engine = create_engine("sqlite://")
    tables = [SQLModel.metadata.tables[name] for name in ("hw_packages", "hw_board_operations")]
    SQLModel.metadata.create_all(engine, tables=tables)
    with Session(engine) as opened:
        yield opened
    engine.dispose()


def test_packages_are_listed_newest_first_and_noted_once(session, packages):
    record_package(session, packages.first, Path("/a"), now=NOW)
    record_package(session, packages.second, Path("/b"), now=NOW + timedelta(hours=1))
    record_package(session, packages.first, Path("/moved"), now=NOW + timedelta(hours=2))
    session.commit()
    found = packages_of(session, "anomaly")
    assert [(record.id, record.path) for record in found] == [
        (packages.second.id, "/b"),
        (packages.first.id, "/moved"),
    ]
    assert all(record.bench_passed for record in found)
    assert packages_of(session, "another") == []


def test_an_operation_is_noted_with_its_operator(session, board, packages):
    report = apply(packages.second, board, packages.trusted)
    record_operation(session, report, now=NOW, operator="maria")
    session.commit()
    (record,) = session.exec(select(BoardOperationRecord))
    assert (record.operator, record.outcome, record.plan_kind) == ("maria", "applied", "weights")
    assert (record.from_package, record.to_package) == (packages.first.id, packages.second.id)


def _note(session, report):
    record_operation(session, report, now=NOW, operator="maria")
    session.commit()


def test_a_board_starts_with_the_first_firmware_and_never_with_a_successor_nobody_loaded(session, packages):
    record_package(session, packages.first, Path("/a"), now=NOW)
    successor = record_package(session, packages.second, Path("/b"), now=NOW + timedelta(hours=1))
    successor.parent_id = packages.first.id
    session.commit()

    assert last_package(session, "anomaly").id == packages.first.id


def test_a_board_starts_with_what_ran_last(session, board, packages):
    record_package(session, packages.first, Path("/a"), now=NOW)
    record_package(session, packages.second, Path("/b"), now=NOW)
    report = apply(packages.second, board, packages.trusted)
    _note(session, report)
    assert last_package(session, "anomaly").id == packages.second.id

    # one that the board refused, and went back from, did not run last
    _note(session, report.model_copy(update={"outcome": "rolled_back"}))
    assert last_package(session, "anomaly").id == packages.first.id
    assert last_package(session, "another") is None
