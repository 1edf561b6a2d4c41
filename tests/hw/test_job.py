import json
import subprocess
import sys

import numpy as np
import pytest

from hw.errors import JobError
from hw.job import BenchSpec, BuildSpec, bench_package, build, main
from hw.package import open_package
from tests.support.hw import random_inputs, random_model


def run(folder, spec):
    """Run a job as the daemon does; give exit code, progress lines, result and messages."""
    (folder / "spec.json").write_text(json.dumps(spec, default=str))
    done = subprocess.run(
        [sys.executable, "-m", "hw.job", folder / "spec.json", folder / "result.json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    progress = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, progress, json.loads((folder / "result.json").read_text()), done.stderr


def test_new_weights_are_packed_without_a_compiler(packages, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    model = random_model((57, 32, 16, 8), seed=12)
    (tmp_path / "model.npz").write_bytes(model.to_npz_bytes())
    np.save(tmp_path / "inputs.npy", random_inputs(300, 57))
    code, progress, result, _ = run(
        tmp_path,
        {
            "task": "build",
            "model": tmp_path / "model.npz",
            "out": tmp_path / "new.lwpkg",
            "signing_key": packages.key_path,
            "version": "3",
            "toolchain": "hls4ml",
            "trusted_keys": packages.trusted_path,
            "reuse": packages.first.path,
            "inputs": tmp_path / "inputs.npy",
            "lineage": {"datasets": ["d"], "parent_package": packages.first.id, "training": "t"},
            "created": "2026-05-01T12:00:00Z",
        },
    )
    assert code == 0
    fractions = [line["progress"] for line in progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert all(line["message"] for line in progress)
    assert result["reused_image"]
    package = open_package(tmp_path / "new.lwpkg", packages.trusted)
    assert package.id == result["package_id"]
    assert package.model.weights_hash == model.weights_hash
    assert package.images == packages.first.images
    assert package.manifest.bench.passed
    assert package.manifest.lineage.parent_package == packages.first.id
    assert (package.golden_inputs[0] == random_inputs(300, 57)[0]).all()


def test_a_package_of_another_structure_is_not_reused(packages, tmp_path):
    model = random_model((5, 3))
    (tmp_path / "model.npz").write_bytes(model.to_npz_bytes())
    result = build(
        BuildSpec(
            model=tmp_path / "model.npz",
            out=tmp_path / "new.lwpkg",
            signing_key=packages.key_path,
            version="1",
            trusted_keys=packages.trusted_path,
            reuse=packages.first.path,
            events=500,
        )
    )
    assert not result.reused_image
    assert result.structure_hash != packages.first.manifest.structure_hash
    assert result.bench.passed


def test_a_bench_includes_the_board(packages, running):
    spec = BenchSpec(
        package=packages.first.path, trusted_keys=packages.trusted_path, board=running.address, events=3000
    )
    result = bench_package(spec)
    assert result.passed
    assert [stage.name for stage in result.bench.stages] == [
        "emulator",
        "hls4ml C-sim",
        f"board {running.address}",
    ]
    assert all(stage.events >= 3000 for stage in result.bench.stages)


def test_a_board_with_another_package_is_an_error_in_one_line(packages, running, tmp_path):
    code, _, result, messages = run(
        tmp_path,
        {
            "task": "bench",
            "package": packages.second.path,
            "trusted_keys": packages.trusted_path,
            "board": running.address,
            "events": 100,
        },
    )
    assert code == 2
    assert result["kind"] == "HardwareError"
    assert "apply the package first" in result["error"]
    assert messages.strip() == result["error"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no json", "Invalid JSON"),
        ('{"task": "paint"}', "task"),
        ('{"task": "bench", "package": "p", "trusted_keys": "k", "colour": 1}', "colour"),
        ('{"task": "bench", "package": "/nothing.lwpkg", "trusted_keys": "/nothing.pub"}', "nothing.pub"),
        (
            '{"task": "build", "model": "/nothing.npz", "out": "o", "signing_key": "k", "version": "1"}',
            "nothing.npz",
        ),
    ],
)
def test_a_wrong_job_is_refused_in_one_line(spec, message, tmp_path, capsys):
    (tmp_path / "spec.json").write_text(spec)
    assert main([str(tmp_path / "spec.json"), str(tmp_path / "result.json")]) == 2
    error = json.loads((tmp_path / "result.json").read_text())["error"]
    assert message in error
    assert "\n" not in error
    assert error in capsys.readouterr().err


def test_inputs_of_another_contract_are_refused(packages, tmp_path):
    np.save(tmp_path / "inputs.npy", random_inputs(10, 56))
    spec = BenchSpec(
        package=packages.first.path, trusted_keys=packages.trusted_path, inputs=tmp_path / "inputs.npy"
    )
    with pytest.raises(JobError, match="convert events with the model's contract"):
        bench_package(spec)
