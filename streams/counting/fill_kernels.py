"""The compiled loops of `streams.counting.fill`. Knows arrays of codes and counters, nothing else.

Importing this module compiles it. Every code is counted in a small table of 16-bit counters that stays in
the fastest cache, in several tables in turn where equal codes in a row would wait for each other. In the
columns of objects that are mostly missing, the padding is counted and squeezed out 32 codes at a time
where the processor can do that (AVX-512 VBMI2), and only the rest is filled.

The types are those of the signatures at the end: numba needs no others, and mypy sees none.
"""

import threading
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llvmlite import binding
from numba.types import Array, Tuple, boolean, int16, int32, int64, uint16, void

from streams.counting.pair_kernels import MARKS, count_pairs, mark, no_marks
from streams.counting.vector_instructions import LANES, WORD, compiled, leading_zeros, squeeze

BLOCK: Final = 32_768
"""Codes counted between two looks at the 16-bit counters, which must not overflow."""
HALF: Final = 2**15
TABLE: Final = 2**16 + 1056
"""Counters of one table, and a gap: tables a power of two apart would share the same lines of the cache."""
N_TABLES: Final = 4
FIRST, SECOND, THIRD, FOURTH = (number * TABLE + HALF for number in range(N_TABLES))
"""Where code 0 lies in each table."""
NO_PADDING: Final = -(2**31)
NARROW: Final = 64
"""A block of so few different codes has many equal ones in a row: it needs all the tables."""
CAN_SQUEEZE: Final = bool(binding.get_host_cpu_features().get("avx512vbmi2", False))
"""Elsewhere squeezing would be correct too, but slower than filling."""

LOW, HIGH, PADDING, START, THRESHOLD, ROW = range(6)
"""Columns of the plan of columns."""
ETA, PHI, PRESENCE, SLOT_PADDING = range(4)
ETA_AXIS, PHI_AXIS, SLOT_START = 4, 7, 10
"""Columns of the plan of slots; an axis is minimum, width, bins."""


class _Scratch(threading.local):
    """Tables and buffers of one thread; the tables are all zero between calls.

    The buffers are handed over twice, to be written and to be read, because types say which.
    """

    def __init__(self) -> None:
        rest = np.zeros(BLOCK + LANES, dtype=np.int16)
        self.fill = (CAN_SQUEEZE, np.zeros(N_TABLES * TABLE, dtype=np.uint16), rest, _read_only(rest))
        self.cells = np.zeros(BLOCK, dtype=np.int16)
        self.cells_to_read = _read_only(self.cells)


def _read_only(array: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    view = array.view()
    view.flags.writeable = False
    return view


_SCRATCH: Final = _Scratch()


def fill_columns(
    flat: Any,
    stride: int,
    n_events: int,
    columns: Any,
    slots: Any,
    counts: Any,
    maps: Any,
    groups: Any,
    pairs: Any,
) -> None:
    """Add events to `counts` and `maps`; column ``c`` is ``flat[c * stride : c * stride + n_events]``.

    `pairs` is overwritten, unless it is empty.
    """
    own = _SCRATCH
    marks = no_marks(len(columns) if len(pairs) else 0, n_events)
    _fill_columns(
        flat, stride, n_events, columns, slots, own.fill, own.cells, own.cells_to_read, counts, maps, marks
    )
    count_pairs(marks, groups, pairs)


def fill_octaves(values: Any, steps: int, counts: Any) -> None:
    """Add values to `counts`, in bins that grow with the value."""
    own = _SCRATCH
    _fill_octaves(values, steps, own.fill, own.cells, own.cells_to_read, counts)


@compiled()
def _keep(codes: Any, padding: Any, rest: Any) -> Any:
    """Copy the codes that are not padding; return how many they are."""
    source, target = codes.ctypes.data, rest.ctypes.data
    kept = 0
    whole = codes.shape[0] // LANES
    for index in range(whole):
        kept += squeeze(np.uintp(source + 2 * LANES * index), np.uintp(target + 2 * kept), padding)
    for index in range(whole * LANES, codes.shape[0]):
        if codes[index] != padding:
            rest[kept] = codes[index]
            kept += 1
    return kept


@compiled()
def _count(codes: Any, few: Any, tables: Any) -> None:
    """Count codes in the tables in turn; the indices are unsigned, so that none counts from the end."""
    one = np.uint16(1)
    fours = codes.shape[0] // 4
    third, fourth = (THIRD, FOURTH) if few else (FIRST, SECOND)
    for index in range(fours):
        tables[np.uint64(np.int64(codes[4 * index]) + FIRST)] += one
        tables[np.uint64(np.int64(codes[4 * index + 1]) + SECOND)] += one
        tables[np.uint64(np.int64(codes[4 * index + 2]) + third)] += one
        tables[np.uint64(np.int64(codes[4 * index + 3]) + fourth)] += one
    for index in range(4 * fours, codes.shape[0]):
        tables[np.uint64(np.int64(codes[index]) + FIRST)] += one


@compiled()
def _drain(tables: Any, n_tables: Any, smallest: Any, largest: Any, low: Any, high: Any, bins: Any) -> None:
    """Add the counters of the codes from smallest to largest to a histogram, and clear them."""
    for number in range(n_tables):
        origin = np.int64(number * TABLE + FIRST)
        for code in range(smallest, min(low, largest + 1)):
            bins[0] += np.int64(tables[np.uint64(origin + code)])
        for code in range(max(low, smallest), min(high, largest) + 1):
            bins[np.uint64(code - low + 1)] += np.int64(tables[np.uint64(origin + code)])
        for code in range(max(high + 1, smallest), largest + 1):
            bins[np.uint64(high - low + 2)] += np.int64(tables[np.uint64(origin + code)])
        for code in range(smallest, largest + 1):
            tables[np.uint64(origin + code)] = 0


@compiled()
def _fill(codes: Any, padding: Any, low: Any, high: Any, scratch: Any, bins: Any) -> None:
    """Add one block of a column to its histogram: underflow, a bin per code, overflow."""
    can_squeeze, tables, rest, rest_to_read = scratch
    smallest, largest, padded = np.int16(HALF - 1), np.int16(-HALF), np.uint16(0)
    for index in range(codes.shape[0]):
        code = codes[index]
        smallest = min(smallest, code)
        largest = max(largest, code)
        padded = np.uint16(padded + np.uint16(code == padding))
    first, last = np.int64(smallest), np.int64(largest)
    if first == last:
        bins[min(max(first, low - 1), high + 1) - low + 1] += codes.shape[0]
        return
    if can_squeeze and 8 * np.int64(padded) > codes.shape[0]:
        bins[min(max(padding, low - 1), high + 1) - low + 1] += np.int64(padded)
        codes = rest_to_read[: _keep(codes, np.int16(padding), rest)]
    few = last - first < NARROW
    _count(codes, few, tables)
    _drain(tables, N_TABLES if few else 2, first, last, low, high, bins)


@compiled()
def _cell(code: Any, minimum: Any, inverse: Any, last: Any) -> Any:
    """Return ``(code - minimum) // width`` within ``0..last``.

    In single precision this is exact: half a code beside an edge is at least ``0.5 / width`` away from a
    whole number, and quotients stay below ``2**17 / width``.
    """
    cell = np.int32((np.float32(np.int32(code) - minimum) + np.float32(0.5)) * inverse)
    return min(max(cell, np.int32(0)), last)


@compiled()
def _locate(eta: Any, phi: Any, presence: Any, slot: Any, absent: Any, cells: Any) -> None:
    """Write the map's cell of every object of a block, `absent` where there is none."""
    eta_low, phi_low = np.int32(slot[ETA_AXIS]), np.int32(slot[PHI_AXIS])
    eta_inverse = np.float32(1.0) / np.float32(slot[ETA_AXIS + 1])
    phi_inverse = np.float32(1.0) / np.float32(slot[PHI_AXIS + 1])
    eta_last, phi_last = np.int32(slot[ETA_AXIS + 2] - 1), np.int32(slot[PHI_AXIS + 2] - 1)
    n_phi, padding = np.int32(slot[PHI_AXIS + 2]), np.int32(slot[SLOT_PADDING])
    nothing = np.int32(absent)
    for index in range(eta.shape[0]):
        row = _cell(eta[index], eta_low, eta_inverse, eta_last)
        column = _cell(phi[index], phi_low, phi_inverse, phi_last)
        cell = np.int32(row * n_phi + column)
        cells[index] = np.int16(nothing if np.int32(presence[index]) == padding else cell)


_COUNTS: Final = Array(int64, 1, "C")
_PLAN: Final = Array(int64, 2, "C")
_CODES: Final = Array(int16, 1, "C", readonly=True)
_BUFFER: Final = Array(int16, 1, "C")
_SCRATCH_TYPE: Final = Tuple((boolean, Array(uint16, 1, "C"), _BUFFER, _CODES))


@compiled(void(_CODES, int64, int64, _PLAN, _PLAN, _SCRATCH_TYPE, _BUFFER, _CODES, _COUNTS, _COUNTS, MARKS))
def _fill_columns(
    flat: Any,
    stride: Any,
    n_events: Any,
    columns: Any,
    slots: Any,
    scratch: Any,
    cells: Any,
    cells_to_read: Any,
    counts: Any,
    maps: Any,
    marks: Any,
) -> None:
    for number in range(columns.shape[0]):
        plan = columns[number]
        bins = counts[plan[START] : plan[START] + plan[HIGH] - plan[LOW] + 3]
        for begin in range(0, n_events, BLOCK):
            end = min(begin + BLOCK, n_events)
            codes = flat[number * stride + begin : number * stride + end]
            _fill(codes, plan[PADDING], plan[LOW], plan[HIGH], scratch, bins)
            if marks.shape[0]:  # now, while the codes are in the fastest cache
                mark(codes, np.int16(plan[THRESHOLD]), marks[plan[ROW], begin // WORD :])
    for number in range(slots.shape[0]):
        slot = slots[number]
        size = slot[ETA_AXIS + 2] * slot[PHI_AXIS + 2]
        bins = np.zeros(size + 2, dtype=np.int64)
        for begin in range(0, n_events, BLOCK):
            end = min(begin + BLOCK, n_events)
            eta = flat[slot[ETA] * stride + begin : slot[ETA] * stride + end]
            phi = flat[slot[PHI] * stride + begin : slot[PHI] * stride + end]
            # where nothing tells, every code of eta differs from the padding, which is none
            there = slot[PRESENCE] if slot[PRESENCE] >= 0 else slot[ETA]
            presence = flat[there * stride + begin : there * stride + end]
            found = cells[: end - begin]
            _locate(eta, phi, presence, slot, size, found)
            _fill(cells_to_read[: end - begin], size, np.int64(0), size - 1, scratch, bins)
        wanted = maps[slot[SLOT_START] : slot[SLOT_START] + size]
        for index in range(size):
            wanted[index] += bins[index + 1]


@compiled(void(Array(int32, 1, "C", readonly=True), int64, _SCRATCH_TYPE, _BUFFER, _CODES, _COUNTS))
def _fill_octaves(values: Any, steps: Any, scratch: Any, cells: Any, cells_to_read: Any, counts: Any) -> None:
    bits = np.int32(63) - np.int32(leading_zeros(np.int64(steps)))
    n_steps = np.int32(steps)
    bins = np.zeros(counts.shape[0] + 2, dtype=np.int64)
    high = np.int64(counts.shape[0] - 1)
    for begin in range(0, values.shape[0], BLOCK):
        block = values[begin : min(begin + BLOCK, values.shape[0])]
        found = cells[: block.shape[0]]
        for index in range(block.shape[0]):
            value = max(block[index], np.int32(0))
            length = np.int32(32) - np.int32(leading_zeros(value))
            shift = max(length - bits - np.int32(1), np.int32(0))
            cell = np.int32(shift * n_steps + (value >> shift) + np.int32(1))
            found[index] = np.int16(np.int32(0) if block[index] < 0 else cell)
        _fill(cells_to_read[: block.shape[0]], np.int64(NO_PADDING), np.int64(0), high, scratch, bins)
    for index in range(counts.shape[0]):
        counts[index] += bins[index + 1]
