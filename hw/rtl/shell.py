"""The static part of a firmware: the partitions in a row, and the bus that reaches the memory of each.

It depends on the edges of the partitions alone and stays when one of them is replaced. Refuses to know what
is inside them.
"""

from __future__ import annotations

from dataclasses import replace

from hw.layout import Partition
from hw.rtl.memory_map import BUS_BITS, MappedSegment, memory_map
from hw.rtl.parameters import index_bits
from hw.rtl.partition import Port, bits, bus_ports, module_name, port_list, ports

SHELL = "lumiwatch_shell"
"""Name of the module."""

_INWARD = frozenset({"bank", "in_valid", "in_ready", "in_data"})
_OUTWARD = frozenset({"result_valid", "result_data", "score_valid", "score_ready", "score", "accept"})
_GATED = frozenset({"bus_value", "in_ready", "out_valid", "result_valid", "score_valid"})
"""Outputs of a partition that must be quiet while it is replaced."""


def shell_map(partitions: tuple[Partition, ...], reuse: int) -> tuple[MappedSegment, ...]:
    """Place the segments of a whole model on the shell's bus; their words count in the whole memory."""
    return tuple(
        replace(
            segment, start=segment.start + partition.start, base=segment.base + (partition.index << BUS_BITS)
        )
        for partition in partitions
        for segment in memory_map(partition, reuse)
    )


def shell_module(partitions: tuple[Partition, ...]) -> str:
    """Write the module."""
    count, select = len(partitions), index_bits(len(partitions))
    outside: list[Port] = [
        *bus_ports(BUS_BITS + select),
        ("input", count, "decouple"),
        *(port for port in ports(partitions[0]) if port[2] in _INWARD),
        *(port for port in ports(partitions[-1]) if port[2] in _OUTWARD),
    ]
    values = "\n            | ".join(
        f"(chosen == {select}'d{p.index} ? {p.name}_bus_value : 32'd0)" for p in partitions
    )
    instances = "\n\n".join(_instance(partition, count) for partition in partitions)
    return f"""\
// The static part: everything but the partitions, whose modules can be replaced one by one.
// Bus address: partition, bank, address inside the partition. While a partition is replaced, its bit of
// `decouple` is set; afterwards `rst` starts all of them anew. Neither touches the memories of the others.
module {SHELL} (
{port_list(outside)}
);
    logic [{select - 1}:0] wanted, chosen;
    assign wanted = bus_address[{BUS_BITS + select - 1}:{BUS_BITS}];
    always_ff @(posedge clk) if (bus_read) chosen <= wanted;

{_declarations(partitions)}
    assign bus_value = {values};

{instances}
endmodule
"""


def _declarations(partitions: tuple[Partition, ...]) -> str:
    lines = [f"    logic [31:0] {partition.name}_bus_value;" for partition in partitions]
    for partition in partitions[:-1]:
        name, width = partition.name, partition.result_format.width
        lines.append(f"    logic {name}_valid, {name}_ready, {name}_bank;")
        lines.append(f"    logic {bits(width)}{name}_data;")
    return "\n".join(lines)


def _instance(partition: Partition, count: int) -> str:
    name, before = partition.name, f"p{partition.index - 1}"
    select = index_bits(count)
    quiet = f"decouple[{partition.index}]" if count > 1 else "decouple"
    wired = {
        "rst": f"rst | {quiet}",
        "bus_write": f"bus_write & wanted == {select}'d{partition.index}",
        "bus_read": f"bus_read & wanted == {select}'d{partition.index}",
        "bus_address": f"bus_address[{BUS_BITS - 1}:0]",
        "bus_value": f"{name}_bus_value",
    }
    if not partition.first:
        wired |= {f"in_{item}": f"{before}_{item}" for item in ("valid", "ready", "data", "bank")}
    if not partition.last:
        wired |= {f"out_{item}": f"{name}_{item}" for item in ("valid", "ready", "data", "bank")}
    raw, gates, connections = [], [], []
    for way, width, port in ports(partition):
        net = wired.get(port, port)
        if way == "output" and port in _GATED:
            raw.append(f"    logic {bits(width)}{name}_raw_{port};")
            gates.append(f"    assign {net} = {quiet} ? '0 : {name}_raw_{port};")
            net = f"{name}_raw_{port}"
        connections.append(f"        .{port}({net})" if net != port else f"        .{port}")
    return "\n".join(
        [*raw, *gates, f"    {module_name(partition)} {name} (", ",\n".join(connections), "    );"]
    )
