"""The recorder keeps a bounded sample of recent events that can be found again."""

import numpy as np
import pytest

from streams.errors import RecorderError
from streams.recorder import Recorder, RecorderSettings, recent_dataset
from tests.support.streams import MODEL, OTHER_PACKAGE, PACKAGE, RUN


@pytest.fixture
def recorder(tmp_path):
    return Recorder(RecorderSettings(tmp_path, prescale=4))


def test_every_fourth_event_is_kept_and_found_again(recorder, detector, contract, tmp_path):
    batches = [detector.batch(lumisection, n_events=400) for lumisection in (5, 6, 7, 8)]
    for batch in batches:
        recorder.record(batch, contract)

    found = recent_dataset(tmp_path, MODEL, first_lumisection=6, last_lumisection=7)

    found.check_contract(contract)
    assert found.n_events == 200
    assert np.array_equal(found.inputs[:100], batches[1].inputs[::4])
    assert np.array_equal(found.score[100:], batches[2].score[::4])
    assert set(found.lumisection) == {6, 7}
    assert set(found.run) == {RUN}


def test_a_redelivered_batch_is_kept_once(recorder, detector, contract, tmp_path):
    first = recorder.record(detector.batch(5, n_events=400), contract)
    content = first.read_bytes()
    assert recorder.record(detector.batch(5, n_events=400), contract) == first
    assert first.read_bytes() == content
    assert recent_dataset(tmp_path, MODEL, first_lumisection=5, last_lumisection=5).n_events == 100


def test_runs_and_packages_are_told_apart(recorder, detector, contract, tmp_path):
    recorder.record(detector.batch(5, n_events=400), contract)
    recorder.record(detector.batch(5, n_events=800, part=1, package=OTHER_PACKAGE), contract)
    place = {"first_lumisection": 5, "last_lumisection": 5}
    assert recent_dataset(tmp_path, MODEL, package=PACKAGE, **place).n_events == 100
    assert recent_dataset(tmp_path, MODEL, package=OTHER_PACKAGE, **place).n_events == 200
    assert recent_dataset(tmp_path, MODEL, run=RUN, **place).n_events == 300
    assert recent_dataset(tmp_path, MODEL, max_events=100, **place).n_events in {100, 200}
    with pytest.raises(RecorderError, match="no events of anomaly"):
        recent_dataset(tmp_path, MODEL, run=RUN + 1, **place)


def test_the_oldest_files_go_when_the_room_is_used_up_also_after_a_restart(detector, contract, tmp_path):
    size = (
        Recorder(RecorderSettings(tmp_path, 4))
        .record(detector.batch(1, n_events=400), contract)
        .stat()
        .st_size
    )
    settings = RecorderSettings(tmp_path, prescale=4, max_bytes=3 * size + size // 2)
    for lumisection in range(2, 8):
        Recorder(settings).record(detector.batch(lumisection, n_events=400), contract)
    found = recent_dataset(tmp_path, MODEL, first_lumisection=0, last_lumisection=99)
    assert sorted(set(found.lumisection)) == [5, 6, 7]


def test_names_from_the_wire_cannot_leave_the_folder(recorder, detector, contract, tmp_path):
    batch = detector.batch(5, n_events=40, package="../../escape", source="../" * 5)
    path = recorder.record(batch, contract)
    assert path.resolve().is_relative_to(tmp_path.resolve())


def test_a_folder_that_cannot_be_written_is_named(detector, contract, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecorderError, match="cannot be written"):
        Recorder(RecorderSettings(tmp_path / "file")).record(detector.batch(5, n_events=40), contract)
