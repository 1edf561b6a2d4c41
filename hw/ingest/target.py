"""What a model that was trained elsewhere does not say about its firmware, and its parameters on their grids.

Refuses to know torch and ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from hw.errors import FormatError, ModelError
from hw.fixed_point import MAXIMUM_WIDTH, FixedFormat, Overflow, quantise
from hw.formats import DEFAULT_FORMATS, NetworkFormats
from hw.network import DenseLayer, FirmwareModel
from hw.stages import InputStage, Raw, ScoreStage

_PARAMETER_BITS = 32


@dataclass(frozen=True, slots=True)
class LayerFormats:
    """Formats of one layer that differ from the target's; None keeps the target's."""

    weight: FixedFormat | None = None
    bias: FixedFormat | None = None
    result: FixedFormat | None = None


@dataclass(frozen=True, slots=True)
class IngestTarget:
    """What the firmware needs beside the trained network.

    Parameters
    ----------
    name, contract_hash, input_names
        As in `FirmwareModel`.
    input_offset, input_scale
        The network was trained on `(code - offset) * scale`: one number or one per input.
    formats
        A QONNX graph brings its own: of these it takes `offset`, `scale` and `score`.
    layer_formats
        Exceptions by layer name (`dense1`, `dense2`, ...); for torch modules only.
    kind, output
        The score: the sum of the squared outputs, or one of them, counted from 0.
    score_format
        Format of score and threshold. None: `formats.score`, made signed for a logit.
    threshold
        Events whose score is above are accepted.
    """

    name: str
    contract_hash: str
    input_names: tuple[str, ...]
    input_offset: float | Sequence[float] = 0.0
    input_scale: float | Sequence[float] = 1.0
    formats: NetworkFormats = DEFAULT_FORMATS
    layer_formats: Mapping[str, LayerFormats] = field(default_factory=dict)
    kind: Literal["sum_of_squares", "logit"] = "sum_of_squares"
    output: int = 0
    score_format: FixedFormat | None = None
    threshold: float = 0.0

    def affine(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Give offset and scale of every input: float64, (n_inputs,) each.

        Raises
        ------
        ModelError
            When their number is wrong or one is not finite.
        """
        count = len(self.input_names)
        try:
            offset = np.broadcast_to(np.asarray(self.input_offset, dtype=np.float64), count)
            scale = np.broadcast_to(np.asarray(self.input_scale, dtype=np.float64), count)
        except (ValueError, TypeError) as error:
            raise ModelError(
                f"model {self.name}: give one input offset and scale, or {count} of each ({error})"
            ) from error
        if not (np.isfinite(offset).all() and np.isfinite(scale).all()):
            raise ModelError(f"model {self.name}: input offsets and scales must be finite")
        return offset, scale

    def input_stage(
        self,
        offset: npt.NDArray[np.float64],
        scale: npt.NDArray[np.float64],
        result: FixedFormat,
        *,
        saturate: bool | None = None,
    ) -> InputStage:
        """Put offsets and scales, float64 (n_inputs,), on the grids of `formats`; raises as `on_grid`."""
        formats = self.formats
        scale_raw = on_grid("input.scale", scale, formats.scale, saturate=saturate)
        lost = np.flatnonzero((scale_raw == 0) & (scale != 0))
        if lost.size:
            index = int(lost[0])
            raise ModelError(
                f"input.scale[{index}] = {scale[index]:g} becomes zero in {formats.scale}: "
                "use a scale format with more fraction bits"
            )
        return InputStage(
            on_grid("input.offset", offset, formats.offset, saturate=saturate),
            scale_raw,
            formats.scale,
            result,
            formats.offset,
        )

    def model(self, stage: InputStage, layers: Sequence[DenseLayer]) -> FirmwareModel:
        """Give the firmware model of an input stage and layers; raises ModelError as that does."""
        if stage.n_inputs != len(self.input_names):
            raise ModelError(
                f"the network takes {stage.n_inputs} inputs, the target names {len(self.input_names)}: "
                "use one contract for both"
            )
        fmt = self.score_format or self.formats.score
        if self.score_format is None and self.kind == "logit":
            fmt = replace(fmt, signed=True)
        threshold = on_grid("score.threshold", np.array([self.threshold]), fmt)
        return FirmwareModel(
            name=self.name,
            contract_hash=self.contract_hash,
            input_names=self.input_names,
            input_stage=stage,
            layers=tuple(layers),
            score_stage=ScoreStage(self.kind, fmt, int(threshold[0]), self.output),
        )


def on_grid(
    what: str, values: npt.NDArray[np.float64], fmt: FixedFormat, *, saturate: bool | None = None
) -> Raw:
    """Round parameters into a format.

    Parameters
    ----------
    what
        Their name for error messages.
    values
        float64, any shape.
    fmt
        At most 32 bits, because a parameter is one signed 32-bit word.
    saturate
        True: values outside the format become its nearest end, even in a WRAP format. False: they are an
        error that offers this; None: an error.

    Returns
    -------
    numpy.ndarray
        int64, same shape.

    Raises
    ------
    ModelError
        For NaN and infinities, for values outside the format unless `saturate`, and for wider formats.
    """
    check_word(what, fmt)
    if (bad := _first(~np.isfinite(values))) is not None:
        raise ModelError(
            f"{what}{_at(bad)} = {values[bad]}: give finite numbers (a training that diverged needs a lower "
            "learning rate)"
        )
    wide = FixedFormat(
        MAXIMUM_WIDTH, MAXIMUM_WIDTH - fmt.fraction, rounding=fmt.rounding, overflow=Overflow.SAT
    )
    raw = quantise(values, wide)
    if not saturate and (bad := _first(~fmt.holds(raw))) is not None:
        offer = "" if saturate is None else ", or allow it with saturate=True"
        raise ModelError(
            f"{what}{_at(bad)} = {values[bad]:g} is outside {fmt} "
            f"({fmt.raw_minimum * fmt.lsb:g}..{fmt.raw_maximum * fmt.lsb:g}): use a wider format{offer}"
        )
    return np.asarray(np.clip(raw, fmt.raw_minimum, fmt.raw_maximum))


def check_word(what: str, fmt: FixedFormat) -> None:
    """Raise ModelError when a parameter's format does not fit into a signed 32-bit word."""
    if fmt.width + (not fmt.signed) > _PARAMETER_BITS:
        raise ModelError(f"{what} would be {fmt}, a parameter is one signed 32-bit word: use fewer bits")


def checked(what: str, width: int, integer: int) -> FixedFormat:
    """Give the signed format `fixed<width,integer,RND,SAT>` of a parameter, or raise ModelError."""
    try:
        fmt = FixedFormat.parse(f"fixed<{width},{integer},RND,SAT>")
    except FormatError as error:
        raise ModelError(f"{what} needs a format that firmware does not have ({error})") from error
    check_word(what, fmt)
    return fmt


def _first(wrong: npt.NDArray[np.bool_]) -> tuple[int, ...] | None:
    """Give the index of the first True, or None."""
    found = np.argwhere(wrong)
    return tuple(int(i) for i in found[0]) if len(found) else None


def _at(index: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, index))}]" if index else ""
