"""The keys under `[mlflow]`: which registry hears of firmware packages.

Reads no secret and opens no connection.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from daemon.access.oidc_settings import is_private


class MlflowSettings(BaseModel):
    """An MLflow tracking server with a model registry; without `url`, none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None
    experiment: str = Field(default="lumiwatch", min_length=1, max_length=200)
    prefix: str = Field(default="", max_length=80)  # of registered models, where sites share a registry
    upload: bool = True  # the package files too
    token_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None  # default: the system's
    timeout_s: float = Field(default=30.0, gt=0, le=600)

    @field_validator("url")
    @classmethod
    def _plain_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("give a URL such as https://mlflow.example.org")
        if parts.username is not None or parts.password is not None:
            raise ValueError("the URL holds a user name: give username and password_file instead")
        return value.rstrip("/")

    @field_validator("prefix")
    @classmethod
    def _name(cls, value: str) -> str:
        if set(value) & set("/:.%\"'"):
            raise ValueError(
                "MLflow takes none of / : . % and quotes in the name of a model: choose another prefix"
            )
        return value

    @model_validator(mode="after")
    def _one_way_to_log_in(self) -> MlflowSettings:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file go together: give both, or none")
        if self.username is not None and self.token_file is not None:
            raise ValueError("give username and password_file, or token_file, not both")
        secret = self.username is not None or self.token_file is not None
        if secret and self.url is not None and not is_private(self.url):
            raise ValueError(f"{self.url!r} is no https address: the token or password would go in the clear")
        return self
