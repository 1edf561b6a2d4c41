"""Columns of events: one number, or one list of numbers, for each event. Knows no file.

Numbers are of three kinds: booleans, integers (64 bits, exact) and floating point (64 bits). Integers stay
integers until they meet a floating-point number or a division; a result that leaves 64 bits is refused. What
was only read stays as narrow as in the file, which is quicker to move, until it is computed with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from streams.errors import ExpressionError

Array = npt.NDArray[Any]
_INT64_MAXIMUM: Final = 2**63 - 1
_MAX_SHIFT: Final = 62


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """One list of numbers for each event.

    Attributes
    ----------
    content
        The numbers of all events, one after the other.
    offsets
        int64, shape (n_events + 1,): the numbers of event e are ``content[offsets[e]:offsets[e + 1]]``.
    """

    content: Array
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """How many numbers each event has."""
        return np.diff(self.offsets)

    def same_lengths(self, other: "Lists") -> bool:
        """Tell whether every event has as many numbers in both."""
        return self.offsets is other.offsets or np.array_equal(self.offsets, other.offsets)


Column = Array | Lists
"""Numbers of shape (n_events,), or lists of them; a constant is an array of shape ()."""


def widened(column: Column) -> Column:
    """Give integers the 64 bits that all arithmetic wants; whatever else comes back as it is."""
    if isinstance(column, Lists):
        return Lists(_wide(column.content), column.offsets)
    return _wide(column)


def _wide(array: Array) -> Array:
    return array.astype(np.int64, copy=False) if array.dtype.kind in "iu" else array


def elementwise(function: Callable[..., Array], *columns: Column) -> Column:
    """Apply a function number by number; one number for an event meets every number of its list.

    Raises
    ------
    ExpressionError
        Lists differ in length.
    """
    lists = [column for column in columns if isinstance(column, Lists)]
    if not lists:
        return function(*columns)
    first = lists[0]
    if not all(first.same_lengths(other) for other in lists[1:]):
        raise ExpressionError("its lists differ in number of entries")
    contents = [_spread(column, first) for column in columns]
    return Lists(function(*contents), first.offsets)


def _spread(column: Column, like: Lists) -> Array:
    if isinstance(column, Lists):
        return column.content
    return np.repeat(column, like.numbers) if column.ndim else column


def as_number(array: Array) -> Array:
    """Make 0 and 1 of booleans, so that arithmetic counts them."""
    return array.astype(np.int64) if array.dtype.kind == "b" else array


def _largest(array: Array) -> int:
    return max(abs(int(array.min())), abs(int(array.max()))) if array.size else 0


def exact(
    function: Callable[[Array, Array], Array], bound: Callable[[int, int], int]
) -> Callable[[Array, Array], Array]:
    """Wrap an arithmetic function so that integers that could leave 64 bits are refused.

    Parameters
    ----------
    function
        Of two arrays.
    bound
        Largest possible result for the largest magnitudes of the two.
    """

    def checked(left: Array, right: Array) -> Array:
        left, right = as_number(left), as_number(right)
        if left.dtype.kind == right.dtype.kind == "i" and bound(_largest(left), _largest(right)) >= 2**63:
            raise ExpressionError("its integers leave 64 bits: divide first")
        return function(left, right)

    return checked


def whole_division(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Wrap ``//`` or ``%``: exact for integers, NaN or infinity where the divisor is zero."""

    def divided(left: Array, right: Array) -> Array:
        left, right = as_number(left), as_number(right)
        if right.dtype.kind == "i" and (right == 0).any():
            right = right.astype(np.float64)
        return function(left, right)

    return divided


def shifted(function: Callable[[Array, Array], Array], *, left: bool) -> Callable[[Array, Array], Array]:
    """Wrap a bit shift of integers by 0 to 62 places."""

    def shift(value: Array, places: Array) -> Array:
        value, places = as_number(value), as_number(places)
        if value.dtype.kind != "i" or places.dtype.kind != "i":
            raise ExpressionError("only integers can be shifted")
        if places.size and not 0 <= int(places.min()) <= int(places.max()) <= _MAX_SHIFT:
            raise ExpressionError(f"integers are shifted by 0 to {_MAX_SHIFT} places")
        if left and places.size and _largest(value) << int(places.max()) > _INT64_MAXIMUM:
            raise ExpressionError("its integers leave 64 bits: shift less")
        return function(value, places)

    return shift


def bitwise(function: Callable[..., Array]) -> Callable[..., Array]:
    """Wrap ``&``, ``|``, ``^`` or ``~``: booleans and integers only."""

    def combined(*arrays: Array) -> Array:
        if any(array.dtype.kind not in "bi" for array in arrays):
            raise ExpressionError("& | ^ ~ take comparisons or integers: put brackets around comparisons")
        return function(*arrays)

    return combined


def chosen(values: Column, mask: Column) -> Lists:
    """Keep the numbers of each list for which the mask is true."""
    if not isinstance(values, Lists) or not isinstance(mask, Lists) or mask.content.dtype.kind != "b":
        raise ExpressionError("x[condition] takes a list and a comparison of such lists")
    if not values.same_lengths(mask):
        raise ExpressionError("its lists differ in number of entries")
    return Lists(values.content[mask.content], kept_offsets(mask))


def kept_offsets(mask: Lists) -> npt.NDArray[np.int64]:
    """Return the offsets of lists of which only what the mask is true for is left."""
    before = np.zeros(len(mask.content) + 1, dtype=np.int64)
    np.cumsum(mask.content, out=before[1:])
    return before[mask.offsets]


def joined(*columns: Column) -> Lists:
    """Append lists, event by event."""
    if not all(isinstance(column, Lists) for column in columns):
        raise ExpressionError("concat takes lists, not one number for each event")
    lists = [column for column in columns if isinstance(column, Lists)]
    numbers = [one.numbers for one in lists]
    if any(len(number) != len(numbers[0]) for number in numbers):
        raise ExpressionError("its lists are not of the same events")
    offsets = np.zeros(len(lists[0]) + 1, dtype=np.int64)
    np.cumsum(np.sum(numbers, axis=0), out=offsets[1:])
    contents = [as_number(one.content) if len(lists) > 1 else one.content for one in lists]
    result = np.empty(int(offsets[-1]), dtype=np.result_type(*contents))
    starts = offsets[:-1].copy()
    for one, number, content in zip(lists, numbers, contents, strict=True):
        result[np.repeat(starts - one.offsets[:-1], number) + np.arange(len(content))] = content
        starts += number
    return Lists(result, offsets)


def reduced(function: np.ufunc, values: Column, empty: Array) -> Array:
    """Combine the numbers of each list into one, `empty` where there are none."""
    if not isinstance(values, Lists):
        raise ExpressionError("only lists can be summed up, event by event")
    content = values.content
    filled = values.numbers > 0
    result = np.array(np.broadcast_to(empty, filled.shape), dtype=np.result_type(content, empty))
    if filled.any():
        result[filled] = function.reduceat(content, values.offsets[:-1][filled])
    return result


def picked(values: Column, index: Array, otherwise: Array) -> Array:
    """Take the number at one place of each list, `otherwise` where the list is shorter."""
    if not isinstance(values, Lists) or index.ndim or index.dtype.kind != "i":
        raise ExpressionError("at and first take a list and a constant place, counted from 0")
    if int(index) < 0:
        raise ExpressionError("places are counted from 0")
    there = values.numbers > int(index)
    content, otherwise = as_number(values.content), as_number(otherwise)
    result = np.array(np.broadcast_to(otherwise, there.shape), dtype=np.result_type(content, otherwise))
    result[there] = content[values.offsets[:-1][there] + int(index)]
    return result
