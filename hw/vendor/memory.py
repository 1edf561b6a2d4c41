"""New weights in an existing bitstream, without place and route: memory files and updatemem (UG1580).

For memories in block RAM whose content after configuration counts; words that a board loads at run time need
none of this. Refuses to know how the memory maps came about: `hw.vendor.dfx` has Vivado write them.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw.errors import ToolchainError
from hw.network import FirmwareModel
from hw.vendor.dfx import BlockMemory, map_name
from hw.vendor.project import VendorProject


def memory_file(words: npt.ArrayLike, width: int) -> bytes:
    """Give words as updatemem reads them: an address, then one hexadecimal number a line.

    Parameters
    ----------
    words
        Signed integers, (n,).
    width
        Bits of a word: 8, 16 or 32; a multiple of what a hexadecimal digit holds.

    Raises
    ------
    ToolchainError
        When a word needs more bits.
    """
    values = np.asarray(words, dtype=np.int64)
    if values.size and not (-(1 << (width - 1)) <= values.min() and values.max() < 1 << width):
        raise ToolchainError(
            f"a word between {values.min()} and {values.max()} does not fit {width} bits: use wider ones"
        )
    lines = [f"{int(value) & ((1 << width) - 1):0{width // 4}X}" for value in values]
    return "\n".join(["@00000000", *lines, ""]).encode()


def weights_project(
    model: FirmwareModel, memories: Mapping[str, BlockMemory], bitstream: Path, maps: Path
) -> VendorProject:
    """Give the project that writes a model's parameters into a bitstream.

    Parameters
    ----------
    model
        With the new parameters.
    memories
        By the name of the segment each holds, e.g. `dense1.weight`; dots become `_` in the names of files.
    bitstream
        A full, unencrypted bitstream, e.g. `bitstreams/first.bit` of a base; goes into the commands.
    maps
        Folder and beginning of the memory maps' names, e.g. `bitstreams/first` for
        `bitstreams/first_dense1_weight.mmi`.

    Raises
    ------
    ToolchainError
        When there is no memory, or one has another number of words than its segment.
    """
    if not memories:
        raise ToolchainError("no memory is in block RAM: load the weights at run time")
    files: dict[str, bytes] = {}
    commands: list[str] = []
    everything = model.parameters()
    source = shlex.quote(str(bitstream.resolve()))
    for number, (name, memory) in enumerate(sorted(memories.items()), start=1):
        segment = model.segment(name)
        if segment.words != memory.words:
            raise ToolchainError(
                f"{name} has {segment.words} words, its memory {memory.words}: that is another firmware"
            )
        file = f"memory/{map_name(name)}.mem"
        files[file] = memory_file(everything[segment.start : segment.stop], memory.width)
        target = "new_weights.bit" if number == len(memories) else f"step_{number}.bit"
        mapped = shlex.quote(f"{maps.resolve()}_{map_name(name)}.mmi")
        commands.append(
            f"updatemem -force -meminfo {mapped} -data {file} -bit {source} -proc dummy -out {target}"
        )
        source = target
    return VendorProject(
        tool="updatemem",
        files=files,
        commands=tuple(commands),
        needs=("updatemem",),
        outputs=("new_weights.bit",),
    )
