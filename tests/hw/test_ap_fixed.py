"""Conversions against the `ap_fixed` that images are compiled from: the headers which hls4ml brings along.

One library with a few hundred pairs of formats, drawn once and for all, is compiled for all tests.
"""

import ctypes
import random
import subprocess
from importlib.resources import files

import numpy as np
import pytest

from hw.fixed_point import MAXIMUM_SHIFT, FixedFormat, Overflow, Rounding, quantise, requantise, to_float

SEED = 20260311
N_FORMATS, N_PAIRS = 48, 260
WIDTHS = (1, 2, 3, 5, 8, 9, 12, 16, 17, 18, 24, 31, 32, 33, 40, 47, 53, 54, 60)
SOURCE = """\
#include "ap_fixed.h"
#include <cstdint>

template <class To> static int64_t bits(const To &value) {{
    return (int64_t)value.range(To::width - 1, 0).to_uint64();
}}
template <class From, class To> static void convert(const int64_t *raw, int64_t count, int64_t *results) {{
    for (int64_t i = 0; i < count; i++) {{
        From from;
        from.range(From::width - 1, 0) = raw[i];
        results[i] = bits(To(from));
    }}
}}
template <class To> static void from_double(const double *values, int64_t count, int64_t *results) {{
    for (int64_t i = 0; i < count; i++)
        results[i] = bits(To(values[i]));
}}
{typedefs}
extern "C" void convert_pair(int pair, const int64_t *raw, int64_t count, int64_t *results) {{
    static void (*const all[])(const int64_t *, int64_t, int64_t *) = {{{pairs}}};
    all[pair](raw, count, results);
}}
extern "C" void convert_double(int format, const double *values, int64_t count, int64_t *results) {{
    static void (*const all[])(const double *, int64_t, int64_t *) = {{{formats}}};
    all[format](values, count, results);
}}
"""


def drawn():
    """Draw formats, and pairs of them that one conversion may bridge."""
    draw = random.Random(SEED)
    formats = []
    while len(formats) < N_FORMATS:
        width = draw.choice(WIDTHS)
        fmt = FixedFormat(
            width,
            draw.randint(-4, width + 4),
            draw.random() < 0.6,
            draw.choice(list(Rounding)),
            draw.choice(list(Overflow)),
        )
        if fmt not in formats:
            formats.append(fmt)
    pairs = []
    while len(pairs) < N_PAIRS:
        pair = (draw.randrange(N_FORMATS), draw.randrange(N_FORMATS))
        shift = formats[pair[0]].fraction - formats[pair[1]].fraction
        if abs(shift) <= MAXIMUM_SHIFT and pair not in pairs:
            pairs.append(pair)
    return formats, pairs


FORMATS, PAIRS = drawn()


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ap_fixed")
    (folder / "conversions.cpp").write_text(
        SOURCE.format(
            typedefs="\n".join(f"typedef {fmt.cpp} F{number};" for number, fmt in enumerate(FORMATS)),
            pairs=", ".join(f"convert<F{source}, F{target}>" for source, target in PAIRS),
            formats=", ".join(f"from_double<F{number}>" for number in range(N_FORMATS)),
        )
    )
    headers = files("hls4ml") / "templates" / "vivado" / "ap_types"
    # NDEBUG: the headers assert that a rounded bit exists, and then do right where it does not
    flags = ("-std=c++17", "-O0", "-w", "-DNDEBUG", "-fPIC", "-shared", f"-I{headers}")
    command = ("g++", *flags, "conversions.cpp", "-o", "conversions.so")
    subprocess.run(command, cwd=folder, check=True, timeout=240)
    return ctypes.CDLL(str(folder / "conversions.so"))


def theirs(function, number, values, fmt):
    """Call a function of the library; give raw integers with their sign."""
    found = np.empty(len(values), np.int64)
    given, results = (ctypes.c_void_p(array.ctypes.data) for array in (values, found))
    function(number, given, ctypes.c_int64(len(values)), results)
    return np.where(found > fmt.raw_maximum, found - (1 << fmt.width), found)


def corners(source, target):
    """Give raw values of `source` at its ends, at zero and around ties and ends of `target`, and others."""
    shift = source.fraction - target.fraction
    found = {source.raw_minimum, source.raw_minimum + 1, -1, 0, 1, source.raw_maximum - 1, source.raw_maximum}
    for end in (target.raw_minimum, target.raw_maximum, 0, 1 << target.width):
        for halves in range(-4, 5):
            place = (2 * end + halves) << shift >> 1 if shift >= 0 else (2 * end + halves) >> (1 - shift)
            found |= {place - 1, place, place + 1}
    inside = sorted(raw for raw in found if source.raw_minimum <= raw <= source.raw_maximum)
    rng = np.random.default_rng(SEED)
    others = rng.integers(source.raw_minimum, source.raw_maximum, 200, endpoint=True)
    return np.concatenate([np.array(inside, dtype=np.int64), others])


def test_requantise_does_what_ap_fixed_does(library):
    differing, seen = {}, set()
    for number, (source, target) in enumerate((FORMATS[a], FORMATS[b]) for a, b in PAIRS):
        raw = corners(source, target)
        found = requantise(raw, source.fraction, target)
        wrong = np.flatnonzero(found != theirs(library.convert_pair, number, raw, target))
        if wrong.size:
            differing[f"{source} -> {target}"] = int(raw[wrong[0]])
        shrinks = source.fraction > target.fraction
        seen.add((target.rounding, target.overflow, target.signed, shrinks))
    assert not differing
    assert len(seen) == len(Rounding) * len(Overflow) * 2 * 2  # every way to round, overflow and hold a sign


def test_quantise_does_what_ap_fixed_does_with_a_double(library):
    differing = {}
    rng = np.random.default_rng(SEED)
    for number, fmt in enumerate(FORMATS):
        ends = np.array([fmt.raw_minimum, fmt.raw_maximum, 0, 1 << min(fmt.width, MAXIMUM_SHIFT)], float)
        ties = (ends[:, None] + np.arange(-4, 5) / 2).ravel()
        near = np.concatenate([ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf)])
        wide = rng.normal(0, 1, 200) * np.exp2(rng.uniform(-3, fmt.width + 2, 200))
        values = np.ldexp(np.concatenate([near, wide]), -fmt.fraction)
        found = quantise(values, fmt)
        wrong = np.flatnonzero(found != theirs(library.convert_double, number, values, fmt))
        if wrong.size:
            differing[str(fmt)] = float(values[wrong[0]])
    assert not differing


def test_a_grid_value_survives_their_constructor(library):
    for number, fmt in enumerate(FORMATS):
        if fmt.width <= 53:
            raw = corners(fmt, fmt)
            assert (theirs(library.convert_double, number, to_float(raw, fmt), fmt) == raw).all()
