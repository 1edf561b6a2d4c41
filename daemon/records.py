"""Tables of the daemon: incidents, responses, decisions, notifications, events, lineage.

Only columns and their meaning. Knows no workflow, no web, no Kafka. Times are aware UTC.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, UniqueConstraint
from sqlmodel import Field, SQLModel

from streams.store.database import UtcDateTime


def new_id() -> str:
    """Make a random identifier (32 hex digits)."""
    return uuid.uuid4().hex


class IncidentState(StrEnum):
    """Where an incident stands. Only `resolved` is final."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESPONDING = "responding"
    RESOLVED = "resolved"


class ResponseState(StrEnum):
    """Where a response stands. Everything after `running` is final."""

    PREPARING = "preparing"
    PROPOSED = "proposed"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    REJECTED = "rejected"
    PRESCALED_OUT = "prescaled_out"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


FINAL_RESPONSE_STATES = frozenset(
    {
        ResponseState.SUCCEEDED,
        ResponseState.REJECTED,
        ResponseState.PRESCALED_OUT,
        ResponseState.ROLLED_BACK,
        ResponseState.FAILED,
        ResponseState.WITHDRAWN,
    }
)


class StepState(StrEnum):
    """State of one step of a response."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


class DecisionKind(StrEnum):
    """What an operator can answer to a proposal."""

    APPROVE = "approve"
    REJECT = "reject"
    PRESCALE_OUT = "prescale_out"


class NotificationState(StrEnum):
    """State of one message to the outside."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class VerdictRecord(SQLModel, table=True):
    """One verdict as received; its primary key is what makes redelivery harmless."""

    __tablename__ = "daemon_verdicts"

    id: str = Field(primary_key=True)
    model: str = Field(index=True)
    run: int
    lumisection: int
    state: str
    package: str
    simulated: bool
    received_at: datetime = Field(sa_type=UtcDateTime)
    payload: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class IncidentRecord(SQLModel, table=True):
    """One continuous problem of one model, from first alarm to resolution."""

    __tablename__ = "daemon_incidents"

    id: str = Field(primary_key=True)  # "<model>-<number>": what people say and type
    number: int
    model: str = Field(index=True)
    state: str = Field(default=IncidentState.OPEN, index=True)
    simulated: bool
    run: int
    onset_lumisection: int
    first_lumisection: int  # of the verdict that opened it
    last_run: int
    last_lumisection: int  # of the latest alarm
    families: list[str] = Field(sa_column=Column(JSON, nullable=False))
    reason: str
    package: str
    reference_id: str | None = None
    opened_at: datetime = Field(sa_type=UtcDateTime)
    acknowledged_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    acknowledged_by: str | None = None
    resolved_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    resolved_by: str | None = None
    resolution: str | None = None
    instruction: str | None = None  # what the shift was told to do, e.g. prescale out
    opening_verdict: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    latest_verdict: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class IncidentEventRecord(SQLModel, table=True):
    """One line of an incident's history."""

    __tablename__ = "daemon_incident_events"

    id: int | None = Field(default=None, primary_key=True)
    incident_id: str = Field(index=True, foreign_key="daemon_incidents.id")
    at: datetime = Field(sa_type=UtcDateTime)
    kind: str
    actor: str  # operator name, or "lumiwatch"
    text: str
    response_id: str | None = None
    detail: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class ResponseRecord(SQLModel, table=True):
    """One answer to an incident: the proposal, what was decided, and how far it got."""

    __tablename__ = "daemon_responses"

    id: str = Field(primary_key=True)  # "<incident>-r<number>"; also the workflow's id
    number: int
    incident_id: str = Field(index=True, foreign_key="daemon_incidents.id")
    model: str = Field(index=True)
    state: str = Field(default=ResponseState.PREPARING, index=True)
    proposal: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    requested_by: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    decided_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    decided_by: str | None = None  # names of the operators, comma separated when several were needed
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    strategy_requested: str | None = None  # None: the least invasive that passes
    strategy: str | None = None  # the one that was taken
    previous_package: str | None = None
    candidate_package: str | None = None
    training_id: str | None = None
    reference_id: str | None = None  # successor reference
    current_step: str | None = None
    progress: float = 0.0  # of the whole response, 0..1
    outcome: str | None = None  # one sentence for people


class DecisionRecord(SQLModel, table=True):
    """One operator's answer to one proposal; an operator answers a proposal once."""

    __tablename__ = "daemon_decisions"
    __table_args__ = (UniqueConstraint("response_id", "operator"),)

    id: str = Field(default_factory=new_id, primary_key=True)
    response_id: str = Field(index=True, foreign_key="daemon_responses.id")
    operator: str
    kind: str
    strategy: str | None = None
    comment: str = ""
    via: str = "api"  # api, console, chat, policy
    at: datetime = Field(sa_type=UtcDateTime)


class ResponseStepRecord(SQLModel, table=True):
    """One step of a response, for live progress."""

    __tablename__ = "daemon_response_steps"
    __table_args__ = (UniqueConstraint("response_id", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    response_id: str = Field(index=True, foreign_key="daemon_responses.id")
    number: int
    name: str
    title: str
    state: str = StepState.PENDING
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    progress: float = 0.0  # 0..1
    detail: str = ""
    result: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class EventRecord(SQLModel, table=True):
    """Everything that happened; published to `lumiwatch.events`, and what alerts are made from."""

    __tablename__ = "daemon_events"

    sequence: int | None = Field(default=None, primary_key=True)  # grows: a reader's cursor
    id: str = Field(default_factory=new_id, unique=True)
    at: datetime = Field(sa_type=UtcDateTime)
    kind: str  # "incident.opened", "response.proposed", "response.step", ...
    actor: str
    model: str | None = None
    incident_id: str | None = Field(default=None, index=True)
    response_id: str | None = Field(default=None, index=True)
    simulated: bool = False
    text: str = ""
    detail: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    published: bool = Field(default=False, index=True)  # to Kafka


class NotificationRecord(SQLModel, table=True):
    """One message to the outside, with its exact payload: the log that lets a restart repeat nothing."""

    __tablename__ = "daemon_notifications"

    id: str = Field(default_factory=new_id, primary_key=True)
    key: str = Field(unique=True)  # what makes it the same message, e.g. "<incident>:opened"
    incident_id: str | None = Field(default=None, index=True)
    event_sequence: int | None = None  # the EventRecord it was made from
    channel: str  # "mattermost", "mattermost-webhook", "log"
    action: str  # "post", "reply", "edit"
    payload: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    state: str = Field(default=NotificationState.PENDING, index=True)
    attempts: int = 0
    created_at: datetime = Field(sa_type=UtcDateTime)
    next_attempt_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    delivered_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    post_id: str | None = None
    root_id: str | None = None
    last_error: str | None = None


class LineageEdgeRecord(SQLModel, table=True):
    """One "made from": child and parent are content hashes, ids or file names."""

    __tablename__ = "daemon_lineage"
    __table_args__ = (UniqueConstraint("child", "parent", "relation"),)

    id: int | None = Field(default=None, primary_key=True)
    child: str = Field(index=True)
    child_kind: str  # package, training, dataset, reference, response, incident, root_file
    parent: str = Field(index=True)
    parent_kind: str
    relation: str  # "made from", "trained on", "answers", ...
    at: datetime = Field(sa_type=UtcDateTime)
