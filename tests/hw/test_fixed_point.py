from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, localcontext

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hw.errors import FormatError
from hw.fixed_point import (
    MAXIMUM_SHIFT,
    MAXIMUM_WIDTH,
    FixedFormat,
    Overflow,
    Rounding,
    quantise,
    requantise,
    to_float,
)


@st.composite
def drawn_formats(draw, largest=MAXIMUM_WIDTH):
    width = draw(st.integers(1, largest))
    integer = draw(st.integers(max(-5, width - MAXIMUM_SHIFT), width + 5))
    kind = (st.booleans(), st.sampled_from(Rounding), st.sampled_from(Overflow))
    return FixedFormat(width, integer, *map(draw, kind))


formats = drawn_formats()


def exact(raw: int, from_fraction: int, fmt: FixedFormat) -> int:
    """Convert one value with decimal arithmetic: slow, and nothing shared with the code under test."""
    value = Decimal(raw) * Decimal(2) ** (fmt.fraction - from_fraction)
    if fmt.rounding is Rounding.TRN:
        rounded = int(value.to_integral_value(ROUND_FLOOR))
    elif fmt.rounding is Rounding.RND:
        rounded = int((value + Decimal("0.5")).to_integral_value(ROUND_FLOOR))
    else:
        rounded = int(value.to_integral_value(ROUND_HALF_EVEN))
    if fmt.overflow is Overflow.SAT:
        return min(max(rounded, fmt.raw_minimum), fmt.raw_maximum)
    rounded %= 1 << fmt.width
    return rounded - (1 << fmt.width) if fmt.signed and rounded > fmt.raw_maximum else rounded


@pytest.fixture(autouse=True, scope="module")
def _precise_decimals():
    with localcontext() as context:
        context.prec = 200
        yield


@given(raw=st.integers(-(2**62), 2**62), fraction=st.integers(0, 40), fmt=formats)
def test_requantise_is_exact(raw, fraction, fmt):
    assume(abs(fraction - fmt.fraction) <= MAXIMUM_SHIFT)
    result = requantise(np.array([raw]), fraction, fmt)
    assert int(result[0]) == exact(raw, fraction, fmt)
    assert fmt.holds(result).all()


@given(raw=st.integers(-(2**52), 2**52), fraction=st.integers(0, 40), fmt=formats)
def test_quantise_agrees_with_requantise(raw, fraction, fmt):
    value = np.ldexp(float(raw), -fraction)
    assert int(quantise([value], fmt)[0]) == exact(raw, fraction, fmt)


@given(fmt=drawn_formats(largest=53), data=st.data())
def test_every_value_on_the_grid_survives_a_round_trip(fmt, data):
    raw = data.draw(st.integers(fmt.raw_minimum, fmt.raw_maximum))
    assert int(quantise(to_float([raw], fmt), fmt)[0]) == raw


@given(fmt=formats)
def test_a_format_survives_its_own_text(fmt):
    assert FixedFormat.parse(str(fmt)) == fmt
    assert FixedFormat.parse(fmt.cpp) == fmt


def test_ties_follow_the_rounding_mode():
    ties = np.array([-3, -1, 1, 3])  # -1.5, -0.5, 0.5, 1.5
    results = {mode: requantise(ties, 1, FixedFormat(8, 8, rounding=mode)).tolist() for mode in Rounding}
    assert results == {"RND": [-1, 0, 1, 2], "RND_CONV": [-2, 0, 0, 2], "TRN": [-2, -1, 0, 1]}


@pytest.mark.parametrize(
    "fmt", [FixedFormat(60, 60, overflow=Overflow.SAT), FixedFormat(62, 2, False, overflow=Overflow.SAT)]
)
def test_a_range_too_wide_for_float64_is_kept_all_the_same(fmt):
    assert quantise([1e30, -1e30], fmt).tolist() == [fmt.raw_maximum, fmt.raw_minimum]


def test_infinity_saturates_and_never_wraps():
    assert quantise([np.inf, -np.inf], FixedFormat.parse("fixed<8,4,RND,SAT>")).tolist() == [127, -128]
    with pytest.raises(FormatError, match="infinity"):
        quantise([np.inf], FixedFormat.parse("fixed<8,4>"))


def test_nan_is_refused():
    with pytest.raises(FormatError, match="NaN"):
        quantise([1.0, np.nan], FixedFormat.parse("fixed<8,4,RND,SAT>"))


@pytest.mark.parametrize(
    "text", ["fixed<16>", "fixed<16,6,UP,SAT>", "float", "fixed<0,0>", "fixed<63,6>", "fixed<8,-90>"]
)
def test_what_is_no_format_is_refused(text):
    with pytest.raises(FormatError):
        FixedFormat.parse(text)


def test_a_conversion_across_too_many_bits_is_refused():
    with pytest.raises(FormatError, match="shift"):
        requantise(np.array([1]), 60, FixedFormat(40, 45))


def test_modes_given_as_words_are_the_same_modes():
    assert FixedFormat(8, 4, True, "RND", "SAT") == FixedFormat(8, 4, True, Rounding.RND, Overflow.SAT)
    assert (quantise([0.97, 99.0], FixedFormat(8, 4, True, "RND", "SAT")) == [16, 127]).all()
    with pytest.raises(FormatError, match="use RND"):
        FixedFormat(8, 4, True, "UP", "SAT")
