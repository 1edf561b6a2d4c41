"""The tables as of the first schema: streams, hw, retrain and daemon.

A snapshot that never changes: it knows no room's records module, so that it makes the same tables
whatever the models become. A database that was made before schemas had versions is held against it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import CreateIndex, CreateTable

revision = "0001"
down_revision: str | None = None

METADATA = sa.MetaData()
_TIME = sa.DateTime(timezone=True)

sa.Table(
    "stream_conditions",
    METADATA,
    sa.Column("model", sa.String(), primary_key=True),
    sa.Column("run", sa.Integer(), primary_key=True),
    sa.Column("lumisection", sa.Integer(), primary_key=True),
    sa.Column("document", sa.String(), nullable=False),
    sa.Column("settled", sa.Boolean(), nullable=False),
    sa.Column("ended_at", _TIME, nullable=True),
    sa.Column("updated_at", _TIME, nullable=False),
    sa.Index("ix_stream_conditions_settled", "settled", "model", "run"),
)

sa.Table(
    "stream_references",
    METADATA,
    sa.Column("id", sa.String(), primary_key=True),
    sa.Column("model", sa.String(), nullable=False),
    sa.Column("package", sa.String(), nullable=False),
    sa.Column("contract_hash", sa.String(), nullable=False),
    sa.Column("state", sa.String(), nullable=False),
    sa.Column("parent_id", sa.String(), nullable=True),
    sa.Column("built_from", sa.String(), nullable=False),
    sa.Column("n_events", sa.Integer(), nullable=False),
    sa.Column("n_lumisections", sa.Integer(), nullable=False),
    sa.Column("content", sa.LargeBinary(), nullable=False),
    sa.Column("created_at", _TIME, nullable=False),
    sa.Column("approved_by", sa.String(), nullable=True),
    sa.Column("approved_at", _TIME, nullable=True),
    sa.Column("retired_by", sa.String(), nullable=True),
    sa.Column("retired_at", _TIME, nullable=True),
    sa.Index("ix_stream_references_use", "model", "state"),
)

sa.Table(
    "stream_windows",
    METADATA,
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("model", sa.String(), nullable=False),
    sa.Column("run", sa.Integer(), nullable=False),
    sa.Column("lumisection", sa.Integer(), nullable=False),
    sa.Column("package", sa.String(), nullable=False),
    sa.Column("contract_hash", sa.String(), nullable=False),
    sa.Column("state", sa.String(), nullable=False),
    sa.Column("complete", sa.Boolean(), nullable=False),
    sa.Column("simulated", sa.Boolean(), nullable=False),
    sa.Column("n_batches", sa.Integer(), nullable=False),
    sa.Column("n_events", sa.Integer(), nullable=False),
    sa.Column("n_accept", sa.Integer(), nullable=False),
    sa.Column("late_events", sa.Integer(), nullable=False),
    sa.Column("assessed_events", sa.Integer(), nullable=False),
    sa.Column("revision", sa.Integer(), nullable=False),
    sa.Column("summary", sa.LargeBinary(), nullable=False),
    sa.Column("opened_at", _TIME, nullable=False),
    sa.Column("updated_at", _TIME, nullable=False),
    sa.Column("closed_at", _TIME, nullable=True),
    sa.UniqueConstraint("model", "run", "lumisection", "package"),
    sa.Index("ix_stream_windows_state", "state", "model"),
)

sa.Table(
    "stream_assessments",
    METADATA,
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("verdict_id", sa.String(), nullable=False, unique=True),
    sa.Column("window_id", sa.Integer(), sa.ForeignKey("stream_windows.id"), nullable=False, index=True),
    sa.Column("model", sa.String(), nullable=False),
    sa.Column("run", sa.Integer(), nullable=False),
    sa.Column("lumisection", sa.Integer(), nullable=False),
    sa.Column("package", sa.String(), nullable=False),
    sa.Column("revision", sa.Integer(), nullable=False),
    sa.Column("state", sa.String(), nullable=False),
    sa.Column("assessment", sa.String(), nullable=False),
    sa.Column("verdict", sa.String(), nullable=False),
    sa.Column("published", sa.Boolean(), nullable=False, index=True),
    sa.Column("created_at", _TIME, nullable=False),
    sa.Index("ix_stream_assessments_place", "model", "run", "lumisection"),
)

sa.Table(
    "stream_batches",
    METADATA,
    sa.Column("stream", sa.String(), primary_key=True),
    sa.Column("topic", sa.String(), primary_key=True),
    sa.Column("partition", sa.Integer(), primary_key=True),
    sa.Column("offset", sa.BigInteger(), primary_key=True, autoincrement=False),
    sa.Column("model", sa.String(), nullable=False),
    sa.Column("run", sa.Integer(), nullable=False),
    sa.Column("lumisection", sa.Integer(), nullable=False),
    sa.Column("source", sa.String(), nullable=False),
    sa.Column("n_events", sa.Integer(), nullable=False),
    sa.Column("window_id", sa.Integer(), sa.ForeignKey("stream_windows.id"), nullable=False, index=True),
    sa.Index("ix_stream_batches_place", "model", "run", "lumisection", "source"),
)

sa.Table(
    "hw_board_operations",
    METADATA,
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("board", sa.String(), nullable=False, index=True),
    sa.Column("simulated", sa.Boolean(), nullable=False),
    sa.Column("plan_kind", sa.String(), nullable=False),
    sa.Column("from_package", sa.String(), nullable=False),
    sa.Column("to_package", sa.String(), nullable=False),
    sa.Column("outcome", sa.String(), nullable=False),
    sa.Column("reason", sa.String(), nullable=False),
    sa.Column("loaded_words", sa.Integer(), nullable=False),
    sa.Column("load_s", sa.Float(), nullable=False),
    sa.Column("switch_s", sa.Float(), nullable=False),
    sa.Column("golden_events", sa.Integer(), nullable=False),
    sa.Column("golden_mismatches", sa.Integer(), nullable=False),
    sa.Column("operator", sa.String(), nullable=True),
    sa.Column("done_at", _TIME, nullable=False),
)

sa.Table(
    "hw_packages",
    METADATA,
    sa.Column("id", sa.String(), primary_key=True),
    sa.Column("name", sa.String(), nullable=False, index=True),
    sa.Column("version", sa.String(), nullable=False),
    sa.Column("path", sa.String(), nullable=False),
    sa.Column("structure_hash", sa.String(), nullable=False),
    sa.Column("weights_hash", sa.String(), nullable=False),
    sa.Column("contract_hash", sa.String(), nullable=False),
    sa.Column("toolchain", sa.String(), nullable=False),
    sa.Column("toolchain_version", sa.String(), nullable=False),
    sa.Column("bench_passed", sa.Boolean(), nullable=False),
    sa.Column("parent_id", sa.String(), nullable=True),
    sa.Column("training_id", sa.String(), nullable=True),
    sa.Column("recorded_at", _TIME, nullable=False),
)

sa.Table(
    "retrain_trainings",
    METADATA,
    sa.Column("id", sa.String(), primary_key=True),
    sa.Column("kind", sa.String(), nullable=False),
    sa.Column("model", sa.String(), nullable=False, index=True),
    sa.Column("contract_hash", sa.String(), nullable=False),
    sa.Column("dataset_ids_json", sa.String(), nullable=False),
    sa.Column("record_json", sa.String(), nullable=False),
    sa.Column("recorded_at", _TIME, nullable=False),
)

sa.Table(
    "retrain_candidates",
    METADATA,
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("training_id", sa.String(), sa.ForeignKey("retrain_trainings.id"), nullable=False, index=True),
    sa.Column("model", sa.String(), nullable=False, index=True),
    sa.Column("structure_hash", sa.String(), nullable=False),
    sa.Column("weights_hash", sa.String(), nullable=False, index=True),
    sa.Column("parent_weights_hash", sa.String(), nullable=True),
    sa.Column("parent_package", sa.String(), nullable=True),
    sa.Column("strategy", sa.String(), nullable=False),
    sa.Column("path", sa.String(), nullable=False),
    sa.Column("sha256", sa.String(), nullable=False),
)

sa.Table(
    "daemon_events",
    METADATA,
    sa.Column("sequence", sa.Integer(), primary_key=True),
    sa.Column("id", sa.String(), nullable=False, unique=True),
    sa.Column("at", _TIME, nullable=False),
    sa.Column("kind", sa.String(), nullable=False),
    sa.Column("actor", sa.String(), nullable=False),
    sa.Column("model", sa.String(), nullable=True),
    sa.Column("incident_id", sa.String(), nullable=True, index=True),
    sa.Column("response_id", sa.String(), nullable=True, index=True),
    sa.Column("simulated", sa.Boolean(), nullable=False),
    sa.Column("text", sa.String(), nullable=False),
    sa.Column("detail", sa.JSON(), nullable=False),
    sa.Column("published", sa.Boolean(), nullable=False, index=True),
)

sa.Table(
    "daemon_incidents",
    METADATA,
    sa.Column("id", sa.String(), primary_key=True),
    sa.Column("number", sa.Integer(), nullable=False),
    sa.Column("model", sa.String(), nullable=False, index=True),
    sa.Column("state", sa.String(), nullable=False, index=True),
    sa.Column("simulated", sa.Boolean(), nullable=False),
    sa.Column("run", sa.Integer(), nullable=False),
    sa.Column("onset_lumisection", sa.Integer(), nullable=False),
    sa.Column("first_lumisection", sa.Integer(), nullable=False),
    sa.Column("last_run", sa.Integer(), nullable=False),
    sa.Column("last_lumisection", sa.Integer(), nullable=False),
    sa.Column("families", sa.JSON(), nullable=False),
    sa.Column("reason", sa.String(), nullable=False),
    sa.Column("package", sa.String(), nullable=False),
    sa.Column("reference_id", sa.String(), nullable=True),
    sa.Column("opened_at", _TIME, nullable=False),
    sa.Column("acknowledged_at", _TIME, nullable=True),
    sa.Column("acknowledged_by", sa.String(), nullable=True),
    sa.Column("resolved_at", _TIME, nullable=True),
    sa.Column("resolved_by", sa.String(), nullable=True),
    sa.Column("resolution", sa.String(), nullable=True),
    sa.Column("instruction", sa.String(), nullable=True),
    sa.Column("opening_verdict", sa.JSON(), nullable=False),
    sa.Column("latest_verdict", sa.JSON(), nullable=False),
)

sa.Table(
    "daemon_lineage",
    METADATA,
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("child", sa.String(), nullable=False, index=True),
    sa.Column("child_kind", sa.String(), nullable=False),
    sa.Column("parent", sa.String(), nullable=False, index=True),
    sa.Column("parent_kind", sa.String(), nullable=False),
    sa.Column("relation", sa.String(), nullable=False),
    sa.Column("at", _TIME, nullable=False),
    sa.UniqueConstraint("child", "parent", "relation"),
)

sa.Table(
    "daemon_notifications",
    METADATA,
    sa.Column("id", sa.String(), primary_key=True),
    sa.Column("key", sa.String(), nullable=False, unique=True),
    sa.Column("incident_id", sa.String(), nullable=True, index=True),
    sa.Column("event_sequence", sa.Integer(), nullable=True),
    sa.Column("channel", sa.String(), nullable=False),
    sa.Column("action", sa.String(), nullable=False),
    sa.Column("payload", sa.JSON(), nullable=False),
    sa.Column("state", sa.String(), nullable=False, index=True),
    sa.Column("attempts", sa.Integer(), nullable=False),
    sa.Column("created_at", _TIME, nullable=False),
    sa.Column("next_attempt_at", _TIME, nullable=True),
    sa.Column("delivered_at", _TIME, nullable=True),
    sa.Column("post_id", sa.String(), nullable=True),
    sa.Column("root_id", sa.String(), nullable=True),
    sa.Column("last_error", sa.String(), nullable=True),
)

sa.Table(
    "daemon_verdicts",
    METADATA,
    sa.Column("id", sa.String(), primary_key=True),
    sa.Column("model", sa.String(), nullable=False, index=True),
    sa.Column("run", sa.Integer(), nullable=False),
    sa.Column("lumisection", sa.Integer(), nullable=False),
    sa.Column("state", sa.String(), nullable=False),
    sa.Column("package", sa.String(), nullable=False),
    sa.Column("simulated", sa.Boolean(), nullable=False),
    sa.Column("received_at", _TIME, nullable=False),
    sa.Column("payload", sa.JSON(), nullable=False),
)

sa.Table(
    "daemon_incident_events",
    METADATA,
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("incident_id", sa.String(), sa.ForeignKey("daemon_incidents.id"), nullable=False, index=True),
    sa.Column("at", _TIME, nullable=False),
    sa.Column("kind", sa.String(), nullable=False),
    sa.Column("actor", sa.String(), nullable=False),
    sa.Column("text", sa.String(), nullable=False),
    sa.Column("response_id", sa.String(), nullable=True),
    sa.Column("detail", sa.JSON(), nullable=False),
)

sa.Table(
    "daemon_responses",
    METADATA,
    sa.Column("id", sa.String(), primary_key=True),
    sa.Column("number", sa.Integer(), nullable=False),
    sa.Column("incident_id", sa.String(), sa.ForeignKey("daemon_incidents.id"), nullable=False, index=True),
    sa.Column("model", sa.String(), nullable=False, index=True),
    sa.Column("state", sa.String(), nullable=False, index=True),
    sa.Column("proposal", sa.JSON(), nullable=False),
    sa.Column("requested_by", sa.String(), nullable=False),
    sa.Column("created_at", _TIME, nullable=False),
    sa.Column("decided_at", _TIME, nullable=True),
    sa.Column("decided_by", sa.String(), nullable=True),
    sa.Column("ended_at", _TIME, nullable=True),
    sa.Column("strategy_requested", sa.String(), nullable=True),
    sa.Column("strategy", sa.String(), nullable=True),
    sa.Column("previous_package", sa.String(), nullable=True),
    sa.Column("candidate_package", sa.String(), nullable=True),
    sa.Column("training_id", sa.String(), nullable=True),
    sa.Column("reference_id", sa.String(), nullable=True),
    sa.Column("current_step", sa.String(), nullable=True),
    sa.Column("progress", sa.Float(), nullable=False),
    sa.Column("outcome", sa.String(), nullable=True),
)

sa.Table(
    "daemon_decisions",
    METADATA,
    sa.Column("id", sa.String(), primary_key=True),
    sa.Column("response_id", sa.String(), sa.ForeignKey("daemon_responses.id"), nullable=False, index=True),
    sa.Column("operator", sa.String(), nullable=False),
    sa.Column("kind", sa.String(), nullable=False),
    sa.Column("strategy", sa.String(), nullable=True),
    sa.Column("comment", sa.String(), nullable=False),
    sa.Column("via", sa.String(), nullable=False),
    sa.Column("at", _TIME, nullable=False),
    sa.UniqueConstraint("response_id", "operator"),
)

sa.Table(
    "daemon_response_steps",
    METADATA,
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("response_id", sa.String(), sa.ForeignKey("daemon_responses.id"), nullable=False, index=True),
    sa.Column("number", sa.Integer(), nullable=False),
    sa.Column("name", sa.String(), nullable=False),
    sa.Column("title", sa.String(), nullable=False),
    sa.Column("state", sa.String(), nullable=False),
    sa.Column("started_at", _TIME, nullable=True),
    sa.Column("ended_at", _TIME, nullable=True),
    sa.Column("progress", sa.Float(), nullable=False),
    sa.Column("detail", sa.String(), nullable=False),
    sa.Column("result", sa.JSON(), nullable=False),
    sa.UniqueConstraint("response_id", "name"),
)


def upgrade() -> None:
    """Make every table and its indexes."""
    for table in METADATA.sorted_tables:
        op.execute(CreateTable(table))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            op.execute(CreateIndex(index))
