"""The keys of `[oidc]` in lumiwatch.toml: single sign-on by OpenID Connect. Reads no file."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from daemon.access.roles import Role


class OidcSettings(BaseModel):
    """Where people log in, and what the provider's roles mean here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str  # the provider's address, as it stands in its tokens
    client_id: str = Field(min_length=1)
    client_secret_file: Path | None = None  # none for a public client
    name_claim: str = "preferred_username"  # must be unique at the provider, and not for people to choose
    roles_claim: str = "cern_roles"
    roles: dict[str, Role] = Field(default_factory=dict)  # of people whom [operators] does not declare
    display: str = Field(default="single sign-on", min_length=1, max_length=40)
    scopes: tuple[str, ...] = ("openid", "profile")
    timeout_s: float = Field(default=10.0, gt=0, le=60)

    @field_validator("issuer")
    @classmethod
    def _encrypted(cls, value: str) -> str:
        if not is_private(value):
            raise ValueError(f"{value!r} is no https address: keys and tokens must come encrypted")
        return value

    @field_validator("scopes")
    @classmethod
    def _openid(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value:
            raise ValueError("openid is missing: without it the provider names nobody")
        return value


def is_private(url: str) -> bool:
    """Tell whether nobody listens to what is said to an address: it is https, or on this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    try:
        return parts.scheme == "http" and ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
