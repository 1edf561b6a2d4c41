"""How a firmware holds a model: which parameters are constants, and where it is cut into partitions.

Refuses to know how a toolchain makes partitions, and what a board does with them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hw.errors import ModelError
from hw.fixed_point import FixedFormat
from hw.stages import INPUT_FORMAT, DenseLayer

if TYPE_CHECKING:
    from hw.network import FirmwareModel

ANSWER_OUTPUTS = 2
"""What the last partition gives beside its layer's results: score and decision."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a firmware holds a model.

    Parameters
    ----------
    toolchain
        Name of the toolchain that makes the firmware; empty when nobody has decided yet.
    part
        The device it is made for, e.g. `xcvu13p-flga2577-2-e`; empty for none in particular.
    constants
        Segments that are constants of the firmware instead of words of its memory, in the order of their
        names; changing one of them takes a new image.
    cuts
        Indices of the layers at which a new partition begins, rising, none of them 0. The input stage belongs
        to the first partition, the score stage to the last.

    Raises
    ------
    ModelError
        When the cuts do not rise.
    """

    toolchain: str = ""
    part: str = ""
    constants: tuple[str, ...] = ()
    cuts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "constants", tuple(sorted(set(self.constants))))
        object.__setattr__(self, "cuts", tuple(self.cuts))
        if list(self.cuts) != sorted(set(self.cuts)) or 0 in self.cuts:
            raise ModelError(f"partitions begin at the layers {self.cuts}: name rising indices above 0")


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


def digest(content: object) -> str:
    """Give the sha256 hex of plain JSON content, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def shell_digest(
    layout: Layout, name: str, contract_hash: str, input_names: Sequence[str], edges: Sequence[str]
) -> str:
    """Give the sha256 hex of a firmware's static part: what stays when partitions are replaced.

    Parameters
    ----------
    edges
        Interface hash of every partition, in the order of the data.
    """
    return digest(
        {
            "toolchain": layout.toolchain,
            "part": layout.part,
            "name": name,
            "contract_hash": contract_hash,
            "input_names": list(input_names),
            "edges": list(edges),
        }
    )


@dataclass(frozen=True, eq=False)
class Partition:
    """One independently replaceable part of a firmware, between two pinned edges.

    Parameters
    ----------
    model
        The whole model.
    index
        Position in `model.partitions()`.
    begin, end
        Its layers are `model.layers[begin:end]`.
    """

    model: FirmwareModel
    index: int
    begin: int
    end: int

    @property
    def name(self) -> str:
        """Name in packages and on boards: p0, p1, ..."""
        return f"p{self.index}"

    @property
    def layers(self) -> tuple[DenseLayer, ...]:
        """The dense layers inside."""
        return self.model.layers[self.begin : self.end]

    @property
    def first(self) -> bool:
        """Whether it holds the input stage and takes int16 codes."""
        return self.begin == 0

    @property
    def last(self) -> bool:
        """Whether it holds the score stage and gives score and decision too."""
        return self.end == len(self.model.layers)

    @property
    def stages(self) -> frozenset[str]:
        """What is inside: names of layers, `input`, `score`; the first part of every segment's name."""
        edges = ("input",) * self.first + ("score",) * self.last
        return frozenset((*edges, *(layer.name for layer in self.layers)))

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the dense layers inside."""
        return tuple(layer.name for layer in self.layers)

    @property
    def n_in(self) -> int:
        """Values it takes per event."""
        return self.layers[0].n_in

    @property
    def n_out(self) -> int:
        """Results of its last layer per event."""
        return self.layers[-1].n_out

    @property
    def n_outputs(self) -> int:
        """Values it gives per event: its last layer's results; in the last partition score and accept too."""
        return self.n_out + (ANSWER_OUTPUTS if self.last else 0)

    @property
    def source_format(self) -> FixedFormat:
        """Format of the values it takes."""
        return INPUT_FORMAT if self.first else self.model.layers[self.begin - 1].result_format

    @property
    def result_format(self) -> FixedFormat:
        """Format of its last layer's results."""
        return self.layers[-1].result_format

    @property
    def start(self) -> int:
        """Index of its first word of `model.memory()`; 0 when it has none."""
        return min((s.start for s in self.segments()), default=0)

    @property
    def words(self) -> int:
        """Number of its words of `model.memory()`."""
        return sum(s.words for s in self.segments())

    @property
    def stop(self) -> int:
        """Index behind its last word of `model.memory()`."""
        return self.start + self.words

    def segments(self) -> tuple[Segment, ...]:
        """Name the stretches of its slice of the memory; `start` counts in the whole memory."""
        return tuple(s for s in self.model.segments() if s.name.split(".")[0] in self.stages)

    def interface(self) -> dict[str, Any]:
        """Describe what is pinned at its edges, the memory included, as plain JSON."""
        edges: dict[str, Any] = {
            "n_in": self.n_in,
            "source": str(self.source_format),
            "n_out": self.n_out,
            "result": str(self.result_format),
            "words": self.words,
        }
        return {**edges, "score": str(self.model.score_stage.result_format)} if self.last else edges

    @cached_property
    def interface_hash(self) -> str:
        """sha256 hex of `interface()`: partitions that share it fit into the same hole of the static part."""
        return digest(self.interface())

    @cached_property
    def structure_hash(self) -> str:
        """sha256 hex of all it computes except loadable parameters: equal hashes share one image."""
        whole = self.model.structure()
        layout = self.model.layout
        inside: dict[str, Any] = {
            "toolchain": layout.toolchain,
            "part": layout.part,
            "interface": self.interface(),
            "layers": whole["layers"][self.begin : self.end],
            "constants": {
                name: content
                for name, content in whole["layout"]["constants"].items()
                if name.split(".")[0] in self.stages
            },
        }
        if self.first:
            inside["input_stage"] = whole["input_stage"]
        if self.last:
            inside["score_stage"] = whole["score_stage"]
        return digest(inside)
