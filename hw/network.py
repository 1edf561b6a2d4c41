"""The firmware model: an input stage, dense layers and a score stage, held as raw fixed-point integers.

Every parameter is one signed 32-bit word. Those that the layout does not make constants form a linear memory,
in the order of `FirmwareModel.segments()`; the structure hash names everything else. This module refuses to
know training, C++ and boards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.archive import npy_array, npy_bytes, unzip_bytes, zip_bytes
from hw.errors import FormatError, ModelError, PackageMalformed
from hw.fixed_point import FixedFormat
from hw.layout import Layout, Partition, Segment, digest, shell_digest
from hw.stages import DIFFERENCE_FORMAT_GROWTH, INPUT_FORMAT, DenseLayer, InputStage, Raw, ScoreStage

__all__ = ["INPUT_FORMAT", "DenseLayer", "FirmwareModel", "InputStage", "ScoreStage", "Segment"]

_MAXIMUM_MODEL_BYTES = 64 << 20
_FILE_FORMAT = 2


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
    layout
        How the firmware holds it: constants and partitions. A toolchain decides it before it builds.

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
    layout: Layout = field(default_factory=Layout)

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
        self._check_score(source, width)
        self._check_layout()

    def _check_score(self, source: FixedFormat, width: int) -> None:
        squares = 2 * source.width + width.bit_length() if self.score_stage.kind == "sum_of_squares" else 0
        if squares > 62 or self.product_bits > 62:
            raise ModelError(
                f"model {self.name}: the score or the input product exceeds 62 bits: use narrower formats"
            )
        if self.score_stage.output >= width:
            raise ModelError(
                f"model {self.name}: output {self.score_stage.output} is the score, the last layer has "
                f"{width}: count from 0"
            )

    def _check_layout(self) -> None:
        known = {name for name, _, _ in self._parameters()}
        if unknown := sorted(set(self.layout.constants) - known):
            raise ModelError(f"model {self.name} has no segment {unknown[0]!r}: name segments as constants")
        if self.layout.cuts and self.layout.cuts[-1] >= len(self.layers):
            raise ModelError(
                f"model {self.name} has {len(self.layers)} layers, a partition cannot begin at layer "
                f"{self.layout.cuts[-1]}"
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
    def score_format(self) -> FixedFormat:
        """Format of score and threshold."""
        return self.score_stage.result_format

    @property
    def threshold_raw(self) -> int:
        """Raw threshold: an event is accepted when its score is above."""
        return self.score_stage.threshold_raw

    @property
    def n_words(self) -> int:
        """Words of the weight memory."""
        return sum(segment.words for segment in self.segments())

    @cached_property
    def structure_hash(self) -> str:
        """sha256 hex of everything except the memory's content: equal hashes need no new image."""
        return digest(self.structure())

    @cached_property
    def shell_hash(self) -> str:
        """sha256 hex of the firmware's static part: what stays when partitions are replaced.

        It covers toolchain, part, the meaning of the inputs and what is pinned at every partition's edges.
        """
        edges = [partition.interface_hash for partition in self.partitions()]
        return shell_digest(self.layout, self.name, self.contract_hash, self.input_names, edges)

    @cached_property
    def weights_hash(self) -> str:
        """sha256 hex of the weight memory, as little-endian 32-bit words."""
        return hashlib.sha256(self.memory().astype("<i4").tobytes()).hexdigest()

    def structure(self) -> dict[str, Any]:
        """Describe everything except the memory's content, as plain JSON; constants by their sha256."""
        stage, score = self.input_stage, self.score_stage
        constants = set(self.layout.constants)
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
            "score_stage": {"kind": score.kind, "output": score.output, "result": str(score.result_format)},
            "layout": {
                "toolchain": self.layout.toolchain,
                "part": self.layout.part,
                "cuts": list(self.layout.cuts),
                "constants": {
                    name: hashlib.sha256(raw.astype("<i4").tobytes()).hexdigest()
                    for name, raw, _ in self._parameters()
                    if name in constants
                },
            },
        }

    def precision(self) -> dict[str, str]:
        """Name the fixed-point format of every parameter and every result."""
        found = {s.name: str(s.format) for s in self.parameter_segments()}
        found["input.result"] = str(self.input_stage.result_format)
        for layer in self.layers:
            found[f"{layer.name}.result"] = str(layer.result_format)
        found["score.result"] = str(self.score_format)
        return found

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
        """Name the stretches of the weight memory, in order and without gaps; constants have none."""
        constants = set(self.layout.constants)
        return _segments(item for item in self._parameters() if item[0] not in constants)

    def parameter_segments(self) -> tuple[Segment, ...]:
        """Name the stretches of `parameters()`, constants included."""
        return _segments(self._parameters())

    def segment(self, name: str) -> Segment:
        """Find a stretch of `parameters()` by name.

        Raises
        ------
        ModelError
            When there is none.
        """
        for segment in self.parameter_segments():
            if segment.name == name:
                return segment
        raise ModelError(
            f"no segment {name!r}: there are {', '.join(s.name for s in self.parameter_segments())}"
        )

    def partitions(self) -> tuple[Partition, ...]:
        """Give the independently replaceable parts, in the order of the data."""
        edges = pairwise((0, *self.layout.cuts, len(self.layers)))
        return tuple(Partition(self, index, begin, end) for index, (begin, end) in enumerate(edges))

    def memory(self) -> npt.NDArray[np.int32]:
        """Give the weight memory: int32, (n_words,), matrices in row-major (n_in, n_out) order."""
        constants = set(self.layout.constants)
        parts = [raw.ravel() for name, raw, _ in self._parameters() if name not in constants]
        return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int32)

    def parameters(self) -> npt.NDArray[np.int32]:
        """Give all parameters, constants included: int32, in the order of `parameter_segments()`."""
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
        given = self._integers(words, self.n_words)
        everything = self.parameters().astype(np.int64)
        for segment in self.segments():
            whole = self.segment(segment.name)
            everything[whole.start : whole.stop] = given[segment.start : segment.stop]
        return self.with_parameters(everything)

    def with_parameters(self, words: npt.ArrayLike) -> FirmwareModel:
        """Give the model with all its parameters replaced, constants included; raises as `with_memory` does.

        Parameters
        ----------
        words
            Integers, in the order of `parameter_segments()`.
        """
        segments = self.parameter_segments()
        raw = self._integers(words, segments[-1].stop)
        part = {s.name: raw[s.start : s.stop] for s in segments}
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

    def _integers(self, words: npt.ArrayLike, count: int) -> Raw:
        given = np.asarray(words)
        if given.shape != (count,) or given.dtype.kind not in "iu":
            raise ModelError(
                f"model {self.name} needs {count} integer words, not {given.dtype} {given.shape}"
            )
        return given.astype(np.int64)

    def to_npz_bytes(self) -> bytes:
        """Write the model as a reproducible NPZ: `structure` (JSON as uint8) and `parameters` (int32)."""
        structure = np.frombuffer(json.dumps(self.structure(), sort_keys=True).encode(), dtype=np.uint8)
        return zip_bytes(
            {"structure.npy": npy_bytes(structure), "parameters.npy": npy_bytes(self.parameters())}
        )

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
            parameters = npy_array(files["parameters.npy"], "the model's parameters")
            if structure["format"] != _FILE_FORMAT:
                raise ModelError(
                    f"the model file has format {structure['format']}, this version reads {_FILE_FORMAT}"
                )
            model = _empty_model(cls, structure).with_parameters(parameters)
        except (PackageMalformed, FormatError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"this is not a firmware model ({error}): write it with to_npz_bytes") from error
        if model.structure() != structure:
            raise ModelError(
                "this model's constants are not those of its structure: write it with to_npz_bytes"
            )
        return model


def _segments(parameters: Iterable[tuple[str, Raw, FixedFormat]]) -> tuple[Segment, ...]:
    found: list[Segment] = []
    start = 0
    for name, raw, fmt in parameters:
        found.append(Segment(name, start, int(raw.size), fmt))
        start += int(raw.size)
    return tuple(found)


def _empty_model(cls: type[FirmwareModel], structure: dict[str, Any]) -> FirmwareModel:
    """Build the model of a structure with every parameter zero."""
    count = len(structure["input_names"])
    stage, score, layout = structure["input_stage"], structure["score_stage"], structure["layout"]
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
        score_stage=ScoreStage(score["kind"], FixedFormat.parse(score["result"]), 0, int(score["output"])),
        layout=Layout(layout["toolchain"], layout["part"], tuple(layout["constants"]), tuple(layout["cuts"])),
    )
