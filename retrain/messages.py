"""What a retraining job is told and what it answers, as JSON files. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from retrain.errors import JobError
from retrain.evaluate import Criteria, Evaluation
from retrain.gain import GainEstimate, GainSettings
from retrain.selection import SelectionSettings
from retrain.train_settings import TrainingRecord, TrainSettings


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainJob(_Message):
    """Train a model from scratch.

    Attributes
    ----------
    model
        Name of the monitored model.
    contract, datasets
        Files.
    output
        Where the firmware model goes (NPZ).
    """

    task: Literal["train"] = "train"
    model: str
    contract: Path
    datasets: Annotated[list[Path], Field(min_length=1)]
    output: Path
    settings: TrainSettings = TrainSettings()


class RetrainJob(_Message):
    """Find the least invasive candidate that meets the criteria.

    Attributes
    ----------
    firmware
        The model on the board (NPZ).
    contract
        Its contract.
    reference, recent
        Datasets from before the drift, and of the incident.
    output
        Where the candidate goes (NPZ).
    strategies
        Names; None tries all of them. Order does not matter: the least invasive is tried first.
    try_all
        Evaluate every strategy, also after one passed.
    parent_package
        Id of the package on the board, for lineage.
    """

    task: Literal["retrain"] = "retrain"
    firmware: Path
    contract: Path
    reference: Annotated[list[Path], Field(min_length=1)]
    recent: Annotated[list[Path], Field(min_length=1)]
    output: Path
    strategies: list[str] | None = None
    selection: SelectionSettings = SelectionSettings()
    criteria: Criteria = Criteria()
    gain: GainSettings = GainSettings()
    seed: int = Field(default=1, ge=0)
    threads: int = Field(default=1, ge=1)
    try_all: bool = False
    parent_package: str | None = None


class StrategyOutcome(BaseModel):
    """What one strategy brought.

    Attributes
    ----------
    offered
        Whether it made a candidate at all.
    passed
        Whether the candidate met the criteria.
    reason
        One sentence: what was done, and why it failed if it did.
    evaluation
        Of the candidate on held-out recent events; None without one.
    segments_changed, words_changed
        What a board would have to load.
    gains
        What was found per object, where the strategy looked for gains.
    seconds
        Wall time of proposal and evaluation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: str
    offered: bool
    passed: bool
    reason: str
    evaluation: Evaluation | None = None
    segments_changed: list[str] = []
    words_changed: int = 0
    gains: list[GainEstimate] = []
    seconds: float


class ModelFile(_Message):
    """A firmware model as a file."""

    path: Path
    sha256: str
    structure_hash: str
    weights_hash: str


class TrainResult(_Message):
    """A training's result."""

    task: Literal["train"] = "train"
    status: Literal["trained"] = "trained"
    model_name: str
    contract_hash: str
    training_id: str
    dataset_ids: list[str]
    model: ModelFile
    record: TrainingRecord
    seconds: float


class RetrainResult(_Message):
    """A retraining's result.

    Attributes
    ----------
    status
        `candidate`: there is one. `none_passed`: there is none. `nothing_needed`: the firmware meets the
        criteria as it is.
    reason
        One sentence for people.
    training_id
        sha256 hex of job and result without file names and durations; None without a candidate.
    baseline
        The unchanged firmware on the held-out recent events.
    strategies
        Every strategy tried, in order.
    """

    task: Literal["retrain"] = "retrain"
    status: Literal["candidate", "none_passed", "nothing_needed"]
    reason: str
    chosen: str | None
    model_name: str
    contract_hash: str
    training_id: str | None
    model: ModelFile | None
    parent_weights_hash: str
    parent_package: str | None
    dataset_ids: list[str]
    baseline: Evaluation
    strategies: list[StrategyOutcome]
    seconds: float


class FailedResult(_Message):
    """What a job that could not be done leaves behind."""

    task: Literal["train", "retrain"] | None = None
    status: Literal["failed"] = "failed"
    error: str
    kind: str


Job = Annotated[TrainJob | RetrainJob, Field(discriminator="task")]
Result = TrainResult | RetrainResult | FailedResult

_JOB: TypeAdapter[TrainJob | RetrainJob] = TypeAdapter(Job)
_RESULT: TypeAdapter[Result] = TypeAdapter(Result)


def read_job(path: Path) -> TrainJob | RetrainJob:
    """Read a job's description.

    Raises
    ------
    JobError
        When the file is missing or describes no job.
    """
    try:
        return _JOB.validate_json(path.read_bytes())
    except OSError as error:
        raise JobError(f"{path}: cannot read this job ({error.strerror}): check the path") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the job"
        raise JobError(f"{path}: {key}: {first['msg']}: mend the job's description") from error


def read_result(path: Path) -> Result:
    """Read a job's result.

    Raises
    ------
    JobError
        When the file is missing or holds no result.
    """
    try:
        return _RESULT.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise JobError(f"{path}: not the result of a retraining job: run the job again") from error
