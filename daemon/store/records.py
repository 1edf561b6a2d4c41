"""Tables of the daemon: incidents, responses, decisions, notifications, events, lineage.

Only columns and their meaning. Knows no workflow, no web, no Kafka. Times are aware UTC.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from streams.store.database import UtcDateTime


def new_id() -> str:
    """Make a random identifier (32 hex digits)."""
    return uuid.uuid4().hex


class IncidentState(StrEnum):
    """Where an incident stands. What is resolved stays so, unless it recovered by itself and comes back."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESPONDING = "responding"
    RESOLVED = "resolved"


UNRESOLVED = tuple(state.value for state in IncidentState if state is not IncidentState.RESOLVED)
"""To be asked for by name: what is not resolved is found by an index, "all but resolved" is not."""


class IncidentKind(StrEnum):
    """Why an incident was opened."""

    ALARM = "alarm"
    REQUESTED = "requested"  # an operator asked for a retraining, without an alarm


class ResponseState(StrEnum):
    """Where a response stands. Everything after `hardware_proposed` is final."""

    PREPARING = "preparing"
    PROPOSED = "proposed"
    RUNNING = "running"
    HARDWARE_PROPOSED = "hardware_proposed"  # at work, and waits for the decision before the board is touched
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


class DecisionStage(StrEnum):
    """What a response asks operators."""

    RESPONSE = "response"  # whether to begin
    HARDWARE = "hardware"  # whether the proven package may go onto the board


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
    __table_args__ = (Index("ix_daemon_verdicts_place", "model", "run", "lumisection", "received_at"),)

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
    __table_args__ = (
        Index("ix_daemon_incidents_opened", "opened_at", "number"),
        Index("ix_daemon_incidents_of_model", "model", "opened_at", "number"),
        Index("ix_daemon_incidents_number", "model", "number"),
        Index("ix_daemon_incidents_standing", "model", "simulated", "state", "number"),
        Index("ix_daemon_incidents_state_of_model", "model", "state"),
    )

    id: str = Field(primary_key=True)  # "<model>-<number>": what people say and type
    number: int
    model: str = Field(index=True)
    kind: str = Field(default=IncidentKind.ALARM)
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
    resolved_at: datetime | None = Field(default=None, index=True, sa_type=UtcDateTime)
    resolved_by: str | None = None
    resolution: str | None = None
    instruction: str | None = None  # what the shift was told to do, e.g. prescale out
    reopened: int = 0  # how often it came back after it had recovered by itself
    recovered_run: int | None = None  # of the good verdict that ended it; None when something else did
    recovered_lumisection: int | None = None
    quiet_since: datetime | None = Field(default=None, index=True, sa_type=UtcDateTime)  # under a silence
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
    estimate: dict[str, Any] | None = Field(default=None, sa_type=JSON(none_as_null=True))  # see `estimate`
    hardware: dict[str, Any] | None = Field(
        default=None, sa_type=JSON(none_as_null=True)
    )  # see `hardware_plan`
    decide_by: datetime | None = Field(default=None, sa_type=UtcDateTime)  # while it waits for a decision
    escalated_at: datetime | None = Field(default=None, sa_type=UtcDateTime)  # of the present wait
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
    """One operator's answer to one question of a response; an operator answers each question once."""

    __tablename__ = "daemon_decisions"
    __table_args__ = (UniqueConstraint("response_id", "stage", "operator"),)

    id: str = Field(default_factory=new_id, primary_key=True)
    response_id: str = Field(index=True, foreign_key="daemon_responses.id")
    stage: str = Field(default=DecisionStage.RESPONSE)
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
    previous: str  # hash of the event before, see `audit`
    hash: str


class AuditHeadRecord(SQLModel, table=True):
    """Where the chain of events ends, and where it begins since old events were forgotten. One row."""

    __tablename__ = "daemon_audit_head"

    id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    sequence: int  # of the newest event; 0: none yet
    hash: str
    checkpoint_sequence: int = 0  # of the last event that was forgotten
    checkpoint_hash: str
    checkpoint_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


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
