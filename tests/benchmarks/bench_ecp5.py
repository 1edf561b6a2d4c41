"""A bitstream with other weights against the whole way from Verilog, for the default engine on an ECP5.

Both bitstreams are unpacked, and what the memories hold is compared with the weights. Finding the memories in
the routed design is done once per design and not counted as part of the whole way. Time of the clock.
"""

import numpy as np

from hw.ecp5 import engine
from hw.ecp5.flow import Ecp5Flow
from tests.benchmarks.row import Row, best_seconds
from tests.support.hw import random_model

TIMES = 30
REUSE = 4
"""Clocks per input. With one, the layers need four times the multipliers, and routing takes longer."""
SMALL = """\
module small (input logic clk, input logic write, input logic [5:0] address, input logic [15:0] data,
              output logic [15:0] value);
    logic [15:0] rows[0:63];
    always_ff @(posedge clk) begin
        if (write) rows[address] <= data;
        value <= rows[address];
    end
endmodule
"""


def run(quick: bool) -> list[Row]:
    """Measure the engine of the demonstration network; `quick` one small memory."""
    if quick:
        flow, name = Ecp5Flow("LFE5U-25F"), "one memory"
        design, top = {"small.sv": SMALL}, "small"
        first, second = ({"rows": _random(seed)} for seed in (1, 2))
    else:
        flow, name = Ecp5Flow("LFE5U-45F"), f"engine 57-32-16-8 at reuse {REUSE}"
        model = random_model((57, 32, 16, 8))
        other = random_model((57, 32, 16, 8), seed=2)
        design, top = engine.sources(model, REUSE), engine.TOP
        first, second = engine.contents(model, REUSE), engine.contents(other, REUSE)
    built = flow.full(design, top, first)
    changed = []

    def change() -> None:
        changed[:] = [flow.weights(built.routed, second)]

    seconds = best_seconds(change, 1 if quick else 5)
    _check(flow, built.routed, built.bitstream, first)
    _check(flow, built.routed, changed[0], second)
    whole = sum(built.seconds[step] for step in ("synthesis", "place and route", "packing"))
    return [
        Row(
            name=f"ECP5 bitstream with other weights, {name}, {flow.part}",
            value=seconds,
            unit="s",
            baseline="synthesis, place and route, packing",
            baseline_value=whole,
            ratio=whole / seconds,
            target=None if quick else f">= {TIMES}x",
            met=None if quick else whole >= TIMES * seconds,
        ),
        *(Row(name=f"ECP5 {step}, {name}", value=taken, unit="s") for step, taken in built.seconds.items()),
        *_resources(built.resources, name),
    ]


def _resources(found, name) -> list[Row]:
    counts = {
        "LUTs": found.luts,
        "registers": found.registers,
        "multipliers": found.dsps,
        "block RAMs": found.brams,
        "MHz": found.clock_mhz,
    }
    return [
        Row(name=f"ECP5, {name}, {unit}", value=float(count), unit=unit)
        for unit, count in counts.items()
        if count is not None
    ]


def _check(flow, routed, bitstream, contents) -> None:
    found = flow.read_back(routed, bitstream)
    if not all(np.array_equal(found[memory], bits) for memory, bits in contents.items()):
        raise AssertionError("the bitstream does not hold the weights")


def _random(seed):
    return np.random.default_rng(seed).integers(0, 2, (64, 16)).astype(np.bool_)
