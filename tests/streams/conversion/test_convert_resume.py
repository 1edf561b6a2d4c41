"""A conversion that is stopped leaves nothing that looks finished, and goes on to the same bytes."""

import fcntl
import io
import os
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile

import fsspec
import numpy as np
import pytest

from streams.contracts.contract import Contract
from streams.conversion import spool as convert_spool
from streams.conversion.convert import convert, convert_files
from streams.conversion.spool import folder_of
from streams.conversion.taking import from_awkward
from streams.errors import ConversionPaused, ConvertError
from streams.events import dataset_file
from streams.events.dataset import Dataset, dataset_of
from tests.streams.conftest import CONTRACT_PATH


class Stopped(BaseException):
    """Stands in for Ctrl-C."""


def stop_after(n_chunks):
    seen = []

    def progress(done, total):
        seen.append(done)
        if len(seen) == n_chunks:
            raise Stopped

    return progress


@pytest.fixture
def begun(contract, hzz_path, tmp_path):
    """Return the output of a conversion of two files that was stopped in the second one."""
    out = tmp_path / "d.npz"
    with pytest.raises(Stopped):
        convert_files([hzz_path, hzz_path], contract, out, step_size=500, progress=stop_after(7))
    assert not out.exists()
    assert folder_of(out).is_dir()
    return out


@pytest.fixture(scope="module")
def whole(contract, hzz_path, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "d.npz"
    convert_files([hzz_path, hzz_path], contract, out)
    return out.read_bytes()


def test_resuming_reads_only_the_rest_and_gives_the_same_bytes(contract, hzz_path, begun, whole):
    seen = []
    made = convert_files(
        [hzz_path, hzz_path], contract, begun, step_size=700, resume=True, progress=lambda *n: seen.append(n)
    )
    assert begun.read_bytes() == whole
    assert seen[0] == (2421 + 1000 + 700, 4842)  # two chunks of 500 of the second file were in
    assert made.provenance.events_kept == 4842
    assert [path.name for path in begun.parent.iterdir()] == ["d.npz"]


def test_without_resume_it_starts_anew(contract, hzz_path, begun, whole):
    seen = []
    convert_files([hzz_path, hzz_path], contract, begun, progress=lambda *numbers: seen.append(numbers))
    assert seen[0][0] <= 2421
    assert begun.read_bytes() == whole


def test_what_the_journal_does_not_vouch_for_is_cut_off(contract, hzz_path, begun, whole):
    with (folder_of(begun) / "inputs.bin").open("ab") as stream:
        stream.write(b"half a chunk")
    convert_files([hzz_path, hzz_path], contract, begun, resume=True)
    assert begun.read_bytes() == whole


@pytest.mark.parametrize("damage", ["flip", "short", "journal", "gone"])
def test_a_damaged_spool_is_refused_and_kept(contract, hzz_path, begun, damage):
    file = folder_of(begun) / ("journal.json" if damage == "journal" else "inputs.bin")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x5A
    file.write_bytes(content[:100] if damage in {"short", "journal"} else content)
    if damage == "gone":
        file.unlink()
    with pytest.raises(ConvertError, match="damaged: start anew without --resume"):
        convert_files([hzz_path, hzz_path], contract, begun, resume=True)
    assert folder_of(begun).is_dir()


def test_another_conversion_is_not_gone_on_with(contract, hzz_path, begun):
    changed = Contract.model_validate({**contract.model_dump(), "version": 2})
    for sources, other in (([hzz_path], contract), ([hzz_path, hzz_path], changed)):
        with pytest.raises(ConvertError, match="of other files, another contract"):
            convert_files(sources, other, begun, resume=True)


def test_two_conversions_do_not_write_one_output(contract, hzz_path, begun):
    with (folder_of(begun) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConvertError, match="another conversion writes it"):
            convert_files([hzz_path, hzz_path], contract, begun)


def test_a_killed_process_leaves_nothing_that_looks_finished_and_is_resumed(
    contract, hzz_path, tmp_path, whole
):
    out = tmp_path / "d.npz"
    child = (
        "import sys, time\n"
        "from streams.contracts.contract import load_contract\n"
        "from streams.conversion.convert import convert_files\n"
        "slow = lambda done, total: time.sleep(0.2)\n"
        "convert_files(sys.argv[3:], load_contract(sys.argv[1]), sys.argv[2], step_size=100, progress=slow)\n"
    )
    arguments = [sys.executable, "-c", child, str(CONTRACT_PATH), str(out), str(hzz_path), str(hzz_path)]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while not (folder_of(out) / "journal.json").exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
    assert [path.name for path in tmp_path.iterdir()] == [folder_of(out).name]
    convert_files([hzz_path, hzz_path], contract, out, resume=True)
    assert out.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["d.npz"]


def test_a_lost_server_is_resumed(contract, hzz_path, tmp_path, whole, monkeypatch):
    memory = fsspec.filesystem("memory")
    memory.pipe("/twice/uproot-HZZ.root", hzz_path.read_bytes())
    try:
        out, sources = tmp_path / "d.npz", ["memory://twice/uproot-HZZ.root"] * 2
        with monkeypatch.context() as lost:
            lost.setattr("streams.conversion.source.from_awkward", fails_after(60))
            with pytest.raises(
                ConversionPaused, match=r"lost while reading \(the cable\): go on with --resume"
            ):
                convert_files(sources, contract, out, step_size=500)
        convert_files(sources, contract, out, resume=True)
        assert out.read_bytes() == whole
    finally:
        memory.rm("/twice", recursive=True)


def fails_after(n_calls):
    calls = []

    def fails(array, name):
        calls.append(name)
        if len(calls) > n_calls:
            raise ConnectionError("the cable")
        return from_awkward(array, name)

    return fails


def test_a_full_disk_keeps_what_is_done(contract, hzz_path, tmp_path, whole, monkeypatch):
    out, written = tmp_path / "d.npz", []
    write = convert_spool.Spool._write

    def full(self, journal):
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(journal)
        write(self, journal)

    with monkeypatch.context() as disk:
        disk.setattr(convert_spool.Spool, "_write", full)
        with pytest.raises(ConversionPaused, match=r"No space left on device.*make room"):
            convert_files([hzz_path, hzz_path], contract, out, step_size=500)
    assert not out.exists()
    convert_files([hzz_path, hzz_path], contract, out, resume=True)
    assert out.read_bytes() == whole


def test_a_source_that_changes_while_it_is_read_is_refused(contract, hzz_path, tmp_path):
    source = tmp_path / "a.root"
    source.write_bytes(hzz_path.read_bytes())
    with pytest.raises(ConvertError, match="changed while it was read"):
        convert([source], contract, tmp_path / "d.npz", progress=lambda *_: os.utime(source, (1, 1)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.root"]


@pytest.mark.parametrize("limit", [2**31 - 1, 1000])
def test_the_archive_is_the_one_that_zipfile_writes(contract, monkeypatch, limit):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    monkeypatch.setattr(dataset_file, "_LIMIT", limit)
    arrays = {
        "inputs": np.arange(3000, dtype=np.int16).reshape(-1, 3),
        "run": np.arange(100),
        "none": np.zeros((0, 57), np.int16),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as content:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            with content.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
    members = [dataset_file.Member.of_array(name, array) for name, array in arrays.items()]
    assert b"".join(dataset_file.archive(members)) == buffer.getvalue()


def test_writing_hashing_and_loading_hold_the_events_once(contract, tmp_path):
    dataset = dataset_of(contract, np.zeros((200_000, contract.n_inputs), np.int16), made_by="test")
    tracemalloc.start()
    try:
        dataset.save(tmp_path / "d.npz")
        assert len(dataset.id) == 64
        assert tracemalloc.get_traced_memory()[1] < 0.3 * dataset.inputs.nbytes
        tracemalloc.reset_peak()
        assert Dataset.load(tmp_path / "d.npz").n_events == 200_000
        assert tracemalloc.get_traced_memory()[1] < 1.3 * dataset.inputs.nbytes
    finally:
        tracemalloc.stop()
