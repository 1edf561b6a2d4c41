"""The compiled loops of `streams.statistics.embedding`. Knows arrays of integers, nothing else.

Importing this module compiles it. Everything is integer arithmetic, so that sums depend neither on the order
in which events come nor on the processor. The types are those of the signatures at the end: numba needs no
others, and mypy sees none.
"""

from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np
from numba.types import Array, int16, int64, uint32, void

BLOCK: Final = 256
"""Events whose inputs stay in the fastest cache while all frequencies pass over them."""
TABLE_BITS: Final = 10
"""Phases are looked up to this many bits of a turn."""
SUM_BITS: Final = 20
"""Bits of each of the two lower sums in a packed entry of the table: a block must not overflow them."""
_SHIFT: Final = np.uint32(32 - TABLE_BITS)


def _compile(signature: Any = None) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function now and keep it where byte code is kept; without signature, with its caller."""
    entry = signature is not None
    options = {"nogil": True, "boundscheck": False, "error_model": "numpy"}

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(signature, cache=entry, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            return numba.njit(signature, **options)(function)

    return decorate


@_compile()
def _phases_of(columns: Any, weights: Any, offset: Any, start: Any, phases: Any) -> None:
    """Write the phases of one frequency: turns times 2^32, wrapping as unsigned integers do.

    Four inputs at a time, so that phases are loaded and stored a quarter as often.
    """
    size, n_inputs = phases.shape[0], columns.shape[0]
    stop, fours = start + size, n_inputs // 4 * 4
    phases[:] = offset
    for first in range(0, fours, 4):
        one, two = columns[first, start:stop], columns[first + 1, start:stop]
        three, four = columns[first + 2, start:stop], columns[first + 3, start:stop]
        w_one, w_two, w_three, w_four = weights[first : first + 4]
        for event in range(size):
            phases[event] = np.uint32(
                phases[event]
                + w_one * np.uint32(one[event])
                + w_two * np.uint32(two[event])
                + w_three * np.uint32(three[event])
                + w_four * np.uint32(four[event])
            )
    for number in range(fours, n_inputs):
        column, weight = columns[number, start:stop], weights[number]
        for event in range(size):
            phases[event] = np.uint32(phases[event] + weight * np.uint32(column[event]))


@_compile(
    void(
        Array(int16, 2, "C", readonly=True),
        Array(uint32, 2, "C", readonly=True),
        Array(uint32, 1, "C", readonly=True),
        Array(int64, 1, "C", readonly=True),
        Array(int64, 2, "C"),
    )
)
def sum_features(columns: Any, weights: Any, offsets: Any, table: Any, sums: Any) -> None:
    """Add the table's entries of all events to `sums`, unpacked, one row for each frequency."""
    n_events = columns.shape[1]
    low = (np.int64(1) << SUM_BITS) - 1
    room = np.empty(BLOCK, dtype=np.uint32)
    for start in range(0, n_events, BLOCK):
        phases = room[: min(BLOCK, n_events - start)]
        for frequency in range(weights.shape[0]):
            _phases_of(columns, weights[frequency], offsets[frequency], start, phases)
            packed = np.int64(0)
            for event in range(phases.shape[0]):
                packed += table[phases[event] >> _SHIFT]
            sums[frequency, 0] += packed & low
            sums[frequency, 1] += (packed >> SUM_BITS) & low
            sums[frequency, 2] += packed >> (2 * SUM_BITS)


@_compile(
    void(
        Array(int16, 2, "C", readonly=True),
        Array(uint32, 2, "C", readonly=True),
        Array(uint32, 1, "C", readonly=True),
        Array(int16, 2, "C"),
    )
)
def find_places(columns: Any, weights: Any, offsets: Any, places: Any) -> None:
    """Write where in the table each event falls; one row of `places` for each frequency."""
    n_events = columns.shape[1]
    room = np.empty(BLOCK, dtype=np.uint32)
    for start in range(0, n_events, BLOCK):
        phases = room[: min(BLOCK, n_events - start)]
        for frequency in range(weights.shape[0]):
            _phases_of(columns, weights[frequency], offsets[frequency], start, phases)
            for event in range(phases.shape[0]):
                places[frequency, start + event] = phases[event] >> _SHIFT
