"""The Verilog module of one partition: its stages in a row, and the decoder of its bus.

Its ports depend on the partition's edges alone, so that another partition with the same edges can replace it.
Refuses to know parameter values.
"""

from __future__ import annotations

from collections.abc import Iterable

from hw.layout import Partition
from hw.rtl import parameters
from hw.rtl.memory_map import BUS_BITS, WINDOW_BITS, MappedSegment, memory_map
from hw.rtl.parameters import Parameters

Port = tuple[str, int, str]
"""Direction, bits and name."""


def module_name(partition: Partition) -> str:
    """Give the name of a partition's module."""
    return f"lumiwatch_{partition.name}"


def ports(partition: Partition) -> list[Port]:
    """Give direction, bits and name of the ports of a partition."""
    edge_in = [("input", 1, "bank" if partition.first else "in_bank")]
    values_in = [
        ("input", 1, "in_valid"),
        ("output", 1, "in_ready"),
        ("input", partition.source_format.width, "in_data"),
    ]
    width = partition.result_format.width
    if partition.last:
        out = [
            ("output", 1, "result_valid"),
            ("output", width, "result_data"),
            ("output", 1, "score_valid"),
            ("input", 1, "score_ready"),
            ("output", partition.model.score_stage.result_format.width, "score"),
            ("output", 1, "accept"),
        ]
    else:
        out = [
            ("output", 1, "out_valid"),
            ("input", 1, "out_ready"),
            ("output", width, "out_data"),
            ("output", 1, "out_bank"),
        ]
    return [*bus_ports(BUS_BITS), *edge_in, *values_in, *out]


def bus_ports(address_bits: int) -> list[Port]:
    """Give clock, reset and bus."""
    return [
        ("input", 1, "clk"),
        ("input", 1, "rst"),
        ("input", 1, "bus_write"),
        ("input", 1, "bus_read"),
        ("input", address_bits, "bus_address"),
        ("input", 32, "bus_data"),
        ("output", 32, "bus_value"),
    ]


def port_list(items: Iterable[Port]) -> str:
    """Write ports as Verilog."""
    return ",\n".join(f"    {way:<6} logic {bits(width)}{name}" for way, width, name in items)


def bits(width: int) -> str:
    """Write the range of a signal; nothing for a single bit."""
    return f"[{width - 1}:0] " if width > 1 else ""


def partition_module(partition: Partition, reuse: int) -> str:
    """Write the module of a partition."""
    segments = memory_map(partition, reuse)
    stages = _stages(partition, reuse)
    signals = "\n".join(_edge(number, width) for number, width in enumerate(_widths(partition)))
    names = " -> ".join([*["input stage"] * partition.first, *(layer.name for layer in partition.layers)])
    return f"""\
// Partition {partition.name}: {names}{" -> score" if partition.last else ""}
module {module_name(partition)} (
{port_list(ports(partition))}
);
{_decoder(segments)}
{signals}
{_first_edge(partition)}
{stages}
{_last_edge(partition)}
endmodule
"""


def _signal(name: str) -> str:
    return name.replace(".", "_")


def _decoder(segments: tuple[MappedSegment, ...]) -> str:
    """Write the bus port: its registers, who is meant, and what is read back two clocks later."""
    lines = [
        "    // The bus, registered. What is read is there three clocks after `bus_read`.",
        "    logic write, read, read_1;",
        f"    logic [{BUS_BITS - 1}:0] address;",
        "    logic [31:0] data;",
        "    logic bus_bank;",
        f"    assign bus_bank = address[{WINDOW_BITS}];",
        "    always_ff @(posedge clk) begin",
        "        {write, read, read_1} <= {bus_write, bus_read, read};",
        "        if (bus_write | bus_read) {address, data} <= {bus_address, bus_data};",
        "        if (rst) {write, read, read_1} <= '0;",
        "    end",
    ]
    mux = []
    for segment in segments:
        name = _signal(segment.name)
        lines.append(f"    logic is_{name}, was_{name};")
        lines.append(f"    logic [31:0] from_{name};")
        wanted = f"{WINDOW_BITS - segment.bits}'d{segment.base >> segment.bits}"
        lines.append(f"    assign is_{name} = address[{WINDOW_BITS - 1}:{segment.bits}] == {wanted};")
        mux.append(f"(was_{name} ? from_{name} : 32'd0)")
    lines.append("    always_ff @(posedge clk) begin")
    lines.extend(f"        was_{_signal(s.name)} <= is_{_signal(s.name)};" for s in segments)
    lines.append("        if (read_1) bus_value <= " + "\n            | ".join(mux) + ";")
    lines.append("    end")
    return "\n".join(lines)


def _widths(partition: Partition) -> list[int]:
    first = parameters.source_format(partition, 0).width
    return [first, *(layer.result_format.width for layer in partition.layers)]


def _edge(number: int, width: int) -> str:
    return f"    logic valid_{number}, ready_{number}, bank_{number};\n    logic {bits(width)}data_{number};"


def _first_edge(partition: Partition) -> str:
    if partition.first:
        return ""
    return (
        "    assign {valid_0, data_0, bank_0} = {in_valid, in_data, in_bank};\n    assign in_ready = ready_0;"
    )


def _last_edge(partition: Partition) -> str:
    last = len(partition.layers)
    if partition.last:
        return f"    assign {{result_valid, result_data}} = {{valid_{last} & ready_{last}, data_{last}}};"
    return (
        f"    assign {{out_valid, out_data, out_bank}} = {{valid_{last}, data_{last}, bank_{last}}};\n"
        f"    assign ready_{last} = out_ready;"
    )


def _instance(module: str, name: str, values: Parameters, connections: dict[str, str]) -> str:
    parameter_text = ", ".join(f".{key}({value})" for key, value in values.items())
    port_text = ",\n        ".join(
        f".{key}({value})" if value else f".{key}" for key, value in connections.items()
    )
    return f"    {module} #(\n        {_wrapped(parameter_text)}\n    ) {name} (\n        {port_text}\n    );"


def _wrapped(text: str, width: int = 100) -> str:
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return "\n        ".join(lines)


def _bus(kind: str, segment: str) -> dict[str, str]:
    name = _signal(segment)
    return {
        f"bus_write_{kind}": f"write & is_{name}",
        f"bus_read_{kind}": f"read & is_{name}",
        f"bus_{kind}": f"from_{name}",
    }


def _stages(partition: Partition, reuse: int) -> str:
    model = partition.model
    written: list[str] = []
    common = {"clk": "", "rst": "", "bus_data": "data"}
    if partition.first:
        values = parameters.input_stage(model.input_stage)
        connections = {
            **common,
            **_bus("offset", "input.offset"),
            **_bus("scale", "input.scale"),
            "bus_address": f"{{bus_bank, address[{values['INDEX'] - 1}:0]}}",
            "bank": "",
            "in_valid": "",
            "in_ready": "",
            "in_data": "",
            **_outgoing(0),
        }
        written.append(_instance("lumiwatch_input", "input_stage", values, connections))
    for number, layer in enumerate(partition.layers):
        values = parameters.dense(partition, number, reuse)
        row_bits = values["ROW"] + sum(parameters.weight_address_bits(values))
        connections = {
            **common,
            **_bus("weight", f"{layer.name}.weight"),
            **_bus("bias", f"{layer.name}.bias"),
            "bus_weight_address": f"{{bus_bank, address[{row_bits - 1}:0]}}",
            "bus_bias_address": f"{{bus_bank, address[{values['RESULT'] - 1}:0]}}",
            **_incoming(number),
            **_outgoing(number + 1),
        }
        written.append(_instance("lumiwatch_dense", f"layer_{layer.name}", values, connections))
    if partition.last:
        values = parameters.score(model.score_stage, partition.layers[-1])
        connections = {
            **common,
            **_bus("threshold", "score.threshold"),
            "bus_address": "bus_bank",
            **_incoming(len(partition.layers)),
            "score_valid": "",
            "score_ready": "",
            "score": "",
            "accept": "",
        }
        written.append(_instance("lumiwatch_score", "score_stage", values, connections))
    return "\n\n".join(written)


def _incoming(number: int) -> dict[str, str]:
    return {
        "in_valid": f"valid_{number}",
        "in_ready": f"ready_{number}",
        "in_data": f"data_{number}",
        "in_bank": f"bank_{number}",
    }


def _outgoing(number: int) -> dict[str, str]:
    return {
        "out_valid": f"valid_{number}",
        "out_ready": f"ready_{number}",
        "out_data": f"data_{number}",
        "out_bank": f"bank_{number}",
    }
