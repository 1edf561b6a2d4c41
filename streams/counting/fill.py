"""The filling of histograms: integer codes in, counts out, at the speed of memory. Knows no contract.

What is counted where is planned once; the loops are those of `streams.counting.fill_kernels`, compiled at the
first use and run without Python's lock, by any number of threads at once.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

NO_PADDING: Final = -(2**31)
"""Padding of a column that has none: no 16-bit code equals it."""
MAX_CELLS: Final = 2**15 - 2


@dataclass(frozen=True)
class MapSlot:
    """One object of an eta-phi map.

    Attributes
    ----------
    eta, phi, presence
        Columns of its codes, and the one that tells whether it is there; -1: it always is.
    padding
        Code in `presence` of a missing object.
    eta_axis, phi_axis
        ``(minimum, width, bins)``: row and column are ``(code - minimum) // width``, codes beyond counted
        in the first or last bin.
    start
        First cell of its map in the counts; maps are row after row.
    """

    eta: int
    phi: int
    presence: int
    padding: int
    eta_axis: tuple[int, int, int]
    phi_axis: tuple[int, int, int]
    start: int


@dataclass(frozen=True, eq=False)
class FillPlan:
    """What to count where. Build it with `plan_fill`."""

    columns: npt.NDArray[np.int64]
    n_input_bins: int
    slots: npt.NDArray[np.int64]
    n_map_bins: int
    groups: npt.NDArray[np.int64]

    @property
    def n_pairs(self) -> int:
        """Pairs of columns that are counted, each column with itself too."""
        sizes = np.diff(self.groups)
        return int((sizes * (sizes + 1) // 2).sum())


class Filled(NamedTuple):
    """Counts of columns, maps and pairs of columns: int64, flat."""

    columns: Counts
    maps: Counts
    pairs: Counts


_COMPILING: Final = threading.Lock()


def plan_fill(
    minimums: Sequence[int],
    maximums: Sequence[int],
    paddings: Sequence[int],
    slots: Sequence[MapSlot] = (),
    thresholds: Sequence[int] = (),
    kinds: Sequence[int] = (),
) -> FillPlan:
    """Plan the counting of columns of int16 codes.

    Parameters
    ----------
    minimums, maximums
        Range of each column, both ends included. Its histogram is underflow, one bin per code, overflow.
    paddings
        Code of each column that may be very frequent, or `NO_PADDING`. Any gives the same counts.
    slots
        The objects of all maps.
    thresholds
        One of each column, to count the events in which two columns reach theirs; none: no pairs are
        counted.
    kinds
        Number of the group of each column, from 0: only columns of one group are paired. None: all are one.

    Raises
    ------
    ValueError
        A map has more cells than a 16-bit code can name.
    """
    low, high = np.array(minimums, dtype=np.int64), np.array(maximums, dtype=np.int64)
    ends = np.cumsum(high - low + 3)
    starts = ends - (high - low + 3)
    levels = np.array(thresholds if len(thresholds) else [0] * len(low), dtype=np.int64)
    group = np.array(kinds if len(kinds) else [0] * len(low), dtype=np.int64)
    rows = np.argsort(np.argsort(group, kind="stable"), kind="stable")
    columns = np.column_stack([low, high, np.array(paddings, dtype=np.int64), starts, levels, rows])
    cells = [slot.eta_axis[2] * slot.phi_axis[2] for slot in slots]
    if max(cells, default=0) > MAX_CELLS:
        raise ValueError(f"a map of {max(cells)} cells: give its axes fewer bins, at most {MAX_CELLS} cells")
    table = [
        (
            slot.eta,
            slot.phi,
            slot.presence,
            slot.padding if slot.presence >= 0 else NO_PADDING,
            *slot.eta_axis,
            *slot.phi_axis,
            slot.start,
        )
        for slot in slots
    ]
    return FillPlan(
        columns=np.ascontiguousarray(columns.reshape(len(low), 6)),
        n_input_bins=int(ends[-1]) if len(ends) else 0,
        slots=np.array(table, dtype=np.int64).reshape(len(table), 11),
        n_map_bins=max((slot.start + size for slot, size in zip(slots, cells, strict=True)), default=0),
        groups=np.concatenate([[0], np.cumsum(np.bincount(group))]) if len(thresholds) else np.zeros(1, int),
    )


def fill_columns(inputs: npt.NDArray[np.int16], plan: FillPlan) -> Filled:
    """Count columns, maps and pairs of columns.

    Parameters
    ----------
    inputs
        int16, shape (n_events, n_columns); no copy is made where each column is contiguous and the columns
        lie at equal distances, as in `numpy.ndarray.T` of a block of columns.

    Returns
    -------
    The counts. Those of pairs say how many events reach the thresholds of both columns, and of each column
    with itself: group after group the upper triangle, row after row, columns in their order.
    """
    flat, stride = _flat(inputs)
    counts = np.zeros(plan.n_input_bins, dtype=np.int64)
    maps = np.zeros(plan.n_map_bins, dtype=np.int64)
    n_events, pairs = inputs.shape[0], np.zeros(plan.n_pairs, dtype=np.int64)
    kernels().fill_columns(flat, stride, n_events, plan.columns, plan.slots, counts, maps, plan.groups, pairs)
    return Filled(counts, maps, pairs)


def fill_octaves(values: npt.NDArray[np.int32], steps: int, n_bins: int) -> Counts:
    """Count values in bins that grow with the value, as `streams.counting.summary.score_bins` describes.

    Parameters
    ----------
    values
        int32, shape (n,).
    steps
        Bins per factor of two, a power of two.
    n_bins
        Bins in all, at most `MAX_CELLS`.
    """
    counts = np.zeros(n_bins, dtype=np.int64)
    kernels().fill_octaves(np.ascontiguousarray(values), steps, counts)
    return counts


def kernels() -> ModuleType:
    """Return the compiled loops. The first call in a process compiles them, which takes seconds.

    Whoever must not wait in the middle of its work calls this before it begins.
    """
    with _COMPILING:
        from streams.counting import fill_kernels  # noqa: PLC0415 - imported, hence compiled, when it is needed
    return fill_kernels


def _flat(inputs: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int16], int]:
    """Return one flat view over all columns, and the distance of two columns in codes."""
    columns = inputs.T
    n_columns, n_events = columns.shape
    step = columns.strides[0] // 2
    if not columns.size:
        return np.zeros(0, dtype=np.int16), 0
    if columns.strides[1] != 2 or columns.strides[0] != 2 * step or step < n_events:
        columns, step = np.ascontiguousarray(columns), n_events
    length = (n_columns - 1) * step + n_events
    return np.lib.stride_tricks.as_strided(columns, (length,), (2,), writeable=False), step
