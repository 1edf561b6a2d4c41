"""The compiled loops give what numpy gives, and order objects as a stable sort does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.contracts.columns import Lists
from streams.contracts.contract import InputStage, ObjectGroup, Quantity, digitise
from streams.conversion.digitise_kernels import Coder, clear_missing, leading_places, places

STAGE = InputStage(
    raw="ap_fixed<18,13>", scaled="ap_fixed<8,6,RND_CONV,SAT>", offset=[5.5, 0.0, -3.0], shift=[2, 4, -1]
)
PLAIN = {"name": "x", "expression": "x", "lsb": 0.5, "minimum": -100, "maximum": 100}
WRAPPED = {"minimum": -72, "maximum": 71, "wrap": 144}


def lists(values):
    numbers = [len(one) for one in values]
    content = np.array([value for one in values for value in one])
    return Lists(content, np.concatenate([[0], np.cumsum(numbers)]).astype(np.int64))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(-300, 300), max_size=6), min_size=1, max_size=20),
    st.sampled_from(
        [
            {},
            {"rounding": "nearest"},
            WRAPPED,
            WRAPPED | {"rounding": "nearest"},
            {"offset": 7, "shift": 2},
            {"stage": STAGE},
            {"stage": STAGE.model_copy(update={"scaled": "ap_fixed<14,6,RND,SAT>"})},
            {"stage": STAGE.model_copy(update={"scaled": "ap_fixed<8,6,TRN,SAT>"})},
            WRAPPED | {"stage": STAGE},
        ]
    ),
    st.booleans(),
)
def test_codes_are_those_of_the_plain_formula(values, changes, coded):
    quantity = Quantity(**(PLAIN | changes | {"coded": coded}))
    numbers = values if coded else [[value / 8 for value in one] for one in values]
    content = lists(numbers)
    content = Lists(content.content.astype(np.int64 if coded else np.float64), content.offsets)
    codes = np.full((len(values), 3, 2), 999, dtype=np.int16)
    Coder(quantity, 3).fill(codes[:, :, 1], content, places(content, 3))
    expected = [
        [
            int(digitise(np.array(one[k]), quantity, k)) if k < len(one) else quantity.padding(k)
            for k in range(3)
        ]
        for one in numbers
    ]
    assert codes[:, :, 1].tolist() == expected
    assert (codes[:, :, 0] == 999).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(-3, 3), max_size=12), min_size=1, max_size=20), st.integers(1, 6))
def test_the_largest_come_first_and_equal_ones_as_they_were(values, count):
    keys = lists(values)
    found = leading_places(Lists(keys.content.astype(np.float64), keys.offsets), count)
    for event, one in enumerate(values):
        order = sorted(range(len(one)), key=lambda k: -one[k])[:count]
        expected = [int(keys.offsets[event]) + k for k in order] + [-1] * (count - len(order))
        assert found[event].tolist() == expected


def test_values_without_a_code_become_padding():
    values = lists([[np.nan, np.inf, 1.0]])
    codes = np.zeros((1, 3), dtype=np.int16)
    Coder(Quantity(**(PLAIN | {"offset": 4})), 3).fill(codes, values, places(values, 3))
    assert codes.tolist() == [[-4, -4, -2]]


@pytest.mark.parametrize(("keep", "eta"), [(False, [0, 9]), (True, [8, 9])])
def test_an_object_below_one_code_of_pt_is_missing_unless_firmware_keeps_it(keep, eta):
    quantities = [Quantity(**(PLAIN | {"name": name})) for name in ("pt", "eta")]
    group = ObjectGroup(name="jet", count=2, keep_without_pt=keep, quantities=quantities)
    codes = np.array([[[0, 8], [5, 9]]], dtype=np.int16)
    clear_missing(codes, group)
    assert codes[0, :, 1].tolist() == eta
