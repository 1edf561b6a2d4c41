"""The engine's conversion against `requantise`: many formats in one Verilated module."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.fixed_point import FixedFormat, Overflow, Rounding, requantise
from hw.rtl.sources import stage_sources
from hw.verilator import compile_verilog

HARNESS = """\
#include "Vtop.h"
extern "C" __attribute__((visibility("default")))
void lumiwatch_requantise(int number, const int64_t *values, int64_t count, int64_t *results) {
    static VerilatedContext context;
    static Vtop top(&context);
    top.number = number;
    for (int64_t i = 0; i < count; i++) {
        top.value = values[i] & 0x3fffffffffffffffll;
        top.eval();
        results[i] = top.result;
    }
}
"""


def _cases():
    """Give (bits of the input, its fraction, format): a grid of modes, then anything."""
    rng = np.random.default_rng(5)
    modes = [(rounding, overflow) for rounding in Rounding for overflow in Overflow]
    cases = []
    for rounding, overflow in modes:
        for signed in (True, False):
            for shift in (-3, 0, 1, 2, 7):
                width = int(rng.integers(1, 12))
                cases.append((12, shift, FixedFormat(width, width, signed, rounding, overflow)))
    for wide in (62, 62, 40, 1, 2, 62):
        for rounding, overflow in modes:
            width, fraction = int(rng.integers(1, 63)), int(rng.integers(-40, 41))
            low = max(-62, -62 - fraction)  # the shift stays within 62 bits, the format within its own limits
            from_fraction = int(np.clip(fraction + rng.integers(-20, 40), low, fraction + 62))
            signed = bool(rng.random() < 0.5)
            cases.append(
                (wide, from_fraction, FixedFormat(width, width - fraction, signed, rounding, overflow))
            )
    for shift in (62, -62, 61, -61):
        cases.append((62, shift, FixedFormat(30, 30, True, Rounding.RND_CONV, Overflow.SAT)))
        cases.append((5, shift, FixedFormat(62, 62, True, Rounding.RND, Overflow.SAT)))
        cases.append((5, shift, FixedFormat(62, 62, False, Rounding.RND, Overflow.WRAP)))
    return cases


CASES = _cases()


@pytest.fixture(scope="module")
def converter(tmp_path_factory):
    roundings = list(Rounding)
    modes = {Rounding.TRN: 0, Rounding.RND: 1, Rounding.RND_CONV: 2}
    assert set(modes) == set(roundings)
    instances, choices = [], []
    for number, (bits, from_fraction, fmt) in enumerate(CASES):
        instances.append(
            f"logic [{fmt.width - 1}:0] result_{number};\n"
            f"lumiwatch_requantise #(.W_IN({bits}), .SHIFT({from_fraction - fmt.fraction}), "
            f".W_OUT({fmt.width}), .S_OUT({int(fmt.signed)}), .ROUNDING({modes[fmt.rounding]}), "
            f".SATURATE({int(fmt.overflow is Overflow.SAT)})) "
            f"case_{number} (.value(value[{bits - 1}:0]), .result(result_{number}));"
        )
        choices.append(f"{number}: result = 62'(result_{number});")
    bench = (
        "module bench(input logic [61:0] value, input logic [15:0] number, output logic [61:0] result);\n"
        + "\n".join(instances)
        + "\nalways_comb case (number)\n"
        + "\n".join(choices)
        + "\ndefault: result = '0;\nendcase\nendmodule\n"
    )
    path = tmp_path_factory.mktemp("requantise") / "bench.so"
    sources = {"requantise.sv": stage_sources()["rtl/lumiwatch_requantise.sv"], "bench.sv": bench}
    return ctypes.CDLL(str(compile_verilog(sources, HARNESS, "bench", path)))


def _check(converter, number, values):
    bits, from_fraction, fmt = CASES[number]
    half = 1 << (bits - 1)
    raw = (np.asarray(values, dtype=np.int64) & ((1 << bits) - 1) ^ half) - half
    got = np.empty_like(raw)
    converter.lumiwatch_requantise(
        number, ctypes.c_void_p(raw.ctypes.data), ctypes.c_int64(raw.size), ctypes.c_void_p(got.ctypes.data)
    )
    want = requantise(raw, from_fraction, fmt) & ((1 << fmt.width) - 1)
    wrong = np.flatnonzero(got != want)
    assert not wrong.size, f"{CASES[number]}: {raw[wrong[:3]]} became {got[wrong[:3]]}, not {want[wrong[:3]]}"


def test_every_value_of_narrow_inputs_converts_as_the_emulator_does(converter):
    narrow = [number for number, (bits, _, _) in enumerate(CASES) if bits <= 12]
    assert len(narrow) > 60
    for number in narrow:
        _check(converter, number, np.arange(1 << CASES[number][0]))


def test_ties_and_ends_of_wide_inputs_convert_as_the_emulator_does(converter):
    near = np.arange(-3, 4)
    for number, (bits, from_fraction, fmt) in enumerate(CASES):
        shift = min(max(from_fraction - fmt.fraction, 1), 61)
        ends = [0, 1 << (shift - 1), 1 << shift, 3 << (shift - 1), 1 << (bits - 1), (1 << (bits - 1)) - 1]
        ends += [
            fmt.raw_maximum << (shift - 1),
            fmt.raw_minimum << (shift - 1),
            fmt.raw_maximum,
            fmt.raw_minimum,
        ]
        values = np.array([end & ((1 << 62) - 1) for end in ends], dtype=np.int64)
        _check(converter, number, (values[:, None] + near).ravel())
        _check(converter, number, (-values[:, None] + near).ravel())


@settings(max_examples=200, deadline=None)
@given(
    number=st.integers(0, len(CASES) - 1),
    values=st.lists(st.integers(-(2**61), 2**61 - 1), min_size=1, max_size=50),
)
def test_any_value_converts_as_the_emulator_does(converter, number, values):
    _check(converter, number, values)
