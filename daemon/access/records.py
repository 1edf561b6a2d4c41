"""Tables of credentials: passwords, tokens and sessions, none of them readable.

Only columns and their meaning. Who the people are is in lumiwatch.toml, not here. Times are aware UTC.
"""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Field, SQLModel

from streams.store.database import UtcDateTime


class PasswordRecord(SQLModel, table=True):
    """The password of a declared person, as argon2id hash."""

    __tablename__ = "daemon_passwords"

    person: str = Field(primary_key=True)
    hash: str
    changed_at: datetime = Field(sa_type=UtcDateTime)


class TokenRecord(SQLModel, table=True):
    """An API token of a declared person; what was shown once is kept as SHA-256."""

    __tablename__ = "daemon_tokens"

    id: str = Field(primary_key=True)  # what people name it by when they revoke it
    digest: str = Field(unique=True)
    person: str = Field(index=True)
    name: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    ends_at: datetime = Field(sa_type=UtcDateTime)
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class SessionRecord(SQLModel, table=True):
    """A browser that is logged in; the cookie's value is kept as SHA-256."""

    __tablename__ = "daemon_sessions"

    digest: str = Field(primary_key=True)
    person: str = Field(index=True)
    full_name: str = ""
    granted_role: str | None = None  # by single sign-on, to somebody whom lumiwatch.toml does not declare
    via: str  # "password", "token" or "oidc"
    created_at: datetime = Field(sa_type=UtcDateTime)
    seen_at: datetime = Field(sa_type=UtcDateTime)
    ends_at: datetime = Field(sa_type=UtcDateTime, index=True)
