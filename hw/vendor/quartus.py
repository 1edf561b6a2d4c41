"""A Quartus Prime Pro project of a firmware with replaceable partitions: a base revision, and changes.

The base exports its static part and its partitions. A change imports them, binds new modules to some
partitions and gives one .rbf for each of these (Intel document 683834). Refuses to know what they compute.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hw.errors import ToolchainError
from hw.vendor.design import Design, PartitionSources
from hw.vendor.floorplan import Floorplan
from hw.vendor.project import VendorProject

_PROJECT, _BASE = "lumiwatch", "base"
_STATIC = "output_files/lumiwatch_static.qdb"
_EXPORT = "EXPORT_PARTITION_SNAPSHOT_FINAL"
_GLOBAL, _INSTANCE = "set_global_assignment -name", "set_instance_assignment -name"
_KINDS = {
    ".v": "VERILOG_FILE", ".sv": "SYSTEMVERILOG_FILE", ".vhd": "VHDL_FILE", ".sdc": "SDC_FILE",
    ".ip": "IP_FILE", ".mif": "MIF_FILE", ".hex": "HEX_FILE", ".mem": "MISC_FILE",
}  # fmt: skip
_WITH_ASSEMBLER_RBF = ("stratix 10", "agilex")
_README = """\
Static part {shell} and partitions {names} for {part}, Quartus Prime Pro.

{commands}

output_files/base.sof, base.rbf     the whole device
output_files/<revision>.<p>.rbf     new content of one partition, for the partial reconfiguration controller
"""
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Change:
    """New content for some partitions.

    Parameters
    ----------
    name
        Of the revision, lower case.
    partitions
        The new RTL by the partition's name. Its module needs another name than the base's.
    """

    name: str
    partitions: Mapping[str, PartitionSources] = field(repr=False)


def quartus_project(
    design: Design, floorplan: Floorplan, device_family: str, changes: tuple[Change, ...] = ()
) -> VendorProject:
    """Give the project.

    Parameters
    ----------
    design
        The base; its part is the ordering code, e.g. `1SX280HN2F43E2VG`.
    floorplan
        With a box for every partition.
    device_family
        As Quartus names it: `Arria 10`, `Cyclone 10 GX`, `Stratix 10`, `Agilex 7`.
    changes
        Revisions to build into the base's static part.

    Raises
    ------
    ToolchainError
        When a partition has no box or a revision cannot be.
    """
    top, common = design.surroundings().top, _common(design, floorplan, device_family)
    static = {f"rtl/static/{path}": content for path, content in design.static_files().items()}
    static["constraints/clock.sdc"] = design.clock_constraint()
    own = _sources("rtl/base", design.partitions)
    base = [
        *common,
        f"{_GLOBAL} REVISION_TYPE PR_BASE",
        f"{_INSTANCE} {_EXPORT} {_STATIC} -to | -entity {top}",
    ]
    base += [
        f"{_INSTANCE} {_EXPORT} {_exported(name)} -to {_cell(design, name)} -entity {top}"
        for name in sorted(design.partitions)
    ]
    files = static | own
    files[f"{_PROJECT}.qpf"] = _project_file(changes)
    files[f"{_BASE}.qsf"] = _text([*base, *map(_source, sorted(static | own))])
    commands, outputs = [f"quartus_sh --flow compile {_PROJECT} -c {_BASE}"], [f"output_files/{_BASE}.sof"]
    for change in changes:
        _check(design, change)
        new = _sources(f"rtl/{change.name}", change.partitions)
        files |= new
        lines = [*common, *_bindings(design, change), *map(_source, sorted(static | new))]
        files[f"{change.name}.qsf"] = _text(lines)
        commands.append(f"quartus_sh --flow compile {_PROJECT} -c {change.name}")
        outputs += [f"output_files/{change.name}.{name}.rbf" for name in sorted(change.partitions)]
    later = device_family.lower().startswith(_WITH_ASSEMBLER_RBF)
    program = "quartus_pfg" if later else "quartus_cpf"
    commands.append(f"{program} -c output_files/{_BASE}.sof output_files/{_BASE}.rbf")
    files["README.txt"] = _README.format(
        shell=design.model.shell_hash,
        names=", ".join(sorted(design.partitions)),
        part=design.part,
        commands="\n".join(f"    {command}" for command in commands),
    ).encode()
    return VendorProject(
        tool="Quartus Prime Pro",
        files=dict(sorted(files.items())),
        commands=tuple(commands),
        needs=("quartus_sh", program),
        outputs=(*outputs, f"output_files/{_BASE}.rbf"),
    )


def _sources(folder: str, partitions: Mapping[str, PartitionSources]) -> dict[str, bytes]:
    return {
        f"{folder}/{name}/{path}": content
        for name, sources in sorted(partitions.items())
        for path, content in sources.files.items()
    }


def _bindings(design: Design, change: Change) -> list[str]:
    """Import the static part and what stays, bind what is new."""
    entity = f"-entity {design.surroundings().top}"
    lines = [f"{_GLOBAL} REVISION_TYPE PR_IMPL", f"{_INSTANCE} QDB_FILE_PARTITION {_STATIC} -to | {entity}"]
    for name in sorted(design.partitions):
        to = f"-to {_cell(design, name)} {entity}"
        if name in change.partitions:
            lines.append(f"{_INSTANCE} ENTITY_REBINDING {change.partitions[name].module} {to}")
        else:
            lines.append(f"{_INSTANCE} QDB_FILE_PARTITION {_exported(name)} {to}")
    return lines


def _common(design: Design, floorplan: Floorplan, device_family: str) -> list[str]:
    lines = [
        f'set_global_assignment -name FAMILY "{device_family}"',
        f"set_global_assignment -name DEVICE {design.part}",
        f"set_global_assignment -name TOP_LEVEL_ENTITY {design.surroundings().top}",
        "set_global_assignment -name PROJECT_OUTPUT_DIRECTORY output_files",
    ]
    if not device_family.lower().startswith(_WITH_ASSEMBLER_RBF):
        # the later families' assembler always writes them
        lines.append("set_global_assignment -name GENERATE_PR_RBF_FILE ON")
        lines.append("set_global_assignment -name ON_CHIP_BITSTREAM_DECOMPRESSION OFF")
    for name in sorted(design.partitions):
        region = floorplan.region(name)
        if region.box is None:
            raise ToolchainError(f"the floorplan gives partition {name} no box: add one for Quartus")
        left, bottom, right, top = region.box
        margin = region.margin
        route = (max(0, left - margin), max(0, bottom - margin), right + margin, top + margin)
        assign, to = "set_instance_assignment -name", f"-to {_cell(design, name)}"
        lines += [
            f"{assign} PARTITION {name} {to}",
            f"{assign} PARTIAL_RECONFIGURATION_PARTITION ON {to}",
            f'{assign} PLACE_REGION "{left} {bottom} {right} {top}" {to}',
            f"{assign} RESERVE_PLACE_REGION ON {to}",
            f"{assign} CORE_ONLY_PLACE_REGION ON {to}",
            f'{assign} ROUTE_REGION "{" ".join(str(edge) for edge in route)}" {to}',
        ]
    return lines


def _check(design: Design, change: Change) -> None:
    if not _NAME.fullmatch(change.name) or change.name in (_BASE, "static", *design.partitions):
        raise ToolchainError(
            f"{change.name!r} cannot name a revision: use lower-case letters, not a partition's name"
        )
    for name, sources in change.partitions.items():
        if name not in design.partitions:
            raise ToolchainError(
                f"revision {change.name} changes {name}, the base has {', '.join(design.partitions)}"
            )
        if sources.ports != design.partitions[name].ports:
            raise ToolchainError(f"revision {change.name} changes the edges of {name}: build a new base")
        if sources.module == design.partitions[name].module:
            raise ToolchainError(
                f"revision {change.name}: module {sources.module} of {name} needs a new name in Quartus"
            )


def _project_file(changes: tuple[Change, ...]) -> bytes:
    names = (_BASE, *(change.name for change in changes))
    return _text([f'PROJECT_REVISION = "{name}"' for name in names])


def _cell(design: Design, name: str) -> str:
    return design.cell(name).replace("/", "|")


def _exported(name: str) -> str:
    return f"output_files/{name}_base.qdb"


def _source(path: str) -> str:
    kind = _KINDS.get(path[path.rfind(".") :])
    if kind is None:
        raise ToolchainError(f"Quartus has no assignment for {path}: use {', '.join(_KINDS)}")
    return f"set_global_assignment -name {kind} {path}"


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
