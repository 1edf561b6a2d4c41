"""The numbers that make a stage's Verilog module: widths, shifts and modes, from formats and sizes alone.

Every width holds the largest value the formats allow, so that all between two formats is exact. Refuses to
know parameter values and Verilog text.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw.arithmetic import difference_fraction
from hw.errors import ToolchainError
from hw.fixed_point import MAXIMUM_SHIFT, FixedFormat, Overflow, Rounding
from hw.layout import Partition
from hw.stages import INPUT_FORMAT, DenseLayer, InputStage, ScoreStage

WORD_BITS = 32
"""Bits of a word of the weight memory."""

_ROUNDINGS = {Rounding.TRN: 0, Rounding.RND: 1, Rounding.RND_CONV: 2}

Parameters = dict[str, int]
"""Parameters of a Verilog module by name."""


@dataclass(frozen=True, slots=True)
class Range:
    """All integers a signal can hold.

    Parameters
    ----------
    low, high
        The ends, inclusive.
    """

    low: int
    high: int

    @classmethod
    def of(cls, fmt: FixedFormat) -> Range:
        """Give the raw values of a format."""
        return cls(fmt.raw_minimum, fmt.raw_maximum)

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Range) -> Range:
        return Range(self.low - other.high, self.high - other.low)

    def __mul__(self, other: Range) -> Range:
        ends = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Range(min(ends), max(ends))

    def __lshift__(self, bits: int) -> Range:
        return Range(self.low << bits, self.high << bits)

    def times(self, count: int) -> Range:
        """Give the sums of `count` such integers, and of fewer."""
        return Range(min(0, self.low * count), max(0, self.high * count))

    @property
    def bits(self) -> int:
        """Bits of a signed signal that holds them."""
        return max((-self.low - 1).bit_length() if self.low < 0 else 0, max(self.high, 0).bit_length()) + 1


def index_bits(count: int) -> int:
    """Bits that number `count` things; at least one."""
    return max(1, (count - 1).bit_length())


def weight_address_bits(values: Parameters) -> tuple[int, int]:
    """Give how many address bits a layer's lane and row within an input take, from `dense()`."""
    return values["LANE"], values["GROUP"] if values["REUSE"] > 1 else 0


def stored_bits(fmt: FixedFormat) -> int:
    """Bits that the memory holds of a parameter."""
    return min(fmt.width, WORD_BITS)


def check(partition: Partition) -> None:
    """Check that every conversion of a partition has a meaning.

    Raises
    ------
    ToolchainError
        When a shift exceeds what the emulator allows.
    """
    stages: list[tuple[str, Parameters]] = [
        (layer.name, dense(partition, i, 1)) for i, layer in enumerate(partition.layers)
    ]
    if partition.first:
        stages.append(("input stage", input_stage(partition.model.input_stage)))
    if partition.last:
        stages.append(("score stage", score(partition.model.score_stage, partition.layers[-1])))
    for name, values in stages:
        if abs(values["SHIFT"]) > MAXIMUM_SHIFT:
            raise ToolchainError(
                f"{name}: its result is shifted by {abs(values['SHIFT'])} bits, at most {MAXIMUM_SHIFT} are "
                "possible: use formats with nearer binary points"
            )


def input_stage(stage: InputStage) -> Parameters:
    """Give the parameters of `lumiwatch_input`."""
    fraction = difference_fraction(stage)
    offset = Range.of(stage.offset_format) << (fraction - stage.offset_format.fraction)
    difference = (Range.of(INPUT_FORMAT) << fraction) - offset
    return {
        "N": stage.n_inputs,
        "INDEX": index_bits(stage.n_inputs),
        **_parameter("OFFSET", stage.offset_format),
        **_parameter("SCALE", stage.scale_format),
        "CODE_SHIFT": fraction,
        "OFFSET_SHIFT": fraction - stage.offset_format.fraction,
        "W_DIFFERENCE": difference.bits,
        **_result(fraction + stage.scale_format.fraction, stage.result_format),
    }


def dense(partition: Partition, number: int, reuse: int) -> Parameters:
    """Give the parameters of `lumiwatch_dense`.

    Parameters
    ----------
    partition
        The partition.
    number
        Which of its layers.
    reuse
        Clocks per input.
    """
    layer, source = partition.layers[number], source_format(partition, number)
    reuse = min(reuse, layer.n_out)
    lanes = -(-layer.n_out // reuse)
    product_fraction = source.fraction + layer.weight_format.fraction
    fraction = max(product_fraction, layer.bias_format.fraction)
    sums = (Range.of(source) * Range.of(layer.weight_format)).times(layer.n_in)
    biases = Range.of(layer.bias_format) << (fraction - layer.bias_format.fraction)
    total = (sums << (fraction - product_fraction)) + biases
    return {
        "N_IN": layer.n_in,
        "N_OUT": layer.n_out,
        "REUSE": reuse,
        "LANES": lanes,
        "ROW": index_bits(layer.n_in),
        "GROUP": index_bits(reuse),
        "LANE": index_bits(lanes),
        "RESULT": index_bits(layer.n_out),
        "W_IN": source.width,
        "S_IN": int(source.signed),
        **_parameter("WEIGHT", layer.weight_format),
        **_parameter("BIAS", layer.bias_format),
        "W_SUM": sums.bits,
        "SUM_SHIFT": fraction - product_fraction,
        "BIAS_SHIFT": fraction - layer.bias_format.fraction,
        "W_TOTAL": total.bits,
        **_result(fraction, layer.result_format),
        "RELU": int(layer.activation == "relu"),
    }


def score(stage: ScoreStage, layer: DenseLayer) -> Parameters:
    """Give the parameters of `lumiwatch_score`."""
    source = layer.result_format
    logit = stage.kind == "logit"
    value = Range.of(source)
    total = value if logit else (value * value).times(layer.n_out)
    return {
        "N": layer.n_out,
        "INDEX": index_bits(layer.n_out),
        "LOGIT": int(logit),
        "OUTPUT": stage.output,
        "W_IN": source.width,
        "S_IN": int(source.signed),
        "W_TOTAL": total.bits,
        **_result(source.fraction if logit else 2 * source.fraction, stage.result_format),
    }


def source_format(partition: Partition, number: int) -> FixedFormat:
    """Format of what layer `number` of a partition takes."""
    if number:
        return partition.layers[number - 1].result_format
    return partition.model.input_stage.result_format if partition.first else partition.source_format


def _parameter(name: str, fmt: FixedFormat) -> Parameters:
    return {f"W_{name}": stored_bits(fmt), f"S_{name}": int(fmt.signed)}


def _result(fraction: int, fmt: FixedFormat) -> Parameters:
    return {
        "SHIFT": fraction - fmt.fraction,
        "W_OUT": fmt.width,
        "S_OUT": int(fmt.signed),
        "ROUNDING": _ROUNDINGS[fmt.rounding],
        "SATURATE": int(fmt.overflow is Overflow.SAT),
    }
