import subprocess
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from hw.emulator import Emulator
from hw.errors import ToolchainAbsent, ToolchainError
from hw.toolchains.hls4ml import Hls4mlToolchain
from hw.vendor.hls import HlsDesign, hls_project, read_synthesis
from hw.vendor.hls4ml import hls4ml_design
from hw.vendor.project import run
from tests.support.hw import corner_inputs, random_inputs, random_model
from tests.support.vendor import fake_program, path_with, tcl_calls

EXPECTED = Path(__file__).parent / "expected" / "hls"
DESIGN = HlsDesign(
    "lumiwatch_top",
    {
        "lumiwatch_top.cpp": b"// top\n",
        "nnet_utils/nnet_common.h": b"// header\n",
        "network.cpp": b"// network\n",
    },
    {"testbench.cpp": b"// bench\n", "golden.h": b"// golden\n"},
    "xcvu13p-flga2577-2-e",
    2.5,
    cosimulation=True,
    events=10,
)


@pytest.fixture(scope="module")
def hls4ml(tmp_path_factory):
    """Give a small model and the files that the hls4ml toolchain writes for it."""
    toolchain = Hls4mlToolchain()
    model = random_model((4, 3, 2), seed=3, threshold=2.0)
    model = replace(model, layout=toolchain.layout(model))
    firmware = toolchain.generate(model, tmp_path_factory.mktemp("hls4ml") / "project").folder / "firmware"
    kept = [
        path for path in firmware.rglob("*") if path.suffix in (".h", ".cpp") and "ap_types" not in path.parts
    ]
    return model, {path.relative_to(firmware).as_posix(): path.read_bytes() for path in kept}


def test_both_generations_of_the_tool_get_the_recorded_files(tmp_path):
    project = hls_project(DESIGN)
    for name in ("run_hls.tcl", "hls_config.cfg", "README.txt"):
        assert project.files[name].decode() == (EXPECTED / name).read_text()
    assert hls_project(DESIGN, "classic").files == project.files


def test_the_script_sets_part_and_clock_before_it_synthesises(tmp_path):
    hls_project(DESIGN, "classic").write(tmp_path)
    calls = tcl_calls(tmp_path, "run_hls.tcl", "vitis_hls")
    names = [call.split()[0] for call in calls]
    assert names == [
        "open_project", "set_top", "add_files", "add_files", "add_files", "open_solution", "set_part",
        "create_clock", "set_clock_uncertainty", "csim_design", "csynth_design", "cosim_design",
        "export_design",
    ]  # fmt: skip
    here = str(tmp_path.resolve())
    assert calls[1] == "set_top lumiwatch_top"
    assert calls[2] == f"add_files {here}/firmware/lumiwatch_top.cpp -cflags {{-std=c++14 -I{here}/firmware}}"
    assert calls[4].startswith(f"add_files -tb {here}/testbench/testbench.cpp")
    assert calls[6:8] == ["set_part xcvu13p-flga2577-2-e", "create_clock -period 2.5 -name default"]
    assert calls[-1] == f"export_design -rtl verilog -format ip_catalog -output {here}/lumiwatch_top.zip"


def test_the_unified_tool_runs_simulation_synthesis_and_export(tmp_path, monkeypatch):
    project = hls_project(DESIGN)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ToolchainAbsent, match=r"vitis-run is not on PATH.*v\+\+ is not on PATH") as raised:
        run(project, tmp_path / "absent")
    assert raised.value.commands[1] == "v++ -c --mode hls --config hls_config.cfg --work_dir work"
    monkeypatch.undo()
    for name in ("v++", "vitis-run"):
        version = f'if [ "$1" = --version ]; then echo "****** {name} v2024.1"; exit 0; fi'
        body = f'echo {name} "$3" >>ran.txt; echo ip >lumiwatch_top.zip'
        fake_program(tmp_path / "bin", name, f"{version}\n{body}")
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin"))
    done = run(project, tmp_path / "project")
    assert done.outputs["lumiwatch_top.zip"].read_text() == "ip\n"
    ran = (tmp_path / "project" / "ran.txt").read_text().splitlines()
    assert ran == ["vitis-run --csim", "v++ hls", "vitis-run --cosim", "vitis-run --package"]


def test_the_c_simulation_is_bit_exact_and_finds_one_wrong_bit(hls4ml, tmp_path):
    model, sources = hls4ml
    inputs = np.concatenate([random_inputs(200, 4), corner_inputs(4)])
    scores = Emulator(model).scores(inputs)
    hls_project(hls4ml_design(model, sources, inputs)).write(tmp_path)
    # given golden scores of which only the last is wrong, in its last bit
    golden = tmp_path / "testbench" / "golden.h"
    before, last, after = golden.read_text().rpartition(f"{scores[-1]},")
    assert last
    golden.write_text(f"{before}{scores[-1] ^ 1},{after}")
    types = Path(find_spec("hls4ml").origin).parent / "templates" / "vivado" / "ap_types"
    files = ("testbench/testbench.cpp", "firmware/lumiwatch_top.cpp", "firmware/lumiwatch_network.cpp")
    (tmp_path / "all.cpp").write_text("".join(f'#include "{file}"\n' for file in files))
    command = ["g++", "-std=c++14", "-w", "-O0", "-I.", "-Ifirmware", f"-I{types}", "all.cpp", "-o", "bench"]
    subprocess.run(command, cwd=tmp_path, check=True)
    # when it runs, then it gets to the last event
    done = subprocess.run(["./bench"], cwd=tmp_path, capture_output=True, text=True, check=False)
    expected = f"event {len(inputs) - 1}: score {scores[-1]}, golden {scores[-1] ^ 1}, accept"
    assert done.stdout.startswith(expected)
    assert done.returncode == 1
    assert len(np.unique(scores)) > 50


def test_no_text_file_can_overwrite_the_memory(hls4ml):
    model, sources = hls4ml
    assert b"load_weights_from_txt" in sources["lumiwatch_network.cpp"]
    kept = hls4ml_design(model, sources, random_inputs(1, 4)).sources["lumiwatch_network.cpp"].decode()
    assert "load_weights_from_txt" not in kept
    assert "__SYNTHESIS__" not in kept
    assert "nnet::dense<input_t" in kept


def test_what_cannot_be_synthesised_is_refused(hls4ml):
    with pytest.raises(ToolchainError, match="no C\\+\\+ source"):
        replace(DESIGN, sources={"a.h": b""})
    with pytest.raises(ToolchainError, match="no name of a C\\+\\+ function"):
        replace(DESIGN, top="top; exit")
    with pytest.raises(ToolchainError, match="clock period"):
        replace(DESIGN, clock_ns=0)
    with pytest.raises(ToolchainError, match=r"lumiwatch_top\.cpp is missing"):
        hls4ml_design(hls4ml[0], {}, random_inputs(1, 4))


REPORT = """\
<profile>
<ReportVersion><Version>2023.2</Version></ReportVersion>
<PerformanceEstimates>
<SummaryOfTimingAnalysis><unit>ns</unit><EstimatedClockPeriod>2.000</EstimatedClockPeriod></SummaryOfTimingAnalysis>
<SummaryOfOverallLatency><Best-caseLatency>11</Best-caseLatency><Worst-caseLatency>12</Worst-caseLatency>
<Interval-min>1</Interval-min><Interval-max>1</Interval-max></SummaryOfOverallLatency>
</PerformanceEstimates>
<AreaEstimates>
<Resources><BRAM_18K>4</BRAM_18K><DSP>57</DSP><FF>1200</FF><LUT>3400</LUT><URAM>0</URAM></Resources>
<AvailableResources><BRAM_18K>5376</BRAM_18K><DSP>12288</DSP><FF>3456000</FF><LUT>1728000</LUT></AvailableResources>
</AreaEstimates>
</profile>
"""


@pytest.mark.parametrize("place", ["lumiwatch_top_project/solution1/syn/report", "work/hls/syn/report"])
def test_the_report_of_a_run_becomes_resources(tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    path = tmp_path / place / "lumiwatch_top_csynth.xml"
    path.write_text(REPORT)
    found = read_synthesis(tmp_path, "lumiwatch_top")
    assert (found.source, found.tool) == ("vendor", "Vitis HLS 2023.2")
    assert (found.luts, found.registers, found.dsps, found.brams) == (3400, 1200, 57, 4)
    assert (found.latency_cycles, found.interval_cycles, found.clock_mhz) == (12, 1, 500.0)
    path.write_text(REPORT.replace(">12<", ">undef<").replace("DSP>", "DSP48E>"))
    found = read_synthesis(tmp_path, "lumiwatch_top")
    assert (found.latency_cycles, found.dsps) == (None, 57)


def test_without_a_report_there_are_no_resources(tmp_path):
    with pytest.raises(ToolchainError, match="run the project where Vitis HLS is"):
        read_synthesis(tmp_path, "lumiwatch_top")
    (tmp_path / "work/hls/syn/report").mkdir(parents=True)
    (tmp_path / "work/hls/syn/report/lumiwatch_top_csynth.xml").write_text("<profile></profile>")
    with pytest.raises(ToolchainError, match="no report of C synthesis"):
        read_synthesis(tmp_path, "lumiwatch_top")
