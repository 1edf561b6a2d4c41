"""The layers of one partition as da4ml's adder graphs, bit by bit what the emulator computes.

Everything is traced on raw integers, so that no fixed-point convention of da4ml enters: an input is the raw
integer of its declared format, whatever values the stage before can reach. Refuses to know Verilog and files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hw.arithmetic import aligned_parameters
from hw.errors import ToolchainError
from hw.fixed_point import FixedFormat, Overflow, Rounding, requantise
from hw.stages import DenseLayer

if TYPE_CHECKING:
    from da4ml.types import CombLogic, Pipeline

MAXIMUM_ACCUMULATOR_BITS = 46
"""da4ml finds widths with a float64 logarithm, which is exact up to here."""

MAXIMUM_WEIGHT_BITS = 24
"""da4ml's matrix solver holds weights in float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Logic:
    """Adder graphs of one partition.

    Parameters
    ----------
    combinational
        Raw inputs in, raw results out.
    pipeline
        The same in register stages, one event per clock cycle.
    source, result
        The declared formats of inputs and results.
    """

    combinational: CombLogic
    pipeline: Pipeline
    source: FixedFormat
    result: FixedFormat

    @property
    def cycles(self) -> int:
        """Clock cycles from an input to its results: a register before every stage, one behind the last."""
        return len(self.pipeline.solutions) + 1

    def evaluate(self, values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Compute results with da4ml's own interpreter.

        Parameters
        ----------
        values
            int64, (n, n_in), raw in `source`.

        Returns
        -------
        numpy.ndarray
            int64, (n, n_out), raw in `result`.
        """
        given = values.astype(np.float64)
        found: npt.NDArray[np.float64] = self.combinational.predict(given, n_threads=1)
        return np.asarray(found.astype(np.int64))


def trace(layers: tuple[DenseLayer, ...], source: FixedFormat, adders_per_stage: int) -> Logic:
    """Turn consecutive layers into adder graphs.

    Parameters
    ----------
    layers
        At least one.
    source
        Format of what the first takes; the graphs accept its whole range.
    adders_per_stage
        Most adders between two registers.

    Raises
    ------
    ToolchainError
        When da4ml is not installed, or a layer needs what da4ml cannot represent; it names layer and format.
    """
    try:
        # imported here: a probe and a board do not need it
        from da4ml.trace import FixedVariableArray, HWConfig, comb_trace, to_pipeline  # noqa: PLC0415
    except ImportError as error:
        raise ToolchainError(f"da4ml cannot be imported ({error}): pip install da4ml") from error
    first = source
    signs = np.full(layers[0].n_in, int(source.signed))
    inputs = FixedVariableArray.from_kif(
        signs, source.width - signs, np.zeros_like(signs), hwconf=HWConfig(1, -1, -1)
    )
    values = inputs
    for layer in layers:
        check(layer, source)
        values = _dense(layer, source, values)
        source = layer.result_format
    combinational = comb_trace(inputs, values, keep_dead_inputs=True)
    pipeline = to_pipeline(combinational, adders_per_stage, retiming=False, verbose=False)
    return Logic(combinational, pipeline, first, source)


def check(layer: DenseLayer, source: FixedFormat) -> None:
    """Make sure that da4ml represents a layer exactly.

    Raises
    ------
    ToolchainError
        When it does not; it names layer, format and cure.
    """
    accumulator = layer.accumulator_format(source)
    if accumulator.width > MAXIMUM_ACCUMULATOR_BITS:
        raise ToolchainError(
            f"layer {layer.name}: its sums need {accumulator} of {source} inputs, da4ml is exact up to "
            f"{MAXIMUM_ACCUMULATOR_BITS} bits: use narrower formats"
        )
    odd = layer.weight_raw // np.maximum(layer.weight_raw & -layer.weight_raw, 1)
    if (wide := np.argwhere(np.abs(odd) >= 1 << MAXIMUM_WEIGHT_BITS)).size:
        row, column = (int(index) for index in wide[0])
        raise ToolchainError(
            f"{layer.name}.weight[{row}, {column}] = {int(layer.weight_raw[row, column])} in "
            f"{layer.weight_format} has more than the {MAXIMUM_WEIGHT_BITS} significant bits of da4ml: use "
            "narrower weights"
        )
    if layer.result_format.fraction - accumulator.fraction + accumulator.width > MAXIMUM_ACCUMULATOR_BITS:
        raise ToolchainError(
            f"layer {layer.name}: da4ml cannot convert its {accumulator} sums into {layer.result_format} "
            "exactly: use fewer fraction bits"
        )


def _dense(layer: DenseLayer, source: FixedFormat, values: Any) -> Any:
    """Trace one layer; `values` and the result are integers in units of the formats' last bits."""
    weight, bias = aligned_parameters(layer, source)
    total = values @ weight.astype(np.float64) + bias.astype(np.float64)
    results = [_convert(layer, source, total[index]) for index in range(layer.n_out)]
    return type(total)(np.array(results, dtype=object), hwconf=total.hwconf)


def _convert(layer: DenseLayer, source: FixedFormat, total: Any) -> Any:
    """Trace one sum's way into the layer's format, and its activation."""
    fmt = layer.result_format
    fraction = layer.accumulator_format(source).fraction
    relu = layer.activation == "relu"
    if total.low == total.high:  # da4ml's own conversion of constants wraps unsigned ones to a bit too much
        constant = int(requantise(np.array([int(total.low)]), fraction, fmt)[0])
        return total.from_const(float(max(constant, 0) if relu else constant), hwconf=total.hwconf)
    shift = fraction - fmt.fraction
    if shift > 0:
        total = _round(total, shift, fmt.rounding)
    total = total * 2.0**-shift
    signed = int(fmt.signed)
    if fmt.overflow is Overflow.SAT:
        # saturating at zero from below is the activation
        signed, bits = (0 if relu else signed), fmt.width - signed
        return total.quantize(signed, bits, 0, overflow_mode="SAT")
    if not fmt.signed and total.low < 0:
        # da4ml extends the sign of a narrow value by one bit only: a whole period more leaves no sign
        total = total + float(-(int(total.low) >> fmt.width) << fmt.width)
    result = total.quantize(signed, fmt.width - signed, 0, overflow_mode="WRAP")
    return result.relu() if relu and signed else result


def _round(total: Any, shift: int, rounding: Rounding) -> Any:
    """Trace the dropping of `shift` bits; the result's unit is still that of `total`."""
    if rounding is Rounding.RND:
        total = total + float(1 << (shift - 1))
    elif rounding is Rounding.RND_CONV:
        # half minus one, plus the bit that will be last, carries exactly when ties go to even
        last = total.quantize(0, shift + 1, -shift) * 2.0**-shift
        total = total + float((1 << (shift - 1)) - 1) + last
    signed, integer, _ = total.kif
    return total.quantize(signed, integer, -shift)
