"""Where the bits of a design's memories are in the block RAMs of a routed ECP5.

yosys says it: it maps the memories several times, the contents being the numbers of their bits, one binary
digit at a time. A last time the contents are random; these are what is placed and routed, so that every block
RAM can be recognised in the configuration. Refuses to run tools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hw.ecp5.netlist import BLOCK_BITS, WORD_BITS, WORDS, Bits, Contents, Memory
from hw.errors import ToolchainError

_SEED = 5

Words = npt.NDArray[np.uint16]


def fingerprint(memories: Sequence[Memory]) -> dict[str, Bits]:
    """Give random contents, the same for the same memories."""
    rng = np.random.default_rng(_SEED)
    return {m.name: rng.integers(0, 2, (m.rows, m.width)).astype(np.bool_) for m in memories}


def numbered(memories: Sequence[Memory]) -> list[dict[str, Bits]]:
    """Give the binary digits of the numbers of all bits, lowest first; numbers begin at 1."""
    total = sum(memory.bits for memory in memories)
    numbers = np.arange(1, total + 1)
    return [_split(memories, (numbers >> digit & 1).astype(np.bool_)) for digit in range(total.bit_length())]


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Bits of memories and of block RAMs that belong together.

    Parameters
    ----------
    memories
        The memories, in the order in which their bits are counted.
    logical
        int64, (n,): the bit's number among all bits of all memories, row after row.
    block
        int64, (n,): the block RAM.
    bit
        int64, (n,): which of its bits, nine per word.
    """

    memories: tuple[Memory, ...]
    logical: npt.NDArray[np.int64] = field(repr=False)
    block: npt.NDArray[np.int64] = field(repr=False)
    bit: npt.NDArray[np.int64] = field(repr=False)

    @classmethod
    def found(
        cls,
        memories: tuple[Memory, ...],
        digits: Sequence[Mapping[str, Words]],
        prints: Mapping[str, Words],
        routed: Mapping[int, Words],
    ) -> Places:
        """Find them.

        Parameters
        ----------
        memories
            All memories.
        digits, prints
            What yosys made of `numbered` and of `fingerprint`: words of block RAMs by cell.
        routed
            Words of the routed block RAMs by number.

        Raises
        ------
        ToolchainError
            When a bit of a memory is in no block RAM, or a block RAM cannot be recognised.
        """
        numbers = {cell: _numbers([words[cell] for words in digits]) for cell in prints}
        cells: dict[bytes, str] = {}
        for cell, words in prints.items():
            other = cells.setdefault(words.tobytes(), cell)
            if not np.array_equal(numbers[other], numbers[cell]):
                raise ToolchainError(
                    f"block RAMs {other} and {cell} look alike: use wider or deeper memories"
                )
        logical, block, bit = [], [], []
        for number, words in routed.items():
            if cell := cells.get(words.tobytes(), ""):
                used = np.flatnonzero(numbers[cell])
                logical.append(numbers[cell][used] - 1)
                block.append(np.full(len(used), number))
                bit.append(used)
        empty = np.empty(0, np.int64)
        places = cls(memories, *(np.concatenate([empty, *parts]) for parts in (logical, block, bit)))
        lost = np.setdiff1d(np.arange(sum(m.bits for m in memories)), places.logical)
        if lost.size:
            ends = np.cumsum([m.bits for m in memories])
            name = memories[int(np.searchsorted(ends, lost[0], side="right"))].name
            raise ToolchainError(
                f"memory {name} is not in block RAMs as a whole: its weights cannot be changed later"
            )
        return places

    def patched(self, routed: Mapping[int, Words], contents: Contents) -> dict[int, Words]:
        """Give the words of all block RAMs that hold memories, with these contents.

        Raises
        ------
        ToolchainError
            When the contents are not those of all memories.
        """
        flat = self._joined(contents)
        changed: dict[int, Words] = {}
        for number in np.unique(self.block):
            here = self.block == number
            bits = _bits(routed[int(number)])
            bits[self.bit[here]] = flat[self.logical[here]]
            changed[int(number)] = (bits.reshape(WORDS, WORD_BITS) @ (1 << np.arange(WORD_BITS))).astype(
                np.uint16
            )
        return changed

    def contents(self, routed: Mapping[int, Words]) -> dict[str, Bits]:
        """Read the memories' contents from the words of block RAMs.

        Raises
        ------
        ToolchainError
            When a block RAM is not there, or two copies of a bit differ.
        """
        flat = np.zeros(sum(memory.bits for memory in self.memories), np.bool_)
        found = np.empty(len(self.logical), np.bool_)
        for number in np.unique(self.block):
            if int(number) not in routed:
                raise ToolchainError(
                    f"block RAM {number} is not in the bitstream: it was made from another design"
                )
            here = self.block == number
            found[here] = _bits(routed[int(number)])[self.bit[here]]
        flat[self.logical] = found
        if not np.array_equal(flat[self.logical], found):
            raise ToolchainError(
                "the copies of a memory differ: the bitstream was not made from these places"
            )
        return _split(self.memories, flat)

    def _joined(self, contents: Contents) -> Bits:
        for memory in self.memories:
            given = contents.get(memory.name)
            if given is None or given.shape != (memory.rows, memory.width) or given.dtype != np.bool_:
                what = "nothing" if given is None else f"{given.dtype} {given.shape}"
                raise ToolchainError(
                    f"memory {memory.name} takes bool ({memory.rows}, {memory.width}), not {what}: "
                    f"the memories are {', '.join(m.name for m in self.memories)}"
                )
        return np.concatenate([np.empty(0, np.bool_), *(contents[m.name].ravel() for m in self.memories)])


def _split(memories: Sequence[Memory], flat: Bits) -> dict[str, Bits]:
    parts = np.split(flat, np.cumsum([memory.bits for memory in memories])[:-1])
    return {m.name: part.reshape(m.rows, m.width) for m, part in zip(memories, parts, strict=True)}


def _bits(words: Words) -> Bits:
    """Give the bits of a block RAM: bool, (18432,), nine per word."""
    return (words[:, None] >> np.arange(WORD_BITS) & 1).astype(np.bool_).reshape(BLOCK_BITS)


def _numbers(digits: Sequence[Words]) -> npt.NDArray[np.int64]:
    """Give the number that each bit of a block RAM stands for: int64, (18432,); 0 for none."""
    places = np.int64(1) << np.arange(len(digits), dtype=np.int64)
    return places @ np.stack([_bits(words) for words in digits]).astype(np.int64)
