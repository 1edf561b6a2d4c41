"""A firmware for partial reconfiguration: modules of the partitions, and the static Verilog around them.

Any RTL fits: a module comes with the list of its ports and the nets they belong to. Where the toolchain
brings no static part, one is written: wires, and gates that hold a partition's outputs at 0 while it is
replaced. Refuses to know the vendors' tools.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hw.errors import ToolchainError
from hw.layout import Partition
from hw.network import FirmwareModel

SHELL = "lumiwatch_shell"
"""Module of the static part around the partitions."""

TRIAL = "lumiwatch_trial"
"""Top module that brings the shell to a few pins, to place and route it without a board."""

CLOCK = "clk"
_NAME = re.compile(r"[A-Za-z_]\w*")
_WORD = 32


@dataclass(frozen=True, slots=True)
class Port:
    """One port of a partition's module.

    Parameters
    ----------
    name
        In the module.
    width
        Bits.
    net
        What it is connected to: ports with the same net are one wire. A net that no module drives is an input
        of the shell, one that no module takes is an output. `clk` is the clock.
    output
        Whether the module drives it.
    """

    name: str
    width: int
    net: str
    output: bool = False

    def __post_init__(self) -> None:
        if not (_NAME.fullmatch(self.name) and _NAME.fullmatch(self.net)) or self.width < 1:
            raise ToolchainError(f"{self.name!r} of {self.width} bits on {self.net!r} is no port of a module")


@dataclass(frozen=True, slots=True)
class PartitionSources:
    """RTL of one partition.

    Parameters
    ----------
    module
        Its top module, the same in every variant.
    ports
        Of that module.
    files
        By path; .v, .sv, .vhd, .mem, .xci and .xdc.
    """

    module: str
    ports: tuple[Port, ...]
    files: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Shell:
    """A static part that a toolchain wrote itself: the module `lumiwatch_shell`.

    Parameters
    ----------
    ports
        Of that module; their nets mean nothing.
    files
        By path. It instantiates the partitions' modules under the partitions' names.
    """

    ports: tuple[Port, ...]
    files: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Static:
    """What surrounds the shell.

    Parameters
    ----------
    top
        Top module of the whole device.
    files
        Its sources and constraints, by path. They instantiate `lumiwatch_shell`.
    shell
        Path of that instance below the top, with slashes.
    """

    top: str
    files: Mapping[str, bytes] = field(repr=False)
    shell: str


@dataclass(frozen=True, slots=True)
class Design:
    """All that goes into one device.

    Parameters
    ----------
    model
        Its partitions are the replaceable parts.
    partitions
        RTL by the partition's name.
    part
        The device.
    clock_ns
        Period of `clk`; a board's own constraints say it again.
    shell
        Left out, one is written from the partitions' nets.
    static
        Left out, a trial top without a board.

    Raises
    ------
    ToolchainError
        When a partition has no RTL, or a net has two drivers or two widths.
    """

    model: FirmwareModel
    partitions: Mapping[str, PartitionSources]
    part: str
    clock_ns: float
    shell: Shell | None = None
    static: Static | None = None

    def __post_init__(self) -> None:
        names = [partition.name for partition in self.model.partitions()]
        if sorted(names) != sorted(self.partitions):
            raise ToolchainError(
                f"model {self.model.name} has the partitions {', '.join(names)}, there is RTL for "
                f"{', '.join(self.partitions) or 'none'}: generate all of them"
            )
        if self.shell is None:
            self.nets()

    def nets(self) -> dict[str, tuple[int, bool, bool]]:
        """Give width, whether a partition drives it and whether one takes it, of every net but the clock."""
        found: dict[str, tuple[int, bool, bool]] = {}
        for name, sources in self.partitions.items():
            for port in sources.ports:
                if port.net == CLOCK:
                    continue
                width, driven, taken = found.get(port.net, (port.width, False, False))
                if width != port.width or (driven and port.output):
                    raise ToolchainError(
                        f"net {port.net} meets {port.width} and {width} bits (at {name}.{port.name}), "
                        "or two drivers: pin the edges of the partitions"
                    )
                found[port.net] = (width, driven or port.output, taken or not port.output)
        return dict(sorted(found.items()))

    def shell_part(self) -> Shell:
        """Give the static part: the toolchain's own, or one that is written here."""
        if self.shell is not None:
            return self.shell
        ports = [Port(CLOCK, 1, CLOCK), Port("decouple", len(self.partitions), "decouple")]
        for net, (width, driven, taken) in self.nets().items():
            if not (driven and taken):
                ports.append(Port(net, width, net, output=driven))
        return Shell(tuple(ports), {f"{SHELL}.v": _shell_source(self, ports).encode()})

    def static_files(self) -> dict[str, bytes]:
        """Give all sources of what is never replaced, by path; the partitions are not among them."""
        return {**self.shell_part().files, **self.surroundings().files}

    def clock_constraint(self) -> bytes:
        """Give the clock as XDC or SDC; a board brings its own."""
        if self.static is not None:
            return b"# the clocks are in the constraints of the board\n"
        return f"create_clock -name {CLOCK} -period {self.clock_ns:g} [get_ports {CLOCK}]\n".encode()

    def surroundings(self) -> Static:
        """Give what surrounds the shell: the design's own, or the trial top."""
        if self.static is not None:
            return self.static
        return Static(TRIAL, {f"{TRIAL}.v": trial_source(self).encode()}, "shell")

    def cell(self, name: str) -> str:
        """Give the path of a partition's instance below the top, with slashes."""
        return f"{self.surroundings().shell}/{name}"


def wide_ports(partition: Partition) -> tuple[Port, ...]:
    """Give the ports of a module that takes an event at once: `clk`, `values`, `memory`, `results`.

    Values, results and words are packed, the first in the lowest bits; the last partition's score and
    decision follow its layer's results. Without words there is no `memory`.
    """
    score = partition.model.score_stage.result_format.width + 1 if partition.last else 0
    source = "values" if partition.first else f"values_{partition.index}"
    result = "results" if partition.last else f"values_{partition.index + 1}"
    ports = [
        Port(CLOCK, 1, CLOCK),
        Port("values", partition.n_in * partition.source_format.width, source),
        Port("results", partition.n_out * partition.result_format.width + score, result, output=True),
    ]
    if partition.words:
        ports.append(Port("memory", _WORD * partition.words, f"memory_{partition.index}"))
    return tuple(ports)


def stub_source(design: Design) -> str:
    """Give the black boxes that stand for the partitions while the static part is synthesised."""
    modules = [
        f"(* black_box *)\nmodule {sources.module} (\n{_port_list(sources.ports)}\n);\nendmodule\n"
        for _, sources in sorted(design.partitions.items())
    ]
    return "// Edges of the partitions; their content comes later.\n" + "\n".join(modules)


def _shell_source(design: Design, ports: list[Port]) -> str:
    inner = [
        f"    wire {_range(width)}{net};\n"
        for net, (width, driven, taken) in design.nets().items()
        if driven and taken
    ]
    body = "".join(_instance(design, index, name) for index, name in enumerate(sorted(design.partitions)))
    return f"""\
// Static part {design.model.shell_hash}
// While bit i of decouple is set, partition p<i> is being replaced and its outputs are zero.
`default_nettype none
module {SHELL} (
{_port_list(ports)}
);
{"".join(inner)}{body}endmodule
`default_nettype wire
"""


def _instance(design: Design, index: int, name: str) -> str:
    sources = design.partitions[name]
    bit = f"decouple[{index}]" if len(design.partitions) > 1 else "decouple"
    lines, connections = [], []
    for port in sources.ports:
        wire = f"{name}_{port.name}_out" if port.output else port.net
        connections.append(f"        .{port.name}({wire})")
        if port.output:
            lines.append(f"    wire {_range(port.width)}{wire};")
            lines.append(f"    assign {port.net} = {bit} ? {port.width}'d0 : {wire};")
    declared = "\n".join(lines)
    return f"\n{declared}\n    {sources.module} {name} (\n{_joined(connections)}\n    );\n"


def trial_source(design: Design) -> str:
    """Give a top module with six pins: everything goes in and out through shift registers.

    It lets the shell be placed and routed, and its timing be known, without a board's surroundings.
    """
    ports = [port for port in design.shell_part().ports if port.name != CLOCK]
    connections = [f"        .{CLOCK}({CLOCK})"]
    bits = {}
    for output, register in ((False, "held"), (True, "answer")):
        start = 0
        for port in ports:
            if port.output is output:
                connections.append(f"        .{port.name}({register}[{start} +: {port.width}])")
                start += port.width
        bits[register] = start
    n_in, n_out = bits["held"], bits["answer"]
    return f"""\
// Trial top: shift an event in, hold it, take the answer, shift it out.
`default_nettype none
module {TRIAL} (
    input  wire {CLOCK},
    input  wire shift,
    input  wire serial_in,
    input  wire hold,
    input  wire take,
    output wire serial_out
);
    reg [{n_in - 1}:0] coming, held;
    reg [{n_out - 1}:0] going;
    wire [{n_out - 1}:0] answer;
    assign serial_out = going[0];

    always @(posedge {CLOCK}) begin
        if (shift) coming <= {{serial_in, coming[{n_in - 1}:1]}};
        if (hold) held <= coming;
        if (take) going <= answer;
        else if (shift) going <= {{1'b0, going[{n_out - 1}:1]}};
    end

    {SHELL} shell (
{_joined(connections)}
    );
endmodule
`default_nettype wire
"""


def _port_list(ports: Iterable[Port]) -> str:
    ways = {True: "output", False: "input "}
    return _joined([f"    {ways[port.output]} wire {_range(port.width)}{port.name}" for port in ports])


def _joined(lines: list[str]) -> str:
    return ",\n".join(lines)


def _range(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""
