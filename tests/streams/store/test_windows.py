"""Windows count every batch once, close in order, and take late data in."""

import dataclasses
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlmodel import Session, select

from streams.effects.effect import parse_effect
from streams.errors import MalformedMessage
from streams.judging.judge import MonitoredModel
from streams.judging.reference_store import register_reference
from streams.store.database import open_engine
from streams.store.history import closed_windows, judged_windows, latest_judged_windows
from streams.store.records import WindowRow, create_tables
from streams.store.windows import Outcome, Waiting, WindowStore
from tests.support.streams import MODEL, OTHER_PACKAGE, PACKAGE, RUN, conditions

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LATENESS = timedelta(seconds=30)
PATIENCE = timedelta(seconds=120)


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/site.db")
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
def play(store, detector):
    """Return a function that plays whole lumisections of one batch and gives their verdicts."""

    def run(first, last, **options):
        verdicts = []
        for lumisection in range(first, last + 1):
            fold(store, detector.sent(lumisection, **options))
            store.record_conditions(conditions(lumisection), NOW)
            verdicts += store.close_ready(MODEL, RUN, NOW)
        return verdicts

    return run


def fold(store, summary, now=NOW):
    (folded,) = store.fold_summaries([summary], now)
    return folded.outcome


def test_a_window_holds_exactly_its_batches(store, detector, engine):
    for part in (0, 1):
        summary = detector.sent(7, part=part)
        assert fold(store, summary) is Outcome.ADDED
    assert fold(store, detector.sent(7, part=1)) is Outcome.REPEATED
    store.record_conditions(conditions(7, expected={"replay": 2}), NOW)
    assert len(store.close_ready(MODEL, RUN, NOW)) == 1

    (window,) = closed_windows(engine, MODEL)
    direct = [detector.summary(7, part=part) for part in (0, 1)]
    assert window.complete
    assert window.summary.n_events == 4000
    assert np.array_equal(window.summary.inputs, direct[0].inputs + direct[1].inputs)
    assert np.array_equal(window.summary.score, direct[0].score + direct[1].score)
    assert np.array_equal(window.summary.maps, direct[0].maps + direct[1].maps)


def test_a_batch_that_another_worker_counted_is_not_counted_again(open_store, detector, engine):
    sent = detector.sent(7)
    assert fold(open_store(), sent) is Outcome.ADDED
    assert fold(open_store(), sent) is Outcome.REPEATED
    with Session(engine) as session:
        assert session.exec(select(WindowRow.n_events)).one() == 2000


def test_a_sequence_that_is_used_again_for_other_events_is_refused(store, detector):
    first, again, other = detector.sent(7), detector.sent(7), detector.sent(7, seed=1)
    folded = store.fold_summaries([first, again, other, detector.sent(8)], NOW)
    assert [one.outcome for one in folded] == [
        Outcome.ADDED, Outcome.REPEATED, Outcome.REFUSED, Outcome.ADDED,
    ]  # fmt: skip
    assert "batch 0 of 'replay' in LS 7 of run 5 was counted before with other content" in folded[2].reason


def test_a_window_waits_for_every_source_and_for_the_end(store, detector):
    fold(store, detector.sent(7, source="east"))
    assert store.close_ready(MODEL, RUN, NOW) == []
    early = conditions(7, end_of_lumisection=False, expected={})
    store.record_conditions(early, NOW)
    assert store.close_ready(MODEL, RUN, NOW) == []
    store.record_conditions(conditions(7, expected={"east": 1, "west": 1}), NOW)
    assert store.close_ready(MODEL, RUN, NOW) == []
    fold(store, detector.sent(7, part=1, source="west"))
    assert len(store.close_ready(MODEL, RUN, NOW)) == 1
    assert store.close_ready(MODEL, RUN, NOW) == []


def test_a_missing_batch_is_waited_for_only_so_long(store, detector, engine):
    fold(store, detector.sent(7))
    store.record_conditions(conditions(7, expected={"replay": 2}), NOW)
    assert store.sweep(NOW + LATENESS - timedelta(seconds=1)) == []
    assert len(store.sweep(NOW + LATENESS)) == 1
    assert not closed_windows(engine, MODEL)[0].complete


def test_a_lumisection_whose_end_is_never_announced_ends_with_a_later_one(store, detector):
    fold(store, detector.sent(7))
    store.record_conditions(conditions(9), NOW)
    # its source has not moved on yet
    assert store.sweep(NOW + LATENESS) == []
    verdicts = store.sweep(NOW + PATIENCE)
    assert [verdict.lumisection for verdict in verdicts] == [7]
    assert "never arrived" in verdicts[0].reason or "No approved reference" in verdicts[0].reason


def test_windows_close_in_the_order_of_the_data_out_of_a_backlog(store, detector):
    for lumisection in range(1, 6):
        store.record_conditions(conditions(lumisection), NOW)
    closed = []
    for lumisection in (4, 2, 5, 1, 3):
        fold(store, detector.sent(lumisection))
        closed.append([verdict.lumisection for verdict in store.close_ready(MODEL, RUN, NOW)])
    assert closed == [[], [], [], [1, 2], [3, 4, 5]]


def test_a_lumisection_lost_whole_holds_up_the_others_only_so_long(store, detector):
    store.record_conditions(conditions(1), NOW)
    store.record_conditions(conditions(2), NOW)
    fold(store, detector.sent(2))
    assert store.close_ready(MODEL, RUN, NOW) == []
    assert [verdict.lumisection for verdict in store.sweep(NOW + LATENESS)] == [2]


def test_late_data_is_counted_and_assessed_again(store, detector, engine):
    fold(store, detector.sent(7))
    store.record_conditions(conditions(7, expected={"replay": 2}), NOW)
    (first,) = store.sweep(NOW + LATENESS)
    late = detector.sent(7, part=1)
    assert fold(store, late, NOW + 2 * LATENESS) is Outcome.LATE
    (second,) = store.sweep(NOW + 2 * LATENESS)
    assert (first.revision, second.revision) == (1, 2)
    assert first.id != second.id
    assert second.n_events == 4000
    (window,) = closed_windows(engine, MODEL)
    assert window.complete
    assert window.late_events == 2000
    assert store.sweep(NOW + 3 * LATENESS) == []


def test_two_packages_in_a_lumisection_are_two_windows(store, detector, engine):
    fold(store, detector.sent(7))
    fold(store, detector.sent(7, part=1, package=OTHER_PACKAGE))
    store.record_conditions(conditions(7, expected={"replay": 2}), NOW)
    verdicts = store.close_ready(MODEL, RUN, NOW)
    assert {verdict.package for verdict in verdicts} == {PACKAGE, OTHER_PACKAGE}
    assert [window.summary.n_events for window in closed_windows(engine, MODEL)] == [2000, 2000]
    assert len(closed_windows(engine, MODEL, package=OTHER_PACKAGE)) == 1


def test_a_drift_raises_the_alarm_and_a_restarted_store_remembers_it(
    store, open_store, play, detector, reference, engine
):
    assert {verdict.state for verdict in play(30, 31)} == {"not_judged"}
    register_reference(engine, reference, "local", NOW)
    assert [verdict.state for verdict in play(32, 33)] == ["good", "good"]
    drift = parse_effect("jet_gain=1.09")
    assert [verdict.state for verdict in play(34, 35, effects=(drift,))] == ["warning", "alarm"]

    restarted = open_store()
    fold(restarted, detector.sent(36))
    restarted.record_conditions(conditions(36), NOW)
    (verdict,) = restarted.close_ready(MODEL, RUN, NOW)
    assert verdict.state == "alarm"
    assert verdict.onset_lumisection == 34
    assert "not recovered yet" in verdict.reason


def test_two_workers_share_one_chain(store, open_store, detector, reference, engine):
    register_reference(engine, reference, "local", NOW)
    drift = (parse_effect("jet_gain=1.06"),)
    states = []
    for lumisection, worker in ((40, store), (41, open_store()), (42, store)):
        fold(worker, detector.sent(lumisection, effects=drift))
        worker.record_conditions(conditions(lumisection), NOW)
        states += [verdict.state for verdict in worker.close_ready(MODEL, RUN, NOW)]
    assert states == ["warning", "alarm", "alarm"]


def test_a_new_worker_gives_missing_batches_the_time_to_come_out_of_the_broker(
    open_store, detector, reference, engine
):
    # one of two batches was counted when the worker died, for longer than the lateness
    before = open_store()
    fold(before, detector.sent(40))
    before.record_conditions(conditions(40, expected={"replay": 2}), NOW)
    back = NOW + 10 * LATENESS
    after = open_store()

    # its successor sees at once that time is up, but has not read anything yet
    assert after.sweep(back) == []
    first = back + LATENESS / 2
    fold(after, detector.sent(41), first)
    assert after.sweep(back + LATENESS) == []
    # then the other one comes
    fold(after, detector.sent(40, part=1), first + LATENESS / 2)
    assert [verdict.lumisection for verdict in after.sweep(first + LATENESS / 2)] == [40]
    (window,) = closed_windows(engine, MODEL)
    assert (window.complete, window.late_events) == (True, 0)


def test_a_new_worker_does_not_wait_for_ever(open_store, detector):
    before = open_store()
    fold(before, detector.sent(40))
    before.record_conditions(conditions(40, expected={"replay": 2}), NOW)
    back = NOW + 10 * LATENESS
    after = open_store()

    assert after.sweep(back) == []
    assert [verdict.lumisection for verdict in after.sweep(back + LATENESS)] == [40]


def test_late_data_is_judged_in_its_old_place(store, detector, reference, engine):
    register_reference(engine, reference, "local", NOW)
    drift = (parse_effect("jet_gain=1.06"),)
    for lumisection in (40, 41, 42):
        fold(store, detector.sent(lumisection, effects=drift))
        expected = {"replay": 2 if lumisection == 40 else 1}
        store.record_conditions(conditions(lumisection, expected=expected), NOW)
    assert [verdict.state for verdict in store.sweep(NOW + LATENESS)] == ["warning", "alarm", "alarm"]
    fold(store, detector.sent(40, part=1, effects=drift))
    (revised,) = store.sweep(NOW + LATENESS)
    assert (revised.lumisection, revised.state, revised.revision) == (40, "warning", 2)
    fold(store, detector.sent(43))
    store.record_conditions(conditions(43), NOW)
    (verdict,) = store.close_ready(MODEL, RUN, NOW)
    assert "not recovered yet" in verdict.reason


def test_verdicts_stay_unpublished_until_they_are_marked(store, open_store, play, engine):
    verdicts = play(50, 52)
    assert store.unpublished() == verdicts
    store.mark_published(verdicts[:2])
    assert open_store().unpublished() == verdicts[2:]
    judged = judged_windows(engine, MODEL)
    assert [one.verdict for one in judged] == verdicts
    assert judged_windows(engine, MODEL, after=judged[0].order) == judged[1:]
    assert latest_judged_windows(engine, MODEL, 2) == judged[1:]


def test_what_does_not_belong_here_is_refused(store, detector):
    summary = detector.sent(7)
    for wrong, said in (
        (dataclasses.replace(summary, model="stranger"), "unknown model"),
        (dataclasses.replace(summary, contract_hash="0" * 64), "update one of them"),
        (dataclasses.replace(summary, batch=None), "names no batch"),
        (dataclasses.replace(summary, n_events=65_537), "a batch holds 65536 at most"),
    ):
        (folded,) = store.fold_summaries([wrong], NOW)
        assert folded.outcome is Outcome.REFUSED
        assert said in folded.reason
    with pytest.raises(MalformedMessage, match="unknown model"):
        store.record_conditions(conditions(7, model="stranger"), NOW)


def test_a_verdict_says_how_long_after_its_lumisection_it_came_and_whether_that_is_late(
    store, detector, engine
):
    # given a lumisection whose end was sent 20 s ago, and one whose end waited 200 s in the broker
    for lumisection, seconds in ((7, 20), (8, 200)):
        fold(store, detector.sent(lumisection))
        store.record_conditions(conditions(lumisection), NOW, NOW - timedelta(seconds=seconds))
    in_time, late = store.close_ready(MODEL, RUN, NOW)
    assert (in_time.delay_s, in_time.late) == (20.0, False)
    assert (late.delay_s, late.late) == (200.0, True)
    assert judged_windows(engine, MODEL)[1].assessment.late


def test_late_data_is_in_the_verdict_that_counts_it(store, play, detector):
    play(7, 7)
    fold(store, detector.sent(7, part=1))
    (revised,) = store.sweep(NOW + LATENESS)
    assert revised.revision == 2
    assert revised.late_events == 2000


def test_checked_events_add_up_in_the_window_and_a_fault_is_judged_by_their_sum(store, detector):
    # given four batches of which 100 events each were checked, and one differs in two of them
    for part, n_mismatched in enumerate((0, 1, 1, 0)):
        sent = detector.sent(7, part=part)
        fold(store, dataclasses.replace(sent, n_checked=100, n_mismatched=n_mismatched))
    store.record_conditions(conditions(7, expected={"replay": 4}), NOW)
    (verdict,) = store.close_ready(MODEL, RUN, NOW)
    assert (verdict.integrity.n_checked, verdict.integrity.n_mismatched) == (400, 2)
    assert verdict.integrity.ratio == 0.005
    assert verdict.firmware_fault
    assert verdict.reason.startswith("Firmware fault: 2 of 400 checked events differ from the emulator")
