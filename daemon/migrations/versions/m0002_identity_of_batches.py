"""A batch is known by model, run, lumisection, source and sequence, no longer by its place in a topic.

The batches that windows hold already have no sequence here. Each keeps a number of its own, below zero, which
no producer can send: what was counted stays counted. A message that was counted before and not yet committed
is counted again if it comes after this upgrade: let the workers drain the broker first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table anew with its new key, and take the rows over."""
    op.drop_index("ix_stream_batches_place", table_name="stream_batches")
    op.drop_index("ix_stream_batches_window_id", table_name="stream_batches")
    op.rename_table("stream_batches", "stream_batches_0001")
    op.create_table(
        "stream_batches",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("lumisection", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.BigInteger(), nullable=False),
        sa.Column("n_events", sa.Integer(), nullable=False),
        sa.Column("window_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["window_id"], ["stream_windows.id"]),
        sa.PrimaryKeyConstraint("model", "run", "lumisection", "source", "sequence"),
    )
    op.execute(
        "INSERT INTO stream_batches "
        "(model, run, lumisection, source, sequence, digest, n_events, window_id) "
        "SELECT model, run, lumisection, source, -ROW_NUMBER() OVER ("
        'PARTITION BY model, run, lumisection, source ORDER BY stream, topic, partition, "offset"), '
        "0, n_events, window_id FROM stream_batches_0001"
    )
    op.drop_table("stream_batches_0001")
    op.create_table(
        "stream_sources",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("lumisection", sa.Integer(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model", "run", "source"),
    )
    op.create_table(
        "stream_workers",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("report", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.add_column("stream_conditions", sa.Column("announced_at", sa.DateTime(timezone=True), nullable=True))
    unassessed = sa.text("assessed_events < n_events")
    op.create_index(
        "ix_stream_windows_unassessed",
        "stream_windows",
        ["state", "model"],
        sqlite_where=unassessed,
        postgresql_where=unassessed,
    )
