"""Columns taken over as uproot reads them, in awkward arrays. Knows no file and no contract."""

from typing import Any

import awkward as ak
import numpy as np

from streams.contracts.columns import Array, Column, Lists
from streams.errors import ExpressionError


def from_awkward(array: Any, name: str) -> Column:
    """Take over a column as uproot reads it, without a copy where the type allows.

    Raises
    ------
    ExpressionError
        It holds neither numbers nor lists of numbers, or integers beyond 64 bits with sign.
    """
    layout = ak.to_layout(array)
    text = layout.parameter("__array__") in {"string", "bytestring"}
    if isinstance(layout, ak.contents.ListArray):
        layout = layout.to_ListOffsetArray64(True)
    if isinstance(layout, ak.contents.RegularArray | ak.contents.ListOffsetArray) and not text:
        size = layout.size if isinstance(layout, ak.contents.RegularArray) else None
        inner = layout.content
        if isinstance(inner, ak.contents.NumpyArray) and inner.data.ndim == 1:
            if size is not None:
                offsets = np.arange(len(layout) + 1, dtype=np.int64) * size
            else:
                offsets = np.asarray(layout.offsets.data).astype(np.int64, copy=False)
            content = np.asarray(inner.data)[offsets[0] : offsets[-1]]
            return Lists(_checked(content, name), offsets - offsets[0] if offsets[0] else offsets)
    if isinstance(layout, ak.contents.NumpyArray):
        data = np.asarray(layout.data)
        if data.ndim == 1:
            return _checked(data, name)
        if data.ndim == 2:
            offsets = np.arange(len(data) + 1, dtype=np.int64) * data.shape[1]
            return Lists(_checked(data.reshape(-1), name), offsets)
    raise ExpressionError(
        f"branch '{name}' holds {layout.form.type}: only numbers and lists of numbers for each event are read"
    )


def _checked(data: Array, name: str) -> Array:
    kind, size = data.dtype.kind, data.dtype.itemsize
    if kind == "f":
        return data.astype(np.float64, copy=False)
    if kind == "u" and size == 8:
        if data.size and int(data.max()) > np.iinfo(np.int64).max:
            raise ExpressionError(f"branch '{name}' holds {data.max()}: integers above 2^63 - 1 are not read")
        return data.astype(np.int64)
    if kind == "b":
        return data
    if kind in "iu":  # signed, and not narrower than 16 bits: three types to compile loops for, not seven
        return data.astype(np.promote_types(data.dtype, np.int16), copy=False)
    raise ExpressionError(f"branch '{name}' holds {data.dtype}: only numbers are read")
