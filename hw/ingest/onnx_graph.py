"""An ONNX file as plain nodes and arrays: read from memory, bounded, nothing executed, nothing else opened.

Needs the `onnx` package, and imports it when a file is read. Refuses to know what a node computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hw.errors import ModelError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

_MAXIMUM_BYTES = 32 << 20
_MAXIMUM_NODES = 4096
_MAXIMUM_ELEMENTS = 1 << 20
"""Of all constants together: no trigger's firmware holds as many parameters."""


@dataclass(frozen=True)
class Node:
    """One operation.

    Parameters
    ----------
    domain
        Empty for ONNX's own operators.
    attributes
        Numbers, texts, tuples of numbers, and tensors as float64 arrays, by name.
    """

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"{self.op} '{self.name}'"

    def number(self, name: str, default: float) -> float:
        """Give a numeric attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int | float):
            raise ModelError(f"{self.label}: attribute {name} is no number: export the model again")
        return value

    def text(self, name: str, default: str) -> str:
        """Give a text attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, str):
            raise ModelError(f"{self.label}: attribute {name} is no text: export the model again")
        return value


@dataclass(frozen=True)
class Graph:
    """A graph with one input and one output.

    Parameters
    ----------
    nodes
        In the order of the data.
    constants
        float64 arrays by name.
    features
        Shape of one event.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, npt.NDArray[np.float64]]
    input: str
    features: tuple[int, ...]
    output: str


def read_graph(content: bytes) -> Graph:
    """Read an ONNX file.

    Raises
    ------
    ModelError
        When the `onnx` package is absent, or the file is damaged, too large, keeps parameters in other files,
        holds numbers that are not finite, or has several inputs or outputs.
    """
    graph = _parse(content).graph
    _check_texts(graph)
    if len(graph.node) > _MAXIMUM_NODES:
        raise ModelError(f"the graph has {len(graph.node)} nodes, more than {_MAXIMUM_NODES}: export less")
    if graph.sparse_initializer:
        raise ModelError("the graph has sparse initializers: export dense ones")
    constants = _constants(graph.initializer)
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ModelError(
            f"the graph has {len(inputs)} inputs and {len(graph.output)} outputs: export it with one of each "
            "(in Brevitas, return_quant_tensor=False in the last layer)"
        )
    dimensions = inputs[0].type.tensor_type.shape.dim
    features = tuple(int(one.dim_value) for one in dimensions[1:])
    if not features or min(features) < 1 or prod(features) > _MAXIMUM_ELEMENTS:
        raise ModelError(
            f"the graph's input '{inputs[0].name}' has no fixed shape behind the batch: export it with (1, n)"
        )
    nodes = tuple(_node(node, index) for index, node in enumerate(graph.node))
    total = sum(array.size for array in constants.values())
    total += sum(
        value.size for node in nodes for value in node.attributes.values() if isinstance(value, np.ndarray)
    )
    _check_elements(total)
    return Graph(nodes, constants, inputs[0].name, features, graph.output[0].name)


def _check_texts(graph: GraphProto) -> None:
    """Refuse names that are no text, which protobuf lets through as bytes."""
    names = [value.name for value in (*graph.initializer, *graph.input, *graph.output)]
    for node in graph.node:
        names += [node.op_type, node.domain, node.name, *node.input, *node.output]
        names += [attribute.name for attribute in node.attribute]
    if not all(isinstance(name, str) for name in names):
        raise ModelError("this ONNX file is damaged, some names are no text: export the model again")


def _parse(content: bytes) -> ModelProto:
    try:
        import onnx  # noqa: PLC0415 - only those who ingest ONNX need it
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError as error:
        raise ModelError("reading QONNX needs the onnx package: run `pip install onnx`") from error
    if len(content) > _MAXIMUM_BYTES:
        raise ModelError(f"the ONNX file exceeds {_MAXIMUM_BYTES >> 20} MiB: export the network alone")
    try:
        model: ModelProto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ModelError("this is no ONNX file, or a truncated one: export the model again") from error
    if not model.opset_import or not model.graph.node:
        raise ModelError("this ONNX file holds no graph, or is truncated: export the model again")
    return model


def _constants(tensors: Iterable[TensorProto]) -> dict[str, npt.NDArray[np.float64]]:
    found: dict[str, npt.NDArray[np.float64]] = {}
    for tensor in tensors:
        found[tensor.name] = _array(tensor, f"initializer '{tensor.name}'")
    return found


def _array(tensor: TensorProto, what: str) -> npt.NDArray[np.float64]:
    from onnx import TensorProto, numpy_helper  # noqa: PLC0415 - as above

    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise ModelError(f"{what} lies in another file: export with external_data=False")
    if min(tensor.dims, default=1) < 0:
        raise ModelError(f"{what} has a negative dimension: export the model again")
    _check_elements(prod(tensor.dims))
    try:
        given = numpy_helper.to_array(tensor)
        if given.dtype.kind not in "fiub":
            raise ModelError(f"{what} holds {given.dtype}: export it with float32 or integers")
        values = given.astype(np.float64)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ModelError(f"{what} is damaged ({error}): export the model again") from error
    if not np.isfinite(values).all():
        index = ", ".join(str(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ModelError(
            f"{what}[{index}] is not finite: the training diverged, train again with a lower learning rate"
        )
    return values


def _check_elements(count: int) -> None:
    if count > _MAXIMUM_ELEMENTS:
        raise ModelError(
            f"the graph holds {count} constants, more than {_MAXIMUM_ELEMENTS}: no firmware could"
        )


def _node(node: NodeProto, index: int) -> Node:
    name = node.name or (node.output[0] if node.output else str(index))
    attributes = {one.name: _attribute(one, f"{node.op_type} '{name}'") for one in node.attribute}
    domain = "" if node.domain == "ai.onnx" else node.domain
    return Node(node.op_type, domain, name, tuple(node.input), tuple(node.output), attributes)


def _attribute(attribute: Any, label: str) -> Any:
    """Give an attribute's value; what no supported node has becomes None."""
    from onnx import AttributeProto  # noqa: PLC0415 - as above

    kinds = AttributeProto
    if attribute.type == kinds.INT:
        return int(attribute.i)
    if attribute.type == kinds.FLOAT:
        return float(attribute.f)
    if attribute.type == kinds.STRING:
        return attribute.s.decode("utf-8", "replace")
    if attribute.type == kinds.INTS:
        return tuple(int(value) for value in attribute.ints)
    if attribute.type == kinds.FLOATS:
        return tuple(float(value) for value in attribute.floats)
    if attribute.type == kinds.TENSOR:
        return _array(attribute.t, f"{label}: its tensor")
    return None
