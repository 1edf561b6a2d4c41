"""A QONNX graph, as Brevitas exports it, as a firmware model that computes the same bits.

Formats come from the graph's Quant nodes. Between two of them everything is folded exactly; what cannot be
bit-true is refused by the name of its node. Refuses to know training libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import TypeAlias

import numpy as np

from hw.errors import FormatError, ModelError
from hw.fixed_point import FixedFormat
from hw.ingest.constants import Constants, resolved_shape
from hw.ingest.exact import Exact, square_root
from hw.ingest.onnx_graph import Graph, Node, read_graph
from hw.ingest.quantisers import DOMAINS, OPS, Constant, activation_format
from hw.ingest.section import Section
from hw.ingest.target import IngestTarget
from hw.network import DenseLayer, FirmwareModel
from hw.stages import InputStage

_CURES = {
    "BipolarQuant": "use two or more bits",
    "Trunc": "use a Quant",
    "FloatQuant": "use a fixed-point quantiser",
    "MultiThreshold": "ingest the graph from before FINN's streamlining",
    "QuantizeLinear": "export QONNX instead of QDQ",
    "DequantizeLinear": "export QONNX instead of QDQ",
    "Softmax": "export the logits, they order events in the same way",
    "Sigmoid": "export the logit and move the threshold",
}

_Handler: TypeAlias = Callable[[Node, list[Constant]], None]


def from_qonnx(content: bytes, target: IngestTarget) -> FirmwareModel:
    """Make the firmware model that computes what a QONNX graph computes, bit by bit.

    Parameters
    ----------
    content
        The `.onnx` file: one chain from one input to one output, every value between two layers quantised.
    target
        What the firmware needs beside it. The graph's input is `(code - offset) * scale`, offset and scale as
        the firmware holds them; its first Quant gives the input stage's result.

    Returns
    -------
    FirmwareModel
        Its layers are `dense1`, `dense2`, ... A last layer without a Quant keeps its exact sums.

    Raises
    ------
    ModelError
        When the file is no such graph; names the node and the cure.
    """
    graph = read_graph(content)
    chain = _Chain(graph, target)
    for node in graph.nodes:
        try:
            chain.add(node)
        except FormatError as error:
            raise ModelError(f"{node.label}: {error}: use fewer bits") from error
    return chain.firmware()


class _Chain:
    """Follows the data through the graph: what a node does is folded until the next Quant."""

    def __init__(self, graph: Graph, target: IngestTarget) -> None:
        self._graph, self._target = graph, target
        self._constants = Constants(graph.constants)
        self._current = graph.input
        self._section = Section(graph.features)
        self._stage: InputStage | None = None
        self._layers: list[DenseLayer] = []
        # what a node does, and how many constants it takes beside the data
        self._handlers: dict[str, tuple[_Handler, range]] = {
            "Add": (self._add, range(1, 2)),
            "BatchNormalization": (self._normalise, range(4, 5)),
            "Div": (self._scale, range(1, 2)),
            "Dropout": (self._dropout, range(3)),
            "Flatten": (self._flatten, range(1)),
            "Gemm": (self._gemm, range(1, 3)),
            "Identity": (self._dropout, range(1)),
            "MatMul": (self._matmul, range(1, 2)),
            "Mul": (self._scale, range(1, 2)),
            "Relu": (self._relu, range(1)),
            "Reshape": (self._reshape, range(1, 2)),
            "Sub": (self._add, range(1, 2)),
        }

    def add(self, node: Node) -> None:
        handler, arity = self._handler(node)
        given = [name for name in node.inputs if name]
        if not node.outputs or (not given and node.op != "Constant"):
            raise ModelError(f"{node.label}: it has no input or no output: export the model again")
        if all(name in self._constants for name in given):
            self._constants.evaluate(node)
            return
        data = [name for name in given if name not in self._constants]
        if data != [self._current] or handler is None:
            raise ModelError(
                f"{node.label}: it takes {', '.join(data)}, the data are at {self._current}: export one "
                "chain without branches, with all else constant"
            )
        constants = [self._constants[name] for name in given if name != self._current]
        if len(constants) not in arity:
            raise ModelError(f"{node.label}: it has {len(constants)} constants: export the model again")
        if node.op not in ("Add", "Mul") and node.inputs[0] != self._current:
            raise ModelError(f"{node.label}: the data must be its first input: write x @ W, x - c, x / c")
        handler(node, constants)
        self._current = node.outputs[0]

    def _handler(self, node: Node) -> tuple[_Handler | None, range]:
        if node.domain in DOMAINS and node.op in OPS:
            return self._quant, range(3, 4)
        if not node.domain and node.op in self._handlers:
            return self._handlers[node.op]
        if not node.domain and node.op in ("Constant", "Transpose"):
            return None, range(0)
        cure = _CURES.get(
            node.op, f"supported are Quant, {', '.join(self._handlers)}, Transpose of constants"
        )
        raise ModelError(f"{node.label} of {node.domain or 'ONNX'} has no firmware: {cure}")

    def firmware(self) -> FirmwareModel:
        output = f"output '{self._graph.output}'"
        if self._current != self._graph.output:
            raise ModelError(
                f"the graph's {output} is not the end of its chain, which is '{self._current}': export one "
                "chain without branches"
            )
        if self._section.has_matrix:
            try:
                self._end_layer(output, None)
            except FormatError as error:
                raise ModelError(f"{output}: {error}: quantise the output") from error
        self._check_nothing_pending(output)
        if self._stage is None or not self._layers:
            raise ModelError("the graph has no MatMul or Gemm behind a Quant: there is no network in it")
        return self._target.model(self._stage, self._layers)

    def _end_layer(self, label: str, fmt: FixedFormat | None) -> None:
        name = f"dense{len(self._layers) + 1}"
        self._layers.append(self._section.layer(label, name, self._source, fmt))
        self._section = Section(self._section.shape)

    @property
    def _source(self) -> FixedFormat:
        """Format that the last quantiser gave."""
        stage = self._layers[-1] if self._layers else self._stage
        if stage is None:
            raise ModelError("the input has no Quant: begin the model with a QuantIdentity")
        return stage.result_format

    def _is_above_zero(self) -> bool:
        """Whether no value below zero arrives here."""
        if self._section.relu:
            return True
        if self._stage is None or not self._section.is_identity:
            return False
        return not self._source.signed or bool(self._layers and self._layers[-1].activation == "relu")

    def _check_nothing_pending(self, label: str) -> None:
        if not self._section.is_identity:
            raise ModelError(
                f"{label}: values behind a Quant are scaled or shifted, and no MatMul follows that could "
                "take it up: fold it into the layer before"
            )

    def _quant(self, node: Node, constants: list[Constant]) -> None:
        above_zero = self._is_above_zero()
        fmt = activation_format(node, [one.values for one in constants], above_zero=above_zero)
        if self._section.has_matrix:
            self._end_layer(node.label, fmt)
        elif self._stage is None:
            stage = self._target.input_stage(*self._target.affine(), fmt)
            self._stage = self._section.before(node.label, stage)
            self._section = Section(self._section.shape)
        else:
            self._check_nothing_pending(node.label)
            if not _holds(fmt, self._source, above_zero=above_zero):
                raise ModelError(
                    f"{node.label}: it rounds a second time, from {self._source} into {fmt}: quantise once "
                    "behind each layer"
                )

    def _matmul(self, node: Node, constants: list[Constant]) -> None:
        if self._stage is None:
            raise ModelError(
                f"{node.label}: the input reaches it without a Quant: begin the model with a QuantIdentity"
            )
        self._section.multiply(node.label, constants[0])

    def _gemm(self, node: Node, constants: list[Constant]) -> None:
        wrong = [name for name in ("alpha", "beta") if node.number(name, 1.0) != 1.0]
        if wrong or node.number("transA", 0):
            raise ModelError(
                f"{node.label}: {(*wrong, 'transA')[0]} has no firmware: fold it into the weights"
            )
        weight = constants[0]
        if node.number("transB", 0):
            weight = replace(weight, values=weight.values.T)
        self._matmul(node, [weight])
        if len(constants) == 2:
            self._section.add(self._section.vector(node.label, constants[1]))

    def _check_linear(self, node: Node) -> None:
        if self._section.relu:
            raise ModelError(f"{node.label}: it follows a Relu without a Quant: quantise behind the Relu")

    def _add(self, node: Node, constants: list[Constant]) -> None:
        self._check_linear(node)
        addend = self._section.vector(node.label, constants[0])
        self._section.add(Exact(-addend.raw, addend.fraction) if node.op == "Sub" else addend)

    def _scale(self, node: Node, constants: list[Constant]) -> None:
        self._check_linear(node)
        factor = self._section.vector(node.label, constants[0])
        if node.op == "Div":
            if not np.all(factor.raw != 0):
                raise ModelError(f"{node.label}: it divides by zero: export the model again")
            factor = Exact.of(f"{node.label}: one over its constant", [1 / v for v in factor.fractions()])
        self._section.scale(factor)

    def _normalise(self, node: Node, constants: list[Constant]) -> None:
        self._check_linear(node)
        if node.number("training_mode", 0):
            raise ModelError(f"{node.label}: it is in training mode: export the model in eval mode")
        if len(self._section.shape) != 1:
            raise ModelError(f"{node.label}: it normalises {self._section.shape}: flatten before it")
        vectors = [self._section.vector(node.label, one).fractions() for one in constants]
        weight, bias, mean, variance = vectors
        epsilon = Fraction(node.number("epsilon", float(np.float32(1e-5))))
        factors = [w / square_root(node.label, v + epsilon) for w, v in zip(weight, variance, strict=True)]
        shifts = [b - m * f for b, m, f in zip(bias, mean, factors, strict=True)]
        self._section.scale(Exact.of(f"{node.label}: its factor", factors))
        self._section.add(Exact.of(f"{node.label}: its shift", shifts))

    def _relu(self, node: Node, _: list[Constant]) -> None:
        if self._section.has_matrix:
            self._section.relu = True
            return
        if self._stage is None:
            raise ModelError(f"{node.label}: it comes before the first Quant: begin with a QuantIdentity")
        self._check_nothing_pending(node.label)
        if self._layers:
            self._layers[-1] = replace(self._layers[-1], activation="relu")
        elif self._stage.result_format.signed:
            raise ModelError(f"{node.label}: the input stage has no activation: quantise the input unsigned")

    def _reshape(self, node: Node, constants: list[Constant]) -> None:
        wanted = constants[0].values.ravel()
        if node.number("allowzero", 0) or not wanted.size or int(wanted[0]) not in (-1, 0, 1):
            raise ModelError(f"{node.label}: it changes the batch: reshape to (-1, n)")
        shape = np.concatenate([[1.0], wanted[1:]])
        self._section.shape = resolved_shape(node, shape, (1, *self._section.shape))[1:]

    def _flatten(self, node: Node, _: list[Constant]) -> None:
        if node.number("axis", 1) != 1:
            raise ModelError(f"{node.label}: it changes the batch: flatten from axis 1")
        self._section.shape = (prod(self._section.shape),)

    def _dropout(self, node: Node, constants: list[Constant]) -> None:
        if len(constants) > 1 and constants[1].values.any():
            raise ModelError(f"{node.label}: it is in training mode: export the model in eval mode")


def _holds(fmt: FixedFormat, source: FixedFormat, *, above_zero: bool) -> bool:
    """Whether every value of `source`, or every one from 0 on, is a value of `fmt`."""
    shift = fmt.fraction - source.fraction
    low = 0 if above_zero else source.raw_minimum
    if shift < 0:
        return False
    return (source.raw_maximum << shift) <= fmt.raw_maximum and (low << shift) >= fmt.raw_minimum
