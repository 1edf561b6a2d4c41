"""The stages of a firmware model: input stage, dense layers, score stage, as raw fixed-point integers.

Every stage checks its own shapes and grids. Refuses to know how stages are put together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hw.errors import ModelError, OffGridError
from hw.fixed_point import FixedFormat

INPUT_FORMAT = FixedFormat(16, 16)
"""Every input is a signed 16-bit integer code."""

DIFFERENCE_FORMAT_GROWTH = 1
"""`x - offset` needs one bit more than the wider of the two."""

MAXIMUM_SCORE_BITS = 31
"""Score and decision share one 32-bit word of a board."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_RESERVED = frozenset({"input", "score"})

Raw = npt.NDArray[np.int64]


def _parameters(
    name: str, values: npt.ArrayLike, fmt: FixedFormat, shape: tuple[int, ...] | None = None
) -> Raw:
    """Check and freeze one raw parameter array."""
    given = np.asarray(values)
    if given.dtype.kind not in "iu":
        raise ModelError(f"{name} must be raw integers, not {given.dtype}: quantise it first")
    raw = np.array(given, dtype=np.int64)
    if shape is not None and raw.shape != shape:
        raise ModelError(
            f"{name} has the shape {raw.shape}, expected {shape}: the layers do not fit together"
        )
    _check_grid(name, raw.ravel(), fmt)
    raw.setflags(write=False)
    return raw


def _check_grid(name: str, raw: Raw, fmt: FixedFormat) -> None:
    outside = np.flatnonzero(~fmt.holds(raw))
    if outside.size:
        index = int(outside[0])
        raise OffGridError(
            f"{name}[{index}] = {int(raw[index])} is outside {fmt} ({fmt.raw_minimum}..{fmt.raw_maximum}): "
            "quantise with saturation, or build firmware with a wider format"
        )


@dataclass(frozen=True, eq=False)
class InputStage:
    """Standardises the inputs: `z = result_format((x - offset) * scale)`.

    Parameters
    ----------
    offset_raw
        int, (n_inputs,), raw in `offset_format`.
    scale_raw
        int, (n_inputs,), raw in `scale_format`.
    scale_format, result_format, offset_format
        The formats; the product is exact before it is converted into `result_format`.
    """

    offset_raw: Raw
    scale_raw: Raw
    scale_format: FixedFormat
    result_format: FixedFormat
    offset_format: FixedFormat = INPUT_FORMAT

    def __post_init__(self) -> None:
        offset = _parameters("input.offset", self.offset_raw, self.offset_format)
        if offset.ndim != 1 or not offset.size:
            raise ModelError("input.offset must be a flat, non-empty array: one offset per input")
        object.__setattr__(self, "offset_raw", offset)
        object.__setattr__(
            self, "scale_raw", _parameters("input.scale", self.scale_raw, self.scale_format, offset.shape)
        )

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return int(self.offset_raw.size)


@dataclass(frozen=True, eq=False)
class DenseLayer:
    """A dense layer: `y = activation(result_format(x @ weight + bias))`, the sum being exact.

    Parameters
    ----------
    name
        Lower-case identifier, unique in the model; it becomes a C++ name and a segment name.
    weight_raw
        int, (n_in, n_out), raw in `weight_format`.
    bias_raw
        int, (n_out,), raw in `bias_format`.
    activation
        "relu" or "linear".
    """

    name: str
    weight_raw: Raw
    bias_raw: Raw
    weight_format: FixedFormat
    bias_format: FixedFormat
    activation: Literal["relu", "linear"]
    result_format: FixedFormat

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in _RESERVED:
            raise ModelError(
                f"{self.name!r} cannot name a layer: use lower-case letters, digits, _ (not input, score)"
            )
        if self.activation not in ("relu", "linear"):
            raise ModelError(
                f"layer {self.name}: the activation {self.activation!r} is unknown: use relu or linear"
            )
        weight = _parameters(f"{self.name}.weight", self.weight_raw, self.weight_format)
        if weight.ndim != 2 or not weight.size:
            raise ModelError(f"{self.name}.weight must have the shape (n_in, n_out), not {weight.shape}")
        object.__setattr__(self, "weight_raw", weight)
        bias = _parameters(f"{self.name}.bias", self.bias_raw, self.bias_format, (weight.shape[1],))
        object.__setattr__(self, "bias_raw", bias)

    @property
    def n_in(self) -> int:
        """Number of inputs."""
        return int(self.weight_raw.shape[0])

    @property
    def n_out(self) -> int:
        """Number of outputs."""
        return int(self.weight_raw.shape[1])

    def accumulator_format(self, source: FixedFormat) -> FixedFormat:
        """Format in which the sum of products and the bias is exact, whatever the parameters.

        Parameters
        ----------
        source
            Format of the layer's inputs.

        Raises
        ------
        FormatError
            When such a format would be wider than this package's arithmetic.
        """
        fraction = max(source.fraction + self.weight_format.fraction, self.bias_format.fraction)
        product = source.integer + self.weight_format.integer
        integer = max(product, self.bias_format.integer) + (self.n_in + 1).bit_length() + 1
        return FixedFormat(integer + fraction, integer)


@dataclass(frozen=True, eq=False)
class ScoreStage:
    """Turns the network's outputs into the score; `accept` means `score > threshold`.

    Parameters
    ----------
    kind
        "sum_of_squares": the exact sum of the squared outputs; "logit": one of the outputs. Either is
        converted into `result_format`.
    result_format
        Format of score and threshold; at most 31 bits, signed or not.
    threshold_raw
        Raw threshold in `result_format`.
    output
        Which output of the last layer is the score (logit only), from 0.
    """

    kind: Literal["sum_of_squares", "logit"]
    result_format: FixedFormat
    threshold_raw: int
    output: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("sum_of_squares", "logit"):
            raise ModelError(f"the score {self.kind!r} is unknown: use sum_of_squares or logit")
        if self.output < 0 or (self.output and self.kind != "logit"):
            raise ModelError(
                f"output {self.output} of a {self.kind} score: count from 0, and only for a logit"
            )
        if self.result_format.width > MAXIMUM_SCORE_BITS:
            raise ModelError(f"the score format {self.result_format} exceeds the board's 31 bits: use fewer")
        threshold = np.array([self.threshold_raw])
        _parameters("score.threshold", threshold, self.result_format)
        object.__setattr__(self, "threshold_raw", int(self.threshold_raw))
