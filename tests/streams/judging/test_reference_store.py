"""References are proposed, approved and retired; a window gets the right one."""

from datetime import UTC, datetime, timedelta

import pytest

from streams.errors import ReferenceProblem
from streams.judging.reference import Reference
from streams.judging.reference_store import (
    approve_reference,
    approved_reference,
    find_reference,
    list_references,
    load_reference,
    propose_reference,
    register_reference,
    retire_reference,
)
from streams.store.database import open_engine
from streams.store.records import ReferenceState, create_tables
from tests.support.streams import MODEL, OTHER_PACKAGE, PACKAGE

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/site.db")
    create_tables(engine)
    yield engine
    engine.dispose()


def _other(reference, **changes):
    return Reference(reference.header.model_copy(update=changes), reference.expectation)


def test_a_proposed_reference_judges_nothing_until_it_is_approved(engine, reference):
    propose_reference(engine, reference, NOW)
    assert propose_reference(engine, reference, LATER).created_at == NOW
    assert approved_reference(engine, MODEL, PACKAGE) is None

    row = approve_reference(engine, reference.id[:12], "alice", NOW)

    assert (row.state, row.approved_by, row.approved_at) == (ReferenceState.APPROVED, "alice", NOW)
    assert approved_reference(engine, MODEL, PACKAGE).id == reference.id
    assert load_reference(engine, reference.id).counts.n_events == reference.counts.n_events


def test_a_new_approval_retires_the_old_one_of_the_same_package(engine, reference):
    newer = _other(reference, built_from="newer")
    register_reference(engine, reference, "alice", NOW)
    register_reference(engine, newer, "bob", LATER)
    assert approved_reference(engine, MODEL, PACKAGE).id == newer.id
    old = find_reference(engine, reference.id)
    assert (old.state, old.retired_by, old.retired_at) == (ReferenceState.RETIRED, "bob", LATER)
    assert [row.id for row in list_references(engine, MODEL)] == [reference.id, newer.id]


def test_a_package_without_its_own_reference_gets_the_one_approved_last(engine, reference):
    register_reference(engine, reference, "alice", NOW)
    assert approved_reference(engine, MODEL, OTHER_PACKAGE).id == reference.id
    own = _other(reference, package=OTHER_PACKAGE)
    register_reference(engine, own, "alice", LATER)
    assert approved_reference(engine, MODEL, OTHER_PACKAGE).id == own.id
    assert approved_reference(engine, MODEL, PACKAGE).id == reference.id
    assert approved_reference(engine, MODEL, "cc" * 32).id == own.id
    assert approved_reference(engine, "other", PACKAGE) is None


def test_a_retired_reference_can_be_approved_again(engine, reference):
    register_reference(engine, reference, "alice", NOW)
    retire_reference(engine, reference.id, "bob", LATER)
    assert approved_reference(engine, MODEL, PACKAGE) is None
    row = approve_reference(engine, reference.id, "carol", LATER)
    assert (row.approved_by, row.retired_by) == ("carol", None)


def test_unknown_references_are_named(engine, reference):
    with pytest.raises(ReferenceProblem, match="no reference begins with 'beef'"):
        approve_reference(engine, "beef", "alice", NOW)
    propose_reference(engine, reference, NOW)
    propose_reference(engine, _other(reference, built_from="newer"), NOW)
    with pytest.raises(ReferenceProblem, match="more than one"):
        find_reference(engine, "")
