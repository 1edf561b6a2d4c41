"""The keys of `lumiwatch.toml` and `model.toml`, section by section, with their limits and defaults.

Secrets are never among them: keys that end in `_file` say where they are. Reads no file.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from daemon.kafka_settings import KafkaSettings
from streams.conditions import Matchable

StrategyName = Literal["input_recalibration", "batchnorm", "bias", "last_layer", "layers", "all_weights"]
PlanKind = Literal["nothing", "weights", "partial", "full"]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamSettings(_Section):
    """How workers wait for late batches, what they check, and how much of recent events they keep."""

    allowed_lateness_s: float = Field(default=60.0, ge=0)  # after the end of a lumisection
    source_patience_s: float = Field(
        default=120.0, ge=0
    )  # for a source that lags, or a stream that fell silent
    late_data_days: float = Field(default=3.0, gt=0)  # after a window closed, data for it still counts
    windows_kept_days: float = Field(default=30.0, gt=0)  # full counts; incidents keep theirs
    verdicts_kept_days: float = Field(default=90.0, gt=0)  # older ones are thinned
    recorder_prescale: int = Field(default=1, ge=1)  # keep every n-th event
    recorder_max_bytes: int = Field(default=512 * 1024 * 1024, ge=1024)  # for each model
    recorder_max_age_days: float = Field(default=7.0, gt=0)
    recorder_max_events: int = Field(default=100_000, ge=1)  # of a lumisection and model, for each worker
    integrity_prescale: int = Field(default=100, ge=1)  # check every n-th event against the emulator
    late_after_s: float = Field(
        default=120.0, gt=0
    )  # a verdict later than this after its lumisection is late


class ConsoleSettings(_Section):
    """Where console and API listen. Anything but loopback must be said on purpose."""

    host: str = "127.0.0.1"
    port: int = Field(default=8642, ge=0, le=65535)
    allow_remote: bool = False
    public_url: str | None = None  # what links in messages start with, behind a proxy
    session_hours: float = Field(default=12.0, gt=0, le=168)

    @model_validator(mode="after")
    def _loopback_unless_said(self) -> ConsoleSettings:
        if not self.allow_remote and self.host != "localhost" and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is not loopback: set console.allow_remote = true if you mean it"
            )
        if self.host in {"0.0.0.0", "::"} and not self.public_url:  # noqa: S104 - compared, not bound
            raise ValueError(
                f"host {self.host} is every address: say in console.public_url how browsers reach it"
            )
        return self


class MattermostSettings(_Section):
    """The chat: a bot account, or an incoming webhook as the fallback."""

    url: str | None = None
    token_file: Path | None = None
    channel_id: str | None = None
    replay_channel_id: str | None = None
    webhook_url_file: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> MattermostSettings:
        bot = (self.url, self.token_file, self.channel_id)
        if any(bot) and not all(bot):
            raise ValueError("a bot needs url, token_file and channel_id: give all three, or none")
        return self


class OperatorSettings(_Section):
    """One person who may act: the file holds the person's API token."""

    token_file: Path
    full_name: str = ""


class HardwareSettings(_Section):
    """Keys that sign and check firmware packages. Without files, keys are made in the state folder."""

    signing_key_file: Path | None = None
    trusted_keys_dir: Path | None = None


class SiteSettings(BaseSettings):
    """The keys of `lumiwatch.toml`."""

    model_config = SettingsConfigDict(
        env_prefix="LUMIWATCH_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    site: str = Field(min_length=1, max_length=80)
    state_dir: Path = Path("state")
    database_url: str | None = None
    kafka: KafkaSettings = KafkaSettings()
    stream: StreamSettings = StreamSettings()
    console: ConsoleSettings = ConsoleSettings()
    mattermost: MattermostSettings = MattermostSettings()
    operators: dict[_Name, OperatorSettings] = Field(default_factory=dict)
    hardware: HardwareSettings = HardwareSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment first, then the file (handed in as arguments)."""
        return env_settings, init_settings


class WatchSettings(_Section):
    """When a window is judged, and how strict."""

    minimum_events: int = Field(default=2000, ge=1)
    false_alarm_budget: float = Field(default=1e-3, gt=0, lt=1)  # per lumisection, all families together
    rate_band: float = Field(default=0.10, gt=0, lt=1)  # relative deviation of the accept rate people accept
    integrity_tolerance: float = Field(default=1e-4, ge=0, lt=1)  # events that may differ from the emulator
    match: tuple[Matchable, ...] = ()  # what a window must share with its reference besides the pileup


class PolicySettings(_Section):
    """Who decides, what may be offered, and how success is checked."""

    approvers: tuple[_Name, ...] = Field(min_length=1)
    approvals_needed: int = Field(default=1, ge=1)
    strategies: tuple[StrategyName, ...] = ()  # least invasive first; none where no firmware is retrained
    auto_plan_kinds: tuple[PlanKind, ...] = ()
    verify_lumisections: int = Field(default=10, ge=1)
    verify_allowed_misses: int = Field(default=1, ge=0)  # windows that may exceed without a rollback
    verify_timeout_s: float = Field(default=3600.0, gt=0)
    decision_timeout_s: float = Field(default=7 * 86400.0, gt=0)
    prescale_instruction: str = (
        "Prescale the algorithm out: ask the shift leader for the prescale column without it."
    )

    @field_validator("strategies", "approvers")
    @classmethod
    def _no_repeats(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("names a value twice: list each once")
        return value

    @model_validator(mode="after")
    def _enough_approvers(self) -> PolicySettings:
        if self.approvals_needed > len(self.approvers):
            raise ValueError(
                f"approvals_needed = {self.approvals_needed}, but {len(self.approvers)} approvers are listed"
            )
        return self


class RetrainSettings(_Section):
    """Bounds of a retraining."""

    seed: int = 1
    minimum_events: int = Field(default=50_000, ge=100)  # drifted ones; a response waits for them ...
    events_timeout_s: float = Field(default=900.0, ge=0)  # ... for so long
    maximum_events: int = Field(default=400_000, ge=100)
    reference_lumisections: int = Field(default=20, ge=1)  # before the onset: what good events look like
    timeout_s: float = Field(default=1800.0, gt=0)


class FirmwareSettings(_Section):
    """Which toolchain builds, and which board runs the model."""

    toolchain: str = "hls4ml"
    board: str = "emulated"  # "emulated" (started by lumiwatch), or "host:port" of an IPbus board
    build_timeout_s: float = Field(default=1800.0, gt=0)


class ModelSettings(_Section):
    """The keys of one `model.toml`."""

    name: _Name
    description: str = ""
    contract: Path = Path("contract.toml")
    watch: WatchSettings = WatchSettings()
    policy: PolicySettings
    retrain: RetrainSettings = RetrainSettings()
    firmware: FirmwareSettings = FirmwareSettings()
