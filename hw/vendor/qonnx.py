"""A firmware model's layers as QONNX knows them: whole-number weights and thresholds.

A threshold says from which sum of products on a result is one more, so bias, rounding, saturation and relu
are exact. Input and score stage stay outside. Refuses to know ONNX: another environment writes the graph.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.archive import npy_bytes, zip_bytes
from hw.errors import ToolchainError
from hw.fixed_point import FixedFormat, Overflow, requantise
from hw.network import FirmwareModel
from hw.stages import DenseLayer

MAXIMUM_VALUE_BITS = 8
"""Widest values between layers that FINN takes as inputs and makes with thresholds."""

MAXIMUM_SUM_BITS = 24
"""Whole numbers up to 2^24 are exact in float32, in which QONNX computes."""


def check(model: FirmwareModel) -> None:
    """Make sure that FINN can hold a model's layers exactly.

    Raises
    ------
    ToolchainError
        When it cannot; it names stage, format and cure.
    """
    source = model.input_stage.result_format
    if source.width > MAXIMUM_VALUE_BITS:
        raise ToolchainError(
            f"the input stage's result format {source} has {source.width} bits, FINN takes inputs of at most "
            f"{MAXIMUM_VALUE_BITS}: train with a narrower one"
        )
    for layer in model.layers:
        fmt = layer.result_format
        if fmt.width > MAXIMUM_VALUE_BITS:
            raise ToolchainError(
                f"layer {layer.name}: its result format {fmt} has {fmt.width} bits, FINN's thresholds make "
                f"at most {MAXIMUM_VALUE_BITS}: train with a narrower one"
            )
        if fmt.overflow is Overflow.WRAP:
            raise ToolchainError(
                f"layer {layer.name}: its result format {fmt} wraps, thresholds saturate: use SAT"
            )
        if _highest(layer) <= _lowest(layer):
            raise ToolchainError(
                f"layer {layer.name}: {fmt} after {layer.activation} has one value: use a wider format"
            )
        if _sum_bits(layer, source) > MAXIMUM_SUM_BITS + 1:
            raise ToolchainError(
                f"layer {layer.name}: its sums of {source} times {layer.weight_format} need "
                f"{_sum_bits(layer, source)} bits, QONNX is exact up to {MAXIMUM_SUM_BITS + 1}: "
                "use narrower weights"
            )
        source = fmt


def thresholds(layer: DenseLayer, source: FixedFormat) -> npt.NDArray[np.int64]:
    """Find from which sum of products on a result is one more.

    Parameters
    ----------
    layer
        With a saturating result format.
    source
        Format of its inputs.

    Returns
    -------
    numpy.ndarray
        int64, (n_out, results - 1), rising along a row: result = lowest + how many of them the sum
        `x @ weight` of raw integers reaches.
    """
    fraction = layer.accumulator_format(source).fraction
    product, bias = source.fraction + layer.weight_format.fraction, layer.bias_format.fraction
    offset = np.left_shift(layer.bias_raw, fraction - bias)[:, None]
    wanted = np.arange(_lowest(layer) + 1, _highest(layer) + 1)[None, :]
    bound = _sum_bound(layer, source) + 1
    low = np.full((layer.n_out, wanted.size), -bound)  # the result may already be reached here ...
    high = np.full_like(low, bound)  # ... and is reached here, or never
    while (low < high).any():
        middle = np.floor_divide(low + high, 2)
        result = requantise(np.left_shift(middle, fraction - product) + offset, fraction, layer.result_format)
        reached = result >= wanted
        high = np.where(reached, middle, high)
        low = np.where(reached, low, np.minimum(middle + 1, high))
    return high


def network_bytes(model: FirmwareModel) -> bytes:
    """Write the layers as a reproducible NPZ that `finn_export.py` reads.

    Raises
    ------
    ToolchainError
        When FINN cannot hold them; see `check`.
    """
    check(model)
    source = model.input_stage.result_format
    described: list[dict[str, Any]] = []
    arrays: dict[str, bytes] = {}
    first = _type(source)
    for layer in model.layers:
        described.append(
            {
                "name": layer.name,
                "weight_type": _type(layer.weight_format),
                "sum_type": f"INT{_sum_bits(layer, source)}",
                "result_type": _result_type(layer),
                "lowest": _lowest(layer),
            }
        )
        arrays[f"{layer.name}.weight.npy"] = npy_bytes(layer.weight_raw)
        arrays[f"{layer.name}.thresholds.npy"] = npy_bytes(thresholds(layer, source))
        source = layer.result_format
    network = {
        "name": "network",
        "input_type": first,
        "n_in": model.n_inputs,
        "n_out": model.layers[-1].n_out,
        "layers": described,
    }
    text = np.frombuffer(json.dumps(network, sort_keys=True).encode(), dtype=np.uint8)
    return zip_bytes({"network.npy": npy_bytes(text), **arrays})


def _lowest(layer: DenseLayer) -> int:
    return 0 if layer.activation == "relu" else layer.result_format.raw_minimum


def _highest(layer: DenseLayer) -> int:
    return layer.result_format.raw_maximum


def _sum_bound(layer: DenseLayer, source: FixedFormat) -> int:
    largest = max(-source.raw_minimum, source.raw_maximum)
    return layer.n_in * largest * max(-layer.weight_format.raw_minimum, layer.weight_format.raw_maximum)


def _sum_bits(layer: DenseLayer, source: FixedFormat) -> int:
    """Bits of a signed integer that holds every sum and every threshold."""
    return (_sum_bound(layer, source) + 1).bit_length() + 1


def _type(fmt: FixedFormat) -> str:
    return f"{'INT' if fmt.signed else 'UINT'}{fmt.width}"


def _result_type(layer: DenseLayer) -> str:
    unsigned = layer.activation == "relu" or not layer.result_format.signed
    return f"UINT{_highest(layer).bit_length()}" if unsigned else _type(layer.result_format)
