"""Where baskets end, and what lies between two such borders, put together in one pass. Knows no contract.

What uproot does for any kind of branch is more than plain ones need, with one number or one list of numbers
for each event. Those are taken from the unpacked basket as they lie. Whatever else there is, and whatever
looks odd, is left to uproot, which knows all kinds and says what is wrong.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, Final, TypeVar, cast

import awkward as ak
import numba
import numpy as np
import numpy.typing as npt
import uproot.compression
from uproot.interpretation.jagged import AsJagged
from uproot.interpretation.numerical import AsDtype

Function = TypeVar("Function", bound=Callable[..., Any])
_PLAIN: Final = "biuf"


def _compiled(function: Function) -> Function:
    return cast("Function", numba.njit(nogil=True, cache=True)(function))


@cache
def unpack_quickly() -> None:
    """Let uproot unpack ZLIB by ISA-L where `isal` is installed: the same bytes in half the time.

    For this process, once. It is not public: ``uproot.ZLIB.library``, which is, acts on packing alone.
    """
    if find_spec("isal") is not None:
        uproot.compression._decompress_ZLIB.library = "isal"  # noqa: SLF001


def common_cuts(trees: Sequence[tuple[Any, set[str]]], step: int, start: int) -> list[int]:
    """Return events to cut at, about a step apart, where no basket is cut; none where there are no such."""
    if any("RNTuple" in tree.classname for tree, _ in trees):
        return []
    every = [set(tree.common_entry_offsets(filter_name=keys.__contains__)) for tree, keys in trees]
    borders = np.array(sorted(set.intersection(*every)))
    cuts, end = [start], int(trees[0][0].num_entries)
    while cuts[-1] < end:
        aim = min(cuts[-1] + step, end)
        near = int(borders[np.argmin(np.abs(borders - aim))])
        if near <= cuts[-1] or abs(near - aim) > step / 2:
            return []
        cuts.append(near)
    return cuts


def between_borders(branch: Any, first: int, last: int) -> ak.contents.Content | None:
    """Read events `first` to `last` of a branch, both at a border of its baskets.

    Parameters
    ----------
    branch
        As uproot gives it, of a local file: baskets are fetched one by one.
    first, last
        Events; the last one is not read.

    Returns
    -------
    What awkward makes an array of, as `branch.array` would give it; None where that should be asked.
    """
    interpretation = branch.interpretation
    is_list = type(interpretation) is AsJagged and interpretation.header_bytes == 0
    plain = interpretation.content if is_list else interpretation
    if type(plain) is not AsDtype or plain.inner_shape or plain.from_dtype.kind not in _PLAIN:
        return None
    borders = branch.entry_offsets
    if first not in borders or last not in borders:
        return None
    start, stop = borders.index(first), len(borders) - 1 - borders[::-1].index(last)
    events = [after - before for before, after in pairwise(borders[start : stop + 1])]
    baskets = [branch.basket(number) for number in range(start, stop)]
    if [basket.num_entries for basket in baskets] != events:
        return None
    contents = [_numbers(basket.data, plain.from_dtype) for basket in baskets]
    if is_list:
        offsets = _offsets([basket.byte_offsets for basket in baskets], events, plain.from_dtype.itemsize)
        lengths = offsets[np.cumsum([0, *events])] if offsets is not None else None
        if offsets is None or lengths is None or np.diff(lengths).tolist() != [len(one) for one in contents]:
            return None
        index = ak.index.Index64(offsets)
        return ak.contents.ListOffsetArray(index, ak.contents.NumpyArray(_joined(contents, plain.to_dtype)))
    if [len(one) for one in contents] != events:
        return None
    return ak.contents.NumpyArray(_joined(contents, plain.to_dtype))


def _numbers(data: npt.NDArray[np.uint8], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Take bytes as numbers; none where they do not come out even."""
    return data.view(dtype) if len(data) % dtype.itemsize == 0 else np.empty(0, dtype)


def _joined(contents: Sequence[npt.NDArray[Any]], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    joined = np.empty(sum(map(len, contents)), dtype)
    filled = 0
    for one in contents:
        joined[filled : filled + len(one)] = one
        filled += len(one)
    return joined


def _offsets(
    parts: Sequence[npt.NDArray[np.int32] | None], events: Sequence[int], itemsize: int
) -> npt.NDArray[np.int64] | None:
    """Join offsets in bytes, of every basket from 0 on, to offsets of numbers; None where one falls."""
    offsets = np.zeros(sum(events) + 1, dtype=np.int64)
    done = 0
    for part, n_events in zip(parts, events, strict=True):
        if part is None or len(part) != n_events + 1 or part[0]:
            return None
        if not _go_on(part, itemsize.bit_length() - 1, offsets[done : done + n_events + 1]):
            return None
        done += n_events
    return offsets


@_compiled
def _go_on(in_bytes: Any, shift: Any, offsets: Any) -> Any:
    """Fill offsets behind the first of them; False where a list would have less than no numbers."""
    for event in range(1, len(offsets)):
        if in_bytes[event] < in_bytes[event - 1]:
            return False
        offsets[event] = offsets[0] + (in_bytes[event] >> shift)
    return True
