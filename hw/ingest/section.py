"""What stands between two quantisers of a graph, folded without rounding: `x * gain + shift`, then a matrix.

Refuses to know nodes.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from hw.errors import ModelError
from hw.fixed_point import FixedFormat, Overflow, Rounding
from hw.ingest.constants import exactly
from hw.ingest.exact import Exact
from hw.ingest.quantisers import Constant
from hw.stages import DenseLayer, InputStage

_UNQUANTISED_WEIGHT_BITS = 18
"""Weights without a Quant are taken when their grid is as coarse as that: a tool has folded the Quant."""

_DEFAULT_BIAS_BITS = 32


class Section:
    """Folds one operation after the other.

    Parameters
    ----------
    shape
        Of one event's values; changes with the matrix.

    Attributes
    ----------
    relu
        Whether values below zero become 0 at the end of it.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.relu = False
        self._gain = Exact.of("one", [1.0]).reshaped((prod(shape),))
        self._shift = Exact.of("zero", [0.0]).reshaped((prod(shape),))
        self._matrix: Exact | None = None

    @property
    def has_matrix(self) -> bool:
        """Whether there is a layer in it."""
        return self._matrix is not None

    @property
    def is_identity(self) -> bool:
        """Whether it leaves values as they are."""
        return self._matrix is None and self._gain.is_one and self._shift.is_zero

    def vector(self, label: str, constant: Constant) -> Exact:
        """Give a constant as one number per value of an event; raises ModelError when it does not fit."""
        try:
            spread = np.broadcast_to(constant.values, (1, *self.shape)).reshape(-1)
        except ValueError as error:
            raise ModelError(
                f"{label}: a constant {constant.values.shape} does not fit values of the shape {self.shape}"
            ) from error
        return exactly(f"{label}: its constant", replace(constant, values=spread))

    def add(self, addend: Exact) -> None:
        """Add one number per value."""
        self._shift = self._shift.plus(addend)

    def scale(self, factor: Exact) -> None:
        """Multiply each value by a number."""
        if factor.is_one:
            return
        if self._matrix is None:
            self._gain = self._gain.times(factor)
        else:
            self._matrix = self._matrix.times(factor)
        if not self._shift.is_zero:
            self._shift = self._shift.times(factor)

    def multiply(self, label: str, weight: Constant) -> None:
        """Multiply by a matrix (n_in, n_out); raises ModelError when it does not fit or has no grid."""
        if self._matrix is not None:
            raise ModelError(f"{label}: no Quant stands between it and the layer before: quantise its output")
        if len(self.shape) != 1 or weight.values.ndim != 2 or len(weight.values) != self.shape[0]:
            raise ModelError(
                f"{label}: weights {weight.values.shape} do not fit values of the shape {self.shape}"
            )
        what = f"{label}: its weight"
        try:
            matrix = exactly(what, weight)
            coarse = weight.format is not None or matrix.narrowest(what).width <= _UNQUANTISED_WEIGHT_BITS
        except ModelError:
            coarse = False
        if not coarse:
            raise ModelError(f"{what} has no Quant: train it with a weight quantiser (weight_quant)")
        self.shape = (weight.values.shape[1],)
        if self._shift.is_zero:
            self._shift = Exact.of("zero", [0.0]).reshaped(self.shape)
        else:
            self._shift = self._shift.through(matrix)
        self._matrix = matrix
        if not self._gain.is_one:
            self._matrix = matrix.times(self._gain.reshaped((len(weight.values), 1)))

    def layer(self, label: str, name: str, source: FixedFormat, fmt: FixedFormat | None) -> DenseLayer:
        """Give the layer of the matrix.

        Parameters
        ----------
        label
            Where the section ends, for error messages.
        name
            Of the layer.
        source
            Format of the values it takes.
        fmt
            Format of its results; None keeps the exact sums.

        Raises
        ------
        ModelError
            When a parameter needs more than 32 bits.
        """
        assert self._matrix is not None  # noqa: S101 - callers ask has_matrix
        weight, weight_format = self._matrix.parameters(f"{label}: the weight before it")
        if self._shift.is_zero and self._shift.format is None:
            # none in the graph: a grid on which one could be loaded later, within the range of the inputs
            width = min(_DEFAULT_BIAS_BITS, source.width + 1)
            bias_format = FixedFormat(width, width - source.fraction, True, Rounding.RND, Overflow.SAT)
            bias = np.zeros(weight.shape[1], np.int64)
        else:
            bias, bias_format = self._shift.parameters(f"{label}: the bias before it")
        layer = DenseLayer(
            name=name,
            weight_raw=weight,
            bias_raw=bias,
            weight_format=weight_format,
            bias_format=bias_format,
            activation="relu" if self.relu else "linear",
            result_format=fmt or source,
        )
        return layer if fmt else replace(layer, result_format=layer.accumulator_format(source))

    def before(self, label: str, stage: InputStage) -> InputStage:
        """Give an input stage with this section behind `(code - offset) * scale`, before it rounds.

        Raises
        ------
        ModelError
            When offsets and scales would leave the grids of the stage.
        """
        if stage.n_inputs != len(self._gain.raw):
            raise ModelError(
                f"the graph takes {len(self._gain.raw)} inputs, the target names {stage.n_inputs}: "
                "use one contract for both"
            )
        if self.is_identity:
            return stage
        offsets = Exact(stage.offset_raw.astype(object), stage.offset_format.fraction).fractions()
        scales = Exact(stage.scale_raw.astype(object), stage.scale_format.fraction).fractions()
        scales = [scale * gain for scale, gain in zip(scales, self._gain.fractions(), strict=True)]
        if 0 in scales:
            raise ModelError(f"{label}: an input is scaled by zero before it: train without that input")
        offsets = [
            offset - shift / scale
            for offset, shift, scale in zip(offsets, self._shift.fractions(), scales, strict=True)
        ]
        what = f"{label}: what stands before it, as an input"
        return replace(
            stage,
            offset_raw=Exact.of(f"{what} offset,", offsets).within(f"{what} offset,", stage.offset_format),
            scale_raw=Exact.of(f"{what} scale,", scales).within(f"{what} scale,", stage.scale_format),
        )
