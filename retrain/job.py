"""The retraining job: a child process that trains or retrains. One JSON file describes it, another answers.

`python -m retrain.job SPEC.json RESULT.json` prints one JSON line per step, such as
`{"progress": 0.3, "message": "epoch 9/30"}`, and exits with 0 when the job was done, whatever the result
says, or with 2 when it could not be. It refuses to know incidents, approvals and boards.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from hw.archive import write_atomically
from hw.errors import HardwareError
from hw.models import network_of, read_model
from hw.network import FirmwareModel
from retrain.choice import Choice, choose
from retrain.errors import JobError, RetrainError
from retrain.messages import (
    FailedResult,
    ModelFile,
    RetrainJob,
    RetrainResult,
    TrainJob,
    TrainResult,
    read_job,
)  # fmt: skip
from retrain.selection import select
from retrain.strategies import strategies_named
from retrain.train import content_id, train
from retrain.train_settings import Progress
from streams.contracts.contract import load_contract
from streams.errors import StreamsError
from streams.events.dataset import Dataset, concatenate

DONE, WRONG = 0, 2


def run(job: TrainJob | RetrainJob, progress: Progress) -> TrainResult | RetrainResult:
    """Do a job.

    Raises
    ------
    RetrainError, StreamsError, HardwareError
        When files are missing or broken, contracts differ, or there are too few events.
    """
    return _train(job, progress) if isinstance(job, TrainJob) else _retrain(job, progress)


def _train(job: TrainJob, progress: Progress) -> TrainResult:
    started = time.perf_counter()
    contract = load_contract(job.contract)
    dataset = _dataset(job.datasets)
    trained = train(dataset, contract, name=job.model, settings=job.settings, progress=progress)
    return TrainResult(
        model_name=job.model,
        contract_hash=contract.hash,
        training_id=trained.record.id,
        dataset_ids=[dataset.id],
        model=_write_model(trained.firmware, job.output),
        record=trained.record,
        seconds=time.perf_counter() - started,
    )


def _retrain(job: RetrainJob, progress: Progress) -> RetrainResult:
    started = time.perf_counter()
    strategies = strategies_named(job.strategies)
    contract = load_contract(job.contract)
    firmware = _read_model(job.firmware)
    progress(0.0, "reading events")
    selection = select(_dataset(job.reference), _dataset(job.recent), contract, job.selection)
    choice = choose(
        firmware,
        selection,
        strategies,
        criteria=job.criteria,
        gain=job.gain,
        seed=job.seed,
        threads=job.threads,
        try_all=job.try_all,
        progress=progress,
    )
    dataset_ids = list(selection.dataset_ids)
    written = None if choice.model is None else _write_model(choice.model, job.output)
    return RetrainResult(
        status=_status(choice),
        reason=choice.reason,
        chosen=choice.chosen,
        model_name=firmware.name,
        contract_hash=contract.hash,
        training_id=None
        if choice.model is None
        else _retraining_id(job, firmware, choice.model, dataset_ids),
        model=written,
        parent_weights_hash=firmware.weights_hash,
        parent_package=job.parent_package,
        dataset_ids=dataset_ids,
        baseline=choice.baseline,
        strategies=list(choice.outcomes),
        seconds=time.perf_counter() - started,
    )


def _status(choice: Choice) -> Literal["candidate", "none_passed", "nothing_needed"]:
    if choice.model is not None:
        return "candidate"
    return "none_passed" if choice.outcomes else "nothing_needed"


def _retraining_id(
    job: RetrainJob, firmware: FirmwareModel, candidate: FirmwareModel, dataset_ids: list[str]
) -> str:
    described = job.model_dump(
        mode="json", exclude={"firmware", "contract", "reference", "recent", "output", "parent_package"}
    )
    return content_id(
        {
            "job": described,
            "parent": firmware.weights_hash,
            "candidate": candidate.weights_hash,
            "structure": candidate.structure_hash,
            "datasets": dataset_ids,
        }
    )


def _dataset(paths: Sequence[Path]) -> Dataset:
    datasets = [Dataset.load(path) for path in paths]
    return datasets[0] if len(datasets) == 1 else concatenate(datasets, made_by="retraining job")


def _read_model(path: Path) -> FirmwareModel:
    try:
        return network_of(read_model(path.read_bytes()))
    except OSError as error:
        raise JobError(f"{path}: cannot read this model ({error.strerror}): check the path") from error


def _write_model(model: FirmwareModel, path: Path) -> ModelFile:
    content = model.to_npz_bytes()
    _write(path, content)
    return ModelFile(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        structure_hash=model.structure_hash,
        weights_hash=model.weights_hash,
    )


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise JobError(
            f"{path}: cannot write ({error.strerror}): check that its folder exists and has room"
        ) from error


def _print_progress(fraction: float, message: str) -> None:
    sys.stdout.write(
        json.dumps({"progress": round(min(max(fraction, 0.0), 1.0), 4), "message": message}) + "\n"
    )
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """Run the job of the command line and return its exit code."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m retrain.job SPEC.json RESULT.json\n")
        return WRONG
    spec_path, result_path = (Path(argument) for argument in arguments)
    job: TrainJob | RetrainJob | None = None
    try:
        job = read_job(spec_path)
        result = run(job, _print_progress)
        _write(result_path, result.model_dump_json(indent=1).encode())
    except (RetrainError, StreamsError, HardwareError) as error:
        sys.stderr.write(f"{error}\n")
        _leave_failure(result_path, job, error)
        return WRONG
    return DONE


def _leave_failure(path: Path, job: TrainJob | RetrainJob | None, cause: Exception) -> None:
    """Write why the job failed where its result is looked for, if that is possible at all."""
    failure = FailedResult(task=job.task if job else None, error=str(cause), kind=type(cause).__name__)
    try:
        _write(path, failure.model_dump_json(indent=1).encode())
    except JobError as error:
        sys.stderr.write(f"{error}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
