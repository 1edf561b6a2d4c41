"""A worker says how far it is behind, and whoever asks can tell when it says nothing any more."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from streams.store.database import open_engine
from streams.store.records import create_tables
from streams.worker_status import FORGOTTEN_AFTER, Progress, Reporter, resident_bytes, worker_reports
from tests.support.streams import MODEL, FakeMessage

BATCHES = "lumiwatch.batches"
START_S = 1_750_000_000.0


class HandClock:
    """Unix time that stands still until it is moved."""

    def __init__(self):
        self.now_s = START_S

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def progress(clock):
    return Progress(clock)


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/site.db")
    create_tables(engine)
    yield engine
    engine.dispose()


def _message(offset, age_s=0.0, partition=0):
    return FakeMessage(BATCHES, partition, offset, START_S - age_s)


def test_messages_behind_are_those_not_handled_to_their_end(progress):
    ends = {(BATCHES, 0): 100, (BATCHES, 1): 50}
    begins = {(BATCHES, 0): 90, (BATCHES, 1): 50}
    assert progress.behind(ends, begins, START_S)[0] == 10
    for offset in range(90, 95):
        progress.handled(_message(offset))
    assert progress.behind(ends, begins, START_S)[0] == 5


def test_a_partition_that_went_to_another_worker_and_came_back_is_not_counted_from_before(progress):
    progress.handled(_message(10))
    assert progress.behind({(BATCHES, 1): 7}, {(BATCHES, 1): 7}, START_S) == (0, 0.0)
    # the other one has handled all but two meanwhile
    assert progress.behind({(BATCHES, 0): 100}, {(BATCHES, 0): 98}, START_S)[0] == 2


def test_seconds_behind_are_the_age_of_the_data_at_hand(progress, clock):
    ends = {(BATCHES, 0): 100}
    assert progress.behind(ends, {(BATCHES, 0): 0}, START_S - 30) == (100, 30)
    progress.handled(_message(1, age_s=38.0))
    assert progress.behind(ends, {}, 0) == (98, 38)
    clock.now_s += 2
    assert progress.behind(ends, {}, 0) == (98, 40)
    progress.handled(_message(2, age_s=-100.0))  # sent by a clock that runs ahead
    assert progress.behind(ends, {}, 0) == (97, 0)


def test_fresh_messages_of_one_topic_do_not_hide_old_ones_of_another(progress):
    # given batches of 38 s ago that wait, and summaries that are all handled
    progress.handled(_message(1, age_s=38.0))
    progress.handled(FakeMessage("lumiwatch.summaries", 0, 7, START_S))
    ends = {(BATCHES, 0): 100, ("lumiwatch.summaries", 0): 8}
    assert progress.behind(ends, {}, 0) == (98, 38)


def test_a_report_is_read_as_it_was_written_and_a_later_one_takes_its_place(engine, progress, clock):
    reporter = Reporter(engine, "worker-0", progress, lambda: {"batches": 3, "dead_letters": 1})
    progress.handled(_message(9, age_s=50.0))
    progress.counted(MODEL, 5, 17, 7500, START_S - 50.0)
    reporter.report({(BATCHES, 0): 12_410}, {(BATCHES, 0): 0})
    (report,) = worker_reports(engine)
    assert (report.worker, report.lag_messages, report.pid) == ("worker-0", 12_400, os.getpid())
    assert report.lag_s == 50
    assert report.lag_lumisections == pytest.approx(2.145, abs=0.001)
    assert report.counters == {"batches": 3, "dead_letters": 1}
    assert report.models[MODEL].lumisection == 17
    assert report.models[MODEL].lag_s == 50
    assert report.events_per_s > 0
    assert report.rss_bytes > 10_000_000

    # when nothing waits, then nothing is behind, however old the last message
    reporter.report({(BATCHES, 0): 10}, {})
    (report,) = worker_reports(engine)
    assert (report.lag_messages, report.lag_s, report.models[MODEL].lag_s) == (0, 0, 0)


def test_a_worker_that_says_nothing_is_stale_and_one_that_ended_well_is_gone(engine, progress):
    one, other = (Reporter(engine, name, progress, dict) for name in ("one", "other"))
    one.report({}, {})
    other.report({}, {})
    other.stopped()
    (report,) = worker_reports(engine)
    assert report.worker == "one"
    now = datetime.now(UTC)
    assert not report.stale(now)
    assert report.stale(now + timedelta(seconds=11))


def test_a_worker_that_is_long_gone_is_forgotten(engine, progress):
    Reporter(engine, "old", progress, dict).report({}, {})
    with engine.begin() as connection:
        before = datetime.now(UTC) - FORGOTTEN_AFTER - timedelta(minutes=1)
        connection.exec_driver_sql("UPDATE stream_workers SET seen_at = ?", (before.isoformat(" "),))
    Reporter(engine, "new", progress, dict).report({}, {})
    assert [report.worker for report in worker_reports(engine)] == ["new"]


def test_memory_in_use_grows_with_what_is_held():
    before = resident_bytes()
    block = bytearray(os.urandom(1 << 20) * 64)
    assert resident_bytes() - before > 32 << 20
    del block
