"""Conditions survive the wire; anything else is refused with the field at fault."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.conditions import MAX_VALUES, Conditions, decode_conditions, encode_conditions
from streams.errors import MalformedMessage

GOOD = {"version": 1, "model": "anomaly", "run": 3, "lumisection": 9, "pileup": 52.5}


TEXT = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=128).filter(
    str.isprintable
)
NAME = st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True)


@given(
    st.builds(
        Conditions,
        model=TEXT,
        beam_mode=TEXT,
        subsystems=st.lists(TEXT, max_size=9),
        expected=st.dictionaries(TEXT, st.integers(0, 2**31 - 1), max_size=9),
        values=st.dictionaries(NAME, st.floats(-1e15, 1e15), max_size=MAX_VALUES),
    )
)
def test_round_trip(conditions):
    assert decode_conditions(encode_conditions(conditions)) == conditions


def test_without_values_a_message_is_as_ever():
    assert b"values" not in encode_conditions(Conditions(**GOOD))
    assert decode_conditions(encode_conditions(Conditions(**GOOD))).values == {}
    assert b'"values":{"bunches":2400.0}' in encode_conditions(Conditions(**GOOD, values={"bunches": 2400}))


def test_only_stable_beams_are_stable():
    assert Conditions(**GOOD).stable_beams
    assert not Conditions(**GOOD, beam_mode="ADJUST").stable_beams


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 2}, "version 2 is newer than this worker reads .up to 1.: update the worker"),
        ({"version": 2, "unheard_of": 1, "run": -1}, "version 2 is newer"),
        ({"version": 0}, "version 0 does not exist"),
        ({"version": True}, "version"),
        ({"run": "3"}, "run"),
        ({"expected": {"a\0b": 1}}, "printable"),
        ({"run": -1}, "run"),
        ({"lumisection": 2**31}, "lumisection"),
        ({"pileup": None}, "pileup"),
        ({"pileup": -2.0}, "pileup"),
        ({"surprise": 1}, "surprise"),
        ({"expected": {"replay": -1}}, "expected"),
        ({"model": ""}, "model"),
        ({"values": {"Bunches": 1}}, "values"),
        ({"values": {"bunches": 1.1e15}}, "values.bunches: Input should be less than or equal"),
        ({"values": {"bunches": float("inf")}}, "values.bunches: Input should be a finite number"),
        ({"values": {f"v{number}": 1 for number in range(17)}}, "at most 16"),
    ],
)
def test_what_conditions_are_not_is_refused(change, reason):
    with pytest.raises(MalformedMessage, match=reason):
        decode_conditions(json.dumps(GOOD | change).encode())


@pytest.mark.parametrize(
    "foreign", [b"", b"[]", b"{", b"\xff\xfe", b'{"pileup": NaN}', b" " * 70_000, b"[" * 5000]
)
def test_foreign_bytes_are_refused(foreign):
    with pytest.raises(MalformedMessage):
        decode_conditions(foreign)
