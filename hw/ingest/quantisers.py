"""QONNX's Quant nodes as fixed-point formats, exactly or not at all.

The definition is that of QONNX (github.com/fastmachinelearning/qonnx, docs/qonnx-custom-ops/quant_op.md):
`(clip(round(x / scale + zero_point)) - zero_point) * scale`. Refuses to know layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hw.errors import FormatError, ModelError
from hw.fixed_point import FixedFormat, Overflow, Rounding, quantise
from hw.ingest.onnx_graph import Node

DOMAINS = frozenset({"qonnx.custom_op.general", "onnx.brevitas"})
OPS = frozenset({"Quant", "IntQuant"})

_MAXIMUM_BITS = 48

_ROUNDINGS = {
    "ROUND": Rounding.RND_CONV,
    "HALF_EVEN": Rounding.RND_CONV,
    "FLOOR": Rounding.TRN,
}
_ROUNDINGS_ABOVE_ZERO = {"HALF_UP": Rounding.RND, "DOWN": Rounding.TRN, "ROUND_TO_ZERO": Rounding.TRN}
"""Symmetric around zero: on values from 0 on they are what firmware has."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant tensor.

    Parameters
    ----------
    values
        float64, exact.
    format
        The grid and range a Quant gave them.
    """

    values: _Floats
    format: FixedFormat | None = None


def activation_format(node: Node, inputs: Sequence[_Floats], *, above_zero: bool) -> FixedFormat:
    """Give the format that does to values what a Quant does.

    Parameters
    ----------
    node
        The Quant.
    inputs
        Scale, zero point, bit width.
    above_zero
        Whether only values from 0 on arrive, as behind a Relu.

    Raises
    ------
    ModelError
        When firmware cannot do the same, bit by bit.
    """
    scale, _, _ = inputs
    if not np.all(scale == scale.ravel()[:1]):
        raise ModelError(
            f"{node.label}: it has a scale per channel, a layer's results have one format: quantise "
            "activations per tensor"
        )
    fmt = _format(node, inputs, above_zero=above_zero)[0]
    if node.number("narrow", 0) and not (fmt.signed and above_zero):
        raise ModelError(
            f"{node.label}: its narrow range lacks one end of {fmt}, firmware's saturation has both: "
            "quantise activations with narrow_range=False"
        )
    return fmt


def quantised_constant(node: Node, values: _Floats, inputs: Sequence[_Floats]) -> Constant:
    """Evaluate a Quant of a constant; a scale per channel gives the grid of the finest one.

    Raises
    ------
    ModelError
        When the result is on no binary grid.
    """
    fmt, exponents = _format(node, inputs, above_zero=False)
    codes = replace(fmt, integer=fmt.width)
    try:
        raw = quantise(np.ldexp(values, -exponents), codes)
        finest = int(exponents.min())
        spread = int(exponents.max()) - finest
        common = replace(fmt, width=fmt.width + spread, integer=fmt.width + spread + finest)
    except (FormatError, ValueError) as error:
        raise ModelError(f"{node.label}: {error}: quantise with another scale") from error
    if node.number("narrow", 0):
        low, high = codes.raw_minimum + codes.signed, codes.raw_maximum - (not codes.signed)
        raw = np.clip(raw, low, high)
    return Constant(np.ldexp(raw.astype(np.float64), exponents), common)


def _format(
    node: Node, inputs: Sequence[_Floats], *, above_zero: bool
) -> tuple[FixedFormat, npt.NDArray[np.int64]]:
    """Give the format of the first scale, and the exponents of all of them."""
    scale, zero_point, bit_width = inputs
    if np.any(zero_point != 0):
        raise ModelError(
            f"{node.label}: zero point {zero_point[zero_point != 0].flat[0]:g}: use a symmetric quantiser"
        )
    if bit_width.size != 1:
        raise ModelError(f"{node.label}: it has a bit width per channel: use one per tensor")
    bits, signed = float(bit_width.flat[0]), bool(node.number("signed", 1))
    if bits != int(bits) or not 1 + signed <= bits <= _MAXIMUM_BITS:
        raise ModelError(
            f"{node.label}: bit width {bits:g}: use a whole number from {1 + signed} to {_MAXIMUM_BITS}"
        )
    mantissa, exponents = np.frexp(scale)
    if not scale.size or np.any(mantissa != 0.5):
        wrong = float(scale[mantissa != 0.5].flat[0]) if scale.size else math.nan
        raise ModelError(
            f"{node.label}: scale {wrong:g} is no power of two: train with a fixed-point quantiser "
            "(brevitas.quant.fixed_point, restrict_scaling_type POWER_OF_TWO)"
        )
    exponents = exponents.astype(np.int64) - 1
    rounding = _rounding(node, above_zero=above_zero or not signed)
    try:
        fmt = FixedFormat(int(bits), int(bits) + int(exponents.flat[0]), signed, rounding, Overflow.SAT)
    except FormatError as error:
        raise ModelError(f"{node.label}: {error}") from error
    return fmt, exponents


def _rounding(node: Node, *, above_zero: bool) -> Rounding:
    mode = node.text("rounding_mode", "ROUND").upper()
    known = {**_ROUNDINGS, **(_ROUNDINGS_ABOVE_ZERO if above_zero else {})}
    if mode not in known:
        where = "" if above_zero else " of values below zero"
        raise ModelError(
            f"{node.label}: firmware has no rounding {mode}{where}: use ROUND (half to even) or FLOOR"
        )
    return known[mode]
