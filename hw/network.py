"""The firmware model: an input stage, dense layers and a score stage, held as raw fixed-point integers.

Every parameter is one signed 32-bit word of a linear memory, in the order of `FirmwareModel.segments()`; the
structure hash names everything else. This module refuses to know training, C++ and boards.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.archive import npy_array, npy_bytes, unzip_bytes, zip_bytes
from hw.errors import FormatError, ModelError, PackageMalformed
from hw.fixed_point import FixedFormat
from hw.stages import DIFFERENCE_FORMAT_GROWTH, INPUT_FORMAT, DenseLayer, InputStage, Raw, ScoreStage

__all__ = ["INPUT_FORMAT", "DenseLayer", "FirmwareModel", "InputStage", "ScoreStage", "Segment"]

_MAXIMUM_MODEL_BYTES = 64 << 20
_FILE_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Segment:
    """One named stretch of the weight memory.

    Parameters
    ----------
    name
        E.g. `dense1.weight`.
    start
        Index of its first word.
    words
        Number of words.
    format
        Fixed-point format of each word.
    """

    name: str
    start: int
    words: int
    format: FixedFormat

    @property
    def stop(self) -> int:
        """Index behind its last word."""
        return self.start + self.words


@dataclass(frozen=True, eq=False)
class FirmwareModel:
    """Everything that determines the firmware's answer, bit by bit.

    Parameters
    ----------
    name
        The monitored model's name.
    contract_hash
        Hash of the input contract the model was made for.
    input_names
        One name per input, in order.
    input_stage, layers, score_stage
        The arithmetic, in order.

    Raises
    ------
    ModelError
        When shapes do not fit together or a sum could exceed exact arithmetic.
    """

    name: str
    contract_hash: str
    input_names: tuple[str, ...]
    input_stage: InputStage
    layers: tuple[DenseLayer, ...]
    score_stage: ScoreStage

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_names", tuple(self.input_names))
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise ModelError(f"model {self.name} has no layer: give at least one")
        if len(self.input_names) != self.input_stage.n_inputs:
            raise ModelError(
                f"model {self.name} names {len(self.input_names)} inputs, its input stage has "
                f"{self.input_stage.n_inputs}: use one contract for both"
            )
        names = [layer.name for layer in self.layers]
        if len(set(names)) != len(names):
            raise ModelError(f"model {self.name} uses a layer name twice: {', '.join(names)}")
        width, source = self.input_stage.n_inputs, self.input_stage.result_format
        for layer in self.layers:
            if layer.n_in != width:
                raise ModelError(
                    f"layer {layer.name} takes {layer.n_in} inputs, the stage before gives {width}"
                )
            try:
                layer.accumulator_format(source)
            except FormatError as error:
                raise ModelError(
                    f"layer {layer.name} cannot be summed exactly ({error}): use narrower formats"
                ) from error
            width, source = layer.n_out, layer.result_format
        if 2 * source.width + width.bit_length() > 62 or self.product_bits > 62:
            raise ModelError(
                f"model {self.name}: the score or the input product exceeds 62 bits: use narrower formats"
            )

    @property
    def product_bits(self) -> int:
        """Bits that `(x - offset) * scale` needs to be exact."""
        stage = self.input_stage
        fraction = max(0, stage.offset_format.fraction)
        difference = (
            max(INPUT_FORMAT.integer, stage.offset_format.integer) + DIFFERENCE_FORMAT_GROWTH + fraction
        )
        return difference + stage.scale_format.width

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return self.input_stage.n_inputs

    @property
    def n_words(self) -> int:
        """Words of the weight memory."""
        return self.segments()[-1].stop

    @cached_property
    def structure_hash(self) -> str:
        """sha256 hex of everything except parameter values: equal hashes share one compiled image."""
        return hashlib.sha256(
            json.dumps(self.structure(), sort_keys=True, separators=(",", ":")).encode()
        ).hexdigest()

    @cached_property
    def weights_hash(self) -> str:
        """sha256 hex of the weight memory, as little-endian 32-bit words."""
        return hashlib.sha256(self.memory().astype("<i4").tobytes()).hexdigest()

    def structure(self) -> dict[str, Any]:
        """Describe everything except parameter values, as plain JSON."""
        stage, score = self.input_stage, self.score_stage
        return {
            "format": _FILE_FORMAT,
            "name": self.name,
            "contract_hash": self.contract_hash,
            "input_names": list(self.input_names),
            "input_stage": {
                "offset": str(stage.offset_format),
                "scale": str(stage.scale_format),
                "result": str(stage.result_format),
            },
            "layers": [
                {
                    "name": layer.name,
                    "n_in": layer.n_in,
                    "n_out": layer.n_out,
                    "activation": layer.activation,
                    "weight": str(layer.weight_format),
                    "bias": str(layer.bias_format),
                    "result": str(layer.result_format),
                }
                for layer in self.layers
            ],
            "score_stage": {"kind": score.kind, "result": str(score.result_format)},
        }

    def _parameters(self) -> list[tuple[str, Raw, FixedFormat]]:
        stage, score = self.input_stage, self.score_stage
        parameters = [
            ("input.offset", stage.offset_raw, stage.offset_format),
            ("input.scale", stage.scale_raw, stage.scale_format),
        ]
        for layer in self.layers:
            parameters.append((f"{layer.name}.weight", layer.weight_raw, layer.weight_format))
            parameters.append((f"{layer.name}.bias", layer.bias_raw, layer.bias_format))
        threshold = np.array([score.threshold_raw], dtype=np.int64)
        return [*parameters, ("score.threshold", threshold, score.result_format)]

    def segments(self) -> tuple[Segment, ...]:
        """Name the stretches of the weight memory, in order and without gaps."""
        found: list[Segment] = []
        start = 0
        for name, raw, fmt in self._parameters():
            found.append(Segment(name, start, int(raw.size), fmt))
            start += int(raw.size)
        return tuple(found)

    def segment(self, name: str) -> Segment:
        """Find a segment by name.

        Raises
        ------
        ModelError
            When there is none.
        """
        for segment in self.segments():
            if segment.name == name:
                return segment
        raise ModelError(f"no segment {name!r}: there are {', '.join(s.name for s in self.segments())}")

    def memory(self) -> npt.NDArray[np.int32]:
        """Give the weight memory: int32, (n_words,), matrices in row-major (n_in, n_out) order."""
        return np.concatenate([raw.ravel() for _, raw, _ in self._parameters()]).astype(np.int32)

    def with_memory(self, words: npt.ArrayLike) -> FirmwareModel:
        """Give the model that runs when the weight memory holds `words`.

        Parameters
        ----------
        words
            Integers, (n_words,).

        Raises
        ------
        OffGridError
            When a word is outside its segment's format.
        ModelError
            When the number of words is wrong.
        """
        given = np.asarray(words)
        if given.shape != (self.n_words,) or given.dtype.kind not in "iu":
            raise ModelError(
                f"model {self.name} needs {self.n_words} integer words, not {given.dtype} {given.shape}"
            )
        raw = given.astype(np.int64)
        part = {s.name: raw[s.start : s.stop] for s in self.segments()}
        layers = tuple(
            replace(
                layer,
                weight_raw=part[f"{layer.name}.weight"].reshape(layer.n_in, layer.n_out),
                bias_raw=part[f"{layer.name}.bias"],
            )
            for layer in self.layers
        )
        stage = replace(self.input_stage, offset_raw=part["input.offset"], scale_raw=part["input.scale"])
        score = replace(self.score_stage, threshold_raw=int(part["score.threshold"][0]))
        return replace(self, input_stage=stage, layers=layers, score_stage=score)

    def to_npz_bytes(self) -> bytes:
        """Write the model as a reproducible NPZ: `structure` (JSON as uint8) and `memory` (int32)."""
        structure = np.frombuffer(json.dumps(self.structure(), sort_keys=True).encode(), dtype=np.uint8)
        return zip_bytes({"structure.npy": npy_bytes(structure), "memory.npy": npy_bytes(self.memory())})

    @classmethod
    def from_npz_bytes(cls, content: bytes) -> FirmwareModel:
        """Read what `to_npz_bytes` wrote.

        Raises
        ------
        ModelError
            When it is anything else.
        """
        try:
            files = unzip_bytes(
                content, maximum_bytes=_MAXIMUM_MODEL_BYTES, maximum_files=2, what="the model file"
            )
            structure = json.loads(npy_array(files["structure.npy"], "the model's structure").tobytes())
            memory = npy_array(files["memory.npy"], "the model's memory")
            if structure["format"] != _FILE_FORMAT:
                raise ModelError(
                    f"the model file has format {structure['format']}, this version reads {_FILE_FORMAT}"
                )
            return _empty_model(cls, structure).with_memory(memory)
        except (PackageMalformed, FormatError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"this is not a firmware model ({error}): write it with to_npz_bytes") from error


def _empty_model(cls: type[FirmwareModel], structure: dict[str, Any]) -> FirmwareModel:
    """Build the model of a structure with every parameter zero."""
    count = len(structure["input_names"])
    stage, score = structure["input_stage"], structure["score_stage"]
    return cls(
        name=structure["name"],
        contract_hash=structure["contract_hash"],
        input_names=tuple(structure["input_names"]),
        input_stage=InputStage(
            np.zeros(count, np.int64),
            np.zeros(count, np.int64),
            FixedFormat.parse(stage["scale"]),
            FixedFormat.parse(stage["result"]),
            FixedFormat.parse(stage["offset"]),
        ),
        layers=tuple(
            DenseLayer(
                item["name"],
                np.zeros((item["n_in"], item["n_out"]), np.int64),
                np.zeros(item["n_out"], np.int64),
                FixedFormat.parse(item["weight"]),
                FixedFormat.parse(item["bias"]),
                item["activation"],
                FixedFormat.parse(item["result"]),
            )
            for item in structure["layers"]
        ),
        score_stage=ScoreStage(score["kind"], FixedFormat.parse(score["result"]), 0),
    )
