"""Compiled inner loops of the conversion: which object stands where, and its codes. Knows no file.

`streams.contracts.quantity.digitise` says the same in numpy, one quantity at a time; the tests hold both
together.
"""

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from streams.contracts.columns import Lists
from streams.contracts.contract import ObjectGroup
from streams.contracts.input_stage import RND, RND_CONV
from streams.contracts.quantity import INT16_MAXIMUM, INT16_MINIMUM, Quantity

Function = TypeVar("Function", bound=Callable[..., Any])


def _compiled(function: Function) -> Function:
    return cast("Function", numba.njit(nogil=True, cache=True)(function))


Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.signedinteger[Any]]
_ALL: Final[Mask] = np.zeros(0, dtype=np.bool_)
_LONGEST_TABLE: Final = 1 << 14
"""Raw integers that a table is made for: a longer one leaves the caches, and the arithmetic is quicker."""


def places(lists: Lists, count: int, mask: Mask = _ALL) -> Places:
    """Return where the first objects of each event stand.

    Parameters
    ----------
    lists
        One number for each object.
    count
        How many objects to find.
    mask
        True for objects to take; empty for all.

    Returns
    -------
    int32 or int64, shape (n_events, count): places in the content, -1 for no object.
    """
    index = _places_of(lists, count)
    _in_order(lists.offsets, mask, index)
    return index


def leading_places(keys: Lists, count: int, mask: Mask = _ALL) -> Places:
    """Return where the objects with the largest keys stand, largest first; equal ones as in the file.

    Parameters and result as those of `places`.
    """
    index = _places_of(keys, count)
    _leading(keys.offsets, keys.content, mask, index)
    return index


def _places_of(lists: Lists, count: int) -> Places:
    kind = np.int32 if len(lists.content) < 2**31 else np.int64
    return np.empty((len(lists), count), dtype=kind)


class Coder:
    """Writes the codes of one quantity. What depends on the contract alone is worked out once.

    Parameters
    ----------
    quantity
        How to digitise.
    count
        How many objects of an event have a code.
    """

    def __init__(self, quantity: Quantity, count: int) -> None:
        stage = quantity.stage
        self._numbers = np.empty((3, count), dtype=np.int64)  # offset, shift, padding of each object
        for k in range(count):
            offset = quantity.offset if stage is None else stage.offset_steps(k)
            shift = quantity.shift if stage is None else stage.shift_of(k)
            self._numbers[:, k] = offset, shift, quantity.padding(k)
        if stage is None:
            fractions, rounding, low, high = (0, 0), 0, INT16_MINIMUM, INT16_MAXIMUM
        else:
            fractions, rounding = (
                (stage.raw_type.fraction, stage.scaled_type.fraction),
                stage.scaled_type.rounding,
            )
            low, high = stage.scaled_type.minimum, stage.scaled_type.maximum
        self._scaling = (*fractions, rounding, low, high)
        self._limits = (quantity.minimum, quantity.maximum, quantity.wrap or 0)
        self._unit = None if quantity.coded else (quantity.lsb, quantity.rounding == "nearest")
        span = quantity.maximum - quantity.minimum + 1
        self._table = self._codes_of_all(span, count) if quantity.coded and span <= _LONGEST_TABLE else None

    def fill(self, codes: npt.NDArray[np.int16], values: Lists, index: Places) -> None:
        """Write codes.

        Parameters
        ----------
        codes
            int16, shape (n_events, count), to be filled; a view with strides will do.
        values
            Integers where the quantity is coded, else floating point. NaN and infinity become padding.
        index
            Which value stands where, as `places` gives it.
        """
        content = values.content
        if self._unit is not None:
            content = content.astype(np.float64, copy=False)
            _codes_of_floats(content, index, codes, self._unit, self._limits, self._numbers, self._scaling)
        elif self._table is not None:
            _codes_from_table(content, index, codes, self._limits, self._numbers[2], self._table)
        else:
            _codes_of_integers(content, index, codes, self._limits, self._numbers, self._scaling)

    def _codes_of_all(self, span: int, count: int) -> npt.NDArray[np.int16]:
        """Return int16, shape (count, span): the codes of all raw integers in the range."""
        every = np.arange(self._limits[0], self._limits[1] + 1, dtype=np.int64)
        index = np.repeat(np.arange(span), count).reshape(span, count)
        codes = np.empty((span, count), dtype=np.int16)
        _codes_of_integers(every, index, codes, self._limits, self._numbers, self._scaling)
        return np.ascontiguousarray(codes.T)


def clear_missing(codes: npt.NDArray[np.int16], group: ObjectGroup) -> None:
    """Clear all quantities of an object whose pt has the code of a missing one.

    Parameters
    ----------
    codes
        int16, shape (n_events, count, quantities), changed in place.
    group
        What they are.
    """
    names = [quantity.name for quantity in group.quantities]
    if "pt" not in names or group.keep_without_pt:
        return
    padding = np.array([[q.padding(k) for q in group.quantities] for k in range(group.count)], dtype=np.int16)
    _clear(codes, names.index("pt"), padding)


@_compiled
def _in_order(offsets: Any, mask: Any, index: Any) -> None:
    n_events, count = index.shape
    every = mask.size == 0
    for event in range(n_events):
        k = 0
        for place in range(offsets[event], offsets[event + 1]):
            if k == count:
                break
            if every or mask[place]:
                index[event, k] = place
                k += 1
        for missing in range(k, count):
            index[event, missing] = -1


@_compiled
def _leading(offsets: Any, keys: Any, mask: Any, index: Any) -> None:
    n_events, count = index.shape
    every = mask.size == 0
    for event in range(n_events):
        filled = 0
        for place in range(offsets[event], offsets[event + 1]):
            key = keys[place]
            if not (every or mask[place]) or (filled == count and not key > keys[index[event, count - 1]]):
                continue
            k = min(filled, count - 1)
            while k > 0 and keys[index[event, k - 1]] < key:
                index[event, k] = index[event, k - 1]
                k -= 1
            index[event, k] = place
            filled = min(filled + 1, count)
        for k in range(filled, count):
            index[event, k] = -1


@_compiled
def _scaled(raw: Any, offset: Any, shift: Any, scaling: Any) -> Any:
    raw_fraction, fraction, rounding, low, high = scaling
    moved = (raw << raw_fraction) - offset
    steps = moved >> shift if shift >= 0 else moved << -shift
    drop = raw_fraction - fraction
    if drop <= 0:
        code = steps << -drop
    elif rounding == RND:
        code = (steps + (1 << (drop - 1))) >> drop
    elif rounding == RND_CONV:
        code = (steps + (1 << (drop - 1)) - 1 + ((steps >> drop) & 1)) >> drop
    else:
        code = steps >> drop
    return min(max(code, low), high)


@_compiled
def _codes_of_integers(values: Any, index: Any, codes: Any, limits: Any, numbers: Any, scaling: Any) -> None:
    minimum, maximum, wrap = limits
    n_events, count = index.shape
    for event in range(n_events):
        for k in range(count):
            place = index[event, k]
            if place < 0:
                codes[event, k] = numbers[2, k]
                continue
            raw = np.int64(values[place])
            if wrap > 0 and not minimum <= raw <= maximum:
                raw = minimum + (raw - minimum) % wrap
            raw = min(max(raw, minimum), maximum)
            codes[event, k] = _scaled(raw, numbers[0, k], numbers[1, k], scaling)


@_compiled
def _codes_from_table(values: Any, index: Any, codes: Any, limits: Any, padding: Any, table: Any) -> None:
    minimum, maximum, wrap = limits
    n_events, count = index.shape
    for event in range(n_events):
        for k in range(count):
            place = index[event, k]
            if place < 0:
                codes[event, k] = padding[k]
                continue
            raw = np.int64(values[np.uint64(place)])  # unsigned: nothing is counted from the end
            if wrap > 0 and not minimum <= raw <= maximum:
                raw = minimum + (raw - minimum) % wrap
            codes[event, k] = table[np.uint64(k), np.uint64(min(max(raw, minimum), maximum) - minimum)]


@_compiled
def _codes_of_floats(
    values: Any, index: Any, codes: Any, unit: Any, limits: Any, numbers: Any, scaling: Any
) -> None:
    lsb, nearest = unit
    minimum, maximum, wrap = limits
    n_events, count = index.shape
    for event in range(n_events):
        for k in range(count):
            place = index[event, k]
            if place < 0 or not math.isfinite(values[place]):
                codes[event, k] = numbers[2, k]
                continue
            steps = values[place] / lsb
            steps = np.rint(steps) if nearest else np.floor(steps)
            if wrap > 0 and not minimum <= steps <= maximum:
                steps = minimum + (steps - minimum) % wrap
            raw = np.int64(min(max(steps, minimum), maximum))
            codes[event, k] = _scaled(raw, numbers[0, k], numbers[1, k], scaling)


@_compiled
def _clear(codes: Any, pt: int, padding: Any) -> None:
    n_events, count, n_quantities = codes.shape
    for event in range(n_events):
        for k in range(count):
            if codes[event, k, pt] == padding[k, pt]:
                for q in range(n_quantities):
                    codes[event, k, q] = padding[k, q]
