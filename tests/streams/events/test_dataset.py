"""A dataset's bytes follow from its content alone; a file that is none is refused."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.contracts.contract import parse_contract
from streams.errors import DatasetError
from streams.events.dataset import Dataset, concatenate, dataset_of

COLUMNS = {
    "run": np.int64,
    "lumisection": np.int64,
    "event": np.int64,
    "weight": np.float64,
    "score": np.int32,
    "accept": np.bool_,
}


@settings(max_examples=25, deadline=None)
@given(
    n_events=st.integers(0, 50),
    seed=st.integers(0, 2**32 - 1),
    present=st.sets(st.sampled_from(sorted(COLUMNS))),
)
def test_bytes_keep_everything_and_repeat(contract, n_events, seed, present):
    rng = np.random.default_rng(seed)
    inputs = rng.integers(-(2**15), 2**15, (n_events, contract.n_inputs)).astype(np.int16)
    columns = {name: rng.integers(0, 2, n_events).astype(COLUMNS[name]) for name in present}
    dataset = dataset_of(contract, inputs, made_by="test", parents=["p"], **columns)
    content = dataset.to_bytes()
    back = Dataset.from_bytes(content)
    assert back.to_bytes() == content
    assert back.provenance == dataset.provenance
    np.testing.assert_array_equal(back.inputs, inputs)
    for name in COLUMNS:
        if name in present:
            np.testing.assert_array_equal(getattr(back, name), columns[name])
        else:
            assert getattr(back, name) is None


def test_memory_layout_does_not_change_the_identity(dataset, contract):
    other = dataset_of(contract, np.asfortranarray(dataset.inputs), made_by="x")
    assert other.id == dataset_of(contract, dataset.inputs, made_by="x").id
    assert other.id != dataset_of(contract, dataset.inputs, made_by="y").id


def test_identity_is_the_hash_of_the_file(dataset, tmp_path):
    path = tmp_path / "d.npz"
    assert dataset.save(path) == dataset.id == hashlib.sha256(path.read_bytes()).hexdigest()
    assert Dataset.load(path).id == dataset.id
    assert [entry.name for entry in tmp_path.iterdir()] == ["d.npz"]


def test_no_clock_and_no_compressor_enters_the_bytes(dataset):
    with zipfile.ZipFile(io.BytesIO(dataset.to_bytes())) as archive:
        entries = archive.infolist()
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert [entry.filename for entry in entries] == ["header.npy", "inputs.npy", "weight.npy"]


def test_numpy_alone_can_read_it(dataset, tmp_path):
    dataset.save(tmp_path / "d.npz")
    with np.load(tmp_path / "d.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["inputs"], dataset.inputs)


def test_taking_and_joining_name_their_parents(dataset):
    mask = np.arange(dataset.n_events) % 2 == 0
    even, odd = dataset.take(mask, made_by="even"), dataset.take(np.flatnonzero(~mask), made_by="odd")
    np.testing.assert_array_equal(even.inputs, dataset.inputs[::2])
    np.testing.assert_array_equal(odd.weight, dataset.weight[1::2])
    assert even.provenance.parents == [dataset.id]
    assert (even.provenance.events_in, even.provenance.events_kept) == (2421, 1211)
    joined = concatenate([even, odd], made_by="join")
    assert joined.n_events == dataset.n_events
    assert joined.provenance.parents == [even.id, odd.id]


def test_columns_that_one_part_lacks_are_left_out_of_the_whole(dataset, contract):
    bare = dataset_of(contract, dataset.inputs[:3], made_by="bare")
    assert concatenate([dataset, bare], made_by="join").weight is None


def test_another_contract_is_refused(dataset, contract_path, small_text):
    with pytest.raises(DatasetError, match="convert it again"):
        dataset.check_contract(
            parse_contract(contract_path.read_text().replace("version = 1", "version = 2"))
        )
    small = dataset_of(parse_contract(small_text), np.zeros((1, 7), np.int16), made_by="x")
    with pytest.raises(DatasetError, match="different contracts"):
        concatenate([dataset, small], made_by="join")


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": np.zeros((3, 57), np.int32)},
        {"inputs": np.zeros((3, 56), np.int16)},
        {"inputs": np.zeros(57, np.int16)},
        {"score": np.zeros(3, np.int64)},
        {"accept": np.zeros(2, np.bool_)},
    ],
)
def test_wrong_arrays_are_refused(contract, changes):
    fields = {"inputs": np.zeros((3, 57), np.int16)} | changes
    with pytest.raises(DatasetError):
        dataset_of(contract, fields.pop("inputs"), made_by="x", **fields)


def archive_of(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_foreign_files_are_refused(dataset, tmp_path):
    good = dataset.to_bytes()
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        header = np.load(io.BytesIO(archive.read("header.npy")))
    pickled = io.BytesIO()
    np.save(pickled, np.array([object()]), allow_pickle=True)
    damaged = bytearray(good)
    damaged[len(good) // 2] ^= 0xFF
    corpus = {
        "empty": b"",
        "text": b"hello",
        "half": good[: len(good) // 2],
        "damaged": bytes(damaged),
        "array": pickled.getvalue(),
        "headless": archive_of(inputs=dataset.inputs),
        "pickle": archive_of(header=header, inputs=np.array([object()])),
        "extra": archive_of(header=header, inputs=dataset.inputs, surprise=np.zeros(3)),
        "short": archive_of(header=header, inputs=dataset.inputs[:5]),
        "noise": archive_of(header=np.frombuffer(b"{}", np.uint8), inputs=dataset.inputs),
    }
    for name, content in corpus.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=name) as caught:
            Dataset.load(path)
        assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere\.npz"):
        Dataset.load(tmp_path / "nowhere.npz")


def test_a_failed_write_leaves_the_old_file(dataset, tmp_path):
    folder = tmp_path / "d.npz"
    folder.mkdir()
    (folder / "inside").write_text("kept")
    with pytest.raises(DatasetError, match="cannot write"):
        dataset.save(folder)
    assert [entry.name for entry in tmp_path.iterdir()] == ["d.npz"]
