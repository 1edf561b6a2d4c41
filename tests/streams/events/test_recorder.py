"""The recorder keeps a bounded sample of recent events, found again, each once, by several workers."""

import logging
import os
import time
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from streams.errors import RecorderError
from streams.events import recorder as module
from streams.events.dataset import dataset_of
from streams.events.recorder import Recorder, RecorderSettings, model_folder, recent_dataset
from streams.events.segments import digest
from tests.support.streams import MODEL, OTHER_PACKAGE, PACKAGE, RUN


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a recorder, as a worker would; all are closed at the end."""
    running = []

    def make(**settings):
        running.append(Recorder(RecorderSettings(tmp_path, **({"prescale": 4} | settings))))
        return running[-1]

    yield make
    for recorder in running:
        recorder.close()


def _recent(tmp_path, first=0, last=99, **options):
    return recent_dataset(tmp_path, MODEL, first_lumisection=first, last_lumisection=last, **options)


def _size(tmp_path):
    return sum(path.stat().st_size for path in model_folder(tmp_path, MODEL).iterdir())


def test_every_fourth_event_is_kept_and_found_again(start, detector, contract, tmp_path):
    recorder = start()
    batches = [detector.batch(lumisection, n_events=400) for lumisection in (8, 5, 7, 6)]
    for batch in batches:
        assert recorder.record(batch, contract)
    recorder.flush()

    found = _recent(tmp_path, 6, 7)

    found.check_contract(contract)
    assert found.n_events == 200
    assert np.array_equal(found.inputs[:100], batches[3].inputs[::4])
    assert np.array_equal(found.score[100:], batches[2].score[::4])
    assert np.array_equal(found.accept[100:], batches[2].accept[::4])
    assert set(found.lumisection) == {6, 7}
    assert set(found.run) == {RUN}
    assert recorder.counters.kept == 400


def test_what_is_recorded_is_a_copy(start, detector, contract, tmp_path):
    # given a batch whose memory is used again as soon as it is handed over
    original = detector.batch(5, n_events=400)
    batch = replace(original, inputs=original.inputs.copy(), score=original.score.copy())
    recorder = start()
    recorder.record(batch, contract)
    batch.inputs[:] = 0
    batch.score[:] = 0
    recorder.flush()
    assert np.array_equal(_recent(tmp_path).inputs, original.inputs[::4])
    assert np.array_equal(_recent(tmp_path).score, original.score[::4])


def test_a_batch_delivered_to_two_workers_is_found_once(start, detector, contract, tmp_path):
    one, other = start(), start()
    for recorder in (one, one, other):
        recorder.record(detector.batch(5, n_events=400), contract)
    other.record(detector.batch(5, n_events=400, part=1), contract)
    for recorder in (one, other):
        recorder.flush()
    assert len(list(model_folder(tmp_path, MODEL).iterdir())) == 2
    assert _recent(tmp_path).n_events == 200


def test_many_batches_of_a_lumisection_share_a_file(start, detector, contract, tmp_path):
    recorder = start()
    for part in range(50):
        recorder.record(detector.batch(5, n_events=40, part=part), contract)
    recorder.flush()
    assert len(list(model_folder(tmp_path, MODEL).iterdir())) == 1
    assert _recent(tmp_path).n_events == 500


def test_what_a_killed_worker_left_unfinished_is_passed_over(start, detector, contract, tmp_path):
    recorder = start()
    for part in range(3):
        recorder.record(detector.batch(5, n_events=400, part=part), contract)
    recorder.flush()
    (segment,) = model_folder(tmp_path, MODEL).iterdir()
    os.truncate(segment, segment.stat().st_size - 10)
    assert _recent(tmp_path).n_events == 200
    successor = start()
    successor.record(detector.batch(5, n_events=400, part=2), contract)
    successor.flush()
    assert _recent(tmp_path).n_events == 300


def test_a_block_that_was_damaged_is_passed_over(start, detector, contract, tmp_path):
    recorder = start()
    for part in range(3):
        recorder.record(detector.batch(5, n_events=400, part=part), contract)
    recorder.flush()
    (segment,) = model_folder(tmp_path, MODEL).iterdir()
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    assert _recent(tmp_path).n_events == 200


def test_events_recorded_before_segments_are_still_found(start, detector, contract, tmp_path):
    # given the file of one batch, as an earlier version wrote it
    batch = detector.batch(5, n_events=100)
    folder = model_folder(tmp_path, MODEL)
    folder.mkdir()
    name = f"{RUN:010d}-{5:010d}-{digest(PACKAGE)}-{digest('replay')}-{0:016d}.npz"
    dataset_of(contract, batch.inputs, made_by="recorder", score=batch.score).save(folder / name)
    recorder = start()
    recorder.record(detector.batch(6, n_events=400), contract)
    recorder.flush()
    assert _recent(tmp_path, package=PACKAGE, run=RUN).n_events == 200


def test_runs_and_packages_are_told_apart(start, detector, contract, tmp_path):
    recorder = start()
    recorder.record(detector.batch(5, n_events=400), contract)
    recorder.record(detector.batch(5, n_events=800, part=1, package=OTHER_PACKAGE), contract)
    recorder.flush()
    assert _recent(tmp_path, package=PACKAGE).n_events == 100
    assert _recent(tmp_path, package=OTHER_PACKAGE).n_events == 200
    assert _recent(tmp_path, run=RUN).n_events == 300
    assert _recent(tmp_path, max_events=100).n_events in {100, 200}
    with pytest.raises(RecorderError, match="no events of anomaly"):
        _recent(tmp_path, run=RUN + 1)


def test_two_workers_together_stay_within_the_room(start, detector, contract, tmp_path):
    max_bytes = 400_000
    workers = [start(max_bytes=max_bytes), start(max_bytes=max_bytes)]
    for lumisection in range(1, 80):
        for part, recorder in enumerate(workers):
            recorder.record(detector.batch(lumisection, n_events=400, part=part), contract)
            recorder.flush()
        if lumisection > 1:
            assert _size(tmp_path) <= max_bytes * 17 / 16
    kept = sorted(set(_recent(tmp_path).lumisection.tolist()))
    assert kept == list(range(kept[0], 80))
    assert 10 < len(kept) < 40


def test_what_is_too_old_goes(tmp_path, detector, contract):
    now = [time.time()]
    settings = RecorderSettings(tmp_path, 4, max_age=timedelta(days=7))
    recorder = Recorder(settings, clock=lambda: now[0])
    recorder.record(detector.batch(5, n_events=400), contract)
    recorder.flush()
    now[0] += timedelta(days=8).total_seconds()
    recorder.record(detector.batch(6, n_events=400), contract)
    recorder.flush()
    recorder._make_room()
    recorder.close()
    assert set(_recent(tmp_path).lumisection) == {6}


def test_a_lumisection_keeps_no_more_events_than_it_needs(start, detector, contract, tmp_path):
    recorder = start(max_events=250)
    for part in range(10):
        recorder.record(detector.batch(5, n_events=400, part=part), contract)
    recorder.record(detector.batch(6, n_events=400), contract)
    recorder.flush()
    assert _recent(tmp_path, 5, 5).n_events == 300
    assert _recent(tmp_path, 6, 6).n_events == 100
    assert recorder.counters.thinned == 700


def test_events_that_the_disk_cannot_take_are_dropped_and_counted(start, detector, contract, monkeypatch):
    monkeypatch.setattr(module, "QUEUE_BYTES", 1000)
    recorder = start()
    assert not recorder.record(detector.batch(5, n_events=400), contract)
    assert recorder.counters.dropped == 100
    assert recorder.record(detector.batch(5, n_events=16), contract)


def test_names_from_the_wire_cannot_leave_the_folder(start, detector, contract, tmp_path):
    recorder = start()
    recorder.record(detector.batch(5, n_events=40, package="../../escape", source="../" * 5), contract)
    recorder.flush()
    (path,) = model_folder(tmp_path, MODEL).iterdir()
    assert path.resolve().is_relative_to(tmp_path.resolve())
    assert recorder.counters.kept == 10


def test_a_folder_that_cannot_be_written_is_named_and_stops_nothing(detector, contract, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    recorder = Recorder(RecorderSettings(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        for part in range(3):
            assert recorder.record(detector.batch(5, n_events=40, part=part), contract)
        recorder.close()
    assert recorder.counters.failures == 3
    assert caplog.text.count("recent events are not kept") == 1
    assert not recorder.record(detector.batch(6, n_events=40), contract)
