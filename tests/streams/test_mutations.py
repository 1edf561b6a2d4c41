"""Valid messages, changed at random, are read or refused: decoders know no other end."""

import json
import pickle
import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.conditions import Conditions, decode_conditions, encode_conditions
from streams.contracts.contract import load_contract
from streams.counting.codec import MAGIC, decode_summary, encode_summary
from streams.counting.summary import Summary, summarise
from streams.dead_letter import DeadLetter, decode_dead_letter, encode_dead_letter, refuse
from streams.errors import MalformedMessage
from streams.events.batch import Batch, decode_batch, encode_batch
from streams.judging.verdict import State, Verdict, decode_verdict, encode_verdict
from tests.support.hostile import CONTRACT_PATH, at

CONTRACT = load_contract(CONTRACT_PATH)
INTERESTING = (
    b"\0",
    b"\xff",
    b"\x80",
    b"\xff\xff\xff\x7f",
    b"\xff" * 8,
    b"\0" * 8,
    b"9" * 30,
    b"[",
    b'"',
    b"-",
    b"null",
)


def _batch(n=50):
    rng = np.random.default_rng(1)
    score = rng.integers(0, 1000, n).astype(np.int32)
    return Batch(
        model="small",
        contract_name=CONTRACT.name,
        contract_version=CONTRACT.version,
        contract_hash=CONTRACT.hash,
        run=9,
        lumisection=1,
        source="mutant",
        sequence=3,
        package="ab" * 32,
        simulated=True,
        inputs=rng.integers(-20, 300, (n, 2)).astype(np.int16),
        score=score,
        accept=score > 900,
        input_names=CONTRACT.input_names,
    )


def _verdict():
    return Verdict(
        id="a" * 32, model="small", run=9, lumisection=1, state=State.GOOD, reason="All within thresholds.",
        package="ab" * 32, n_events=50, accept_rate=0.1,
    )  # fmt: skip


def _packed(data):
    """Return the summary of an unpacked header and body."""
    return MAGIC + struct.pack("<I", len(data)) + pa.compress(data, codec="zstd", asbytes=True)


SUMMARY = encode_summary(summarise(_batch(), CONTRACT, 7))
UNPACKED = pa.decompress(
    SUMMARY[len(MAGIC) + 4 :],
    struct.unpack_from("<I", SUMMARY, len(MAGIC))[0],
    codec="zstd",
    asbytes=True,
)
KINDS = {
    "batch": (encode_batch(_batch()), lambda content: decode_batch(content, CONTRACT), Batch),
    "conditions": (
        encode_conditions(Conditions(model="small", run=9, lumisection=1, pileup=50.5, expected={"a": 2})),
        decode_conditions,
        Conditions,
    ),
    "summary": (SUMMARY, decode_summary, Summary),
    "summary, unpacked": (UNPACKED, lambda data: decode_summary(_packed(data)), Summary),
    "verdict": (encode_verdict(_verdict()), decode_verdict, Verdict),
    "dead letter": (
        encode_dead_letter(refuse(b"\0\xffx", "it is none", topic="t", partition=1, offset=2, at=at(0))),
        decode_dead_letter,
        DeadLetter,
    ),
}


def outcome(decode, content):
    """Return what is read, or the reason why it is refused, one line; anything else is raised."""
    try:
        return decode(content)
    except MalformedMessage as error:
        return error.reason if error.reason and "\n" not in error.reason else None


def mutated(content, data):
    """Flip, cut, insert, or splice in another part of the message, a few times."""
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, max(0, len(content) - 1)))
        end = min(len(content), begin + data.draw(st.integers(0, 24)))
        match data.draw(st.sampled_from(("flip", "cut", "insert", "splice", "end"))):
            case "flip":
                flipped = bytes(byte ^ data.draw(st.integers(1, 255)) for byte in content[begin : begin + 1])
                content = content[:begin] + flipped + content[begin + 1 :]
            case "cut":
                content = content[:begin] + content[end:]
            case "insert":
                content = content[:begin] + data.draw(st.sampled_from(INTERESTING)) + content[begin:]
            case "splice":
                other = data.draw(st.integers(0, max(0, len(content) - 1)))
                content = content[:other] + content[begin:end] + content[other + end - begin :]
            case "end":
                content = content[:begin]
    return content


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_mutated_message_is_read_or_refused_and_nothing_else(kind, data):
    valid, decode, of = KINDS[kind]
    content = mutated(valid, data)
    found = outcome(decode, content)
    assert isinstance(found, of | str)
    if isinstance(found, Batch):
        assert found.inputs.shape == (found.n_events, CONTRACT.n_inputs)
        summarise(found, CONTRACT, 1)
    if isinstance(found, Summary):
        assert found.score.sum() == found.n_events
        assert encode_summary(decode_summary(encode_summary(found))) == encode_summary(found)


@settings(max_examples=200, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    data=st.data(),
)
def test_any_json_value_in_any_place_is_read_or_refused(value, data):
    kind = data.draw(st.sampled_from(("conditions", "verdict", "dead letter")))
    valid, decode, of = KINDS[kind]
    document = json.loads(valid)
    document[data.draw(st.sampled_from(sorted(document)))] = value
    assert isinstance(outcome(decode, json.dumps(document).encode()), of | str)


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_is_refused(kind):
    valid, decode, _ = KINDS[kind]
    cuts = range(0, len(valid) - 8, max(1, len(valid) // 200))
    for length in cuts:
        with pytest.raises(MalformedMessage):
            decode(valid[:length])


@pytest.mark.parametrize("kind", KINDS)
def test_no_pickle_is_read(kind):
    with pytest.raises(MalformedMessage):
        KINDS[kind][1](pickle.dumps({"version": 1}))


@pytest.mark.parametrize(
    ("kind", "newest", "reader"),
    [("conditions", 1, "worker"), ("verdict", 1, "daemon"), ("dead letter", 1, "reader")],
)
def test_a_newer_version_says_which_side_to_update(kind, newest, reader):
    valid, decode, _ = KINDS[kind]
    later = json.dumps(json.loads(valid) | {"version": 3, "key_of_the_future": 1}).encode()
    expected = f"{kind} version 3 is newer than this {reader} reads (up to {newest}): update the {reader}"
    with pytest.raises(MalformedMessage) as caught:
        decode(later)
    assert caught.value.reason == expected


def test_codes_outside_the_contracts_range_are_counted_as_flow_and_refuse_nothing():
    batch = _batch()
    found = decode_batch(encode_batch(batch), CONTRACT)
    summary = decode_summary(encode_summary(summarise(found, CONTRACT, 1)))
    for index in range(2):
        assert summary.underflow(index) == np.count_nonzero(batch.inputs[:, index] < 0) > 0
        assert summary.overflow(index) == np.count_nonzero(batch.inputs[:, index] > 255) > 0
        assert summary.histogram(index).sum() == batch.n_events
