"""Columns of some events become the codes of a contract. Knows no file.

Each event's objects are chosen, sorted, cut or padded to the contract's number, and digitised. Events that
are not selected, or hold a value that has no code, are dropped and counted by the first reason.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from streams.contracts import columns as c
from streams.contracts import expression
from streams.contracts.columns import Column, Lists
from streams.contracts.contract import Contract, ObjectGroup
from streams.conversion.digitise_kernels import Coder, clear_missing, leading_places, places
from streams.errors import ExpressionError

KEPT: Final[dict[str, type[np.generic]]] = {
    "run": np.int64,
    "lumisection": np.int64,
    "event": np.int64,
    "weight": np.float64,
    "label": np.int64,
}
"""What a contract may keep beside the inputs, in the order of the file."""
_EXACT: Final = 2.0**53

Mask = npt.NDArray[np.bool_]
Drop = Callable[[Mask, str], None]


@dataclass(frozen=True)
class Chunk:
    """Events under a contract.

    Attributes
    ----------
    events_in
        Events read.
    inputs
        int16, shape (events kept, n_inputs).
    kept
        Column beside the inputs -> its values, in the types of `KEPT`.
    dropped
        Reason -> events dropped for it.
    """

    events_in: int
    inputs: npt.NDArray[np.int16]
    kept: dict[str, npt.NDArray[Any]]
    dropped: Counter[str]


def branches_of(contract: Contract) -> set[str]:
    """Return the branches that a contract reads."""
    texts = [quantity.expression for group in contract.objects for quantity in group.quantities]
    texts += [group.select for group in contract.objects if group.select is not None]
    texts += [text for name in ("select", *KEPT) if (text := getattr(contract, name)) is not None]
    return set().union(*(expression.names(text) for text in texts))


def kept_columns(contract: Contract) -> dict[str, type[np.generic]]:
    """Return what a contract keeps beside the inputs, with its types."""
    return {name: dtype for name, dtype in KEPT.items() if getattr(contract, name) is not None}


class Converter:
    """Turns columns into the codes of one contract, chunk by chunk."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._coders = [[Coder(one, group.count) for one in group.quantities] for group in contract.objects]

    def convert(self, columns: Mapping[str, Column], n_events: int) -> Chunk:
        """Turn columns into codes.

        Parameters
        ----------
        columns
            Branch -> its values for `n_events` events.
        n_events
            How many.

        Raises
        ------
        ExpressionError
            An expression does not fit the data.
        """
        contract = self._contract
        good = np.ones(n_events, dtype=np.bool_)
        dropped: Counter[str] = Counter()

        def drop(bad: Mask, reason: str) -> None:
            dropped[reason] += int(np.count_nonzero(bad & good))
            good[bad] = False

        events = _Events(columns, n_events)
        if contract.select is not None:
            drop(~events.condition(contract.select), "not selected")
        inputs = np.empty((n_events, contract.n_inputs), dtype=np.int16)
        start = 0
        for group, coders in zip(contract.objects, self._coders, strict=True):
            width = group.count * len(group.quantities)
            block = inputs[:, start : start + width].reshape(n_events, group.count, len(group.quantities))
            _fill_group(block, group, coders, events, drop)
            start += width
        kept = {
            name: _integers(events.numbers(getattr(contract, name)), name, drop)
            if dtype is np.int64
            else _floats(events.numbers(getattr(contract, name)), name, drop)
            for name, dtype in kept_columns(contract).items()
        }
        if not good.all():
            inputs = inputs[good]
            kept = {name: values[good] for name, values in kept.items()}
        return Chunk(n_events, inputs, kept, +dropped)


class _Events:
    """Evaluates expressions over the same events; what they share is worked out once."""

    def __init__(self, columns: Mapping[str, Column], n_events: int) -> None:
        for name, column in columns.items():
            if len(column) != n_events:  # compiled loops would read beyond their end
                raise ExpressionError(f"branch '{name}' holds {len(column)} of {n_events} events")
        self._columns, self._n_events = columns, n_events
        self._memo: dict[str, Column] = {}

    def evaluate(self, text: str) -> Column:
        result = expression.parse(text).evaluate(self._columns, self._memo)
        if not isinstance(result, Lists) and not result.ndim:
            return np.broadcast_to(result, self._n_events)
        return result

    def numbers(self, text: str) -> npt.NDArray[Any]:
        """One number for each event."""
        result = self.evaluate(text)
        if isinstance(result, Lists):
            raise ExpressionError(f"expression '{text}' gives a list for each event: give one number")
        return result

    def condition(self, text: str) -> Mask:
        """One boolean for each event."""
        result = self.numbers(text)
        if result.dtype.kind != "b":
            raise ExpressionError(f"select = '{text}' gives numbers: write a comparison, for example x > 0")
        return result

    def objects(self, text: str) -> Lists:
        """One list for each event; one number for each event becomes one object."""
        result = self.evaluate(text)
        if isinstance(result, Lists):
            return result
        return Lists(np.ascontiguousarray(result), np.arange(self._n_events + 1, dtype=np.int64))


def _fill_group(
    block: npt.NDArray[np.int16], group: ObjectGroup, coders: Sequence[Coder], events: _Events, drop: Drop
) -> None:
    """Fill int16 (n_events, count, quantities) with the codes of one kind of object."""
    values = {quantity.name: events.objects(quantity.expression) for quantity in group.quantities}
    first = group.quantities[0].name
    for name, one in values.items():
        if not one.same_lengths(values[first]):
            raise ExpressionError(
                f"'{group.name}.{name}' and '{group.name}.{first}' differ in number of objects"
            )
    mask = np.zeros(0, dtype=np.bool_) if group.select is None else _mask(values[first], group, events)
    for quantity in group.quantities:
        _check_numbers(
            values[quantity.name], mask, f"{group.name}.{quantity.name}", drop, coded=quantity.coded
        )
    if group.sort_by is None:
        index = places(values[first], group.count, mask)
    else:
        index = leading_places(_sortable(values[group.sort_by]), group.count, mask)
    for position, (quantity, coder) in enumerate(zip(group.quantities, coders, strict=True)):
        coder.fill(block[:, :, position], _sortable(values[quantity.name]), index)
    clear_missing(block, group)


def _mask(like: Lists, group: ObjectGroup, events: _Events) -> Mask:
    mask = events.objects(str(group.select))
    if mask.content.dtype.kind != "b" or not mask.same_lengths(like):
        raise ExpressionError(
            f"select = '{group.select}' of '{group.name}' is no condition on its objects: compare"
        )
    return mask.content


def _sortable(values: Lists) -> Lists:
    return Lists(c.as_number(values.content), values.offsets)


def _check_numbers(values: Lists, mask: Mask, name: str, drop: Drop, *, coded: bool) -> None:
    if values.content.dtype.kind != "f":
        return
    if coded:
        raise ExpressionError(
            f"'{name}' is coded, but its expression gives floating-point numbers: use integers and //"
        )
    finite = np.isfinite(values.content)
    if mask.size:
        finite |= ~mask
    if not finite.all():
        bad = Lists((~finite).astype(np.int64), values.offsets)
        drop(c.reduced(np.add, bad, np.zeros((), np.int64)) > 0, f"{name} is not finite")


def _floats(values: npt.NDArray[Any], name: str, drop: Drop) -> npt.NDArray[np.float64]:
    result = values.astype(np.float64)
    drop(~np.isfinite(result), f"{name} is not finite")
    return result


def _integers(values: npt.NDArray[Any], name: str, drop: Drop) -> npt.NDArray[np.int64]:
    if values.dtype.kind != "f":
        return values.astype(np.int64)
    finite = np.isfinite(values)
    drop(~finite, f"{name} is not finite")
    whole = finite & (np.abs(values) <= _EXACT) & (values == np.rint(values))
    drop(~whole, f"{name} is no whole number")
    return np.where(whole, values, 0).astype(np.int64)
