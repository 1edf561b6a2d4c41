"""Memories in yosys's RTLIL text: which there are, what they hold, and where block RAMs hold what.

Refuses to run yosys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.errors import ToolchainError

Bits = npt.NDArray[np.bool_]
Contents = Mapping[str, Bits]
"""Bits of memories by name: bool, (rows, width); column 0 is the lowest bit of a word."""

Blocks = Mapping[str, npt.NDArray[np.uint16]]
"""Initial words of block RAMs, uint16 (2048,), by the cell's name."""

WORDS = 2048
"""Words of one block RAM."""
WORD_BITS = 9
BLOCK_BITS = WORDS * WORD_BITS

_CELL = re.compile(r"^  cell \$mem_v2 .*?^  end$", re.MULTILINE | re.DOTALL)
_NUMBER = r"^    parameter \\{} (?:32')?(\d+)$"
_NAME = re.compile(r'^    parameter \\MEMID "(.*)"$', re.MULTILINE)
_INIT = re.compile(r"^    parameter \\INIT \d+'[01xz]+$", re.MULTILINE)
_STYLE = re.compile(
    r'^  attribute \\ram_style "[a-z]+"\n(?=(?:  attribute .*\n)*  cell \$mem_v2 )', re.MULTILINE
)
_BLOCK = re.compile(r"^  cell \\DP16KD \\?(\S+)\n(.*?)^  end$", re.MULTILINE | re.DOTALL)
_BLOCK_INIT = re.compile(r"^    parameter \\INITVAL_([0-9A-F]{2}) 320'([01xz]+)$", re.MULTILINE)
_PAIR_BITS = 20
"""A block RAM's initial values come in pairs of words, each in so many bits."""
_PAIRS = 16
"""Pairs in one parameter."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory of a design.

    Parameters
    ----------
    name
        Its path in the flattened design, e.g. `p0.layer_dense1.weights.rows`.
    rows, width
        Its size in words and in bits per word.
    """

    name: str
    rows: int
    width: int

    @property
    def bits(self) -> int:
        """All its bits."""
        return self.rows * self.width


def memories(rtlil: str) -> tuple[Memory, ...]:
    """List the memories of a design, by name.

    Parameters
    ----------
    rtlil
        The design after yosys's `memory_collect`, flattened.
    """
    return tuple(sorted(map(_memory, _CELL.findall(rtlil)), key=lambda memory: memory.name))


def with_contents(rtlil: str, contents: Contents) -> str:
    """Give a design whose memories are block RAMs with initial contents.

    Parameters
    ----------
    rtlil
        As for `memories`.
    contents
        Of every memory.
    """

    def filled(match: re.Match[str]) -> str:
        memory = _memory(match[0])
        bits = (contents[memory.name].ravel()[::-1] + np.uint8(ord("0"))).tobytes().decode("ascii")
        cell = _INIT.sub(lambda _: f"    parameter \\INIT {memory.bits}'{bits}", match[0], count=1)
        return f'  attribute \\ram_style "block"\n{cell}'

    return _CELL.sub(filled, _STYLE.sub("", rtlil))


def renamed(rtlil: str, module: str, name: str) -> str:
    """Give a design whose module has another name."""
    return re.sub(rf"^module \\{re.escape(module)}$", lambda _: f"module \\{name}", rtlil, flags=re.MULTILINE)


def block_rams(rtlil: str) -> Blocks:
    """Give the initial words of every block RAM of a mapped design: uint16, (2048,), by the cell's name."""
    found: dict[str, npt.NDArray[np.uint16]] = {}
    for name, body in _BLOCK.findall(rtlil):
        words = np.zeros(WORDS, np.uint16)
        for number, text in _BLOCK_INIT.findall(body):
            bits = np.array([character == "1" for character in reversed(text)]).reshape(_PAIRS, _PAIR_BITS)
            values = bits[:, : 2 * WORD_BITS].reshape(2 * _PAIRS, WORD_BITS) @ (1 << np.arange(WORD_BITS))
            start = int(number, 16) * 2 * _PAIRS
            words[start : start + 2 * _PAIRS] = values
        found[name] = words
    return found


def _memory(cell: str) -> Memory:
    name = _NAME.search(cell)
    size, width, offset = (
        re.search(_NUMBER.format(key), cell, re.MULTILINE) for key in ("SIZE", "WIDTH", "OFFSET")
    )
    if not (name and size and width and offset and int(offset[1]) == 0 and _INIT.search(cell)):
        raise ToolchainError(
            "yosys writes its memories in another way than this version knows: use yosys 0.70"
        )
    return Memory(name[1].replace("\\\\", "").lstrip("\\"), int(size[1]), int(width[1]))
