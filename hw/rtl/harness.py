"""The C++ around a Verilated engine: the C functions of an image, spoken through the engine's own ports.

Parameters enter through the bus, into the bank that is not in use, and stay there until other words come.
Refuses to know what the engine computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hw.fixed_point import FixedFormat
from hw.layout import Partition
from hw.rtl.memory_map import WINDOW_BITS, MappedSegment


@dataclass(frozen=True, slots=True)
class Edges:
    """What a harness must know of the engine it drives.

    Parameters
    ----------
    structure
        The hash the image reports.
    first, last
        The partitions at its two ends; the same one for a single partition.
    words
        Words of its memory.
    segments
        Where these are on the bus.
    """

    structure: str
    first: Partition
    last: Partition
    words: int
    segments: Sequence[MappedSegment]


def harness(edges: Edges) -> str:
    """Write the harness."""
    first, last = edges.first, edges.last
    segments = ",\n".join(
        f"    {{{s.start}, {s.rows}, {s.columns}, {s.base}u, {s.row_shift}, {s.lane_bits}, {s.lanes}}}"
        for s in edges.segments
    )
    source, result, score = first.source_format, last.result_format, last.model.score_stage.result_format
    bank = "top.bank = bank;" if first.first else "top.in_bank = bank;"
    collect = f"""\
        if (top.result_valid) {{
            const int64_t place = arrived / n_results * n_outputs + arrived % n_results;
            values[place] = {_signed("top.result_data", result)};
            arrived++;
        }}
        if (top.score_valid) {{
            values[finished * n_outputs + n_results] = {_signed("top.score", score)};
            values[finished * n_outputs + n_results + 1] = top.accept;
            if (clocks)
                clocks[finished] = clock;
            finished++;
        }}"""
    if not last.last:
        collect = f"""\
        if (top.out_valid) {{
            if (clocks && arrived % n_results == 0)
                clocks[arrived / n_results] = clock;
            values[arrived++] = {_signed("top.out_data", result)};
            finished = arrived / n_results;
        }}"""
    return f"""\
// Simulation of the engine. Events enter back to back; every port is the one the board uses.
#include "Vtop.h"
#include <cstdint>
#include <cstring>
#include <mutex>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {{

constexpr int n_inputs = {first.n_in}, n_results = {last.n_out}, n_outputs = {last.n_outputs};
constexpr int n_words = {edges.words};
constexpr int64_t patience = 1 << 22;  // clocks without an answer: the engine hangs
constexpr int probes = 8;

struct Segment {{
    int start, rows, columns;
    uint32_t base;
    int row_shift, lane_bits, lanes;
}};
const Segment segments[] = {{
{segments}
}};

struct Engine {{
    VerilatedContext context;
    Vtop top{{&context}};
    std::vector<int32_t> held[2];  // what the two banks hold; empty: unknown
    int bank = 0;
    int64_t latency = 0, interval = 0;

    void tick() {{
        top.clk = 1;
        top.eval();
        top.clk = 0;
        top.eval();
    }}

    Engine() {{
        top.{"score_ready" if last.last else "out_ready"} = 1;
        top.rst = 1;
        top.eval();  // what comes first is no edge
        for (int i = 0; i < 4; i++)
            tick();
        top.rst = 0;
        std::vector<int64_t> nothing(probes * n_inputs), answers(probes * n_outputs);
        std::vector<int64_t> clocks(probes);
        if (run(nothing.data(), 1, answers.data(), &latency) == 0 &&
            run(nothing.data(), probes, answers.data(), clocks.data()) == 0)
            interval = clocks[probes - 1] - clocks[probes - 2];
    }}

    // Make the words the parameters of the events to come.
    void load(const int32_t *words) {{
        for (int i = 0; i < 2; i++)
            if (!held[i].empty() && std::memcmp(held[i].data(), words, sizeof(int32_t) * n_words) == 0) {{
                bank = i;
                return;
            }}
        bank = held[bank].empty() ? bank : !bank;
        for (const Segment &segment : segments)
            for (int row = 0; row < segment.rows; row++)
                for (int column = 0; column < segment.columns; column++) {{
                    const int group = column / segment.lanes, lane = column % segment.lanes;
                    const uint32_t place = (row << segment.row_shift) + (group << segment.lane_bits) + lane;
                    top.bus_write = 1;
                    top.bus_address = bank << {WINDOW_BITS} | segment.base + place;
                    top.bus_data = words[segment.start + row * segment.columns + column];
                    tick();
                }}
        top.bus_write = 0;
        tick();
        held[bank].assign(words, words + n_words);
    }}

    // Send events and collect their answers; note when each answer begins, in clocks since the first value.
    int run(const int64_t *inputs, int64_t events, int64_t *values, int64_t *clocks) {{
        {bank}
        int64_t sent = 0, arrived = 0, finished = 0, clock = 0, heard = 0;
        const int64_t total = events * n_inputs;
        while (finished < events) {{
            const bool valid = sent < total;
            top.in_valid = valid;
            if (valid)
                top.in_data = {_raw("inputs[sent]", source)};
            sent += valid && top.in_ready;
            tick();
            clock++;
            const int64_t before = finished;
{_indented(collect, 4)}
            if (finished != before)
                heard = clock;
            else if (clock - heard > patience)
                return 2;
        }}
        top.in_valid = 0;
        tick();
        return 0;
    }}
}};

std::mutex lock;

Engine &engine() {{
    static Engine one;
    return one;
}}

}}  // namespace

EXPORT const char *lumiwatch_structure(void) {{ return "{edges.structure}"; }}
EXPORT int lumiwatch_inputs(void) {{ return n_inputs; }}
EXPORT int lumiwatch_outputs(void) {{ return n_outputs; }}
EXPORT int lumiwatch_words(void) {{ return n_words; }}

EXPORT int lumiwatch_latency(void) {{
    std::lock_guard<std::mutex> guard(lock);
    return (int)engine().latency;
}}

EXPORT int lumiwatch_interval(void) {{
    std::lock_guard<std::mutex> guard(lock);
    return (int)engine().interval;
}}

EXPORT int lumiwatch_run(const int64_t *inputs, int64_t events, const int32_t *memory, int64_t *outputs) {{
    if (events < 0 || !inputs || !memory || !outputs)
        return 1;
    std::lock_guard<std::mutex> guard(lock);
    engine().load(memory);
    return engine().run(inputs, events, outputs, nullptr);
}}
"""


def _signed(signal: str, fmt: FixedFormat) -> str:
    """Write a raw value as the integer it stands for."""
    if not fmt.signed:
        return f"(int64_t){signal}"
    return f"(int64_t)((uint64_t){signal} << {64 - fmt.width}) >> {64 - fmt.width}"


def _raw(value: str, fmt: FixedFormat) -> str:
    return f"{value} & {(1 << fmt.width) - 1:#x}ull"


def _indented(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in text.splitlines())
