"""Vivado projects of a firmware with replaceable partitions (Dynamic Function eXchange, UG909).

One project builds the static part with the first content of all partitions, another one new content for some
of them into that static part. Refuses to know what the partitions compute.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hw.errors import ToolchainError
from hw.vendor import tcl
from hw.vendor.design import Design, stub_source
from hw.vendor.floorplan import Floorplan, Region
from hw.vendor.project import VendorProject
from hw.vendor.templates import template

_FAMILIES = (
    (re.compile(r"x[ca]7[akvzsz].*"), "7series"),
    (re.compile(r"xc[kv]u\d+p.*|xczu.*|xcau\d+p.*|xcu\d+.*|xck2[46].*"), "ultrascale+"),
    (re.compile(r"xc[kv]u\d+.*"), "ultrascale"),
)
_VARIANT = re.compile(r"[a-z][a-z0-9_]*")
_RESERVED = ("first", "empty")

_BASE_README = """\
Static part {shell} for {part}, with a first content of the partitions {names}.

    vivado -mode batch -nojournal -log vivado.log -source scripts/base.tcl

checkpoints/static_locked.dcp        what every later change is built into; keep this folder
bitstreams/first.bit                 the whole device, for power-on
bitstreams/first_<p>_partial.bit     the first content of one partition
bitstreams/empty_<p>_partial.bit     nothing in it: outputs at zero
"""

_CHANGE_README = """\
New content for the partitions {names} in static part {shell} for {part}.

    vivado -mode batch -nojournal -log vivado.log -source scripts/change.tcl -tclargs BASE

BASE is the folder in which the static part was built. The script stops before it writes a bitstream when the
static part is another one, the timing is missed or pr_verify finds a difference.

bitstreams/{variant}_<p>_partial.bit  load this while the partition is decoupled
bitstreams/{variant}.bit              the whole device, with the base's first content of all other partitions
"""

_CLEARING = """\

This is an UltraScale device: before a partial bitstream comes the clearing one (_clear.bit) of the module
that is in the partition until then, from the folder in which that module was built.
"""


@dataclass(frozen=True, slots=True)
class BlockMemory:
    """One weight memory that Vivado put into block RAMs.

    Parameters
    ----------
    cells
        Pattern of the RAM cells' names, e.g. `shell/p1/*dense2_weight*`.
    width
        Bits of a word in the RAM: 8, 16 or 32.
    words
        Number of words.
    """

    cells: str
    width: int
    words: int

    def __post_init__(self) -> None:
        if self.width not in (8, 16, 32) or self.words < 1:
            raise ToolchainError(f"{self.cells}: updatemem needs words of 8, 16 or 32 bits, not {self.width}")


def family(part: str) -> str:
    """Give the family of a part: "7series", "ultrascale" or "ultrascale+".

    Raises
    ------
    ToolchainError
        For all others; Versal writes device images, not bitstreams.
    """
    for pattern, name in _FAMILIES:
        if pattern.fullmatch(part.lower()):
            return name
    raise ToolchainError(
        f"{part} is no 7-series, UltraScale or UltraScale+ device: this flow writes bitstreams for those"
    )


def base_project(
    design: Design, floorplan: Floorplan, memories: Mapping[str, BlockMemory] | None = None
) -> VendorProject:
    """Give the project that builds the static part and the first content of every partition.

    Parameters
    ----------
    design, floorplan
        What, and where.
    memories
        Block RAM memories by the segment each holds, for `updatemem`; left out, no memory maps are written.
    """
    names = sorted(design.partitions)
    files = _sources(design, names) | _static(design, floorplan)
    files["scripts/settings.tcl"] = _settings(design, memories or {}, names, {}).encode()
    files["scripts/base.tcl"] = template("base.tcl")
    files["README.txt"] = _readme(_BASE_README, design, names)
    outputs = ["checkpoints/static_locked.dcp", "bitstreams/first.bit"]
    for variant in _RESERVED:
        outputs += _partials(design, variant, names)
    outputs += [f"bitstreams/first_{map_name(name)}.mmi" for name in sorted(memories or {})]
    return VendorProject(
        tool="Vivado",
        files=dict(sorted(files.items())),
        commands=("vivado -mode batch -nojournal -log vivado.log -source scripts/base.tcl",),
        needs=("vivado",),
        outputs=tuple(outputs),
    )


def change_project(
    design: Design,
    changed: tuple[str, ...],
    variant: str,
    base: Path,
    memories: Mapping[str, BlockMemory] | None = None,
) -> VendorProject:
    """Give the project that builds new content for some partitions into an existing static part.

    Parameters
    ----------
    design
        With the new RTL; of the other partitions only the edges are used.
    changed
        Names of the partitions to build.
    variant
        Name of the new configuration, lower case.
    base
        Folder in which `base_project` has been run; it goes into the command.
    memories
        As in `base_project`.

    Raises
    ------
    ToolchainError
        When nothing changes or a name is wrong.
    """
    if not changed or not set(changed) <= set(design.partitions):
        raise ToolchainError(
            f"{changed} are not partitions of {', '.join(sorted(design.partitions))}: name those to build"
        )
    if not _VARIANT.fullmatch(variant) or variant in _RESERVED:
        raise ToolchainError(
            f"{variant!r} cannot name a configuration: use lower-case letters, not {_RESERVED}"
        )
    names = sorted(changed)
    own = memories or {}
    files = _sources(design, names) | _procedures()
    files["scripts/settings.tcl"] = _settings(
        design, own, names, {"changed": tuple(names), "variant": variant}
    ).encode()
    files["scripts/change.tcl"] = template("change.tcl")
    files["README.txt"] = _readme(_CHANGE_README, design, names, variant=variant)
    outputs = [*_partials(design, variant, names), f"bitstreams/{variant}.bit"]
    outputs += [f"bitstreams/{variant}_{map_name(name)}.mmi" for name in sorted(own)]
    where = shlex.quote(str(base.resolve()))
    return VendorProject(
        tool="Vivado",
        files=dict(sorted(files.items())),
        commands=(
            f"vivado -mode batch -nojournal -log vivado.log -source scripts/change.tcl -tclargs {where}",
        ),
        needs=("vivado",),
        outputs=tuple(outputs),
    )


def _readme(text: str, design: Design, names: list[str], **more: str) -> bytes:
    end = _CLEARING if family(design.part) == "ultrascale" else ""
    filled = text.format(shell=design.model.shell_hash, part=design.part, names=", ".join(names), **more)
    return (filled + end).encode()


def map_name(segment: str) -> str:
    """Give a segment's name as it stands in names of files: `dense1_weight` for `dense1.weight`."""
    return segment.replace(".", "_")


def _partials(design: Design, variant: str, names: list[str]) -> list[str]:
    partial = [f"bitstreams/{variant}_{name}_partial" for name in names]
    clearing = [f"{path}_clear.bit" for path in partial] if family(design.part) == "ultrascale" else []
    return [f"{path}.bit" for path in partial] + clearing


def _procedures() -> dict[str, bytes]:
    return {f"scripts/{name}": template(name) for name in ("dfx.tcl", "memory_map.tcl")}


def _sources(design: Design, names: list[str]) -> dict[str, bytes]:
    return {
        f"rtl/{name}/{path}": content
        for name in names
        for path, content in design.partitions[name].files.items()
    }


def _static(design: Design, floorplan: Floorplan) -> dict[str, bytes]:
    files = {f"rtl/static/{path}": content for path, content in design.static_files().items()}
    files["rtl/static/lumiwatch_stubs.v"] = stub_source(design).encode()
    files["constraints/clock.xdc"] = design.clock_constraint()
    blocks = [_pblock(design, name, floorplan.region(name)) for name in sorted(design.partitions)]
    files["constraints/floorplan.xdc"] = "\n".join(blocks).encode()
    return files | _procedures()


def _pblock(design: Design, name: str, region: Region) -> str:
    if not region.ranges:
        raise ToolchainError(f"the floorplan gives partition {name} no ranges of sites: add some for Vivado")
    block = f"[get_pblocks pblock_{name}]"
    lines = [
        f"create_pblock pblock_{name}",
        f"add_cells_to_pblock {block} [get_cells {tcl.word(design.cell(name))}]",
        *(f"resize_pblock {block} -add {{{item}}}" for item in region.ranges),
        f"set_property SNAPPING_MODE {region.snapping} {block}",
        f"set_property CONTAIN_ROUTING true {block}",
    ]
    if family(design.part) == "7series":  # the later families always do it
        lines.append(f"set_property RESET_AFTER_RECONFIG true {block}")
    return "\n".join(lines) + "\n"


def _settings(
    design: Design, memories: Mapping[str, BlockMemory], built: list[str], more: Mapping[str, tcl.Value]
) -> str:
    firmware: dict[str, tcl.Value] = {
        "part": design.part,
        "family": family(design.part),
        "shell": design.model.shell_hash,
        "top": design.surroundings().top,
        "static_files": tuple(
            f"rtl/static/{path}" for path in sorted([*design.static_files(), "lumiwatch_stubs.v"])
        ),
        "partitions": {
            name: {
                "cell": design.cell(name),
                "module": design.partitions[name].module,
                "files": tuple(
                    f"rtl/{name}/{path}" for path in sorted(design.partitions[name].files) if name in built
                ),
            }
            for name in sorted(design.partitions)
        },
        "memories": {
            map_name(name): {"cells": memory.cells, "width": str(memory.width), "words": str(memory.words)}
            for name, memory in sorted(memories.items())
        },
        **more,
    }
    return "# What the scripts build; written by lumiwatch.\n" + tcl.settings({"firmware": firmware})
