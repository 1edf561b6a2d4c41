"""Boosted decision trees as a firmware holds them: integer thresholds, leaf values, a loadable accept cut.

Inputs are the same int16 codes as a `FirmwareModel` takes. Everything but the threshold of the decision is a
constant of the firmware. Refuses to know training libraries, C++ and boards.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.archive import npy_array, npy_bytes, unzip_bytes, zip_bytes
from hw.errors import FormatError, ModelError, OffGridError, PackageMalformed
from hw.fixed_point import FixedFormat
from hw.layout import ANSWER_OUTPUTS, Layout, digest, shell_digest
from hw.network import Segment
from hw.stages import INPUT_FORMAT, MAXIMUM_SCORE_BITS, Raw
from hw.tree import LEAF, Tree

__all__ = ["LEAF", "Tree", "TreeModel", "TreePartition"]

_FILE_FORMAT = 1
_MAXIMUM_MODEL_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class TreeModel:
    """A sum of trees: `score = score_format(initial + values of the leaves)`, the sum being exact.

    Parameters
    ----------
    name
        The monitored model's name.
    contract_hash
        Hash of the input contract the model was made for.
    input_names
        One name per input, in order.
    trees
        At least one.
    value_format
        Of the leaf values and of `initial_raw`; at most 31 bits.
    score_format
        Of score and threshold; at most 31 bits, signed or not.
    threshold_raw
        Raw threshold in `score_format`; an event is accepted when its score is above.
    initial_raw
        What the sum starts from, raw in `value_format`.
    layout
        How the firmware holds it: only toolchain and part are for a toolchain to choose.

    Raises
    ------
    ModelError
        When trees, inputs and formats do not fit together.
    OffGridError
        When a value is outside its format.
    """

    name: str
    contract_hash: str
    input_names: tuple[str, ...]
    trees: tuple[Tree, ...]
    value_format: FixedFormat
    score_format: FixedFormat
    threshold_raw: int
    initial_raw: int = 0
    layout: Layout = field(default_factory=Layout)

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_names", tuple(self.input_names))
        object.__setattr__(self, "trees", tuple(self.trees))
        if not self.trees or not self.input_names:
            raise ModelError(f"model {self.name} has no tree or no input: give at least one of each")
        if self.layout.constants or self.layout.cuts:
            raise ModelError(f"model {self.name} has one partition and no segment to make constant")
        if self.score_format.width > MAXIMUM_SCORE_BITS or self.value_format.width > MAXIMUM_SCORE_BITS:
            raise ModelError(
                f"values in {self.value_format} and scores in {self.score_format} must fit the board's "
                f"{MAXIMUM_SCORE_BITS} bits: use fewer"
            )
        for index, tree in enumerate(self.trees):
            if (tree.feature >= self.n_inputs).any() or (tree.feature < LEAF).any():
                raise ModelError(f"tree {index} of {self.name} uses an input that the model does not have")
            _check_grid(f"tree {index} threshold", tree.threshold, INPUT_FORMAT)
            _check_grid(f"tree {index} value", tree.value, self.value_format)
        _check_grid("the initial value", np.array([self.initial_raw]), self.value_format)
        _check_grid("score.threshold", np.array([self.threshold_raw]), self.score_format)

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return len(self.input_names)

    @property
    def depth(self) -> int:
        """Depth of the deepest tree."""
        return max(tree.depth for tree in self.trees)

    @property
    def sum_format(self) -> FixedFormat:
        """Signed format in which the sum of all trees is exact."""
        growth = (len(self.trees) + 1).bit_length() + (not self.value_format.signed)
        return FixedFormat(self.value_format.width + growth, self.value_format.integer + growth)

    @property
    def n_words(self) -> int:
        """Words of the run-time memory: the threshold."""
        return 1

    @cached_property
    def structure_hash(self) -> str:
        """sha256 hex of everything except the threshold: equal hashes need no new image."""
        return digest(self.structure())

    @cached_property
    def shell_hash(self) -> str:
        """sha256 hex of the firmware's static part: what stays when the trees are replaced."""
        edges = [partition.interface_hash for partition in self.partitions()]
        return shell_digest(self.layout, self.name, self.contract_hash, self.input_names, edges)

    @cached_property
    def weights_hash(self) -> str:
        """sha256 hex of the run-time memory, as little-endian 32-bit words."""
        return hashlib.sha256(self.memory().astype("<i4").tobytes()).hexdigest()

    def structure(self) -> dict[str, Any]:
        """Describe everything except the threshold, as plain JSON; the nodes by their sha256."""
        return {
            "kind": "trees",
            "format": _FILE_FORMAT,
            "name": self.name,
            "contract_hash": self.contract_hash,
            "input_names": list(self.input_names),
            "value": str(self.value_format),
            "score": str(self.score_format),
            "initial": self.initial_raw,
            "sizes": [tree.n_nodes for tree in self.trees],
            "nodes": hashlib.sha256(self._nodes().astype("<i4").tobytes()).hexdigest(),
            "layout": {"toolchain": self.layout.toolchain, "part": self.layout.part},
        }

    def segments(self) -> tuple[Segment, ...]:
        """Name the stretches of the run-time memory."""
        return (Segment("score.threshold", 0, 1, self.score_format),)

    def parameter_segments(self) -> tuple[Segment, ...]:
        """Name the stretches of `parameters()`."""
        return self.segments()

    def parameters(self) -> npt.NDArray[np.int32]:
        """Give the parameters that are words: the threshold, as `memory` does; nodes are structure."""
        return self.memory()

    def precision(self) -> dict[str, str]:
        """Name the fixed-point format of every parameter and every result."""
        return {
            "trees.value": str(self.value_format),
            "trees.sum": str(self.sum_format),
            "score.threshold": str(self.score_format),
            "score.result": str(self.score_format),
        }

    def partitions(self) -> tuple[TreePartition, ...]:
        """Give the independently replaceable parts: one."""
        return (TreePartition(self),)

    def memory(self) -> npt.NDArray[np.int32]:
        """Give the run-time memory: int32, (1,)."""
        return np.array([self.threshold_raw], dtype=np.int32)

    def with_memory(self, words: npt.ArrayLike) -> TreeModel:
        """Give the model that runs when the memory holds `words`, integers (1,).

        Raises
        ------
        OffGridError
            When the threshold is outside the score's format.
        ModelError
            When the number of words is wrong.
        """
        given = np.asarray(words)
        if given.shape != (1,) or given.dtype.kind not in "iu":
            raise ModelError(f"model {self.name} needs 1 integer word, not {given.dtype} {given.shape}")
        return replace(self, threshold_raw=int(given[0]))

    def _nodes(self) -> Raw:
        """Give all trees as one table: int64, (nodes of all trees, 5), columns in the order of `Tree`."""
        columns = [item.name for item in fields(Tree)]
        return np.concatenate(
            [np.column_stack([getattr(tree, column) for column in columns]) for tree in self.trees]
        )

    def to_npz_bytes(self) -> bytes:
        """Write the model as a reproducible NPZ: `structure` (JSON as uint8), `nodes`, `memory` (int32)."""
        structure = np.frombuffer(json.dumps(self.structure(), sort_keys=True).encode(), dtype=np.uint8)
        return zip_bytes(
            {
                "structure.npy": npy_bytes(structure),
                "nodes.npy": npy_bytes(self._nodes().astype(np.int32)),
                "memory.npy": npy_bytes(self.memory()),
            }
        )

    @classmethod
    def from_npz_bytes(cls, content: bytes) -> TreeModel:
        """Read what `to_npz_bytes` wrote.

        Raises
        ------
        ModelError
            When it is anything else.
        """
        try:
            files = unzip_bytes(
                content, maximum_bytes=_MAXIMUM_MODEL_BYTES, maximum_files=3, what="the model file"
            )
            structure = json.loads(npy_array(files["structure.npy"], "the model's structure").tobytes())
            nodes = npy_array(files["nodes.npy"], "the model's nodes")
            memory = npy_array(files["memory.npy"], "the model's memory")
            if (structure["kind"], structure["format"]) != ("trees", _FILE_FORMAT):
                raise ModelError(
                    f"the model file is not of format {_FILE_FORMAT}: use the version that wrote it"
                )
            ends = np.cumsum([int(size) for size in structure["sizes"]])
            if nodes.shape != (int(ends[-1]), len(fields(Tree))) or nodes.dtype != np.int32:
                raise ModelError(
                    "the model file's nodes do not fit its structure: get it again from its source"
                )
            model = cls(
                name=structure["name"],
                contract_hash=structure["contract_hash"],
                input_names=tuple(structure["input_names"]),
                trees=tuple(Tree(*table.T) for table in np.split(nodes.astype(np.int64), ends[:-1])),
                value_format=FixedFormat.parse(structure["value"]),
                score_format=FixedFormat.parse(structure["score"]),
                threshold_raw=0,
                initial_raw=int(structure["initial"]),
                layout=Layout(structure["layout"]["toolchain"], structure["layout"]["part"]),
            ).with_memory(memory)
        except (
            PackageMalformed,
            FormatError,
            KeyError,
            IndexError,
            TypeError,
            ValueError,
            AttributeError,
        ) as error:
            raise ModelError(f"this is not a tree model ({error}): write it with to_npz_bytes") from error
        if model.structure() != structure:
            raise ModelError("this model's nodes are not those of its structure: write it with to_npz_bytes")
        return model


@dataclass(frozen=True, eq=False)
class TreePartition:
    """The one partition of a tree model, as `hw.layout.Partition` describes those of a network.

    Parameters
    ----------
    model
        The model. The partition gives its sum, the score and the decision.
    """

    model: TreeModel
    name = "p0"
    index = 0
    first = last = True
    n_out = 1
    n_outputs = 1 + ANSWER_OUTPUTS
    start, words, stop = 0, 1, 1
    source_format = INPUT_FORMAT

    @property
    def layer_names(self) -> tuple[str, ...]:
        """What is inside."""
        return ("trees",)

    @property
    def n_in(self) -> int:
        """Codes it takes per event."""
        return self.model.n_inputs

    @property
    def result_format(self) -> FixedFormat:
        """Format of the sum."""
        return self.model.sum_format

    def segments(self) -> tuple[Segment, ...]:
        """Name the stretches of its slice of the memory."""
        return self.model.segments()

    def interface(self) -> dict[str, Any]:
        """Describe what is pinned at its edges, as plain JSON."""
        return {
            "n_in": self.n_in,
            "source": str(self.source_format),
            "n_out": self.n_out,
            "result": str(self.result_format),
            "score": str(self.model.score_format),
        }

    @property
    def interface_hash(self) -> str:
        """sha256 hex of `interface()`."""
        return digest(self.interface())

    @property
    def structure_hash(self) -> str:
        """sha256 hex of all it computes except the threshold: equal hashes share one image."""
        return self.model.structure_hash


def _check_grid(name: str, raw: Raw, fmt: FixedFormat) -> None:
    outside = np.flatnonzero(~fmt.holds(raw))
    if outside.size:
        index = int(outside[0])
        raise OffGridError(
            f"{name}[{index}] = {int(raw[index])} is outside {fmt} ({fmt.raw_minimum}..{fmt.raw_maximum}): "
            "quantise with saturation, or build firmware with a wider format"
        )
