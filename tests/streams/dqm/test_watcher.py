"""A watched folder: each file once, whole or not at all, over restarts and kills."""

import json
import os
import threading
import time
from datetime import UTC, datetime

import numpy as np
import pytest

from streams.conditions import decode_conditions
from streams.counting.codec import decode_summary
from streams.dqm.journal import FileOutcome, Journal
from streams.dqm.watcher import FolderWatcher, WatchSettings
from streams.errors import ReplayError, WatchError
from streams.judging.judge import MonitoredModel
from streams.store.database import open_engine
from streams.store.history import closed_windows
from streams.store.records import create_tables
from streams.store.windows import Outcome, WindowStore
from tests.support import dqm

MODEL = "calo"
RUN = 315267
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SENT, REPEATED, REFUSED = FileOutcome.SENT, FileOutcome.REPEATED, FileOutcome.REFUSED


class Killed(BaseException):
    """Stands for the end of the process."""


class Sink:
    """A broker and a worker in one: what is delivered is folded into real windows."""

    def __init__(self, store):
        self.store = store
        self.outcomes = []
        self.kill_after = None
        self.away = False

    def __call__(self, summaries, conditions):
        if self.away:
            raise ReplayError("no broker answers: start it")
        for payload in summaries:
            if self.kill_after is not None and len(self.outcomes) >= self.kill_after:
                raise Killed
            self.outcomes += [
                folded.outcome for folded in self.store.fold_summaries([decode_summary(payload)], NOW)
            ]
        for payload in conditions:
            self.store.record_conditions(decode_conditions(payload), NOW)
        self.store.close_ready(MODEL, RUN, NOW)


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/site.db")
    create_tables(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def sink(engine):
    return Sink(WindowStore(engine, models={MODEL: MonitoredModel(dqm.pt_contract())}))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "landing"
    folder.mkdir()
    return folder


@pytest.fixture
def open_journal(tmp_path):
    """Return a function that opens the journal anew, as a watcher that starts again does."""
    opened = []

    def run():
        for journal in opened:
            journal.close()
        opened[:] = [Journal(tmp_path / "watch")]
        return opened[0]

    yield run
    for journal in opened:
        journal.close()


@pytest.fixture
def watch(folder, sink, open_journal):
    """Return a function that starts a new watcher on the folder."""

    def run(**settings):
        options = {"pileup": 40.0, "settle_s": 0.0, "interval_s": 0.01} | settings
        return FolderWatcher(folder, dqm.pt_contract(), WatchSettings(MODEL, **options), open_journal(), sink)

    return run


def pt(seed):
    return {dqm.PT: dqm.events(seed).elements()[dqm.PT]}


def counts(seeds):
    parts = [np.asarray(pt(seed)[dqm.PT].values(flow=True)) for seed in seeds]
    return sum(parts).astype(int).tolist()


def windows(engine):
    return {
        window.summary.lumisection: window.summary.inputs.tolist() for window in closed_windows(engine, MODEL)
    }


def test_each_file_is_counted_once_and_its_lumisections_close(folder, watch, engine):
    # given two files of three lumisections, of which one lies in a folder below
    dqm.write_classic(folder / "DQM_V0001_L1T_R000315267.root", RUN, {0: pt(0), 1: pt(1)})
    (folder / "later").mkdir()
    dqm.write_dqmio(folder / "later" / "b.root", [(RUN, 2, pt(2))])

    first = watch().run_once()
    again = watch().run_once()

    assert [(record.outcome, record.lumisections) for record in first] == [(SENT, 2), (SENT, 1)]
    assert again == []
    assert windows(engine) == {number: counts([number]) for number in (0, 1, 2)}


@pytest.mark.parametrize("kill_after", range(5))
def test_a_watcher_killed_anywhere_in_a_file_counts_it_once(folder, watch, sink, engine, kill_after):
    # given a file of four lumisections, and a watcher that ends while or after it is delivered
    dqm.write_dqmio(folder / "a.root", [(RUN, number, pt(number)) for number in range(1, 5)])
    sink.kill_after = kill_after
    if kill_after < 4:
        with pytest.raises(Killed):
            watch().run_once()
    else:
        watch().run_once()

    # when it starts again
    sink.kill_after = None
    (record,) = watch().run_once() or [None]

    # then what was delivered before is repeated, and nothing is counted twice
    assert (record is None) == (kill_after == 4)
    assert sink.outcomes.count(Outcome.REPEATED) == (kill_after if kill_after < 4 else 0)
    assert sink.outcomes.count(Outcome.ADDED) == 4
    assert windows(engine) == {number: counts([number]) for number in range(1, 5)}


def test_files_of_one_lumisection_add_up(folder, watch, engine):
    # given two jobs' files, each with its part of the run
    for number in (1, 2):
        dqm.write_dqmio(folder / f"job{number}.root", [(RUN, 0, pt(number))])
    watch().run_once()
    assert windows(engine) == {0: counts([1, 2])}


def test_the_same_bytes_under_another_name_are_not_sent_again(folder, watch, sink):
    first = dqm.write_classic(folder / "a.root", RUN, {0: pt(0)})
    (folder / "b.root").write_bytes(first.read_bytes())

    records = watch().run_once()

    assert [record.outcome for record in records] == [SENT, REPEATED]
    assert records[1].reason == f"the same as {first}"
    assert sink.outcomes == [Outcome.ADDED]


def test_a_later_version_of_what_was_counted_is_refused_and_counts_nothing(folder, watch, engine, tmp_path):
    first = dqm.write_classic(folder / "DQM_V0001_L1T_R000315267.root", RUN, {0: pt(0)})
    watch().run_once()
    dqm.write_classic(folder / "DQM_V0002_L1T_R000315267.root", RUN, {0: pt(1)})
    dqm.write_dqmio(folder / "good.root", [(RUN, 3, pt(3))])

    refused, sent = watch().run_once()

    assert (refused.outcome, sent.outcome) == (REFUSED, SENT)
    assert f"run {RUN}, LS 0 of 'dqm:L1T_R000315267' was counted from {first}" in refused.reason
    assert windows(engine) == {0: counts([0]), 3: counts([3])}


def test_a_later_version_with_the_same_counts_is_a_repetition(folder, watch):
    dqm.write_classic(folder / "DQM_V0001_L1T_R000315267.root", RUN, {0: pt(0)})
    other = {"L1T/other": pt(1)[dqm.PT]}
    dqm.write_classic(folder / "DQM_V0002_L1T_R000315267.root", RUN, {0: pt(0) | other})

    records = watch().run_once()

    assert [record.outcome for record in records] == [SENT, REPEATED]


def test_pages_of_dials_that_overlap_count_each_record_once(folder, watch, engine):
    ones = np.arange(20)
    for name, numbers in (("page1.json", (1, 2)), ("page2.json", (2, 3))):
        records = [dqm.dials_record(RUN, number, ones * number) for number in numbers]
        dqm.write_dials(folder / name, records)

    records = watch().run_once()

    assert [(record.outcome, record.lumisections) for record in records] == [(SENT, 2), (SENT, 1)]
    assert windows(engine) == {number: [0, *(ones * number), 0] for number in (1, 2, 3)}


def test_what_cannot_be_counted_is_on_record_with_its_reason_and_the_watcher_goes_on(
    folder, watch, engine, tmp_path
):
    # given files that are wrong in several ways, and a good one after them
    (folder / "a-text.root").write_text("no ROOT file")
    dqm.write_classic(folder / "b-missing.root", RUN, {0: {"L1T/other": pt(0)[dqm.PT]}})
    (folder / "c.json").write_text("{")
    wrong = dqm.dials_record(RUN, 1, np.ones(10))
    dqm.write_dials(folder / "d-bins.json", [dqm.dials_record(RUN, 1, np.ones(20)), wrong | {"ls_number": 2}])
    dqm.write_dqmio(folder / "e-good.root", [(RUN, 3, pt(3))])

    *refused, sent = watch().run_once()

    assert [record.outcome for record in refused] == [REFUSED] * 4
    assert sent.outcome is SENT
    assert windows(engine) == {3: counts([3])}
    notes = [json.loads(note.read_text()) for note in (tmp_path / "watch" / "refused").iterdir()]
    assert {note["path"]: note["reason"] for note in notes} == {r.path: r.reason for r in refused}
    assert all(record.path in record.reason and "\n" not in record.reason for record in refused)
    assert "10 bins from 0 to 100, the contract says 20 bins from 0 to 100" in refused[3].reason
    # and none of them is tried again
    assert watch().run_once() == []


def test_a_refused_file_that_is_mended_is_taken(folder, watch, engine):
    path = folder / "a.root"
    path.write_text("cut short")
    assert [record.outcome for record in watch().run_once()] == [REFUSED]
    dqm.write_classic(path, RUN, {0: pt(0)})
    assert [record.outcome for record in watch().run_once()] == [SENT]
    assert windows(engine) == {0: counts([0])}


def test_a_file_that_still_changes_waits(folder, watch, tmp_path):
    # given a file of this moment, and one that was written long ago and renamed into place
    now = dqm.write_classic(folder / "now.root", RUN, {1: pt(1)})
    old = dqm.write_classic(tmp_path / "old.root", RUN, {2: pt(2)})
    os.utime(old, (time.time() - 3600,) * 2)
    old.rename(folder / "old.root")
    os.utime(now, (time.time() + 3600,) * 2)  # a server whose clock is ahead
    watcher = watch(settle_s=60.0)

    records, waiting = watcher.look()

    assert [record.path for record in records] == [str(folder / "old.root")]
    assert waiting == 1


def test_a_file_that_stopped_changing_is_taken_whatever_its_clock(folder, watch):
    now = dqm.write_classic(folder / "now.root", RUN, {1: pt(1)})
    os.utime(now, (time.time() + 3600,) * 2)
    assert [record.outcome for record in watch(settle_s=0.05).run_once()] == [SENT]


def test_temporary_and_foreign_files_are_left_alone(folder, watch):
    for name in (".hidden.root", "a.root.part", "b.tmp", "readme.txt"):
        (folder / name).write_text("x")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "c.root").write_text("x")
    (folder / "folder.root").mkdir()
    assert watch().look() == ([], 0)


def test_without_a_broker_nothing_is_lost(folder, watch, sink, engine):
    dqm.write_dqmio(folder / "a.root", [(RUN, 1, pt(1))])
    sink.away = True
    watcher = watch()
    with pytest.raises(ReplayError):
        watcher.run_once()
    sink.away = False
    assert [record.outcome for record in watcher.run_once()] == [SENT]
    assert windows(engine) == {1: counts([1])}


def test_a_running_watcher_finds_files_as_they_land(folder, watch, engine):
    stop = threading.Event()
    watcher = watch()
    thread = threading.Thread(target=watcher.run, args=(stop,))
    thread.start()
    try:
        for number in (1, 2, 3):
            dqm.write_dqmio(folder / f".{number}", [(RUN, number, pt(number))])
            (folder / f".{number}").rename(folder / f"{number}.root")
            deadline = time.monotonic() + 30
            while number not in windows(engine):
                assert time.monotonic() < deadline
                time.sleep(0.01)
    finally:
        stop.set()
        thread.join(60)
    assert windows(engine) == {number: counts([number]) for number in (1, 2, 3)}


def test_a_file_of_no_rights_is_reported_and_asked_for_again_later(folder, watch, monkeypatch, tmp_path):
    # given a file system that does not hand out a file
    dqm.write_classic(folder / "a.root", RUN, {1: pt(1)})

    def unreadable(path):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("streams.dqm.watcher.sha256_of", unreadable)
        watcher = watch()
        (record,) = watcher.run_once()
        assert record.outcome is REFUSED
        assert "Permission denied" in record.reason
        assert watcher.look() == ([], 0)
    # then nothing of it is on record, and the next watcher takes it
    assert [record.outcome for record in watch().run_once()] == [SENT]


def test_without_a_pileup_no_conditions_are_sent(folder, watch, engine):
    dqm.write_dqmio(folder / "a.root", [(RUN, 1, pt(1))])
    watch(pileup=None).run_once()
    assert windows(engine) == {}


def test_one_watcher_at_a_time_has_the_journal(open_journal, tmp_path):
    open_journal()
    with pytest.raises(WatchError, match="another watcher of this model is running"):
        Journal(tmp_path / "watch")


def test_a_journal_that_is_none_is_named(tmp_path):
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "journal.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(WatchError, match=r"journal\.sqlite: no journal"):
        Journal(tmp_path / "watch")


def test_the_journal_tells_what_became_of_every_file(folder, watch, open_journal):
    dqm.write_classic(folder / "a.root", RUN, {1: pt(1)})
    (folder / "b.root").write_text("x")
    records = watch().run_once()
    assert open_journal().files() == records


def test_a_missing_folder_and_a_contract_of_objects_are_refused(sink, open_journal, tmp_path, contract):
    settings = WatchSettings(MODEL)
    with pytest.raises(WatchError, match="no such folder"):
        FolderWatcher(tmp_path / "none", dqm.pt_contract(), settings, open_journal(), sink)
    with pytest.raises(WatchError, match="lists no histograms"):
        FolderWatcher(tmp_path, contract, settings, open_journal(), sink)
