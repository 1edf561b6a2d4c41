"""The chain of hashes over everything that happened; the events that are there become its beginning.

The canonical form is written out here as it was when this migration was made (docs/audit.md, form 1).
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_TIME = sa.DateTime(timezone=True)
_GENESIS: Final = "0" * 64
_BATCH: Final = 500

_EVENTS: Final = sa.Table(
    "daemon_events",
    sa.MetaData(),
    sa.Column("sequence", sa.Integer(), primary_key=True),
    sa.Column("id", sa.String()),
    sa.Column("at", _TIME),
    sa.Column("kind", sa.String()),
    sa.Column("actor", sa.String()),
    sa.Column("model", sa.String()),
    sa.Column("incident_id", sa.String()),
    sa.Column("response_id", sa.String()),
    sa.Column("simulated", sa.Boolean()),
    sa.Column("text", sa.String()),
    sa.Column("detail", sa.JSON()),
)
_HASHES: Final = sa.table("daemon_events", sa.column("sequence"), sa.column("previous"), sa.column("hash"))


def upgrade() -> None:
    """Add the columns and the head, and chain what is there."""
    for name in ("previous", "hash"):
        op.add_column("daemon_events", sa.Column(name, sa.String(), nullable=False, server_default=""))
    head = op.create_table(
        "daemon_audit_head",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("checkpoint_sequence", sa.Integer(), nullable=False),
        sa.Column("checkpoint_hash", sa.String(), nullable=False),
        sa.Column("checkpoint_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    # as a script for somebody to run, a migration can read no rows: such a database has to be empty
    sequence, digest = (0, _GENESIS) if op.get_context().as_sql else _chain(op.get_bind())
    first = {"id": 1, "sequence": sequence, "hash": digest, "checkpoint_sequence": 0}
    op.bulk_insert(head, [{**first, "checkpoint_hash": _GENESIS, "checkpoint_at": None}])


def _chain(connection: sa.Connection) -> tuple[int, str]:
    sequence, digest = 0, _GENESIS
    while True:
        rows = connection.execute(
            sa.select(_EVENTS).where(_EVENTS.c.sequence > sequence).order_by(_EVENTS.c.sequence).limit(_BATCH)
        ).all()
        if not rows:
            return sequence, digest
        for row in rows:
            before, digest = digest, _digest({**row._mapping, "previous": digest})  # noqa: SLF001 - its public name
            sequence = row.sequence
            connection.execute(
                sa.update(_HASHES).where(_HASHES.c.sequence == sequence).values(previous=before, hash=digest)
            )


def _digest(content: dict[str, Any]) -> str:
    at: datetime = content["at"]
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    content = {**content, "at": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "form": 1}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
