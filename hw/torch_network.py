"""A firmware model in torch: with real numbers, and with every stage on its fixed-point grid.

Both are stages of the bench. Refuses to know training; torch is imported when a network is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hw.fixed_point import FixedFormat, Overflow, Rounding, to_float
from hw.network import FirmwareModel

if TYPE_CHECKING:
    from torch import Tensor

_EXACT_BITS = 53
"""Integers up to 2^53 are exact in float64."""


class TorchNetwork:
    """A firmware model as torch evaluates it, in float64.

    Parameters
    ----------
    model
        The model; its parameters are those of the firmware, as real numbers.
    quantised
        False: no stage rounds. True: every stage rounds and saturates or wraps as its format says.
    """

    def __init__(self, model: FirmwareModel, *, quantised: bool) -> None:
        import torch  # noqa: PLC0415 - it takes seconds, and a board does not need it

        self._torch = torch
        self._model = model
        self._quantised = quantised
        stage = model.input_stage
        self._offset = torch.from_numpy(to_float(stage.offset_raw, stage.offset_format))
        self._scale = torch.from_numpy(to_float(stage.scale_raw, stage.scale_format))
        self._layers = [
            (
                torch.from_numpy(to_float(layer.weight_raw, layer.weight_format)),
                torch.from_numpy(to_float(layer.bias_raw, layer.bias_format)),
                layer,
            )
            for layer in model.layers
        ]

    @property
    def exact(self) -> bool:
        """Whether float64 holds every sum of the quantised network exactly, so that each bit must agree."""
        source, widths = self._model.input_stage.result_format, [self._model.product_bits]
        for layer in self._model.layers:
            widths.append(layer.accumulator_format(source).width)
            source = layer.result_format
        if self._model.score_stage.kind == "sum_of_squares":
            widths.append(2 * source.width + self._model.layers[-1].n_out.bit_length())
        return max(widths) <= _EXACT_BITS

    def values(
        self, inputs: npt.NDArray[np.int16]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Compute the outputs of the last layer, float64 (n, n_out), and the scores, float64 (n,)."""
        stage, score = self._model.input_stage, self._model.score_stage
        with self._torch.no_grad():
            values = self._torch.from_numpy(np.asarray(inputs, dtype=np.float64))
            values = self._on_grid((values - self._offset) * self._scale, stage.result_format)
            for weight, bias, layer in self._layers:
                values = self._on_grid(values @ weight + bias, layer.result_format)
                if layer.activation == "relu":
                    values = self._torch.relu(values)
            if score.kind == "sum_of_squares":
                result = (values * values).sum(dim=1)
            else:
                result = values[:, score.output]
            return values.numpy(), self._on_grid(result, score.result_format).numpy()

    def scores(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
        """Compute the scores alone: float64, (n,), in units of the score."""
        return self.values(inputs)[1]

    def run(self, inputs: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Give raw scores, int64 (n,), and decisions, bool (n,); meant for a quantised network."""
        scores = _raw(self.scores(inputs), self._model.score_stage.result_format)
        return scores, scores > self._model.score_stage.threshold_raw

    def _on_grid(self, values: Tensor, fmt: FixedFormat) -> Tensor:
        """Round values into a format and bring them into its range, as `ap_fixed` does."""
        if not self._quantised:
            return values
        torch = self._torch
        scaled = values * 2.0**fmt.fraction
        if fmt.rounding is Rounding.RND:
            raw = torch.floor(scaled + 0.5)
        elif fmt.rounding is Rounding.RND_CONV:
            raw = torch.round(scaled)
        else:
            raw = torch.floor(scaled)
        if fmt.overflow is Overflow.SAT:
            raw = raw.clamp(fmt.raw_minimum, fmt.raw_maximum)
        else:
            raw = torch.remainder(raw - fmt.raw_minimum, 2.0**fmt.width) + fmt.raw_minimum
        on_grid: Tensor = raw * fmt.lsb
        return on_grid


def _raw(values: npt.NDArray[np.float64], fmt: FixedFormat) -> npt.NDArray[np.int64]:
    return np.rint(np.ldexp(values, fmt.fraction)).astype(np.int64)
