from dataclasses import replace

import numpy as np
import pytest

from hw.errors import ToolchainError
from hw.toolchain import find_toolchain
from hw.vendor.dfx import base_project
from hw.vendor.floorplan import Floorplan, Region
from hw.vendor.rtl_files import design_of, ports_of, shell_design, wide_design
from tests.support.hw import random_model
from tests.support.vendor import lint_verilog, partition_rtl, rtl, two_partitions

PART = "xcvu13p-flga2577-2-e"


def generated(toolchain, model, folder):
    toolchain.generate(model, folder)
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module", params=["lumiwatch-rtl", "da4ml"])
def firmware(request, tmp_path_factory):
    """Give a model in two partitions or more, another with a new last layer, and the sources of both."""
    toolchain = find_toolchain(request.param)
    model = random_model((6, 5, 4, 3), seed=1)
    model = replace(model, layout=toolchain.layout(model))
    last = model.layers[-1]
    retrained = replace(last, weight_raw=np.flip(last.weight_raw, 0))
    changed = replace(model, layers=(*model.layers[:-1], retrained))
    folder = tmp_path_factory.mktemp("firmware")
    before = generated(toolchain, model, folder / "a")
    return model, before, changed, generated(toolchain, changed, folder / "b")


def test_the_rtl_of_a_toolchain_becomes_a_design_that_elaborates(firmware, tmp_path):
    model, sources, _, _ = firmware
    design = design_of(model, sources, PART, 2.5)
    assert len(design.partitions) >= 2
    files = dict(design.static_files())
    for partition in design.partitions.values():
        files |= partition.files
    lint_verilog(tmp_path, files, "lumiwatch_trial")


def test_a_change_of_the_last_layer_leaves_the_rest_as_it_is(firmware):
    model, sources, changed, other = firmware
    first, second = design_of(model, sources, PART, 2.5), design_of(changed, other, PART, 2.5)
    assert first.static_files() == second.static_files()
    last = model.partitions()[-1].name
    for name, partition in first.partitions.items():
        same = dict(partition.files) == dict(second.partitions[name].files)
        # weights are constants for da4ml and memory for our own engine
        assert same == (name != last or bool(model.partitions()[-1].words > 3))
    floorplan = Floorplan({name: Region(("CLOCKREGION_X0Y0",)) for name in first.partitions})
    one, two = base_project(first, floorplan).files, base_project(second, floorplan).files
    assert [path for path in one if one[path] != two[path] and not path.startswith(f"rtl/{last}/")] == []


def test_each_partition_gets_the_files_of_its_modules_and_no_others():
    model = two_partitions()
    helper, table = b"module helper (input wire x);\nendmodule\n", b"00\n"
    p0 = rtl(model)["p0"]["lumiwatch_p0.v"] + b'// uses\nhelper h (1); initial $readmemh("a.mem", t);\n'
    sources = {
        "x/lumiwatch_p0.v": p0, "x/lumiwatch_p1.v": rtl(model)["p1"]["lumiwatch_p1.v"],
        "lib/helper.v": helper, "lib/a.mem": table, "lib/b.mem": table, "csim.cpp": b"",
    }  # fmt: skip
    design = design_of(model, sources, PART, 2.5)
    assert list(design.partitions["p0"].files) == ["lib/a.mem", "lib/helper.v", "x/lumiwatch_p0.v"]
    assert list(design.partitions["p1"].files) == ["x/lumiwatch_p1.v"]
    with pytest.raises(ToolchainError, match="no file holds the module lumiwatch_p1"):
        design_of(model, {"x/lumiwatch_p0.v": p0}, PART, 2.5)


def test_the_edges_must_be_those_of_the_model():
    model = two_partitions()
    wrong = rtl(model) | {"p1": partition_rtl(model.partitions()[1], 7)}
    with pytest.raises(ToolchainError, match="generate it again"):
        wide_design(model, wrong, PART, 2.5)
    with pytest.raises(ToolchainError, match="no file holds the module lumiwatch_p0"):
        wide_design(model, {}, PART, 2.5)
    with pytest.raises(ToolchainError, match="no file holds the module lumiwatch_shell"):
        shell_design(model, rtl(model), {}, PART, 2.5)
    with pytest.raises(ToolchainError, match="no port with a range in numbers"):
        ports_of(b"module m (input wire [W-1:0] x);", "m")
    with pytest.raises(ToolchainError, match="without parameters"):
        ports_of(b"module m #(parameter W = 1) (input wire x);", "m")
