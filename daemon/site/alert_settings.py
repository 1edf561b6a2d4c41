"""The keys under `[alerts]` and `[alertmanager]`: what is said again, and who else hears of it.

Reads no secret and opens no connection.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class AlertsSettings(BaseModel):
    """When an incident comes back, and when it is said again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reopen_within_lumisections: int = Field(default=20, ge=0)  # after a recovery; 0: never
    repeat_interval_s: float = Field(default=4 * 3600.0, ge=0)  # while nobody acknowledges; 0: never


class AlertmanagerSettings(BaseModel):
    """The Prometheus Alertmanagers that hear of live incidents; without `urls`, none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    urls: tuple[str, ...] = ()
    resend_s: float = Field(default=60.0, ge=1, le=3600)
    timeout_s: float = Field(default=10.0, gt=0, le=60)
    runbook_url: str | None = None  # what people are sent to
    ca_file: Path | None = None  # default: the system's
    username: str | None = None
    password_file: Path | None = None
    bearer_token_file: Path | None = None

    @field_validator("urls")
    @classmethod
    def _plain_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError("give URLs such as https://alertmanager.example.org:9093")
            if parts.username is not None or parts.password is not None:
                raise ValueError("a URL holds a user name: give username and password_file instead")
        if len(set(value)) != len(value):
            raise ValueError("names a URL twice: list each once")
        return tuple(url.rstrip("/") for url in value)

    @model_validator(mode="after")
    def _one_way_to_log_in(self) -> AlertmanagerSettings:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file go together: give both, or none")
        if self.username is not None and self.bearer_token_file is not None:
            raise ValueError("give username and password_file, or bearer_token_file, not both")
        return self
