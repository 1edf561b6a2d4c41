"""Verilog of one partition around da4ml's pipeline: input stage, pinned edges, score stage; and its harness.

One event per clock cycle, no handshake: an answer leaves a fixed number of cycles after its event. The order
of arithmetic is that of `hw.arithmetic`. Refuses to know how the adder graphs were found.
"""

from __future__ import annotations

from hw.arithmetic import difference_fraction
from hw.errors import ToolchainError
from hw.fixed_point import FixedFormat, Overflow, Rounding
from hw.layout import Partition
from hw.stages import INPUT_FORMAT
from hw.toolchains.da4ml_logic import Logic

INPUT_CYCLES = 2
"""Registers behind difference and product; the conversion goes into the network's own first register."""

_WORD = 32


def score_cycles(partition: Partition) -> int:
    """Clock cycles of the score stage: squares, their sum, the score; a logit is converted at once."""
    if not partition.last:
        return 0
    return 3 if partition.model.score_stage.kind == "sum_of_squares" else 1


def latency(partition: Partition, logic: Logic) -> int:
    """Clock cycles from an event in to its answer."""
    return INPUT_CYCLES * partition.first + logic.cycles + score_cycles(partition)


def output_widths(partition: Partition) -> list[int]:
    """Bits of every output, from the lowest bit of the port `results` on."""
    widths = [partition.result_format.width] * partition.n_out
    if partition.last:
        widths += [partition.model.score_stage.result_format.width, 1]
    return widths


def partition_source(partition: Partition, logic: Logic) -> str:
    """Give the module `lumiwatch_<partition>`.

    Raises
    ------
    ToolchainError
        When da4ml's module has other edges than the declared formats; it would be da4ml's fault.
    """
    name, n_in, n_out = partition.name, partition.n_in, partition.n_out
    source, result = partition.source_format, partition.result_format
    inner = partition.model.input_stage.result_format if partition.first else source
    memory = f"    input  wire [{_WORD * partition.words - 1}:0] memory,\n" if partition.words else ""
    body = (
        _input_stage(partition)
        if partition.first
        else f"    wire [{n_in * inner.width - 1}:0] into = values;"
    )
    return f"""\
// Partition {name}, structure {partition.structure_hash}
// {n_in} x {source} in, {n_out} x {result} out{", then score and decision" if partition.last else ""};
// the first in the lowest bits. One event per cycle, its answer {latency(partition, logic)} cycles later.
`default_nettype none
module lumiwatch_{name} (
    input  wire clk,
    input  wire [{n_in * source.width - 1}:0] values,
{memory}    output wire [{sum(output_widths(partition)) - 1}:0] results
);
{body}
{_network(partition, logic, inner)}
{_score_stage(partition) if partition.last else "    assign results = out;"}
endmodule
`default_nettype wire
"""


def top_source(partitions: tuple[Partition, ...]) -> str:
    """Give the module `lumiwatch_top`: all partitions, one behind the other."""
    first, last = partitions[0], partitions[-1]
    words = sum(partition.words for partition in partitions)
    lines: list[str] = []
    source = "values"
    for partition in partitions:
        width = sum(output_widths(partition))
        memory = (
            f".memory(memory[{_WORD * partition.start} +: {_WORD * partition.words}]), "
            if partition.words
            else ""
        )
        lines.append(f"    wire [{width - 1}:0] from_{partition.name};")
        lines.append(
            f"    lumiwatch_{partition.name} {partition.name} "
            f"(.clk(clk), .values({source}), {memory}.results(from_{partition.name}));"
        )
        source = f"from_{partition.name}"
    body = "\n".join(lines)
    return f"""\
// All partitions of structure {first.model.structure_hash}
`default_nettype none
module lumiwatch_top (
    input  wire clk,
    input  wire [{first.n_in * first.source_format.width - 1}:0] values,
    input  wire [{_WORD * words - 1}:0] memory,
    output wire [{sum(output_widths(last)) - 1}:0] results
);
{body}
    assign results = {source};
endmodule
`default_nettype wire
"""


def harness(partition: Partition, logic: Logic) -> str:
    """Give the C++ that feeds one event per cycle and collects the answers."""
    source = partition.source_format
    formats = [partition.result_format] * partition.n_out
    if partition.last:
        formats += [partition.model.score_stage.result_format, FixedFormat(1, 1, signed=False)]
    fields = ", ".join(f"{{{fmt.width}, {int(fmt.signed)}}}" for fmt in formats)
    words = partition.words
    memory = "    std::memcpy(&model.memory, memory, sizeof(int32_t) * n_words);\n" if words else ""
    return f"""\
// Simulation of partition {partition.name}: the clocked Verilog itself, one event per cycle.
#include <cstdint>
#include <cstring>
#include "Vtop.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

struct Field {{ int width, is_signed; }};
static const int n_inputs = {partition.n_in}, n_outputs = {partition.n_outputs}, n_words = {words};
static const int latency = {latency(partition, logic)}, input_width = {source.width};
static const Field outputs_of[] = {{{fields}}};

static void put(uint32_t *bits, int at, int width, uint64_t value) {{
    while (width > 0) {{
        int offset = at & 31, taken = 32 - offset < width ? 32 - offset : width;
        uint32_t mask = (taken == 32 ? ~0u : (1u << taken) - 1) << offset;
        bits[at >> 5] = (bits[at >> 5] & ~mask) | ((uint32_t)(value << offset) & mask);
        value >>= taken, at += taken, width -= taken;
    }}
}}

static int64_t get(const uint32_t *bits, int at, Field field) {{
    uint64_t value = 0;
    for (int done = 0; done < field.width;) {{
        int offset = (at + done) & 31, left = field.width - done;
        int taken = 32 - offset < left ? 32 - offset : left;
        uint64_t part = (bits[(at + done) >> 5] >> offset) & (taken == 32 ? ~0u : (1u << taken) - 1);
        value |= part << done, done += taken;
    }}
    uint64_t sign = (uint64_t)1 << (field.width - 1);
    return field.is_signed ? (int64_t)((value ^ sign) - sign) : (int64_t)value;
}}

EXPORT const char *lumiwatch_structure(void) {{ return "{partition.structure_hash}"; }}
EXPORT int lumiwatch_inputs(void) {{ return n_inputs; }}
EXPORT int lumiwatch_outputs(void) {{ return n_outputs; }}
EXPORT int lumiwatch_words(void) {{ return n_words; }}
EXPORT int lumiwatch_latency(void) {{ return latency; }}
EXPORT int lumiwatch_interval(void) {{ return 1; }}

// A model of its own for every call: calls share nothing, no event meets what an earlier call left behind.
EXPORT int lumiwatch_run(const int64_t *inputs, int64_t events, const int32_t *memory, int64_t *outputs) {{
    if (events < 0 || !inputs || !outputs || (n_words && !memory))
        return 1;
    VerilatedContext context;
    Vtop model(&context, "top");
    uint32_t into[sizeof(model.values) / 4 + 2] = {{}}, from[sizeof(model.results) / 4 + 2] = {{}};
{memory}    for (int64_t cycle = 0; cycle < events + latency - 1; cycle++) {{
        if (cycle < events) {{
            for (int i = 0; i < n_inputs; i++)
                put(into, i * input_width, input_width, (uint64_t)inputs[cycle * n_inputs + i]);
            std::memcpy(&model.values, into, sizeof model.values);
        }}
        model.clk = 0;
        model.eval();
        model.clk = 1;
        model.eval();
        if (cycle >= latency - 1) {{
            std::memcpy(from, &model.results, sizeof model.results);
            int64_t *answer = outputs + (cycle - latency + 1) * n_outputs;
            for (int i = 0, at = 0; i < n_outputs; at += outputs_of[i++].width)
                answer[i] = get(from, at, outputs_of[i]);
        }}
    }}
    model.final();
    return 0;
}}
"""


def _input_stage(partition: Partition) -> str:
    """Give the difference, the product and its conversion, for every input at once."""
    stage = partition.model.input_stage
    n_in, result = partition.n_in, stage.result_format
    fraction = difference_fraction(stage)
    offset, scale = stage.offset_format, stage.scale_format
    difference = max(INPUT_FORMAT.integer, offset.integer + (not offset.signed)) + 1 + fraction
    product = difference + scale.width + (not scale.signed)
    at = {segment.name: segment.start - partition.start for segment in partition.segments()}
    convert = _convert("standard", "product", product, fraction + scale.fraction, result, indent=8)
    return f"""\
    wire [{n_in * result.width - 1}:0] into;
    genvar i;
    generate for (i = 0; i < {n_in}; i = i + 1) begin : standardise
        wire signed [15:0] code = values[16 * i +: 16];
        wire signed [{offset.width}:0] offset = {_load(f"{at['input.offset']} + i", offset)};
        wire signed [{scale.width}:0] scale = {_load(f"{at['input.scale']} + i", scale)};
        wire signed [{difference - 1}:0] whole_code = code;
        wire signed [{difference - 1}:0] whole_offset = offset;
        reg signed [{difference - 1}:0] difference;
        reg signed [{product - 1}:0] product;
        always @(posedge clk) begin
            difference <= (whole_code <<< {fraction}) - (whole_offset <<< {fraction - offset.fraction});
            product <= difference * scale;
        end
{convert}
        assign into[{result.width} * i +: {result.width}] = standard;
    end endgenerate"""


def _load(index: str, fmt: FixedFormat) -> str:
    """Give a word of the memory as a signed number of one bit more than the format."""
    word = f"memory[{_WORD} * ({index}) +: {fmt.width}]"
    return f"$signed({word})" if fmt.signed else f"$signed({{1'b0, {word}}})"


def _network(partition: Partition, logic: Logic, inner: FixedFormat) -> str:
    """Instantiate da4ml's module and widen each of its outputs to the declared format."""
    from da4ml.types import minimal_kif  # noqa: PLC0415 - as in da4ml_logic

    taken = [sum(minimal_kif(interval)) for interval in logic.pipeline.inp_qint]
    if taken != [inner.width] * partition.n_in:
        raise ToolchainError(f"da4ml narrowed the inputs of partition {partition.name}: use another version")
    width = partition.result_format.width
    fields: list[str] = []
    at = 0
    for interval in logic.pipeline.out_qint:
        negative, integer, fraction = minimal_kif(interval)
        bits = negative + integer + fraction
        padding = width - bits + fraction  # a fraction below zero: da4ml leaves out bits that are always zero
        if fraction > 0 or padding < 0:
            raise ToolchainError(
                f"da4ml left {partition.result_format} in {partition.name}: use another version"
            )
        sign = f"net[{at + bits - 1}]" if negative else "1'b0"
        parts = [f"{{{padding}{{{sign}}}}}"] * (padding > 0)
        parts += [f"net[{at} +: {bits}]"] * (bits > 0) + [f"{{{-fraction}{{1'b0}}}}"] * (fraction < 0)
        fields.append(f"{{{', '.join(parts)}}}")
        at += bits
    joined = ",\n        ".join(reversed(fields))
    instance = (
        f"    wire [{at - 1}:0] net;\n    {network_name(partition)} network (.clk(clk), .model_inp(into), "
        ".model_out(net));\n"
        if at
        else ""
    )
    return f"{instance}    wire [{partition.n_out * width - 1}:0] out = {{\n        {joined}\n    }};"


def network_name(partition: Partition) -> str:
    """Name of da4ml's module."""
    return f"{partition.name}_network"


def _score_stage(partition: Partition) -> str:
    stage, latent, n_out = partition.model.score_stage, partition.result_format, partition.n_out
    fmt, width = stage.result_format, latent.width
    at = next(s.start for s in partition.segments() if s.name == "score.threshold") - partition.start
    wide = width + (not latent.signed)
    pad = "" if latent.signed else "1'b0, "
    if stage.kind == "logit":
        convert = _convert("converted", "logit", wide, latent.fraction, fmt)
        terms = f"    wire signed [{wide - 1}:0] logit = {{{pad}out[{width * stage.output} +: {width}]}};\n"
    else:
        total = 2 * wide + n_out.bit_length() + 1
        adding = " + ".join(f"squares[{2 * wide * i} +: {2 * wide}]" for i in range(n_out))
        convert = _convert("converted", "total", total, 2 * latent.fraction, fmt)
        terms = f"""\
    reg [{2 * wide * n_out - 1}:0] squares;
    reg signed [{total - 1}:0] total;
    genvar j;
    generate for (j = 0; j < {n_out}; j = j + 1) begin : square
        wire signed [{wide - 1}:0] each = {{{pad}out[{width} * j +: {width}]}};
        wire signed [{2 * wide - 1}:0] squared = each * each;
        always @(posedge clk) squares[{2 * wide} * j +: {2 * wide}] <= squared;
    end endgenerate
    always @(posedge clk) total <= {adding};
"""
    cycles, bits = score_cycles(partition), n_out * width
    older = [f"out_{age}" for age in range(1, cycles + 1)]
    registers = "".join(f"    reg [{bits - 1}:0] {name};\n" for name in older)
    moves = " ".join(f"{new} <= {old};" for old, new in zip(["out", *older], older, strict=False))
    top = fmt.width - 1
    above = "$signed(converted) > $signed(threshold)" if fmt.signed else "converted > threshold"
    return f"""\
{terms}{convert}
    wire [{top}:0] threshold = memory[{_WORD * at} +: {fmt.width}];
    reg [{top}:0] score;
    reg accept;
{registers}    always @(posedge clk) begin
        {moves}
        score <= converted;
        accept <= {above};
    end
    assign results = {{accept, score, {older[-1]}}};"""


def _convert(name: str, value: str, width: int, fraction: int, fmt: FixedFormat, indent: int = 4) -> str:
    """Convert the signed wire `value` of `width` bits into `fmt`, as the wire `name`."""
    rounding = {Rounding.TRN: 0, Rounding.RND: 1, Rounding.RND_CONV: 2}[fmt.rounding]
    saturate = int(fmt.overflow is Overflow.SAT)
    lines = [
        f"wire [{fmt.width - 1}:0] {name};",
        f"lumiwatch_requantise #(.W_IN({width}), .SHIFT({fraction - fmt.fraction}), .W_OUT({fmt.width}),",
        f"    .S_OUT({int(fmt.signed)}), .ROUNDING({rounding}), .SATURATE({saturate})) {name}_conversion (",
        f"    .value({value}), .result({name}));",
    ]
    return "\n".join(" " * indent + line for line in lines)
