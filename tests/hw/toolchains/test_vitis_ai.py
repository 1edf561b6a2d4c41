import importlib.util
import json
import sys
import types
import warnings
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from hw.errors import ToolchainAbsent, ToolchainError
from hw.fixed_point import to_float
from hw.stages import ScoreStage
from hw.toolchain import find_toolchain
from hw.toolchains.vitis_ai import VitisAiToolchain
from hw.vendor.dpu import DpuTarget, docker_command, dpu_project
from tests.support.hw import random_inputs, random_model
from tests.support.vendor import fake_program, path_with

COMPILER = """\
if [ "$1" = --help ]; then echo "usage: vai_c_xir [-x XMODEL] [-a ARCH]"; exit 0; fi
test -f "$2" || exit 4
echo "$@" >>commands.txt; mkdir -p "$6"; cp "$2" "$6/$8.xmodel"
"""
# what the scripts leave; the real ones need the container
PYTHON = """\
echo python "$@" >>commands.txt
case "$2" in
  test) echo '{}' >quantise.json;;
  deploy) mkdir -p quantize_result; echo x >quantize_result/Network_int.xmodel;;
esac
"""


@pytest.fixture
def model():
    toolchain = VitisAiToolchain()
    model = random_model((6, 5, 4, 3), name="jet tagger", seed=8)
    return replace(model, layout=toolchain.layout(model))


@pytest.fixture
def script(model, tmp_path, monkeypatch):
    """Give a function that imports a script of the written project, from its folder."""
    VitisAiToolchain().generate(model, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")

    def load(name):
        spec = importlib.util.spec_from_file_location(name, tmp_path / "project" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def float_model(model, inputs):
    """Compute the model with real numbers, written out."""
    stage = model.input_stage
    values = inputs - to_float(stage.offset_raw, stage.offset_format)
    values = values * to_float(stage.scale_raw, stage.scale_format)
    for layer in model.layers:
        weight = to_float(layer.weight_raw, layer.weight_format)
        values = values @ weight + to_float(layer.bias_raw, layer.bias_format)
        values = np.maximum(values, 0) if layer.activation == "relu" else values
    return values


@pytest.mark.parametrize("kind", ["sum_of_squares", "logit"])
def test_the_exported_network_computes_the_float_model(kind, model, script, tmp_path):
    if kind == "logit":
        score = ScoreStage("logit", model.score_stage.result_format, 100, 2)
        files = dpu_project(replace(model, score_stage=score), random_inputs(4, 6), DpuTarget()).files
        (tmp_path / "project" / "weights.npz").write_bytes(files["weights.npz"])
    exported = script("model")
    inputs = random_inputs(400, 6)
    outputs = exported.load()(torch.from_numpy(exported.standardise(inputs))).detach().numpy()
    expected = float_model(model, inputs)
    assert np.abs(expected).max() > 3
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    wanted = (expected**2).sum(axis=1) if kind == "sum_of_squares" else expected[:, 2]
    np.testing.assert_allclose(exported.score(outputs), wanted, rtol=1e-3, atol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the tracer, which vai_q_pytorch needs
        torch.jit.trace(exported.load(), torch.zeros(1, 6))


class Quantiser:
    """A fake of vai_q_pytorch's quantiser: records what is asked, and rounds outputs to quarters."""

    calls: ClassVar[list] = []

    def __init__(self, mode, module, example) -> None:
        self.calls.append((mode, type(module).__name__, tuple(example[0].shape)))
        self._module = module

    def quant_model(self, values):
        self.calls.append(("forward", len(values)))
        return torch.round(self._module(values) * 4) / 4

    def export_quant_config(self):
        self.calls.append("config")

    def export_xmodel(self, *, deploy_check):
        self.calls.append(("xmodel", deploy_check))


def test_the_quantisation_script_calibrates_tests_and_deploys(script, tmp_path, monkeypatch):
    package = types.ModuleType("pytorch_nndct")
    package.apis = types.ModuleType("pytorch_nndct.apis")
    package.apis.torch_quantizer = Quantiser
    monkeypatch.setitem(sys.modules, "pytorch_nndct", package)
    monkeypatch.setitem(sys.modules, "pytorch_nndct.apis", package.apis)
    monkeypatch.setattr(Quantiser, "calls", [])
    script("model")
    quantise = script("quantise")
    for mode in ("calib", "test", "deploy"):
        quantise.main(mode, "calibration.npz")
    forwards = [("forward", 256), ("forward", 256)]
    assert Quantiser.calls == [
        ("calib", "Network", (256, 6)), *forwards, "config",
        ("test", "Network", (256, 6)), *forwards,
        ("test", "Network", (1, 6)), ("forward", 1), ("xmodel", False),
    ]  # fmt: skip
    report = json.loads((tmp_path / "project" / "quantise.json").read_text())
    assert report["events"] == 512
    assert report["largest_difference"] > 0
    assert 0 < report["accepted_real"] < 512


def test_the_project_is_the_same_every_time(model, tmp_path):
    VitisAiToolchain().generate(model, tmp_path / "a")
    VitisAiToolchain().generate(model, tmp_path / "b")
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in "ab")
    assert first == second
    for name in ("model.py", "quantise.py"):
        compile(first[name], name, "exec")
    arch = "/opt/vitis_ai/compiler/arch/DPUCZDX8G/KV260/arch.json"
    line = f"vai_c_xir -x quantize_result/Network_int.xmodel -a {arch} -o compiled -n jet_tagger"
    assert line in first["run.sh"].decode().splitlines()


def test_without_vitis_ai_it_names_what_is_absent_and_the_commands(model, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    toolchain = find_toolchain("vitis_ai")
    status = toolchain.probe()
    assert not status.available
    assert "vai_c_xir is not on PATH" in status.reason
    assert "docker is not on PATH" in status.reason
    project = toolchain.generate(model, tmp_path / "project")
    with pytest.raises(ToolchainAbsent, match="run `docker run --rm") as raised:
        toolchain.build(project)
    assert raised.value.commands[0] == docker_command(tmp_path / "project", DpuTarget())
    assert raised.value.commands[-1].startswith("vai_c_xir -x")
    assert not (tmp_path / "project" / "compiled").exists()
    with pytest.raises(ToolchainError, match="xdputil benchmark"):
        toolchain.estimate(project)
    with pytest.raises(ToolchainError, match="made no image"):
        toolchain.emulate({}, model)


def test_a_python_package_of_the_name_is_not_vitis_ai(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "xir", types.ModuleType("xir"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not VitisAiToolchain().probe().available


def test_inside_the_container_it_compiles_and_still_gives_no_image(model, tmp_path, monkeypatch):
    fake_program(tmp_path / "bin", "vai_c_xir", COMPILER)
    fake_program(tmp_path / "bin", "python", PYTHON)
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin"))
    toolchain = VitisAiToolchain()
    assert toolchain.probe().available
    project = toolchain.generate(model, tmp_path / "project")
    done = toolchain.compile(project)
    assert done.outputs["compiled/jet_tagger.xmodel"].read_text() == "x\n"
    steps = (tmp_path / "project" / "commands.txt").read_text().splitlines()
    assert [line.split()[2] for line in steps[:3]] == ["calib", "test", "deploy"]
    with pytest.raises(ToolchainError, match="no bit-accurate image") as raised:
        toolchain.build(project)
    assert not isinstance(raised.value, ToolchainAbsent)


@pytest.mark.parametrize("pulled", [True, False])
def test_docker_counts_when_it_has_the_container(model, tmp_path, monkeypatch, pulled):
    body = f"""\
case "$1" in
  --version) echo "Docker version 24.0.5, build x";;
  image) {"true" if pulled else "false"};;
  run) mkdir -p "{tmp_path}/project/compiled"; cd "{tmp_path}/project"
       echo "$@" >ran.txt; echo x >compiled/jet_tagger.xmodel; echo x >quantise.json;;
esac
"""
    fake_program(tmp_path / "bin", "docker", body)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    toolchain = VitisAiToolchain()
    project = toolchain.generate(model, tmp_path / "project")
    if not pulled:
        with pytest.raises(ToolchainAbsent, match="docker pull xilinx/vitis-ai-pytorch-cpu:latest"):
            toolchain.compile(project)
        return
    toolchain.compile(project)
    ran = (tmp_path / "project" / "ran.txt").read_text()
    assert ran.startswith(f"run --rm --volume {tmp_path / 'project'}:/workspace --workdir /workspace")


def test_wrong_targets_and_events_are_refused(model):
    with pytest.raises(ToolchainError, match="is no DPU"):
        DpuTarget("../etc")
    with pytest.raises(ToolchainError, match="no name of a container"):
        DpuTarget(image="--privileged")
    with pytest.raises(ToolchainError, match="give some hundreds"):
        VitisAiToolchain(calibration=random_inputs(10, 5)).generate(model, Path("never"))
