"""The bit-accurate emulator: what the firmware must answer, many events at a time.

It is the oracle of every bench and of the stream's integrity check. What each stage computes is defined by
`hw.arithmetic`; here a stage runs in floating point wherever its widths prove that exact, and as defined
elsewhere. Refuses to know C++ and boards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from hw import arithmetic
from hw.errors import ModelError
from hw.exact_float import Floats, Landing, number_for
from hw.fixed_point import FixedFormat, requantise
from hw.network import DenseLayer, FirmwareModel, InputStage
from hw.stages import Raw

_CHUNK = 1024
"""Events per step: the intermediate arrays stay inside the processor's cache."""

_EXACT_FLOAT_BITS = 53

_Values = Raw | Floats
_Step = Callable[[npt.NDArray[Any]], _Values]


class Emulator:
    """Evaluates a firmware model bit by bit as the firmware does. Safe to use from several threads.

    Parameters
    ----------
    model
        The model; its parameters are read once.

    Examples
    --------
    >>> scores, accepts = Emulator(model).run(inputs)  # doctest: +SKIP
    """

    def __init__(self, model: FirmwareModel) -> None:
        self.model = model
        self._steps: list[_Step] = [_input_step(model.input_stage, model.product_bits)]
        source = model.input_stage.result_format
        for layer in model.layers:
            self._steps.append(_dense_step(layer, source))
            source = layer.result_format

    def run(self, inputs: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Compute scores and the trigger's decisions.

        Parameters
        ----------
        inputs
            int16, (n, n_inputs).

        Returns
        -------
        tuple
            Scores, int64 (n,), raw in the score stage's format; decisions, `score > threshold`, bool (n,).

        Raises
        ------
        ModelError
            When the inputs have another shape or type.
        """
        scores = self.scores(inputs)
        return scores, scores > self.model.score_stage.threshold_raw

    def scores(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Compute the raw scores alone: int64, (n,); raises as `run` does."""
        self._check(inputs)
        scores = np.empty(len(inputs), dtype=np.int64)
        for chunk in _chunks(len(inputs)):
            scores[chunk] = self._score(_through(self._steps, inputs[chunk]))
        return scores

    def accepts(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
        """Compute the decisions alone: bool, (n,); raises as `run` does."""
        return self.run(inputs)[1]

    def outputs(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Compute the raw results of the last layer: int64, (n, n_out); raises as `run` does."""
        self._check(inputs)
        return _evaluate(self._steps, inputs, self.model.layers[-1].n_out)

    def standardised(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Compute the raw results of the input stage: int64, (n, n_inputs); raises as `run` does."""
        self._check(inputs)
        return _evaluate(self._steps[:1], inputs, self.model.n_inputs)

    def partition(self, index: int, values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Compute one partition alone, as its image does.

        Parameters
        ----------
        index
            Which of `model.partitions()`.
        values
            int64, (n, n_in), raw in the partition's `source_format`.

        Returns
        -------
        numpy.ndarray
            int64, (n, n_outputs): its last layer's results; in the last partition then score and decision.

        Raises
        ------
        ModelError
            When there is no such partition, or the values have another shape or type or leave the format.
        """
        partitions = self.model.partitions()
        if not 0 <= index < len(partitions):
            raise ModelError(
                f"model {self.model.name} has {len(partitions)} partitions, none of index {index}"
            )
        part = partitions[index]
        if values.ndim != 2 or values.shape[1] != part.n_in or values.dtype != np.int64:
            raise ModelError(
                f"partition {part.name} takes int64 values of the shape (n, {part.n_in}), "
                f"not {values.dtype} {values.shape}"
            )
        if not part.source_format.holds(values).all():
            raise ModelError(f"partition {part.name} takes {part.source_format}, some values are outside")
        steps = self._steps[0 if part.first else part.begin + 1 : part.end + 1]
        results = _evaluate(steps, values, part.n_out)
        if not part.last:
            return results
        scores = self._score(results)
        return np.column_stack([results, scores, scores > self.model.score_stage.threshold_raw])

    def _score(self, values: _Values) -> npt.NDArray[np.int64]:
        """Compute the scores of the last layer's results, in whatever number type they are."""
        stage, source = self.model.score_stage, self.model.layers[-1].result_format
        if stage.kind == "sum_of_squares" and _square_bits(source, values.shape[1]) <= _EXACT_FLOAT_BITS:
            floats = values.astype(np.float64, copy=False)
            total = np.einsum("ij,ij->i", floats, floats).astype(np.int64)
            return requantise(total, 2 * source.fraction, stage.result_format)
        return arithmetic.score(stage, source, values.astype(np.int64, copy=False))

    def _check(self, inputs: npt.NDArray[np.int16]) -> None:
        if inputs.ndim != 2 or inputs.shape[1] != self.model.n_inputs or inputs.dtype != np.int16:
            raise ModelError(
                f"model {self.model.name} takes int16 inputs of the shape (n, {self.model.n_inputs}), "
                f"not {inputs.dtype} {inputs.shape}"
            )


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, count, _CHUNK))


def _through(steps: list[_Step], values: npt.NDArray[Any]) -> _Values:
    for step in steps:
        values = step(values)
    return values


def _evaluate(steps: list[_Step], values: npt.NDArray[Any], n_out: int) -> npt.NDArray[np.int64]:
    results = np.empty((len(values), n_out), dtype=np.int64)
    for chunk in _chunks(len(values)):
        results[chunk] = _through(steps, values[chunk])
    return results


def _square_bits(source: FixedFormat, count: int) -> int:
    return 2 * source.width + count.bit_length()


def _input_step(stage: InputStage, product_bits: int) -> _Step:
    """Give the input stage as `codes * scale - offset * scale` in units of the result's last bit."""
    fraction = arithmetic.difference_fraction(stage) + stage.scale_format.fraction
    shift = fraction - stage.result_format.fraction
    number = number_for(product_bits, shift, stage.result_format)
    if number is None:
        return lambda codes: arithmetic.standardise(stage, codes.astype(np.int64))
    landing = Landing(stage.result_format, shift)
    scale = np.ldexp(
        stage.scale_raw.astype(number), stage.result_format.fraction - stage.scale_format.fraction
    )
    offset = np.ldexp(stage.offset_raw.astype(number), -stage.offset_format.fraction)
    return partial(_affine, scale, landing.half - offset * scale, landing)


def _affine(scale: Floats, constant: Floats, landing: Landing, codes: npt.NDArray[Any]) -> Floats:
    values: Floats = codes.astype(scale.dtype)
    values *= scale
    values += constant
    landing(values)
    return values


def _dense_step(layer: DenseLayer, source: FixedFormat) -> _Step:
    """Give a layer as `values @ weight + bias` in units of the result's last bit."""
    accumulator = layer.accumulator_format(source)
    shift = accumulator.fraction - layer.result_format.fraction
    number = number_for(accumulator.width, shift, layer.result_format)
    if number is None:
        return lambda values: arithmetic.dense(layer, source, values.astype(np.int64))
    landing = Landing(layer.result_format, shift, relu=layer.activation == "relu")
    weight, bias = (
        np.ldexp(raw.astype(number), -shift) for raw in arithmetic.aligned_parameters(layer, source)
    )
    return partial(_matrix, weight, bias + number(landing.half), landing)


def _matrix(weight: Floats, constant: Floats, landing: Landing, values: npt.NDArray[Any]) -> Floats:
    results: Floats = values.astype(weight.dtype, copy=False) @ weight
    results += constant
    landing(results)
    return results
