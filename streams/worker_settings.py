"""Settings of a worker, from a JSON or TOML file. Knows no engine and no broker."""

import json
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streams.broker.security import PLAINTEXT, KafkaSecurity
from streams.contracts.contract import load_contract
from streams.errors import WorkerError
from streams.events.recorder import (
    DEFAULT_MAX_AGE,
    DEFAULT_MAX_BYTES,
    DEFAULT_MAX_EVENTS,
    DEFAULT_PRESCALE,
    RecorderSettings,
)
from streams.integrity import DEFAULT_PRESCALE as INTEGRITY_PRESCALE
from streams.judging.assessment import AssessmentSettings
from streams.judging.judge import MonitoredModel
from streams.store.closing import Waiting

GROUP: Final = "lumiwatch-worker"
"""Consumer group of a site's workers."""


class WorkerModel(BaseModel):
    """A monitored model in a worker's settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contract: Path
    assessment: AssessmentSettings = AssessmentSettings()


class WorkerSettings(BaseModel):
    """Everything a worker must be told.

    Attributes
    ----------
    bootstrap
        ``host:port`` of the broker; several joined by commas.
    security
        How to speak to it; the password's file, not the password.
    database_url
        The site's database.
    models
        Monitored model -> contract file and assessment settings.
    state_dir
        Folder for the engine's own files.
    recent_dir
        Folder for recent events (`streams.events.recorder`); None records nothing.
    recorder_prescale, recorder_max_bytes, recorder_max_age_s, recorder_max_events
        How much of them is kept, for each model (see `streams.events.recorder.RecorderSettings`).
    integrity_prescale
        About one event in so many is checked against the emulator, where there is one.
    allowed_lateness_s
        How long a window waits for missing batches after its lumisection's end.
    source_patience_s
        How long it waits for a source that lags behind the others, and after what silence a lumisection is
        over whose end nobody announced.
    sweep_interval_s
        How often windows are looked over for ones that waited long enough.
    group
        Consumer group: workers of one group share the work.
    instance
        Name of this worker within its group, stable over restarts: a restarted one takes its old place at
        once. None: the place of a killed worker is given away after `session_timeout_s`.
    standstill_s
        How long nothing may move while messages wait, before the worker ends to be started again
        (`streams.watchdog`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap: str = Field(min_length=1)
    security: KafkaSecurity = PLAINTEXT
    database_url: str = Field(min_length=1)
    models: dict[str, WorkerModel] = Field(min_length=1)
    state_dir: Path
    recent_dir: Path | None = None
    recorder_prescale: int = Field(default=DEFAULT_PRESCALE, ge=1)
    recorder_max_bytes: int = Field(default=DEFAULT_MAX_BYTES, ge=1024)
    recorder_max_age_s: float = Field(default=DEFAULT_MAX_AGE.total_seconds(), gt=0)
    recorder_max_events: int = Field(default=DEFAULT_MAX_EVENTS, ge=1)
    integrity_prescale: int = Field(default=INTEGRITY_PRESCALE, ge=1)
    allowed_lateness_s: float = Field(default=30.0, ge=0)
    source_patience_s: float = Field(default=120.0, ge=0)
    sweep_interval_s: float = Field(default=1.0, gt=0)
    group: str = GROUP
    instance: str | None = None
    session_timeout_s: float = Field(default=10.0, ge=1)
    standstill_s: float = Field(default=120.0, ge=5)
    log_level: str = "INFO"

    @property
    def waiting(self) -> Waiting:
        """How long windows wait for what is missing."""
        return Waiting(timedelta(seconds=self.allowed_lateness_s), timedelta(seconds=self.source_patience_s))

    @property
    def recorder(self) -> RecorderSettings | None:
        """What to keep of recent events; None keeps none."""
        if self.recent_dir is None:
            return None
        return RecorderSettings(
            self.recent_dir,
            prescale=self.recorder_prescale,
            max_bytes=self.recorder_max_bytes,
            max_age=timedelta(seconds=self.recorder_max_age_s),
            max_events=self.recorder_max_events,
        )

    def monitored_models(self) -> dict[str, MonitoredModel]:
        """Read the contracts. Raises `ContractError`."""
        return {
            name: MonitoredModel(load_contract(model.contract), model.assessment)
            for name, model in self.models.items()
        }


def load_settings(path: Path) -> WorkerSettings:
    """Read a settings file, JSON or TOML by its suffix.

    Raises
    ------
    WorkerError
        Names the file, the key and the cure.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise WorkerError(f"{path}: cannot be read ({error}): give a JSON or TOML file") from error
    try:
        return WorkerSettings.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "file"
        raise WorkerError(f"{path}: key '{key}': {first['msg']}") from error
