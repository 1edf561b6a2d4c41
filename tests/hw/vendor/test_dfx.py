from dataclasses import replace
from pathlib import Path

import pytest

from hw.errors import ToolchainError
from hw.layout import Layout
from hw.vendor import dfx
from hw.vendor.design import Design, PartitionSources, Port, Static, wide_ports
from hw.vendor.floorplan import Floorplan, Region
from hw.vendor.project import run
from tests.support.hw import random_model
from tests.support.vendor import fake_vivado, path_with, tcl_calls

EXPECTED = Path(__file__).parent / "expected"
KU115, VU13P, ARTIX = "xcku115-flva1517-2-e", "xcvu13p-flga2577-2-e", "xc7a100tcsg324-1"
FLOORPLAN = Floorplan(
    {
        "p0": Region(("SLICE_X0Y0:SLICE_X49Y119", "DSP48E2_X0Y0:DSP48E2_X9Y47")),
        "p1": Region(("CLOCKREGION_X2Y1:CLOCKREGION_X3Y2",), snapping="ROUTING"),
    }
)
MEMORIES = {"dense2.weight": dfx.BlockMemory("shell/p1/*dense2_weight*", 16, 8)}
# two RAMs side by side for the halves of each word, two deep: as Vivado answers for a placed memory
PLACED = r"""
set rams {
    a {bram_addr_begin 0 bram_addr_end 3 bram_slice_begin 0 bram_slice_end 7 LOC RAMB18_X1Y2}
    b {bram_addr_begin 4 bram_addr_end 7 bram_slice_begin 8 bram_slice_end 15 LOC RAMB18_X1Y5}
    c {bram_addr_begin 4 bram_addr_end 7 bram_slice_begin 0 bram_slice_end 7 LOC RAMB18_X1Y4}
    d {bram_addr_begin 0 bram_addr_end 3 bram_slice_begin 8 bram_slice_end 15 LOC RAMB18_X1Y3}
}
proc get_cells args {
    if {[lindex $args 0] ne "-hierarchical"} { return [lindex $args end] }
    record get_cells {*}$args
    return [dict keys $::rams]
}
proc get_property {name object} { return [dict get $::rams $object $name] }
"""


@pytest.fixture
def model():
    return replace(random_model((3, 4, 2), seed=5), layout=Layout("da4ml", VU13P, cuts=(1,)))


def design(model, part=VU13P, static=None):
    partitions = {
        p.name: PartitionSources(
            f"lumiwatch_{p.name}",
            wide_ports(p),
            {f"lumiwatch_{p.name}.v": b"// partition\n", "table.mem": b"00\n"},
        )
        for p in model.partitions()
    }
    return Design(model, partitions, part, 2.5, static=static)


def text(project, name, model):
    return project.files[name].decode().replace(model.shell_hash, "SHELL")


def written(project, folder):
    project.write(folder)
    return folder


def at(calls, beginning):
    found = [index for index, call in enumerate(calls) if call.startswith(beginning)]
    assert found, f"{beginning} was never called"
    return found


def test_the_base_project_is_the_recorded_one(model):
    project = dfx.base_project(design(model), FLOORPLAN, MEMORIES)
    for name in ("scripts/settings.tcl", "constraints/floorplan.xdc", "constraints/clock.xdc"):
        assert text(project, name, model) == (EXPECTED / "dfx_base" / Path(name).name).read_text()
    assert project == dfx.base_project(design(model), FLOORPLAN, MEMORIES)
    assert {"rtl/p0/lumiwatch_p0.v", "rtl/static/lumiwatch_shell.v", "scripts/base.tcl"} <= set(project.files)


def test_the_base_flow_locks_the_static_part_before_anything_is_compared_or_written(model, tmp_path):
    project = dfx.base_project(design(model), FLOORPLAN, MEMORIES)
    calls = tcl_calls(written(project, tmp_path), "scripts/base.tcl", "vivado", extra=PLACED)
    assert calls == (EXPECTED / "dfx_base" / "calls.txt").read_text().splitlines()

    first_routed = at(calls, "write_checkpoint -force checkpoints/first_routed.dcp")[0]
    lock = at(calls, "lock_design -level routing")[0]
    boxes = at(calls, "update_design -cell shell/p0 -black_box") + at(
        calls, "update_design -cell shell/p1 -black_box"
    )
    assert first_routed < min(boxes)
    assert max(boxes) < lock < at(calls, "write_checkpoint -force checkpoints/static_locked.dcp")[0]
    assert at(calls, "pr_verify")[0] < min(at(calls, "write_bitstream"))
    assert (tmp_path / "checkpoints" / "shell.txt").read_text().strip() == model.shell_hash
    # every output that the project promises is really written by its script
    assert [path for path in project.outputs if not (tmp_path / path).is_file()] == []


def test_the_memory_map_has_the_lanes_in_the_order_of_the_data(model, tmp_path):
    project = dfx.base_project(design(model), FLOORPLAN, MEMORIES)
    tcl_calls(written(project, tmp_path), "scripts/base.tcl", "vivado", extra=PLACED)
    text = (tmp_path / "bitstreams" / "first_dense2_weight.mmi").read_text()
    assert text == (EXPECTED / "dfx_base" / "first_dense2_weight.mmi").read_text()


def test_a_change_builds_one_partition_into_the_locked_static_part(model, tmp_path):
    base = tmp_path / "base"
    tcl_calls(written(dfx.base_project(design(model), FLOORPLAN), base), "scripts/base.tcl", "vivado")
    project = dfx.change_project(design(model), ("p1",), "retrained", base)
    change = written(project, tmp_path / "change")
    calls = tcl_calls(change, "scripts/change.tcl", "vivado", arguments=["../base"])
    assert calls == (EXPECTED / "dfx_change" / "calls.txt").read_text().splitlines()
    assert (
        text(project, "scripts/settings.tcl", model) == (EXPECTED / "dfx_change" / "settings.tcl").read_text()
    )
    assert not any(path.startswith(("rtl/p0", "rtl/static")) for path in project.files)
    assert [path for path in project.outputs if not (change / path).is_file()] == []
    assert str(base) in project.commands[0]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ('proc pr_verify args { error "HDPRVerify failed" }', "HDPRVerify failed"),
        (
            "proc pr_verify args { set f [open [lindex $args end] w]; puts $f {NOT compatible}; close $f }",
            "pr_verify refuses",
        ),
        (
            "proc get_timing_paths args { return path }\nproc get_property args { return -0.2 }",
            "misses its timing",
        ),
    ],
)
def test_no_bitstream_of_what_does_not_fit(model, tmp_path, extra, message):
    base = tmp_path / "base"
    tcl_calls(written(dfx.base_project(design(model), FLOORPLAN), base), "scripts/base.tcl", "vivado")
    change = written(dfx.change_project(design(model), ("p1",), "retrained", base), tmp_path / "change")
    with pytest.raises(AssertionError, match=message):
        tcl_calls(change, "scripts/change.tcl", "vivado", arguments=["../base"], extra=extra)
    assert "write_bitstream" not in (change / "calls.txt").read_text()


def test_a_change_for_another_static_part_is_refused_before_anything_is_built(model, tmp_path):
    base = tmp_path / "base"
    tcl_calls(written(dfx.base_project(design(model), FLOORPLAN), base), "scripts/base.tcl", "vivado")
    other = replace(model, contract_hash="another")
    change = written(dfx.change_project(design(other), ("p1",), "retrained", base), tmp_path / "change")
    with pytest.raises(AssertionError, match="build a new base"):
        tcl_calls(change, "scripts/change.tcl", "vivado", arguments=["../base"])
    assert (change / "calls.txt").read_text() == ""
    with pytest.raises(AssertionError, match=r"run its scripts/base\.tcl first"):
        tcl_calls(change, "scripts/change.tcl", "vivado", arguments=["../nothing"])


def test_base_and_change_run_through_the_command_line(model, tmp_path, monkeypatch):
    fake_vivado(tmp_path / "bin")
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin"))
    base, change = tmp_path / "the base", tmp_path / "change"
    done = run(dfx.base_project(design(model), FLOORPLAN), base)
    assert done.versions == {"vivado": "2023.2"}
    partial = run(dfx.change_project(design(model), ("p0",), "retrained", base), change)
    assert set(partial.outputs) == {"bitstreams/retrained_p0_partial.bit", "bitstreams/retrained.bit"}
    other = dfx.change_project(design(replace(model, contract_hash="another")), ("p0",), "other", base)
    with pytest.raises(ToolchainError, match="build a new base"):
        run(other, tmp_path / "other")


def test_ultrascale_needs_clearing_bitstreams(model, tmp_path):
    project = dfx.base_project(design(model, KU115), FLOORPLAN)
    assert "bitstreams/first_p1_partial_clear.bit" in project.outputs
    assert "clearing one" in project.files["README.txt"].decode()
    assert "clearing one" not in dfx.base_project(design(model), FLOORPLAN).files["README.txt"].decode()
    with pytest.raises(AssertionError, match="no clearing bitstream"):
        tcl_calls(written(project, tmp_path), "scripts/base.tcl", "vivado")
    clearing = (
        "proc write_bitstream args { leave [lindex $args end]\n"
        "if {[lindex $args 1] eq {-cell}} { leave [file rootname [lindex $args end]]_clear.bit } }"
    )
    tcl_calls(tmp_path, "scripts/base.tcl", "vivado", extra=clearing)
    assert [path for path in project.outputs if not (tmp_path / path).is_file()] == []


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (ARTIX, "7series"), ("xc7z020clg400-1", "7series"),
        (KU115, "ultrascale"), ("xcvu190-flgb2104-2-e", "ultrascale"),
        (VU13P, "ultrascale+"), ("xczu9eg-ffvb1156-2-e", "ultrascale+"),
        ("xcu250-figd2104-2L-e", "ultrascale+"),
        ("xck26-sfvc784-2LV-c", "ultrascale+"), ("xcau25p-ffvb676-2-e", "ultrascale+"),
    ],
)  # fmt: skip
def test_families(part, name):
    assert dfx.family(part) == name


def test_versal_and_other_vendors_are_refused():
    for part in ("xcvc1902-vsva2197-2MP-e-S", "10AX115S2F45I1SG", ""):
        with pytest.raises(ToolchainError, match="this flow writes bitstreams"):
            dfx.family(part)


def test_only_7_series_needs_the_reset_property(model):
    def floorplan(part):
        return dfx.base_project(design(model, part), FLOORPLAN).files["constraints/floorplan.xdc"].decode()

    assert floorplan(ARTIX).count("RESET_AFTER_RECONFIG") == 2
    assert "RESET_AFTER_RECONFIG" not in floorplan(VU13P)


def test_a_board_of_its_own_replaces_the_trial_top(model):
    board = Static(
        "my_board", {"my_board.sv": b"module my_board; endmodule\n", "pins.xdc": b""}, "core/lumiwatch"
    )
    project = dfx.base_project(design(model, static=board), FLOORPLAN)
    settings = project.files["scripts/settings.tcl"].decode()
    assert "top my_board" in settings
    assert "cell core/lumiwatch/p1" in settings
    assert "rtl/static/lumiwatch_trial.v" not in project.files
    assert b"create_clock" not in project.files["constraints/clock.xdc"]


def test_wrong_requests_say_what_to_do(model, tmp_path):
    with pytest.raises(ToolchainError, match=r"add \[partitions.p1\]"):
        dfx.base_project(design(model), Floorplan({"p0": FLOORPLAN.regions["p0"]}))
    with pytest.raises(ToolchainError, match="no ranges of sites"):
        dfx.base_project(design(model), Floorplan({"p0": Region(), "p1": Region()}))
    with pytest.raises(ToolchainError, match="name those to build"):
        dfx.change_project(design(model), ("p7",), "retrained", tmp_path)
    with pytest.raises(ToolchainError, match="cannot name a configuration"):
        dfx.change_project(design(model), ("p0",), "first", tmp_path)
    with pytest.raises(ToolchainError, match="generate all of them"):
        Design(model, {}, VU13P, 2.5)
    wide = {p.name: PartitionSources("m", (Port("x", 3 + p.index, "x"),), {}) for p in model.partitions()}
    with pytest.raises(ToolchainError, match="pin the edges"):
        Design(model, wide, VU13P, 2.5)
