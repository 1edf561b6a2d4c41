"""When windows close where no conditions come: by what has begun since, and by who lags behind."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import Session

from streams.conditions import Conditions
from streams.effects.effect import parse_effect
from streams.judging.judge import MonitoredModel
from streams.judging.reference_store import register_reference
from streams.store.database import open_engine
from streams.store.history import closed_windows, judged_windows
from streams.store.records import create_tables
from streams.store.windows import Outcome, Waiting, WindowStore
from tests.support.streams import MODEL, RUN

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LATENESS = timedelta(seconds=30)
PATIENCE = timedelta(seconds=120)
SECOND = timedelta(seconds=1)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    sqlite = f"sqlite:///{tmp_path}/site.db"
    url = sqlite if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    engine = open_engine(url)
    create_tables(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def open_store(engine, contract):
    def make():
        models = {MODEL: MonitoredModel(contract)}
        return WindowStore(engine, models=models, waiting=Waiting(LATENESS, PATIENCE))

    return make


@pytest.fixture
def store(open_store):
    return open_store()


@pytest.fixture
def send(store, detector):
    """Return a function that folds one batch in and gives its outcome."""

    def run(lumisection, source="east", *, now=NOW, part=0, **options):
        summary = detector.sent(lumisection, source=source, part=part, n_events=1000, **options)
        (folded,) = store.fold_summaries([summary], now)
        return folded.outcome

    return run


def closed(verdicts):
    return [verdict.lumisection for verdict in verdicts]


def test_a_lumisection_is_over_when_a_later_one_has_begun(store, send):
    send(7)
    assert store.sweep(NOW + LATENESS) == []
    send(8, now=NOW + LATENESS)

    assert store.sweep(NOW + 2 * LATENESS - SECOND) == []
    assert closed(store.sweep(NOW + 2 * LATENESS)) == [7]


def test_a_source_that_has_not_moved_on_holds_the_window_open(store, send, engine):
    send(7, "east")
    send(7, "west")
    send(8, "east", now=NOW + SECOND)
    assert store.sweep(NOW + SECOND + LATENESS) == []
    # it was only slow
    assert send(7, "west", part=1, now=NOW + 2 * LATENESS) is Outcome.ADDED
    send(8, "west", now=NOW + 2 * LATENESS)

    assert closed(store.sweep(NOW + 3 * LATENESS)) == [7]
    assert closed_windows(engine, MODEL)[0].summary.n_events == 3000


def test_a_source_that_lags_too_long_is_not_waited_for_and_counted_late(store, send, engine):
    send(7, "east")
    send(6, "west")
    now = NOW
    while now < NOW + PATIENCE:
        now += LATENESS
        send(8 + (now - NOW) // LATENESS, "east", now=now)
        send(6, "west", part=(now - NOW) // LATENESS, now=now)
    # lumisection 6 still gets data, and lumisection 7 waits for it no longer than it must
    assert closed(store.sweep(now + LATENESS)) == []
    assert closed(store.sweep(now + PATIENCE))[:2] == [6, 7]

    assert send(7, "west", now=now + PATIENCE) is Outcome.LATE
    (revised,) = [verdict for verdict in store.sweep(now + PATIENCE + LATENESS) if verdict.lumisection == 7]
    assert (revised.revision, revised.n_events) == (2, 2000)
    assert closed_windows(engine, MODEL, first_lumisection=7, last_lumisection=7)[0].late_events == 1000


def test_a_source_that_died_holds_nothing_up_for_longer_than_the_patience(store, send):
    send(7, "west")
    for lumisection in range(7, 15):
        send(lumisection, "east", now=NOW + (lumisection - 7) * LATENESS)

    # west was last heard at lumisection 7, at NOW
    assert store.sweep(NOW + PATIENCE - SECOND) == []
    assert closed(store.sweep(NOW + PATIENCE + LATENESS))[:4] == [7, 8, 9, 10]


def test_a_stream_that_falls_silent_leaves_no_window_open(store, send):
    send(7)
    assert store.sweep(NOW + PATIENCE - SECOND) == []
    assert closed(store.sweep(NOW + PATIENCE)) == [7]


def test_a_later_run_ends_the_last_lumisection_of_a_run(store, detector, send, contract):
    send(7)
    other = detector.sent(1, source="east", n_events=1000)
    store.fold_summaries([dataclasses.replace(other, run=RUN + 1)], NOW)

    assert closed(store.sweep(NOW + LATENESS)) == [7]


def test_an_end_announced_without_numbers_waits_for_what_is_under_way(store, send):
    send(7)
    store.record_conditions(
        Conditions(model=MODEL, run=RUN, lumisection=7, pileup=50.0, end_of_lumisection=True), NOW
    )
    assert store.close_ready(MODEL, RUN, NOW) == []
    send(8, now=NOW + SECOND)

    assert closed(store.sweep(NOW + LATENESS)) == [7]


def test_a_lumisection_that_comes_when_later_ones_are_closed_is_late_and_holds_nothing_up(store, send):
    for lumisection in (7, 8, 9):
        send(lumisection)
    assert closed(store.sweep(NOW + LATENESS)) == [7, 8]
    now = NOW + LATENESS

    assert send(5, now=now) is Outcome.LATE
    assert send(5, part=1, now=now + LATENESS - SECOND) is Outcome.LATE
    send(10, now=now)
    assert closed(store.sweep(now + LATENESS)) == [9]
    (stray,) = store.sweep(now + 2 * LATENESS)
    assert (stray.lumisection, stray.revision, stray.n_events) == (5, 1, 2000)


def test_a_lumisection_out_of_order_is_judged_in_its_place(
    store, open_store, send, detector, reference, engine
):
    register_reference(engine, reference, "local", NOW)
    # one lumisection of it is no alarm yet, two in a row are
    drift = (parse_effect("jet_gain=1.06"),)

    def whole(lumisection, now, effects=()):
        known = Conditions(model=MODEL, run=RUN, lumisection=lumisection, pileup=50.0, simulated=True)
        store.record_conditions(known, now)
        store.fold_summaries([detector.sent(lumisection, source="east", effects=effects)], now)

    for lumisection in (40, 41, 43, 44):
        whole(lumisection, NOW, drift if lumisection == 41 else ())
    whole(45, NOW)
    assert [verdict.state for verdict in store.sweep(NOW + LATENESS)] == ["good", "warning", "good", "good"]

    # with it, two in a row are bad: the alarm of then, not of now
    whole(42, NOW + LATENESS, drift)
    (stray,) = store.sweep(NOW + 2 * LATENESS)
    assert (stray.lumisection, stray.state) == (42, "alarm")

    # and every store goes on from the same sequence
    later = NOW + 3 * LATENESS
    for each, lumisection in ((store, 46), (open_store(), 47)):
        whole(lumisection, later)
        assert each.sweep(later) == []
        later += LATENESS
        (verdict,) = each.sweep(later)
        assert (verdict.lumisection, verdict.state) == (lumisection - 1, "good")
    assert verdict.onset_lumisection is None


def test_a_judgement_that_is_not_stored_is_not_remembered(store, send, engine, reference, monkeypatch):
    register_reference(engine, reference, "local", NOW)
    for lumisection in (40, 41):
        send(lumisection)

    def full(*_arguments):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Session, "add_all", full)
        with pytest.raises(OSError, match="no space"):
            store.sweep(NOW + LATENESS)
    assert judged_windows(engine, MODEL) == []

    assert closed(store.sweep(NOW + LATENESS)) == [40]


def test_many_summaries_at_once_are_told_apart(store, detector, engine):
    first, second = detector.sent(7, n_events=500), detector.sent(8, n_events=500)
    other = detector.sent(7, n_events=500, seed=1)

    folded = store.fold_summaries([first, second, first, other], NOW)

    assert [each.outcome for each in folded] == [
        Outcome.ADDED, Outcome.ADDED, Outcome.REPEATED, Outcome.REFUSED,
    ]  # fmt: skip
    assert "counted before with other content" in folded[3].reason
