"""A site: `lumiwatch.toml` and `models/<name>/model.toml`, read, checked and with paths resolved.

Every key of `lumiwatch.toml` can be an environment variable (`LUMIWATCH_CONSOLE__PORT=8700`),
which wins over the file. Secrets are never in these files: keys that end in `_file` say where
they are. This module opens no database and no network connection, and reads no secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError as SourceError

from daemon.errors import SettingsError
from daemon.site.sections import ModelSettings, PolicySettings, SiteSettings
from daemon.site.toml_files import explain, merge, origin, read_toml
from streams.broker.security import KafkaSecurity
from streams.contracts.contract import Contract, load_contract
from streams.errors import StreamsError

SITE_FILE = "lumiwatch.toml"
_SIGNING_KEY = "site"


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
    file_name: str = SITE_FILE

    @property
    def file(self) -> Path:
        """The file that it was read from."""
        return self.folder / self.file_name

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

    def board_flash(self, model: str) -> Path:
        """Folder that is the flash memory of the emulated board of a model."""
        return self.state_dir / "boards" / model

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
    settings = read_site_settings(file, overrides)
    state_dir = settings.state_dir if settings.state_dir.is_absolute() else folder / settings.state_dir
    database_url = settings.database_url or f"sqlite:///{state_dir / 'lumiwatch.sqlite'}"
    models = _load_models(folder / "models")
    _check_operators(file, settings, models)
    return Site(folder, settings, state_dir, database_url, models, file.name)


def read_site_settings(file: Path, overrides: Mapping[str, Any] | None = None) -> SiteSettings:
    """Read a `lumiwatch.toml` alone, without the models. Parameters and errors as of `load_site`."""
    content = merge(read_toml(file), overrides or {})
    try:
        return SiteSettings(**content)
    except ValidationError as error:
        raise SettingsError(explain(origin(file, error), error)) from error
    except SourceError as error:
        raise SettingsError(
            f"environment: {error}: set the keys of a section one by one, for example LUMIWATCH_CONSOLE__PORT"
        ) from error


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
        for key in ("approvers", "escalate_to"):
            strangers = sorted(set(getattr(model.policy, key)) - known)
            if strangers:
                raise SettingsError(
                    f"{model.folder / 'model.toml'}: policy.{key} names {', '.join(strangers)}, "
                    f"but {file.name} has no [operators.{strangers[0]}]; add it "
                    f"(known: {', '.join(sorted(known))})"
                )
