"""A batch survives the wire unchanged; whatever else arrives is refused with a reason."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.contracts.contract import parse_contract
from streams.errors import MalformedMessage
from streams.events.batch import MAX_BATCH_BYTES, batch_model, decode_batch, encode_batch

FIELDS = ("model", "contract_name", "contract_version", "contract_hash", "run", "lumisection", "source")
FIELDS += ("sequence", "package", "simulated", "input_names")


def rewrite(payload, change):
    """Encode again after `change(schema, columns)` has had its way with the parts."""
    with pa.ipc.open_stream(payload) as reader:
        block = reader.read_next_batch()
        metadata = dict(reader.schema.metadata)
    names, columns = list(block.schema.names), list(block.columns)
    names, columns, metadata, copies, options = change(names, columns, metadata)
    schema = pa.schema([pa.field(n, c.type) for n, c in zip(names, columns, strict=True)], metadata=metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for _ in range(copies):
            writer.write_batch(pa.record_batch(columns, schema=schema))
    return sink.getvalue().to_pybytes()


def with_metadata(key, value):
    def change(names, columns, metadata):
        metadata = {k: v for k, v in metadata.items() if k != b"lumiwatch." + key}
        if value is not None:
            metadata[b"lumiwatch." + key] = value
        return names, columns, metadata, 1, None

    return change


def swap_columns(names, columns, metadata):
    names[3], names[4] = names[4], names[3]
    columns[3], columns[4] = columns[4], columns[3]
    return names, columns, metadata, 1, None


def wrong_dtype(names, columns, metadata):
    columns[5] = columns[5].cast(pa.int32())
    return names, columns, metadata, 1, None


def missing_column(names, columns, metadata):
    return names[1:], columns[1:], metadata, 1, None


def nulls(names, columns, metadata):
    columns[0] = pa.array([None] + [1] * (len(columns[0]) - 1), type=pa.int16())
    return names, columns, metadata, 1, None


def two_blocks(names, columns, metadata):
    return names, columns, metadata, 2, None


def no_block(names, columns, metadata):
    return names, columns, metadata, 0, None


def compressed(codec):
    return lambda names, columns, metadata: (
        names,
        columns,
        metadata,
        1,
        pa.ipc.IpcWriteOptions(compression=codec),
    )


def dictionary(names, columns, metadata):
    columns[5] = columns[5].dictionary_encode()
    return names, columns, metadata, 1, None


@pytest.fixture(scope="module")
def payload(make_batch):
    return encode_batch(make_batch())


@pytest.fixture(scope="module")
def get_payload(payload):
    """Return the payload behind a function, because hypothesis writes every argument out."""
    return lambda: payload


@settings(max_examples=40, deadline=None)
@given(n_events=st.integers(0, 300), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_round_trip_keeps_every_bit(contract, make_batch, n_events, seed, data):
    rng = np.random.default_rng(seed)
    batch = make_batch(
        n_events,
        inputs=rng.integers(-(2**15), 2**15, (n_events, contract.n_inputs)).astype(np.int16),
        score=rng.integers(-(2**31), 2**31, n_events).astype(np.int32),
        accept=rng.random(n_events) < 0.5,
        run=data.draw(st.integers(0, 2**31 - 1)),
        sequence=data.draw(st.integers(0, 2**53)),
        source=data.draw(
            st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=40)
        ),
        simulated=data.draw(st.booleans()),
    )
    back = decode_batch(encode_batch(batch), contract)
    for name in FIELDS:
        assert getattr(back, name) == getattr(batch, name)
    for name in ("inputs", "score", "accept"):
        np.testing.assert_array_equal(getattr(back, name), getattr(batch, name))
        assert getattr(back, name).dtype == getattr(batch, name).dtype


def test_model_can_be_read_without_the_contract(payload):
    assert batch_model(payload) == "anomaly"


def test_decoded_arrays_cannot_be_changed(payload, contract):
    with pytest.raises(ValueError, match="read-only"):
        decode_batch(payload, contract).inputs[0, 0] = 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (swap_columns, "column 3"),
        (wrong_dtype, "column 5 .* int32"),
        (dictionary, "column 5 .* dictionary"),
        (missing_column, "58 columns"),
        (nulls, "missing values"),
        (two_blocks, "2 record batches"),
        (no_block, "0 record batches"),
        (compressed("lz4"), "compression"),
        (compressed("zstd"), "compression"),
        (with_metadata(b"version", b"3"), "version 3 is newer than this worker reads .up to 1.: update"),
        (with_metadata(b"version", b"0"), "version 0 does not exist"),
        (with_metadata(b"version", None), "metadata version is '': give 1"),
        (with_metadata(b"colour", b"red"), "'lumiwatch.colour' is unknown"),
        (with_metadata(b"model", b""), "model"),
        (with_metadata(b"model", b"\xff\xfe"), "UTF-8"),
        (with_metadata(b"package", b"x" * 1000), "package"),
        (with_metadata(b"source", b"a\nb"), "source"),
        (with_metadata(b"run", b"-1"), "run"),
        (with_metadata(b"run", b"9" * 16), "run"),
        (with_metadata(b"run", "٣".encode()), "run"),
        (with_metadata(b"lumisection", b"1e3"), "lumisection"),
        (with_metadata(b"simulated", b"maybe"), "simulated"),
        (with_metadata(b"contract_hash", b"0" * 64), "made under contract 'anomaly' version 1 .*000"),
    ],
)
def test_a_message_that_breaks_the_format_is_refused_with_the_reason(payload, contract, change, reason):
    with pytest.raises(MalformedMessage, match=reason):
        decode_batch(rewrite(payload, change), contract)


def test_metadata_of_the_producers_own_is_let_be(payload, contract):
    def own(names, columns, metadata):
        return names, columns, metadata | {b"pandas": b"{}"}, 1, None

    assert decode_batch(rewrite(payload, own), contract).n_events == 200


def test_another_version_of_the_contract_is_refused(payload, contract_path):
    other = parse_contract(contract_path.read_text().replace("version = 1", "version = 2"))
    with pytest.raises(MalformedMessage, match=r"this worker has 'anomaly' version 2"):
        decode_batch(payload, other)


@pytest.mark.parametrize(
    "foreign", [b"", b"{}", b"PK\x03\x04", b"\x80\x04\x95", b"\xff" * 100, b"ARROW1\x00\x00", b"\0" * 64]
)
def test_foreign_bytes_are_refused(contract, foreign):
    with pytest.raises(MalformedMessage):
        decode_batch(foreign, contract)


def test_a_message_beyond_the_bound_is_refused_unread(contract):
    with pytest.raises(MalformedMessage, match="send 1 to"):
        decode_batch(b"\0" * (MAX_BATCH_BYTES + 1), contract)


def test_every_truncation_is_refused(payload, contract):
    for length in {*range(0, len(payload) - 8, 97), len(payload) // 2, len(payload) - 9}:
        with pytest.raises(MalformedMessage):
            decode_batch(payload[:length], contract)


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, 10**9), value=st.integers(0, 255), block=st.integers(1, 8))
def test_a_damaged_message_is_refused_or_read_but_never_worse(get_payload, contract, position, value, block):
    damaged = bytearray(get_payload())
    # the first part holds schema and headers, where damage matters most
    start = position % min(len(damaged), 12_000)
    damaged[start : start + block] = bytes([value]) * len(damaged[start : start + block])
    try:
        batch = decode_batch(bytes(damaged), contract)
    except MalformedMessage:
        return
    assert batch.inputs.shape == (batch.n_events, contract.n_inputs)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2000))
def test_random_bytes_are_refused(contract, noise):
    with pytest.raises(MalformedMessage):
        decode_batch(noise, contract)


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": np.zeros((200, 57), dtype=np.int32)},
        {"inputs": np.zeros((200, 56), dtype=np.int16)},
        {"score": np.zeros(200, dtype=np.int64)},
        {"accept": np.zeros(199, dtype=np.bool_)},
        {"run": -1},
        {"source": ""},
    ],
)
def test_a_batch_that_is_none_cannot_be_made(make_batch, changes):
    with pytest.raises(MalformedMessage):
        make_batch(**changes)


def test_too_many_events_are_refused(make_batch):
    batch = make_batch()
    n = 70_000
    with pytest.raises(MalformedMessage, match="at most"):
        dataclasses.replace(
            batch,
            inputs=np.zeros((n, 57), np.int16),
            score=np.zeros(n, np.int32),
            accept=np.zeros(n, np.bool_),
        )
