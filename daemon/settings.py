"""A site: `lumiwatch.toml` and `models/<name>/model.toml`, read, checked and with paths resolved.

Every key of `lumiwatch.toml` can be an environment variable (`LUMIWATCH_CONSOLE__PORT=8700`),
which wins over the file. Secrets are never in these files: keys that end in `_file` say where
they are. This module opens no database and no network connection, and reads no secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from daemon.errors import SettingsError
from daemon.kafka_settings import KafkaSettings
from daemon.toml_files import explain, merge, origin, read_toml
from streams.broker.security import KafkaSecurity
from streams.conditions import Matchable
from streams.contracts.contract import Contract, load_contract
from streams.errors import StreamsError

SITE_FILE = "lumiwatch.toml"
_SIGNING_KEY = "site"
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


@dataclass(frozen=True)
class SiteModel:
    """One monitored model of a site: its settings and its parsed contract."""

    name: str
    folder: Path
    settings: ModelSettings
    contract_path: Path
    contract: Contract

    @property
    def has_firmware(self) -> bool:
        """Whether firmware runs it: a model that is watched by histograms has nothing to retrain."""
        return not self.contract.histograms

    @property
    def policy(self) -> PolicySettings:
        """Shorthand for `settings.policy`."""
        return self.settings.policy


@dataclass(frozen=True)
class Site:
    """A loaded site; every path is absolute."""

    folder: Path
    settings: SiteSettings
    state_dir: Path
    database_url: str
    models: Mapping[str, SiteModel]

    @property
    def name(self) -> str:
        """What the site calls itself."""
        return self.settings.site

    @property
    def secrets_dir(self) -> Path:
        """Where lumiwatch keeps the secrets it makes itself (mode 0700)."""
        return self.state_dir / "secrets"

    @property
    def packages_dir(self) -> Path:
        """Where firmware packages are kept, as `<package id>.lwpkg`."""
        return self.state_dir / "packages"

    @property
    def recent_dir(self) -> Path:
        """Where the recorder keeps recent events."""
        return self.state_dir / "recent"

    @property
    def trusted_keys_dir(self) -> Path:
        """Folder of the public keys (`*.pub`) whose packages are trusted."""
        configured = self.settings.hardware.trusted_keys_dir
        return self.path(configured) if configured is not None else self.state_dir / "trusted-keys"

    @property
    def signing_key_file(self) -> Path:
        """Private key that signs this site's packages."""
        configured = self.settings.hardware.signing_key_file
        return self.path(configured) if configured is not None else self.secrets_dir / f"{_SIGNING_KEY}.pem"

    @property
    def kafka_security(self) -> KafkaSecurity:
        """How clients speak to the broker."""
        return self.settings.kafka.security(self.path)

    @property
    def broker_file(self) -> Path:
        """Where `lumiwatch up` says at which address its embedded broker answers."""
        return self.state_dir / "broker-address"

    @property
    def broker_problem_file(self) -> Path:
        """Where `lumiwatch up` says why its embedded broker makes producers wait; absent if not."""
        return self.state_dir / "broker-problem"

    @property
    def address_file(self) -> Path:
        """Where the running daemon says at which address it answers; gone when it has stopped."""
        return self.state_dir / "daemon-address"

    def board_file(self, model: str) -> Path:
        """Where an emulated board of a model announces its address (JSON, key `address`)."""
        return self.state_dir / "boards" / f"{model}.json"

    def path(self, relative: Path) -> Path:
        """Absolute path of a path in `lumiwatch.toml` (relative ones start at the site's folder)."""
        return relative if relative.is_absolute() else self.folder / relative

    def console_url(self, port: int | None = None) -> str:
        """Give what a browser on this machine opens, without a trailing slash."""
        console = self.settings.console
        if console.public_url:
            return console.public_url.rstrip("/")
        host = f"[{console.host}]" if ":" in console.host else console.host
        return f"http://{host}:{port or console.port}"


def load_site(path: Path, *, overrides: Mapping[str, Any] | None = None) -> Site:
    """Read a site folder and check all of it.

    Parameters
    ----------
    path
        The site's folder, or its `lumiwatch.toml`.
    overrides
        Keys that win over the file but not over the environment, nested as in the file:
        ``{"state_dir": "/tmp/x", "console": {"port": 0}}``.

    Raises
    ------
    SettingsError
        A file is missing or malformed, or a key is unknown, missing or wrong.
    """
    file = path / SITE_FILE if path.is_dir() or path.suffix != ".toml" else path
    folder = file.parent.resolve()
    content = merge(read_toml(file), overrides or {})
    try:
        settings = SiteSettings(**content)
    except ValidationError as error:
        raise SettingsError(explain(origin(file, error), error)) from error
    except SourceError as error:
        raise SettingsError(
            f"environment: {error}: set the keys of a section one by one, for example LUMIWATCH_CONSOLE__PORT"
        ) from error
    state_dir = settings.state_dir if settings.state_dir.is_absolute() else folder / settings.state_dir
    database_url = settings.database_url or f"sqlite:///{state_dir / 'lumiwatch.sqlite'}"
    models = _load_models(folder / "models")
    _check_operators(file, settings, models)
    return Site(folder, settings, state_dir, database_url, models)


def _load_models(folder: Path) -> dict[str, SiteModel]:
    files = sorted(folder.glob("*/model.toml"))
    if not files:
        raise SettingsError(
            f"{folder}: no models/<name>/model.toml found; add one (deploy/site has an example)"
        )
    models: dict[str, SiteModel] = {}
    for file in files:
        try:
            settings = ModelSettings(**read_toml(file))
        except ValidationError as error:
            raise SettingsError(explain(file, error)) from error
        if settings.name != file.parent.name:
            raise SettingsError(
                f"{file}: name = {settings.name!r}, but its folder is {file.parent.name!r}; make them equal"
            )
        contract_path = file.parent / settings.contract
        try:
            contract = load_contract(contract_path)
        except StreamsError as error:
            raise SettingsError(str(error)) from error
        models[settings.name] = SiteModel(settings.name, file.parent, settings, contract_path, contract)
        _check_strategies(file, models[settings.name])
    return models


def _check_strategies(file: Path, model: SiteModel) -> None:
    if model.has_firmware and not model.policy.strategies:
        raise SettingsError(f"{file}: key policy.strategies: is missing: name one at least")
    if not model.has_firmware and model.policy.strategies:
        raise SettingsError(
            f"{file}: key policy.strategies: histograms have no firmware to retrain: remove it, or use a "
            "contract with [[objects]]"
        )


def _check_operators(file: Path, settings: SiteSettings, models: Mapping[str, SiteModel]) -> None:
    known = set(settings.operators) or {"local"}
    for model in models.values():
        strangers = sorted(set(model.policy.approvers) - known)
        if strangers:
            raise SettingsError(
                f"{model.folder / 'model.toml'}: policy.approvers names {', '.join(strangers)}, "
                f"but {file.name} has no [operators.{strangers[0]}]; add it with its token_file "
                f"(known: {', '.join(sorted(known))})"
            )
