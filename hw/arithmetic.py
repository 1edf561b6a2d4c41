"""What a firmware model computes, stage by stage, in 64-bit integers: the definition all else must match.

Between two formats everything is exact; a value is rounded once, when it enters a format. Written to be read,
not to be fast: `hw.emulator` gives the same bits sooner. Refuses to know events, partitions and boards.
"""

from __future__ import annotations

import numpy as np

from hw.fixed_point import FixedFormat, requantise
from hw.stages import DenseLayer, InputStage, Raw, ScoreStage


def standardise(stage: InputStage, codes: Raw) -> Raw:
    """Compute the input stage, `(codes - offset) * scale`.

    Parameters
    ----------
    stage
        The stage.
    codes
        int64, (n, n_inputs), whole numbers.

    Returns
    -------
    numpy.ndarray
        int64, (n, n_inputs), raw in `stage.result_format`.
    """
    fraction = difference_fraction(stage)
    offset = np.left_shift(stage.offset_raw, fraction - stage.offset_format.fraction)
    difference = np.left_shift(codes, fraction) - offset
    return requantise(
        difference * stage.scale_raw, fraction + stage.scale_format.fraction, stage.result_format
    )


def difference_fraction(stage: InputStage) -> int:
    """Fraction bits of `codes - offset`: those of the offsets, or none when they are coarser than codes."""
    return max(0, stage.offset_format.fraction)


def aligned_parameters(layer: DenseLayer, source: FixedFormat) -> tuple[Raw, Raw]:
    """Give a layer's weights and biases such that `values @ weight + bias` has one unit.

    That unit is the last bit of `layer.accumulator_format(source)`.
    """
    fraction = layer.accumulator_format(source).fraction
    weight = np.left_shift(layer.weight_raw, fraction - source.fraction - layer.weight_format.fraction)
    return weight, np.left_shift(layer.bias_raw, fraction - layer.bias_format.fraction)


def dense(layer: DenseLayer, source: FixedFormat, values: Raw) -> Raw:
    """Compute a dense layer.

    Parameters
    ----------
    layer
        The layer.
    source
        Format of `values`.
    values
        int64, (n, n_in), raw.

    Returns
    -------
    numpy.ndarray
        int64, (n, n_out), raw in `layer.result_format`.
    """
    weight, bias = aligned_parameters(layer, source)
    fraction = layer.accumulator_format(source).fraction
    result = requantise(values @ weight + bias, fraction, layer.result_format)
    return np.maximum(result, 0) if layer.activation == "relu" else result


def score(stage: ScoreStage, source: FixedFormat, values: Raw) -> Raw:
    """Compute the score.

    Parameters
    ----------
    stage
        The stage.
    source
        Format of `values`.
    values
        int64, (n, n_out), the raw results of the last layer.

    Returns
    -------
    numpy.ndarray
        int64, (n,), raw in `stage.result_format`.
    """
    if stage.kind == "logit":
        return requantise(values[:, stage.output], source.fraction, stage.result_format)
    return requantise((values * values).sum(axis=1), 2 * source.fraction, stage.result_format)
