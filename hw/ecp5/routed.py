"""A placed and routed design that can get new weights: nextpnr's configuration, and where its memories are.

Refuses to run tools.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from hw.archive import npy_array, npy_bytes, unzip_bytes, zip_bytes
from hw.ecp5 import configuration
from hw.ecp5.netlist import BLOCK_BITS, Bits, Contents, Memory
from hw.ecp5.places import Places
from hw.errors import PackageMalformed, ToolchainError

_MAXIMUM_BYTES = 256 << 20
_FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class RoutedDesign:
    """What place and route leaves behind for later changes of the weights.

    Parameters
    ----------
    text
        nextpnr's textual configuration; its block RAMs hold random bits.
    places
        Where the memories are in it.
    """

    text: str = field(repr=False)
    places: Places

    @property
    def memories(self) -> tuple[Memory, ...]:
        """The memories whose contents a bitstream gets."""
        return self.places.memories

    def with_contents(self, contents: Contents) -> str:
        """Give the configuration with these contents in all memories; raises as `Places.patched` does."""
        blocks = configuration.block_rams(self.text)
        return configuration.with_block_rams(self.text, self.places.patched(blocks, contents))

    def contents_of(self, text: str) -> dict[str, Bits]:
        """Read the memories' contents from another configuration of it; raises as `Places.contents` does."""
        return self.places.contents(configuration.block_rams(text))

    def to_bytes(self) -> bytes:
        """Write it as a reproducible ZIP."""
        description = {
            "format": _FORMAT,
            "memories": [[memory.name, memory.rows, memory.width] for memory in self.memories],
        }
        table = np.stack([self.places.logical, self.places.block, self.places.bit])
        return zip_bytes(
            {
                "design.config": self.text.encode(),
                "design.json": json.dumps(description, sort_keys=True).encode(),
                "places.npy": npy_bytes(table.astype("<i4")),
            }
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> RoutedDesign:
        """Read what `to_bytes` wrote.

        Raises
        ------
        ToolchainError
            When it is anything else.
        """
        try:
            files = unzip_bytes(
                content, maximum_bytes=_MAXIMUM_BYTES, maximum_files=3, what="the routed design"
            )
            description = json.loads(files["design.json"])
            if description["format"] != _FORMAT:
                raise ToolchainError(f"the routed design has format {description['format']}, not {_FORMAT}")
            memories = tuple(
                Memory(str(n), int(rows), int(width)) for n, rows, width in description["memories"]
            )
            table = npy_array(files["places.npy"], "the table of places")
            logical, block, bit = cast(
                "list[np.ndarray[tuple[int], np.dtype[np.int64]]]", [*table.astype(np.int64)]
            )
            total = sum(memory.bits for memory in memories)
            for values, end in ((logical, total), (bit, BLOCK_BITS)):
                if values.size and not 0 <= values.min() <= values.max() < end:
                    raise ToolchainError("the routed design names bits that are not there: route it again")
            return cls(files["design.config"].decode(), Places(memories, logical, block, bit))
        except (PackageMalformed, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ToolchainError(f"this is not a routed design ({error}): write it with to_bytes") from error
