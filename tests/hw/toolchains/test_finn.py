import io
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hw.emulator import Emulator
from hw.errors import ToolchainAbsent, ToolchainError
from hw.fixed_point import FixedFormat
from hw.formats import DEFAULT_FORMATS, NetworkFormats
from hw.toolchain import find_toolchain
from hw.toolchains.finn import ENVIRONMENT, FinnToolchain
from hw.vendor import finn
from hw.vendor.qonnx import network_bytes
from tests.support.hw import corner_inputs, random_inputs, random_model
from tests.support.vendor import fake_program

CHECK = Path(__file__).parents[2] / "interop" / "finn_check.py"
NARROW = NetworkFormats(
    offset=FixedFormat.parse("fixed<16,16,RND,SAT>"),
    scale=FixedFormat.parse("fixed<24,2,RND,SAT>"),
    standardised=FixedFormat.parse("fixed<8,4,RND,SAT>"),
    weight=FixedFormat.parse("fixed<6,2,RND,SAT>"),
    bias=FixedFormat.parse("fixed<9,3,RND,SAT>"),
    hidden=FixedFormat.parse("fixed<6,4,RND_CONV,SAT>"),
    latent=FixedFormat.parse("fixed<8,5,RND,SAT>"),
    score=FixedFormat.parse("ufixed<24,14,RND,SAT>"),
)


def narrow_model(sizes=(16, 12, 8, 5), **formats):
    chosen = replace(NARROW, **{name: FixedFormat.parse(text) for name, text in formats.items()})
    return random_model(sizes, formats=chosen, seed=4)


def laid_out(model, toolchain):
    return replace(model, layout=toolchain.layout(model))


def events(n_inputs):
    return np.concatenate([random_inputs(500, n_inputs), corner_inputs(n_inputs)])


def evaluate(content, values):
    """Do what the exported graph does: count for each result how many thresholds a sum reaches."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        network = json.loads(arrays["network"].tobytes())
        for layer in network["layers"]:
            total = values.astype(np.float32) @ arrays[f"{layer['name']}.weight"].astype(np.float32)
            steps = arrays[f"{layer['name']}.thresholds"].astype(np.float32)
            values = layer["lowest"] + np.count_nonzero(total[..., None] >= steps, axis=-1)
    return values


@pytest.mark.parametrize(
    "formats",
    [
        {},
        {"hidden": "ufixed<5,3,TRN,SAT>", "latent": "fixed<8,3,RND_CONV,SAT>"},
        {
            "hidden": "fixed<8,6,RND,SAT>",
            "latent": "ufixed<7,4,RND,SAT>",
            "standardised": "ufixed<6,3,RND,SAT>",
        },
        {"hidden": "fixed<4,6,RND,SAT>", "latent": "fixed<8,4,TRN,SAT>"},  # values in steps of 4
        {"bias": "fixed<8,-2,RND,SAT>", "weight": "fixed<3,3,RND,SAT>"},  # bias much finer than the products
        {"bias": "fixed<6,7,RND,SAT>", "weight": "fixed<10,1,RND,SAT>", "hidden": "fixed<2,2,RND,SAT>"},
    ],
)
def test_thresholds_say_the_same_as_rounding_and_saturation(formats):
    model = narrow_model(**formats)
    inputs = events(16)
    emulator = Emulator(model)
    expected = emulator.outputs(inputs)
    assert (evaluate(network_bytes(model), emulator.standardised(inputs)) == expected).all()
    assert len(np.unique(expected)) > 10


def test_the_project_is_the_same_every_time_and_holds_no_path_of_this_machine(tmp_path):
    toolchain = FinnToolchain(tmp_path / "nowhere")
    model = laid_out(narrow_model(), toolchain)
    toolchain.generate(model, tmp_path / "project")
    files = {path.name: path.read_bytes() for path in (tmp_path / "project").iterdir()}
    assert files == dict(finn.finn_project(model, finn.FinnTarget()).files)
    assert not any(str(tmp_path).encode() in content for content in files.values())
    for name in ("finn_export.py", "finn_build.py"):
        compile(files[name], name, "exec")
    steps = json.loads(files["build.json"])["steps"]
    assert steps[-1] == "step_hw_codegen"
    assert not {"step_create_stitched_ip", "step_out_of_context_synthesis"} & set(steps)
    assert "step_out_of_context_synthesis" in json.loads(files["vivado.json"])["steps"]


@pytest.mark.parametrize(
    ("formats", "message"),
    [
        (
            {"standardised": "fixed<16,6,RND,SAT>"},
            r"input stage's result format fixed<16,6,RND,SAT> has 16 bits",
        ),
        ({"hidden": "fixed<9,4,RND,SAT>"}, r"layer dense1: its result format fixed<9,4,RND,SAT> has 9 bits"),
        ({"latent": "fixed<8,4,RND,WRAP>"}, r"layer dense3: its result format fixed<8,4,RND,WRAP> wraps"),
        ({"weight": "fixed<16,2,RND,SAT>"}, r"layer dense1: its sums .* need 28 bits"),
        ({"hidden": "fixed<1,1,RND,SAT>"}, r"after relu has one value"),
    ],
)
def test_a_model_that_finn_cannot_hold_is_refused_by_stage_and_format(formats, message):
    with pytest.raises(ToolchainError, match=message):
        FinnToolchain().layout(narrow_model(**formats))


def test_the_default_formats_are_too_wide_for_finn():
    with pytest.raises(
        ToolchainError, match=f"the input stage's result format {DEFAULT_FORMATS.standardised}"
    ):
        FinnToolchain().layout(random_model((6, 4, 2)))


def test_without_the_environment_it_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "nowhere"))
    toolchain = find_toolchain("finn")
    status = toolchain.probe()
    assert not status.available
    assert "deploy/finn-environment.sh" in status.reason
    model = laid_out(narrow_model(), toolchain)
    project = toolchain.generate(model, tmp_path / "project")
    with pytest.raises(ToolchainAbsent, match=r"run deploy/finn-environment\.sh") as raised:
        toolchain.estimate(project)
    python = tmp_path / "nowhere" / "bin" / "python"
    assert raised.value.commands[1:] == (f"{python} finn_export.py", f"{python} finn_build.py build.json")
    with pytest.raises(ToolchainAbsent, match="needs Vivado and Vitis HLS"):
        toolchain.build(project)
    with pytest.raises(ToolchainError, match="run estimate first"):
        toolchain.code(project)
    with pytest.raises(ToolchainError, match="made no image"):
        toolchain.emulate({}, model)
    assert not (tmp_path / "project" / "build").exists()


def test_in_its_environment_it_exports_and_builds(tmp_path):
    environment = tmp_path / "my finn"
    body = """\
case "$1" in -I) echo 1.6.1; exit;; esac
echo "$@" >>commands.txt
case "$1" in finn_export.py) test -f network.npz && echo x >model.onnx; exit;; esac
mkdir -p build/report
echo '{"critical_path_cycles": 5, "max_cycles": 2}' >build/report/estimate_network_performance.json
echo '{"total": {"LUT": 9.0, "DSP": 1.0, "BRAM_18K": 0}}' >build/report/estimate_layer_resources.json
"""
    fake_program(environment / "bin", "python", body)
    toolchain = FinnToolchain(environment)
    assert toolchain.probe().version == "1.6.1"
    assert not toolchain.probe().available  # it gives no image
    project = toolchain.generate(laid_out(narrow_model(), toolchain), tmp_path / "project")
    resources = toolchain.estimate(project)
    assert (resources.luts, resources.latency_cycles, resources.interval_cycles) == (9, 5, 2)
    commands = (tmp_path / "project" / "commands.txt").read_text().splitlines()
    assert commands == ["finn_export.py", "finn_build.py build.json"]


def test_reports_become_resources(tmp_path):
    reports = tmp_path / finn.REPORTS
    reports.mkdir(parents=True)
    performance = {"critical_path_cycles": 328, "max_cycles": 192, "estimated_latency_ns": 1640.0}
    (reports / "estimate_network_performance.json").write_text(json.dumps(performance))
    total = {"MVAU_hls_0": {}, "total": {"BRAM_18K": 3.0, "LUT": 732.0, "URAM": 0.0, "DSP": 1.0}}
    (reports / "estimate_layer_resources.json").write_text(json.dumps(total))
    found = finn.read_estimate(tmp_path, "1.6.1", finn.FinnTarget())
    assert (found.source, found.tool) == ("estimate", "finn-plus 1.6.1")
    assert (found.luts, found.dsps, found.brams, found.clock_mhz) == (732, 1, 3, 200.0)
    assert (found.latency_cycles, found.interval_cycles) == (328, 192)
    (reports / "estimate_layer_resources.json").write_text("{}")
    with pytest.raises(ToolchainError, match=r"use finn-plus 1\.6"):
        finn.read_estimate(tmp_path, "1.6.1", finn.FinnTarget())
    (reports / "estimate_layer_resources.json").unlink()
    with pytest.raises(ToolchainError, match="cannot be read"):
        finn.read_estimate(tmp_path, "1.6.1", finn.FinnTarget())


def test_kept_code_names_nodes_and_no_path_of_this_machine(tmp_path):
    node = tmp_path / "build" / "code" / "code_gen_ipgen_MVAU_hls_0_rtwgq9pf"
    node.mkdir(parents=True)
    text = f'set here "{node}"\nset deps "/home/me/finn/lib/python3.11/site-packages/finn/finn_deps/hlslib"\n'
    (node / "hls_syn_MVAU_hls_0.tcl").write_text(text)
    (node / "input_1.npy").write_bytes(b"not code")
    assert finn.generated_code(tmp_path) == {
        "MVAU_hls_0/hls_syn_MVAU_hls_0.tcl": b'set here "NODE"\nset deps "FINN/finn_deps/hlslib"\n'
    }


@pytest.mark.slow
@pytest.mark.skipif(
    not (Path(os.environ.get(ENVIRONMENT, "")) / "bin" / "python").is_file(),
    reason=f"{ENVIRONMENT} names no environment of FINN: deploy/finn-environment.sh makes one",
)
def test_finn_itself_computes_every_bit_of_the_model(tmp_path):
    toolchain = FinnToolchain()
    assert toolchain.probe().version == "1.6.1"
    model = laid_out(narrow_model(), toolchain)
    project = toolchain.generate(model, tmp_path / "project")
    resources = toolchain.estimate(project)
    assert resources.luts > 100
    assert resources.interval_cycles == 16 * 12  # one multiplier suffices for a million events per second
    assert {name.split("/")[0] for name in toolchain.code(project)} >= {
        "MVAU_hls_0",
        "MVAU_hls_1",
        "MVAU_hls_2",
    }
    inputs = np.concatenate([random_inputs(150, 16), corner_inputs(16)])
    emulator = Emulator(model)
    values, results = tmp_path / "values.npy", tmp_path / "results.npz"
    np.save(values, emulator.standardised(inputs))
    python = Path(os.environ[ENVIRONMENT]) / "bin" / "python"
    subprocess.run(
        [python, CHECK, project.folder, values, results],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=240,
    )
    with np.load(results) as graphs:
        assert sorted(graphs) == ["exported", "step_convert_to_hw", "step_streamline"]
        for name in graphs:
            assert (graphs[name] == emulator.outputs(inputs)).all(), name
