"""A second decision before the board is touched, and incidents that operators ask for without an alarm.

Decisions of before were all about whether to begin; incidents of before were all opened by alarms.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the columns, and make the table of decisions anew with its new key."""
    op.add_column("daemon_incidents", sa.Column("kind", sa.String(), nullable=False, server_default="alarm"))
    for column in (
        sa.Column("estimate", sa.JSON(), nullable=True),
        sa.Column("hardware", sa.JSON(), nullable=True),
        sa.Column("decide_by", _TIME, nullable=True),
        sa.Column("escalated_at", _TIME, nullable=True),
    ):
        op.add_column("daemon_responses", column)
    op.drop_index("ix_daemon_decisions_response_id", table_name="daemon_decisions")
    op.rename_table("daemon_decisions", "daemon_decisions_0006")
    op.create_table(
        "daemon_decisions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("response_id", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("operator", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("strategy", sa.String(), nullable=True),
        sa.Column("comment", sa.String(), nullable=False),
        sa.Column("via", sa.String(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["response_id"], ["daemon_responses.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("response_id", "stage", "operator"),
    )
    op.create_index("ix_daemon_decisions_response_id", "daemon_decisions", ["response_id"])
    op.execute(
        "INSERT INTO daemon_decisions (id, response_id, stage, operator, kind, strategy, comment, via, at) "
        "SELECT id, response_id, 'response', operator, kind, strategy, comment, via, at "
        "FROM daemon_decisions_0006"
    )
    op.drop_table("daemon_decisions_0006")
