"""Silences, incidents that come back, and indexes for what is asked every second.

Incidents that were resolved before do not come back: nobody wrote down which had recovered by themselves.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables of silences and cursors; add columns and indexes to incidents and verdicts."""
    op.create_table(
        "daemon_silences",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("family", sa.String(), nullable=True),
        sa.Column("object", sa.String(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("starts_at", _TIME, nullable=False),
        sa.Column("ends_at", _TIME, nullable=False),
        sa.Column("ended_by", sa.String(), nullable=True),
        sa.Column("announced", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("number"),
    )
    op.create_index("ix_daemon_silences_ends_at", "daemon_silences", ["ends_at"])
    op.create_table(
        "daemon_cursors",
        sa.Column("reader", sa.String(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("reader"),
    )
    for column in (
        sa.Column("reopened", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("recovered_run", sa.Integer(), nullable=True),
        sa.Column("recovered_lumisection", sa.Integer(), nullable=True),
        sa.Column("quiet_since", _TIME, nullable=True),
    ):
        op.add_column("daemon_incidents", column)
    op.create_index("ix_daemon_incidents_quiet_since", "daemon_incidents", ["quiet_since"])
    op.create_index("ix_daemon_incidents_resolved_at", "daemon_incidents", ["resolved_at"])
    op.create_index("ix_daemon_incidents_opened", "daemon_incidents", ["opened_at", "number"])
    op.create_index("ix_daemon_incidents_of_model", "daemon_incidents", ["model", "opened_at", "number"])
    op.create_index("ix_daemon_incidents_number", "daemon_incidents", ["model", "number"])
    standing = ["model", "simulated", "state", "number"]
    op.create_index("ix_daemon_incidents_standing", "daemon_incidents", standing)
    op.create_index("ix_daemon_incidents_state_of_model", "daemon_incidents", ["model", "state"])
    place = ["model", "run", "lumisection", "received_at"]
    op.create_index("ix_daemon_verdicts_place", "daemon_verdicts", place)
