"""Designs from the RTL files of a toolchain: with its own static part, or with one that is written here.

The ports are read from the modules' headers. Refuses to know what the modules compute.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hw.errors import ToolchainError
from hw.network import FirmwareModel
from hw.vendor.design import SHELL, Design, PartitionSources, Port, Shell, Static, wide_ports

Files = Mapping[str, bytes]
_VERILOG = (".v", ".sv")
_DEFINED = re.compile(r"\bmodule\s+([A-Za-z_]\w*)")
_WORD = re.compile(r"[A-Za-z_]\w*")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_PORT = re.compile(r"(input|output)\s+(?:(?:wire|logic|reg)\s+)?(?:\[(\d+)\s*:\s*0\]\s*)?([A-Za-z_]\w*)")


def ports_of(source: bytes, module: str) -> tuple[Port, ...]:
    """Read the ports of a Verilog module from its header; each is its own net.

    Parameters
    ----------
    source
        The file.
    module
        Its name; the ports' ranges must be numbers.

    Raises
    ------
    ToolchainError
        When there is no such module, or its header is written otherwise.
    """
    text = _COMMENT.sub("", source.decode())
    match = re.search(rf"\bmodule\s+{re.escape(module)}\s*\((.*?)\);", text, re.DOTALL)
    if match is None:
        raise ToolchainError(
            f"there is no module {module} without parameters in its file: give the generated one"
        )
    ports = []
    for declaration in match.group(1).split(","):
        found = _PORT.fullmatch(declaration.strip())
        if found is None:
            raise ToolchainError(
                f"module {module}: {declaration.strip()!r} is no port with a range in numbers"
            )
        way, high, name = found.groups()
        ports.append(Port(name, int(high or 0) + 1, name, output=way == "output"))
    return tuple(ports)


def shell_design(
    model: FirmwareModel,
    files: Mapping[str, Files],
    shell: Files,
    part: str,
    clock_ns: float,
    static: Static | None = None,
) -> Design:
    """Give the design of a toolchain that writes the static part itself.

    Parameters
    ----------
    model
        With the toolchain's layout.
    files
        RTL by the partition's name, then by path; one file holds the module `lumiwatch_<partition>`.
    shell
        The static part's files; one holds the module `lumiwatch_shell`.
    part, clock_ns, static
        As in `Design`.

    Raises
    ------
    ToolchainError
        When a module is missing.
    """
    partitions = {
        name: PartitionSources(f"lumiwatch_{name}", _find(found, f"lumiwatch_{name}"), found)
        for name, found in files.items()
    }
    return Design(model, partitions, part, clock_ns, Shell(_find(shell, SHELL), shell), static)


def wide_design(
    model: FirmwareModel,
    files: Mapping[str, Files],
    part: str,
    clock_ns: float,
    static: Static | None = None,
) -> Design:
    """Give the design of modules `lumiwatch_<partition>` that take an event at once, without a handshake.

    Parameters
    ----------
    model
        With the toolchain's layout.
    files
        RTL by the partition's name, then by path.
    part, clock_ns, static
        As in `Design`.

    Raises
    ------
    ToolchainError
        When a module is missing or has other edges than its partition.
    """
    partitions: dict[str, PartitionSources] = {}
    for partition in model.partitions():
        found = files.get(partition.name, {})
        module, ports = f"lumiwatch_{partition.name}", wide_ports(partition)
        written = {(port.name, port.width, port.output) for port in _find(found, module)}
        if written != {(port.name, port.width, port.output) for port in ports}:
            raise ToolchainError(
                f"module {module} has other ports than partition {partition.name}: generate it again"
            )
        partitions[partition.name] = PartitionSources(module, ports, found)
    return Design(model, partitions, part, clock_ns, static=static)


def _find(files: Files, module: str) -> tuple[Port, ...]:
    header = re.compile(rf"\bmodule\s+{re.escape(module)}\b".encode())
    for content in files.values():
        if header.search(content):
            return ports_of(content, module)
    raise ToolchainError(f"no file holds the module {module}: generate the RTL of every partition")


def design_of(
    model: FirmwareModel, sources: Files, part: str, clock_ns: float, static: Static | None = None
) -> Design:
    """Give the design of a built firmware, from its sources as an `Image` or a package holds them.

    Each partition gets the files that its module needs and no others: it stays as it is when another changes.

    Parameters
    ----------
    model
        With the toolchain's layout.
    sources
        All files by path; what is no RTL is ignored.
    part, clock_ns, static
        As in `Design`.

    Raises
    ------
    ToolchainError
        When a partition's module is missing.
    """
    files = {path: content for path, content in sources.items() if path.endswith((*_VERILOG, ".mem"))}
    homes = {
        name: path
        for path, content in files.items()
        if path.endswith(_VERILOG)
        for name in _DEFINED.findall(_COMMENT.sub("", content.decode()))
    }
    modules = {partition.name: f"lumiwatch_{partition.name}" for partition in model.partitions()}
    found = {name: _closure(files, homes, module) for name, module in modules.items()}
    if SHELL in homes:
        shell = {homes[SHELL]: files[homes[SHELL]]}
        return shell_design(model, found, shell, part, clock_ns, static)
    return wide_design(model, found, part, clock_ns, static)


def _closure(files: Files, homes: Mapping[str, str], module: str) -> dict[str, bytes]:
    """Give the files that define a module and all that it uses."""
    if module not in homes:
        raise ToolchainError(f"no file holds the module {module}: generate the RTL of every partition")
    tables = [name for name in files if name.endswith(".mem")]
    wanted, found = [homes[module]], set[str]()
    while wanted:
        path = wanted.pop()
        if path in found:
            continue
        found.add(path)
        if path.endswith(_VERILOG):
            text = _COMMENT.sub("", files[path].decode())
            wanted += [homes[word] for word in set(_WORD.findall(text)) if word in homes]
            wanted += [name for name in tables if f'"{name.rsplit("/", 1)[-1]}"' in text]
    return {path: files[path] for path in sorted(found)}
