"""The firmware's input scaling, against values worked out by hand from the AXOL1TL input contract.

The contract (CMSSW, AXOL1TLCondition and the emulator of the model): the raw integer x is an
ap_fixed<18,13>, so it is held in steps of 2^-5 = 1/32. The offset is subtracted, the steps are shifted right
arithmetically (towards minus infinity), and the result is put into ap_fixed<8,6,RND_CONV,SAT> (v3, v4:
steps of 1/4, half to even, -128..127) or ap_fixed<14,6,RND_CONV,SAT> (v5, v6: steps of 1/256, -8192..8191).
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streams.contracts.contract import InputStage, Quantity, digitise, parse_contract
from streams.contracts.input_stage import FixedType
from streams.errors import ContractError

V4 = "ap_fixed<8,6,RND_CONV,SAT>"
V5 = "ap_fixed<14,6,AP_RND_CONV,AP_SAT,0>"


def stage(offset, shift, scaled=V4, raw="ap_fixed<18,13>"):
    return InputStage(raw=raw, scaled=scaled, offset=offset, shift=shift)


@pytest.mark.parametrize(
    ("offset", "shift", "x", "v4", "v5"),
    [
        # (0 - 18) * 32 = -576; >> 3 = -72 steps of 1/32. v4: -72 / 8 = -9. v5: -72 * 8 = -576
        (18, 3, 0, -9, -576),
        # (2047 - 18) * 32 = 64928; >> 3 = 8116. v4: 1014.5, saturates. v5: 64928, saturates
        (18, 3, 2047, 127, 8191),
        # (0 - 287) * 32 = -9184. v4: -1148, saturates below. v5: -73472, saturates below
        (287, 0, 0, -128, -8192),
        # ties of v4, shift 4: 2 * 32 >> 4 = 4, 4 / 8 = 0.5 -> 0 (even). v5: 4 * 8 = 32
        (0, 4, 2, 0, 32),
        # 6 * 32 >> 4 = 12, 1.5 -> 2
        (0, 4, 6, 2, 96),
        # 10 * 32 >> 4 = 20, 2.5 -> 2
        (0, 4, 10, 2, 160),
        # 14 * 32 >> 4 = 28, 3.5 -> 4
        (0, 4, 14, 4, 224),
        # -2 * 32 >> 4 = -4, -0.5 -> 0; -6: -12, -1.5 -> -2; -10: -20, -2.5 -> -2
        (0, 4, -2, 0, -32),
        (0, 4, -6, -2, -96),
        (0, 4, -10, -2, -160),
        # the shift drops bits first: 45 * 32 = 1440, >> 7 = 11 (11.25), 11 / 8 = 1.375 -> 1
        (0, 7, 45, 1, 88),
        # and towards minus infinity: -1440 >> 7 = -12 (-11.25), -1.5 -> -2; rounding once would give -1
        (0, 7, -45, -2, -96),
        # -1 * 32 >> 7 = -1 (-0.25), -0.125 -> 0
        (0, 7, -1, 0, -8),
        # an offset with a half: (0 - 15.5) * 32 = -496; >> 3 = -62, -7.75 -> -8
        (15.5, 3, 0, -8, -496),
        # a negative shift goes left: (10 - 3) * 32 = 224, << 1 = 448. v4: 56. v5: 3584
        (3, -1, 10, 56, 3584),
        # (67 - 3) * 32 << 1 = 4096. v4: 512, saturates. v5: 32768, saturates
        (3, -1, 67, 127, 8191),
        # the largest that v4 holds: 31.75 = 127 / 4: (254 - 0) >> 3 = 31.75: 254 * 32 >> 3 = 1016, 127
        (0, 3, 254, 127, 8128),
        # 255: 1020, 127.5 -> 128, saturates to 127
        (0, 3, 255, 127, 8160),
        # the smallest: -256 * 32 >> 3 = -1024, -128; v5: -8192. One less: -1028, -128.5 -> -128
        (0, 3, -256, -128, -8192),
        (0, 3, -257, -128, -8192),
    ],
)
def test_values_worked_out_by_hand(offset, shift, x, v4, v5):
    assert stage(offset, shift).code(x, 0) == v4
    assert stage(offset, shift, V5).code(x, 0) == v5


@pytest.mark.parametrize(
    ("rounding", "codes"),
    [
        # steps of 1/2 into integers: -1.5, -1.0, -0.5, 0, 0.5, 1.0, 1.5, 2.5
        ("TRN", [-2, -1, -1, 0, 0, 1, 1, 2]),
        ("RND", [-1, -1, 0, 0, 1, 1, 2, 3]),
        ("RND_CONV", [-2, -1, 0, 0, 0, 1, 2, 2]),
    ],
)
def test_rounding_modes_are_those_of_the_types(rounding, codes):
    one = stage(0, 1, scaled=f"ap_fixed<8,8,{rounding},SAT>", raw="ap_fixed<10,9>")
    assert [one.code(x, 0) for x in (-3, -2, -1, 0, 1, 2, 3, 5)] == codes


def test_every_object_has_its_own_numbers():
    one = stage([7.0, 3.0], [2, 0])
    # (9 - 7) * 32 >> 2 = 16, 16 / 8 = 2; (9 - 3) * 32 = 192, 24
    assert [one.code(9, 0), one.code(9, 1)] == [2, 24]


@given(
    st.lists(st.integers(-2048, 2047), min_size=1, max_size=20),
    st.integers(-500, 500),
    st.integers(0, 8),
    st.sampled_from([V4, V5, "ap_ufixed<10,6,RND,SAT>", "ap_fixed<12,9,TRN,SAT>"]),
)
def test_codes_never_fall_where_the_raw_integer_rises(raws, offset, shift, scaled):
    one = stage(offset, shift, scaled)
    codes = one.codes(np.sort(np.array(raws, dtype=np.int64)), 0)
    assert (np.diff(codes) >= 0).all()
    assert codes.min() >= FixedType.parse(scaled).minimum
    assert codes.max() <= FixedType.parse(scaled).maximum


def quantity(**changes):
    fields = {"name": "eta", "expression": "x", "lsb": 0.5, "minimum": -255, "maximum": 255, "coded": True}
    return Quantity(**(fields | changes))


def test_a_coded_quantity_takes_integers_alone():
    assert digitise(np.array([-300, 3, 300], np.int32), quantity()).tolist() == [-255, 3, 255]
    wrapped = quantity(minimum=-72, maximum=71, wrap=144)
    assert digitise(np.array([72, -73, 144 * 10**15 + 5]), wrapped).tolist() == [-72, 71, 5]
    with pytest.raises(ContractError, match="give integers"):
        digitise([1.0], quantity())


def test_the_input_describes_the_scaled_code():
    spec = quantity(stage=stage(18, 3)).spec("eg", 0)
    assert (spec.minimum, spec.maximum, spec.padding, spec.staged) == (-128, 118, -9, True)
    # a scaled code is 2^3 / 2^2 = 2 raw codes of 0.5 each; code -9 is raw 0: -9 * 1.0 + offset = 0
    assert spec.lsb == 1.0
    assert -9 * spec.lsb + spec.offset * spec.lsb / 2**spec.shift == 0.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stage": {"raw": "float", "scaled": V4}}, "no fixed-point type"),
        ({"stage": {"raw": "ap_fixed<18,13>", "scaled": "ap_fixed<99,6>"}}, "has 99 bits"),
        ({"stage": {"raw": "ap_fixed<18,13>", "scaled": V4, "offset": 0.01}}, "no multiple of the last bit"),
        ({"stage": {"raw": "ap_fixed<18,13>", "scaled": V4, "shift": 40}}, "wider than"),
        ({"stage": {"raw": "ap_fixed<8,8>", "scaled": V4}}, "leaves ap_fixed<8,8>"),
        ({"stage": {"raw": "ap_fixed<18,13>", "scaled": "ap_fixed<8,6>"}}, "wraps around"),
        ({"stage": {"raw": "ap_fixed<18,13>", "scaled": V4}, "shift": 1}, "stand inside stage"),
        ({"stage": {"raw": "ap_fixed<18,13>", "scaled": "ap_fixed<24,14,RND,SAT>"}}, "leave 16 bits"),
    ],
)
def test_a_stage_that_firmware_could_not_be_is_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        quantity(**changes)


def test_a_wrong_number_of_offsets_or_a_misspelt_key_is_named(small_text):
    good = f'lsb = 0.0435\nstage = {{raw = "ap_fixed<18,13>", scaled = "{V4}", offset = [1, 2]}}'
    assert parse_contract(small_text.replace("lsb = 0.0435", good)).n_inputs == 7
    with pytest.raises(ContractError, match="has 3 numbers: give 2"):
        parse_contract(small_text.replace("lsb = 0.0435", good.replace("[1, 2]", "[1, 2, 3]")))
    with pytest.raises(ContractError, match="did you mean 'offset'"):
        parse_contract(small_text.replace("lsb = 0.0435", good.replace("offset", "ofset")))
