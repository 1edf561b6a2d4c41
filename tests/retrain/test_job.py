import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hw.emulator import Emulator
from hw.network import FirmwareModel
from retrain.errors import JobError
from retrain.gain import GainSettings
from retrain.job import main
from retrain.messages import (
    FailedResult,
    RetrainJob,
    RetrainResult,
    TrainJob,
    TrainResult,
    read_job,
    read_result,
)
from retrain.train_settings import TrainSettings
from tests.retrain.conftest import CONTRACT_FILE

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory, firmware, reference, drifted, dead):
    folder = tmp_path_factory.mktemp("job")
    (folder / "firmware.npz").write_bytes(firmware.to_npz_bytes())
    for name, dataset in (("reference", reference), ("drifted", drifted), ("dead", dead)):
        dataset.save(folder / f"{name}.npz")
    return folder


def retrain_job(files, recent="drifted", **changes):
    return RetrainJob(
        firmware=files / "firmware.npz",
        contract=CONTRACT_FILE,
        reference=[files / "reference.npz"],
        recent=[files / f"{recent}.npz"],
        output=files / "candidate.npz",
        gain=GainSettings(replicas=20),
        **changes,
    )


def run_here(folder, job):
    """Run a job in this process: exit code and result."""
    (folder / "spec.json").write_text(job if isinstance(job, str) else job.model_dump_json())
    code = main([str(folder / "spec.json"), str(folder / "result.json")])
    return code, read_result(folder / "result.json")


def test_a_child_process_trains_and_reports_its_progress(recorded, tmp_path):
    # given a job in a file
    recorded.save(tmp_path / "recorded.npz")
    job = TrainJob(
        model="anomaly",
        contract=CONTRACT_FILE,
        datasets=[tmp_path / "recorded.npz"],
        output=tmp_path / "model.npz",
        settings=TrainSettings(epochs=2, training_events=2000, threshold_events=10_000),
    )
    (tmp_path / "spec.json").write_text(job.model_dump_json())
    # when a child process does it
    arguments = [sys.executable, "-m", "retrain.job", tmp_path / "spec.json", tmp_path / "result.json"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    # then every line of output is progress, and the result names the model
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(set(line) == {"progress", "message"} for line in lines)
    assert lines[-1]["progress"] == 1.0
    result = read_result(tmp_path / "result.json")
    assert isinstance(result, TrainResult)
    content = (tmp_path / "model.npz").read_bytes()
    assert hashlib.sha256(content).hexdigest() == result.model.sha256
    assert FirmwareModel.from_npz_bytes(content).weights_hash == result.record.weights_hash
    assert result.dataset_ids == [recorded.id]
    assert len(result.record.losses) == 2


def test_a_gain_ends_in_a_candidate(files, firmware, reference, drifted):
    code, result = run_here(files, retrain_job(files, parent_package="ab" * 32))
    assert code == 0
    assert isinstance(result, RetrainResult)
    assert (result.status, result.chosen) == ("candidate", "input_recalibration")
    candidate = FirmwareModel.from_npz_bytes(result.model.path.read_bytes())
    assert candidate.structure_hash == firmware.structure_hash
    assert candidate.weights_hash == result.model.weights_hash
    assert result.parent_weights_hash == firmware.weights_hash
    assert result.dataset_ids == [reference.id, drifted.id]
    rates = (
        Emulator(candidate).accepts(drifted.inputs).mean()
        / Emulator(firmware).accepts(reference.inputs).mean()
    )
    assert abs(rates - 1) < 0.05


def test_the_same_job_has_the_same_training_id_wherever_its_files_lie(files, tmp_path):
    one = run_here(files, retrain_job(files))[1]
    two = run_here(files, retrain_job(files).model_copy(update={"output": tmp_path / "other.npz"}))[1]
    other = run_here(files, retrain_job(files, seed=2))[1]
    assert one.training_id == two.training_id != other.training_id


def test_a_job_no_strategy_can_do_says_so_and_leaves_no_candidate(files, tmp_path):
    job = retrain_job(files, "dead", strategies=["input_recalibration", "batchnorm"])
    code, result = run_here(files, job.model_copy(update={"output": tmp_path / "none.npz"}))
    assert code == 0
    assert (result.status, result.model, result.training_id) == ("none_passed", None, None)
    assert [outcome.passed for outcome in result.strategies] == [False, False]
    assert not (tmp_path / "none.npz").exists()


def test_what_is_wrong_with_a_job_is_one_line_and_exit_code_2(files, capsys, tmp_path):
    job = retrain_job(files).model_copy(update={"recent": [tmp_path / "missing.npz"]})
    code, result = run_here(files, job)
    assert code == 2
    assert isinstance(result, FailedResult)
    assert (result.task, result.kind) == ("retrain", "DatasetError")
    assert capsys.readouterr().err == f"{result.error}\n"
    assert "missing.npz" in result.error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"task": "dance"}', "does not match any of the expected tags"),
        ('{"task": "train"}', r"train\.model: Field required"),
        ("[]", "mend the job"),
        ("{", "Invalid JSON"),
    ],
)
def test_a_description_that_is_none_is_refused(tmp_path, text, expected):
    (tmp_path / "spec.json").write_text(text)
    with pytest.raises(JobError, match=expected):
        read_job(tmp_path / "spec.json")


def test_missing_files_are_named(files, tmp_path, capsys):
    with pytest.raises(JobError, match="cannot read this job"):
        read_job(tmp_path / "spec.json")
    with pytest.raises(JobError, match="run the job again"):
        read_result(tmp_path / "result.json")
    code, result = run_here(files, retrain_job(files).model_copy(update={"firmware": tmp_path / "no.npz"}))
    assert (code, "cannot read this model" in result.error) == (2, True)
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
