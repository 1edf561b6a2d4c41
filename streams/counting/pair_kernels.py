"""The compiled loops that count coincidences, the events in which two inputs are marked. Know no contract.

Every input has one bit for every event. That two of them are set in the same event is seen for 512 events
at once, so that all pairs of all events cost a few per cent of the histograms.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba.types import Array, int64, void

from streams.counting.vector_instructions import (
    COLUMNS,
    ROWS,
    WORD,
    WORDS,
    compiled,
    count_common,
    reaching,
)

MARKS: Final = Array(int64, 2, "C")
SPARE_ROWS: Final = max(ROWS, COLUMNS) - 1
"""Rows of zeros behind the marks, so that several can be compared at a time to the end."""


def no_marks(n_rows: int, n_events: int) -> npt.NDArray[np.int64]:
    """Return rows of marks that are all unset, and `SPARE_ROWS` behind them; nothing for no rows."""
    if not n_rows:
        return np.zeros((0, 0), dtype=np.int64)
    return np.zeros((n_rows + SPARE_ROWS, -(-n_events // (WORD * WORDS)) * WORDS), dtype=np.int64)


@compiled()
def mark(codes: Any, threshold: Any, words: Any) -> None:
    """Set the bits of those codes that reach a threshold; bits beyond the last code stay."""
    source = codes.ctypes.data
    whole = codes.shape[0] // WORD
    for index in range(whole):
        words[index] = reaching(np.uintp(source + 2 * WORD * index), threshold)
    last = np.int64(0)
    for index in range(whole * WORD, codes.shape[0]):
        last |= np.int64(codes[index] >= threshold) << np.int64(index - whole * WORD)
    if codes.shape[0] > whole * WORD:
        words[whole] = last


@compiled()
def _count_group(marks: Any, n_rows: Any, counts: Any) -> None:
    first, stride = marks.ctypes.data, 8 * marks.shape[1]
    found = np.empty((ROWS, COLUMNS), dtype=np.int64)
    for top in range(0, n_rows, ROWS):
        for left in range(top, n_rows, COLUMNS):
            count_common(
                np.uintp(first + top * stride),
                np.uintp(first + left * stride),
                np.uintp(stride),
                np.int64(marks.shape[1] // WORDS),
                np.uintp(found.ctypes.data),
            )
            for row in range(top, min(top + ROWS, n_rows)):
                start = row * n_rows - row * (row + 1) // 2
                for column in range(max(left, row), min(left + COLUMNS, n_rows)):
                    counts[start + column] = found[row - top, column - left]


_NUMBERS: Final = Array(int64, 1, "C")


@compiled(void(MARKS, _NUMBERS, _NUMBERS))
def count_pairs(marks: Any, groups: Any, counts: Any) -> None:
    """Count the events that each two rows of a group have in common.

    Group after group: the upper triangle with the diagonal, row after row. `marks` is as `no_marks` made it;
    group ``g`` has the rows from ``groups[g]`` to before ``groups[g + 1]``.
    """
    begin = np.int64(0)
    for group in range(groups.shape[0] - 1):
        n_rows = groups[group + 1] - groups[group]
        end = begin + n_rows * (n_rows + 1) // 2
        _count_group(marks[groups[group] :], n_rows, counts[begin:end])
        begin = end
