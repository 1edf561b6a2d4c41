"""nextpnr's textual configuration of an ECP5: what its block RAMs hold. Refuses to know what that means."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hw.ecp5.netlist import WORDS
from hw.errors import ToolchainError

_SECTION = re.compile(r"^\.bram_init (\d+)\n((?:[0-9a-f]{3}(?:[ \n]|$))+)", re.MULTILINE)
_PER_LINE = 8

Words = npt.NDArray[np.uint16]


def block_rams(configuration: str) -> dict[int, Words]:
    """Give the words of every block RAM, uint16 (2048,), by its number.

    Raises
    ------
    ToolchainError
        When a block RAM has another size.
    """
    found: dict[int, Words] = {}
    for match in _SECTION.finditer(configuration):
        words = np.array([int(word, 16) for word in match[2].split()], np.uint16)
        if len(words) != WORDS:
            raise ToolchainError(
                f"block RAM {match[1]} of the configuration has {len(words)} words, not {WORDS}: route again"
            )
        found[int(match[1])] = words
    return found


def with_block_rams(configuration: str, contents: Mapping[int, Words]) -> str:
    """Give the configuration with the words of some block RAMs replaced; everything else stays."""

    def section(match: re.Match[str]) -> str:
        words = contents.get(int(match[1]))
        if words is None:
            return match[0]
        lines = (
            " ".join(f"{word:03x}" for word in words[start : start + _PER_LINE])
            for start in range(0, WORDS, _PER_LINE)
        )
        return f".bram_init {match[1]}\n" + "\n".join(lines) + "\n"

    return _SECTION.sub(section, configuration)
