"""The keys of `lumiwatch.toml` and `model.toml`, section by section, with their limits and defaults.

Secrets are never among them: keys that end in `_file` say where they are. Reads no file.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from daemon.access.oidc_settings import OidcSettings
from daemon.access.roles import Role
from daemon.process.logs import LogFormat
from daemon.site.alert_settings import AlertmanagerSettings, AlertsSettings
from daemon.site.kafka_settings import KafkaSettings
from daemon.site.mlflow_settings import MlflowSettings
from hw.errors import BoardUnreachable
from hw.ipbus_client import BoardAddress
from streams.conditions import ConditionName, Matchable

StrategyName = Literal["input_recalibration", "batchnorm", "bias", "last_layer", "layers", "all_weights"]
PlanKind = Literal["nothing", "weights", "partial", "full"]
_ADDRESS = r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$"
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


class RetentionSettings(_Section):
    """How long the daemon keeps what happened; what the stream keeps is said in [stream]."""

    events_days: float = Field(default=400.0, gt=0)  # the audit log; what is older goes, signed off in it
    incidents_days: float = Field(default=400.0, gt=0)  # history, decisions and steps of resolved incidents
    notifications_days: float = Field(default=90.0, gt=0)  # messages about resolved incidents
    work_files_days: float = Field(default=30.0, gt=0)  # data, models and logs of ended responses


class LoggingSettings(_Section):
    """How the daemon writes its log."""

    format: LogFormat = "text"  # or "json": one object a line


class ConsoleSettings(_Section):
    """Where console and API listen. Anything but loopback must be said on purpose."""

    host: str = "127.0.0.1"
    port: int = Field(default=8642, ge=0, le=65535)
    allow_remote: bool = False
    public_url: str | None = None  # what links in messages start with, behind a proxy
    session_hours: float = Field(default=12.0, gt=0, le=168)
    idle_hours: float = Field(default=4.0, gt=0, le=168)  # without an open page

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
    callback_url: str | None = Field(default=None, pattern=_ADDRESS)  # where the server reaches this daemon
    command_token_file: Path | None = None  # of the slash command
    button_hours: float = Field(default=12.0, gt=0, le=168)  # how long a button works

    @model_validator(mode="after")
    def _complete(self) -> MattermostSettings:
        bot = (self.url, self.token_file, self.channel_id)
        if any(bot) and not all(bot):
            raise ValueError("a bot needs url, token_file and channel_id: give all three, or none")
        return self


class OperatorSettings(_Section):
    """One person: a role, and how single sign-on and, if it is not in the database, a token name them."""

    full_name: str = ""
    role: Role = Role.OPERATOR
    token_file: Path | None = None
    subject: str | None = Field(default=None, min_length=1)  # of single sign-on; default: the name
    mattermost_user_id: str | None = Field(default=None, pattern=r"^[a-z0-9]{26}$")  # who acts from the chat


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
    retention: RetentionSettings = RetentionSettings()
    logging: LoggingSettings = LoggingSettings()
    console: ConsoleSettings = ConsoleSettings()
    alerts: AlertsSettings = AlertsSettings()
    alertmanager: AlertmanagerSettings = AlertmanagerSettings()
    mattermost: MattermostSettings = MattermostSettings()
    mlflow: MlflowSettings = MlflowSettings()
    operators: dict[_Name, OperatorSettings] = Field(default_factory=dict)
    oidc: OidcSettings | None = None
    hardware: HardwareSettings = HardwareSettings()

    @field_validator("operators")
    @classmethod
    def _one_chat_user_each(cls, value: dict[str, OperatorSettings]) -> dict[str, OperatorSettings]:
        owners: dict[str, str] = {}
        for name, operator in value.items():
            user = operator.mattermost_user_id
            if user is not None and owners.setdefault(user, name) != name:
                raise ValueError(
                    f"{name}.mattermost_user_id is also that of {owners[user]}: give each person their own"
                )
        return value

    @model_validator(mode="after")
    def _nobody_listens_to_strangers(self) -> SiteSettings:
        if self.console.allow_remote and not self.operators and self.oidc is None:
            raise ValueError(
                "console.allow_remote needs people who may log in: declare them under [operators.<name>], "
                "or set [oidc], or remove allow_remote"
            )
        return self

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
    interpolate: ConditionName | None = None  # what new references follow besides the pileup: `bunches`

    @field_validator("interpolate")
    @classmethod
    def _beside_the_pileup(cls, value: str | None) -> str | None:
        if value == "pileup":
            raise ValueError("the pileup is always followed: name another condition, or leave it out")
        return value


class PolicySettings(_Section):
    """Who decides, what may be offered, and how success is checked."""

    approvers: tuple[_Name, ...] = Field(min_length=1)
    approvals_needed: int = Field(default=1, ge=1)
    hardware_approvals_needed: int = Field(default=0, ge=0, le=2)  # once more, before the board is touched
    distinct_approvers: bool = True  # who approved the response may not approve the board too
    strategies: tuple[StrategyName, ...] = ()  # least invasive first; none where no firmware is retrained
    auto_plan_kinds: tuple[PlanKind, ...] = ()
    verify_lumisections: int = Field(default=10, ge=1)
    verify_allowed_misses: int = Field(default=1, ge=0)  # windows that may exceed without a rollback
    verify_timeout_s: float = Field(default=3600.0, gt=0)
    decision_timeout_s: float = Field(default=7 * 86400.0, gt=0)  # then the proposal is withdrawn
    escalate_after_s: float | None = Field(default=None, gt=0)  # without a decision ...
    escalate_to: tuple[_Name, ...] = ()  # ... these people are told too
    prescale_instruction: str = (
        "Prescale the algorithm out: ask the shift leader for the prescale column without it."
    )

    @field_validator("strategies", "approvers", "escalate_to")
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
        needed = self.hardware_approvals_needed
        if needed and self.distinct_approvers:
            needed += self.approvals_needed
        if needed > len(self.approvers):
            raise ValueError(
                f"hardware_approvals_needed = {self.hardware_approvals_needed}: {needed} different approvers "
                f"are needed, and {len(self.approvers)} are listed (or set distinct_approvers = false)"
            )
        return self

    @model_validator(mode="after")
    def _somebody_to_escalate_to(self) -> PolicySettings:
        if (self.escalate_after_s is None) == bool(self.escalate_to):
            raise ValueError("escalate_after_s and escalate_to go together: give both, or none")
        return self


class RetrainSettings(_Section):
    """Bounds of a retraining."""

    seed: int = 1
    minimum_events: int = Field(default=50_000, ge=100)  # drifted ones; a response waits for them ...
    events_timeout_s: float = Field(default=900.0, ge=0)  # ... for so long
    maximum_events: int = Field(default=400_000, ge=100)
    reference_lumisections: int = Field(default=20, ge=1)  # before the onset: what good events look like
    timeout_s: float = Field(default=1800.0, gt=0)
    trial: bool = False  # retrain before the decision too, to show what it would bring


class FirmwareSettings(_Section):
    """Which toolchain builds, and which board runs the model."""

    toolchain: str = "lumiwatch-rtl"
    board: str = "emulated"  # "emulated" (started by lumiwatch), or "[tcp://|udp://]host:port" of a board
    build_timeout_s: float = Field(default=1800.0, gt=0)
    scrub_interval_s: float = Field(default=60.0, ge=0)  # between looks at the board's weights; 0: never
    scrub_repair: bool = True  # flipped bits are put right at once, from the package that runs

    @field_validator("board")
    @classmethod
    def _a_place(cls, value: str) -> str:
        try:
            if value != "emulated":
                BoardAddress.parse(value)
        except BoardUnreachable as error:
            raise ValueError(f"{error}, or emulated") from error
        return value


class ModelSettings(_Section):
    """The keys of one `model.toml`."""

    name: _Name
    description: str = ""
    contract: Path = Path("contract.toml")
    watch: WatchSettings = WatchSettings()
    policy: PolicySettings
    retrain: RetrainSettings = RetrainSettings()
    firmware: FirmwareSettings = FirmwareSettings()
