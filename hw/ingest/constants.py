"""The constant part of an ONNX graph: tensors, and the nodes that only have constants before them.

Refuses to know what the data go through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np
import numpy.typing as npt

from hw.errors import ModelError
from hw.ingest.exact import Exact
from hw.ingest.onnx_graph import Node
from hw.ingest.quantisers import OPS, Constant, quantised_constant


class Constants:
    """Constants by name; nodes add to them.

    Parameters
    ----------
    initializers
        float64 arrays by name.
    """

    def __init__(self, initializers: Mapping[str, npt.NDArray[np.float64]]) -> None:
        self._found = {name: Constant(values) for name, values in initializers.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def __getitem__(self, name: str) -> Constant:
        return self._found[name]

    def evaluate(self, node: Node) -> None:
        """Add what a node gives whose inputs are all constants; raises ModelError when that is unknown."""
        self._found[node.outputs[0]] = self._value(node, [self._found[name] for name in node.inputs if name])

    def _value(self, node: Node, given: list[Constant]) -> Constant:
        if node.op in OPS and len(given) == 4:
            values = given[0].values
            found = quantised_constant(node, values, [one.values for one in given[1:]])
            if found.values.shape != values.shape:
                raise ModelError(f"{node.label}: its scale has more dimensions than what it scales")
            return found
        if node.op == "Constant":
            return Constant(_numbers(node))
        if node.op == "Identity" and len(given) == 1:
            return given[0]
        if node.op == "Transpose" and len(given) == 1:
            axes = node.attributes.get("perm")
            if axes is not None and sorted(axes) != list(range(given[0].values.ndim)):
                raise ModelError(f"{node.label}: perm {axes} does not fit: export the model again")
            return replace(given[0], values=np.transpose(given[0].values, axes))
        if node.op == "Reshape" and len(given) == 2:
            shape = resolved_shape(node, given[1].values, given[0].values.shape)
            return replace(given[0], values=given[0].values.reshape(shape))
        raise ModelError(f"{node.label}: it computes a constant: export with do_constant_folding=True")


def resolved_shape(node: Node, wanted: npt.NDArray[np.float64], given: tuple[int, ...]) -> tuple[int, ...]:
    """Give the shape that a Reshape of an array of the shape `given` asks for, or raise ModelError."""
    sizes = [int(value) for value in wanted.ravel()]
    sizes = [given[i] if size == 0 and i < len(given) else size for i, size in enumerate(sizes)]
    known = prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and known > 0:
        sizes = [prod(given) // known if size == -1 else size for size in sizes]
    if min(sizes, default=0) < 1 or prod(sizes) != prod(given):
        raise ModelError(f"{node.label}: {given} cannot become {tuple(sizes)}: export the model again")
    return tuple(sizes)


def exactly(what: str, constant: Constant) -> Exact:
    """Give a constant as exact numbers, with the format its Quant gave it."""
    if constant.format is not None:
        return Exact.on_grid(constant.values, constant.format)
    return Exact.of(what, constant.values.ravel().tolist(), constant.values.shape)


def _numbers(node: Node) -> npt.NDArray[np.float64]:
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if node.attributes.get(name) is not None:
            return np.asarray(node.attributes[name], dtype=np.float64)
    raise ModelError(f"{node.label}: it holds no numbers: export the model again")
