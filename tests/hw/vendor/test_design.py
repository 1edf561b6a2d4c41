from dataclasses import replace

import pytest

from hw.errors import ToolchainError
from hw.vendor.design import Static, stub_source, trial_source
from hw.vendor.floorplan import Floorplan, Region, read_floorplan
from hw.vendor.rtl_files import ports_of, shell_design, wide_design
from hw.vendor.tcl import settings, word
from tests.support.vendor import lint_verilog, rtl, tcl_calls, two_partitions

PART = "xcvu13p-flga2577-2-e"
SHELL = b"module lumiwatch_shell (input logic clk, input logic [7:0] d, output logic q);\nendmodule"


@pytest.fixture
def model():
    return two_partitions()


def test_the_shell_connects_the_partitions_and_nothing_else(model, tmp_path):
    design = wide_design(model, rtl(model), PART, 2.5)
    files = {**design.static_files(), **rtl(model)["p0"], **rtl(model)["p1"]}
    lint_verilog(tmp_path, files, "lumiwatch_trial")
    names = [port.name for port in design.shell_part().ports]
    assert names == ["clk", "decouple", "memory_0", "memory_1", "results", "values"]


def test_the_stubs_have_the_edges_of_the_partitions(model):
    design = wide_design(model, rtl(model), PART, 2.5)
    stubs = stub_source(design)
    for name, files in rtl(model).items():
        (source,) = files.values()
        module = f"lumiwatch_{name}"
        assert set(ports_of(stubs.encode(), module)) == set(ports_of(source, module))


def test_a_partition_being_replaced_shows_zeros(model):
    (shell,) = wide_design(model, rtl(model), PART, 2.5).shell_part().files.values()
    width = 4 * model.layers[0].result_format.width
    assert f"assign values_1 = decouple[0] ? {width}'d0 : p0_results_out;" in shell.decode()


def test_a_toolchains_own_static_part_is_kept(model):
    design = shell_design(model, rtl(model), {"lumiwatch_shell.sv": SHELL}, PART, 2.5)
    assert design.static_files()["lumiwatch_shell.sv"] == SHELL
    assert ".d(held[0 +: 8])" in trial_source(design)
    assert ".q(answer[0 +: 1])" in trial_source(design)
    assert design.cell("p1") == "shell/p1"
    board = replace(design, static=Static("board", {"board.v": b""}, "a/b"))
    assert board.cell("p1") == "a/b/p1"


def test_a_floorplan_is_read_from_toml(tmp_path):
    path = tmp_path / "floorplan.toml"
    path.write_text(
        '[partitions.p0]\nranges = ["SLICE_X0Y0:SLICE_X9Y9"]\nsnapping = "OFF"\n'
        "[partitions.p1]\nbox = [1, 2, 3, 4]\n"
    )
    regions = {"p0": Region(("SLICE_X0Y0:SLICE_X9Y9",), "OFF"), "p1": Region(box=(1, 2, 3, 4))}
    assert read_floorplan(path) == Floorplan(regions)


@pytest.mark.parametrize(
    "text",
    [
        "", "[other]\n[partitions]\n", "[partitions.p0]\nplace = 3\n", "[partitions.p0]\nbox = [1, 2]\n",
        "[partitions.p0]\nbox = [5, 0, 1, 9]\n", '[partitions.p0]\nranges = ["x}; exec rm"]\n', "= not toml",
        '[partitions.p0]\nsnapping = "maybe"\n',
    ],
)  # fmt: skip
def test_a_wrong_floorplan_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "floorplan.toml"
    path.write_text(text)
    with pytest.raises(ToolchainError) as raised:
        read_floorplan(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["a;b", "$x", 'a"b', "a{b", "a}b", "a\nb", "a\\b"])
def test_nothing_that_tcl_would_evaluate_gets_into_a_script(text):
    with pytest.raises(ToolchainError, match="cannot stand in a Tcl script"):
        word(text)


def test_settings_are_words_lists_and_dictionaries(tmp_path):
    text = settings({"part": "xc7", "files": ("a b", "c[0]"), "none": {}, "deep": {"p0": {"cell": "s/p0"}}})
    script = f"{text}record $part {{*}}$files $none [dict get $deep p0 cell]\n"
    (tmp_path / "show.tcl").write_text(script)
    assert tcl_calls(tmp_path, "show.tcl", "vivado") == ["xc7 {a b} {c[0]} {} s/p0"]
