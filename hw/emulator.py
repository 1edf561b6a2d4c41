"""The bit-accurate emulator: what the firmware must answer, computed with NumPy.

It is the oracle of every bench and of the stream's integrity check. Refuses to know C++ and boards.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hw.errors import ModelError
from hw.fixed_point import FixedFormat, requantise
from hw.network import DenseLayer, FirmwareModel

_CHUNK = 8192
"""Events per step: the intermediate arrays stay inside the processor's cache."""

_EXACT_FLOAT_BITS = 53
"""Integers up to 2^53 are exact in float64, so BLAS sums them exactly in any order."""


class Emulator:
    """Evaluates a firmware model on integers, bit by bit as the firmware does.

    Parameters
    ----------
    model
        The model; its weights are read once.

    Examples
    --------
    >>> scores = Emulator(model).scores(inputs)  # doctest: +SKIP
    """

    def __init__(self, model: FirmwareModel) -> None:
        self.model = model
        self._layers: list[_Dense] = []
        source = model.input_stage.result_format
        for layer in model.layers:
            self._layers.append(_Dense(layer, source))
            source = layer.result_format
        self._latent_format = source

    def scores(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Compute the raw scores.

        Parameters
        ----------
        inputs
            int16, (n, n_inputs).

        Returns
        -------
        numpy.ndarray
            int64, (n,), raw in the score stage's format.

        Raises
        ------
        ModelError
            When the inputs have another shape or type.
        """
        self._check(inputs)
        result = np.empty(len(inputs), dtype=np.int64)
        for start in range(0, len(inputs), _CHUNK):
            latent = self._latent(inputs[start : start + _CHUNK])
            total = np.einsum("ij,ij->i", latent, latent)
            part = requantise(total, 2 * self._latent_format.fraction, self.model.score_stage.result_format)
            result[start : start + _CHUNK] = part
        return result

    def accepts(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
        """Compute the trigger's decisions, `score > threshold`: bool, (n,)."""
        return np.asarray(self.scores(inputs) > self.model.score_stage.threshold_raw)

    def latent(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Compute the raw outputs of the last layer: int64, (n, n_latent)."""
        self._check(inputs)
        chunks = [self._latent(inputs[start : start + _CHUNK]) for start in range(0, len(inputs), _CHUNK)]
        return np.concatenate(chunks) if chunks else np.empty((0, self.model.layers[-1].n_out), np.int64)

    def standardised(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Compute the raw results of the input stage: int64, (n, n_inputs)."""
        self._check(inputs)
        stage = self.model.input_stage
        fraction = max(0, stage.offset_format.fraction)
        offset = np.left_shift(stage.offset_raw, fraction - stage.offset_format.fraction)
        difference = np.left_shift(inputs.astype(np.int64), fraction) - offset
        return requantise(
            difference * stage.scale_raw, fraction + stage.scale_format.fraction, stage.result_format
        )

    def _latent(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        values = self.standardised(inputs)
        for layer in self._layers:
            values = layer(values)
        return values

    def _check(self, inputs: npt.NDArray[np.int16]) -> None:
        if inputs.ndim != 2 or inputs.shape[1] != self.model.n_inputs or inputs.dtype != np.int16:
            raise ModelError(
                f"model {self.model.name} takes int16 inputs of the shape (n, {self.model.n_inputs}), "
                f"not {inputs.dtype} {inputs.shape}"
            )


class _Dense:
    """One dense layer with its sum held exactly: in float64 where 53 bits suffice, else in int64."""

    def __init__(self, layer: DenseLayer, source: FixedFormat) -> None:
        accumulator = layer.accumulator_format(source)
        self._fraction = accumulator.fraction
        self._exact = accumulator.width <= _EXACT_FLOAT_BITS
        number = np.float64 if self._exact else np.int64
        shift = accumulator.fraction - source.fraction - layer.weight_format.fraction
        self._weight = np.left_shift(layer.weight_raw, shift).astype(number)
        self._bias = np.left_shift(layer.bias_raw, accumulator.fraction - layer.bias_format.fraction).astype(
            number
        )
        self._layer = layer
        self._number = number

    def __call__(self, values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        total = values.astype(self._number) @ self._weight + self._bias
        result = requantise(total.astype(np.int64), self._fraction, self._layer.result_format)
        return np.maximum(result, 0) if self._layer.activation == "relu" else result
