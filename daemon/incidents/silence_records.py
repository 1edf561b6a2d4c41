"""Tables of silences: who keeps which incidents quiet until when, and how far people have been told.

Only columns and their meaning. Times are aware UTC.
"""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Field, SQLModel

from streams.store.database import UtcDateTime


class SilenceRecord(SQLModel, table=True):
    """One silence. What it names an incident must have; None matches everything."""

    __tablename__ = "daemon_silences"

    id: str = Field(primary_key=True)  # "silence-<number>": what people say and type
    number: int = Field(unique=True)
    author: str
    reason: str
    model: str | None = None
    family: str | None = None
    object: str | None = None
    created_at: datetime = Field(sa_type=UtcDateTime)
    starts_at: datetime = Field(sa_type=UtcDateTime)
    ends_at: datetime = Field(sa_type=UtcDateTime, index=True)  # moved to the present by who ends it early
    ended_by: str | None = None
    announced: bool = False  # its beginning is in the history of the incidents that it keeps quiet


class CursorRecord(SQLModel, table=True):
    """How far a reader of `daemon_events` has come, where its own records do not say so."""

    __tablename__ = "daemon_cursors"

    reader: str = Field(primary_key=True)
    sequence: int
