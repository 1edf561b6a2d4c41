"""Old windows lose their batches, then their counts; what comes for them is refused, never counted anew."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import Session, func, select

from streams.judging.judge import MonitoredModel
from streams.store.database import open_engine
from streams.store.history import closed_windows
from streams.store.records import (
    AssessmentRow,
    BatchRow,
    ConditionsRow,
    SourceRow,
    WindowRow,
    WindowState,
    create_tables,
)
from streams.store.retention import Forgotten, Retention, RetentionSettings, Stretch
from streams.store.windows import Outcome, WindowStore
from tests.support.streams import MODEL, RUN, conditions

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SETTINGS = RetentionSettings(timedelta(days=3), timedelta(days=30), timedelta(days=90))
LAST = 45


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    sqlite = f"sqlite:///{tmp_path}/site.db"
    url = sqlite if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    engine = open_engine(url)
    create_tables(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine, contract):
    return WindowStore(engine, models={MODEL: MonitoredModel(contract)})


@pytest.fixture
def played(store, detector):
    """Count and close some lumisections, publish their verdicts; return the summaries."""
    summaries = [detector.sent(lumisection, n_events=200) for lumisection in range(1, LAST + 1)]
    store.fold_summaries(summaries, NOW)
    for lumisection in range(1, LAST + 1):
        store.record_conditions(conditions(lumisection), NOW)
    verdicts = store.close_ready(MODEL, RUN, NOW)
    assert len(verdicts) == LAST
    store.mark_published(verdicts)
    return summaries


@pytest.fixture
def forget(engine):
    """Return a function that steps until nothing is left to forget, and gives the totals."""
    retention = Retention(engine, SETTINGS)

    def run(now, needed=()):
        steps = []
        while not steps or any(steps[-1]):
            steps.append(retention.step(MODEL, now, needed))
        return Forgotten(*(sum(column) for column in zip(*steps, strict=True)))

    return run


def count(engine, table):
    with Session(engine) as session:
        return session.exec(select(func.count()).select_from(table)).one()


def states(engine):
    with Session(engine) as session:
        return dict(session.exec(select(WindowRow.state, func.count()).group_by(WindowRow.state)).all())


def test_nothing_is_forgotten_before_its_time(engine, store, played, forget):
    assert not any(forget(NOW + timedelta(days=2)))
    assert store.fold_summaries(played[:1], NOW)[0].outcome is Outcome.REPEATED


def test_a_sealed_window_keeps_its_counts_and_refuses_data(engine, store, played, detector, forget):
    later = NOW + timedelta(days=4)

    assert forget(later).sealed == LAST

    assert count(engine, BatchRow) == count(engine, SourceRow) == 0
    assert len(closed_windows(engine, MODEL)) == LAST
    again, new = store.fold_summaries([played[6], detector.sent(7, part=1, n_events=200)], later)
    assert again.outcome is new.outcome is Outcome.REFUSED
    assert "LS 7 of run 5 is sealed" in again.reason
    assert "late_data_days" in again.reason
    assert closed_windows(engine, MODEL)[6].summary.n_events == 200


def test_late_data_is_assessed_before_its_window_is_sealed(engine, store, played, detector, forget):
    late = detector.sent(7, part=1, n_events=200)
    assert store.fold_summaries([late], NOW)[0].outcome is Outcome.LATE

    assert forget(NOW + timedelta(days=4)).sealed == LAST - 1
    assert len(store.sweep(NOW + timedelta(days=4))) == 1
    assert forget(NOW + timedelta(days=4)).sealed == 1


def test_counts_go_where_nobody_needs_them_and_the_row_stays(engine, store, played, forget):
    later = NOW + timedelta(days=31)

    forgotten = forget(later, [Stretch(RUN, 10, 19), Stretch(RUN + 1, 1, 9)])

    assert (forgotten.archived, forgotten.conditions) == (LAST - 10, LAST - 10)
    assert states(engine) == {WindowState.ARCHIVED: LAST - 10, WindowState.SEALED: 10}
    kept = closed_windows(engine, MODEL)
    assert [window.summary.lumisection for window in kept] == list(range(10, 20))
    assert all(window.conditions is not None for window in kept)
    assert count(engine, ConditionsRow) == 10
    assert store.fold_summaries(played[:1], later)[0].outcome is Outcome.REFUSED
    assert store.sweep(later) == []


def test_old_assessments_are_thinned_where_the_counts_are_gone(engine, store, played, forget):
    assert forget(NOW + timedelta(days=91), [Stretch(RUN, 10, 12)]).assessments == LAST - 2 - 3

    with Session(engine) as session:
        left = session.exec(select(AssessmentRow.lumisection).order_by(AssessmentRow.id)).all()
    assert left == [10, 11, 12, 20, 40]


def test_a_verdict_that_nobody_has_heard_stays(engine, store, detector, forget):
    store.fold_summaries([detector.sent(1, n_events=200)], NOW)
    store.record_conditions(conditions(1), NOW)
    (verdict,) = store.close_ready(MODEL, RUN, NOW)

    forget(NOW + timedelta(days=91))

    assert store.unpublished() == [verdict]


def test_a_step_is_small(engine, store, played):
    step = Retention(engine, SETTINGS).step(MODEL, NOW + timedelta(days=4))

    assert step.sealed == 10
