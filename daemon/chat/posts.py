"""Where an incident was told in the chat: the post that heads its thread, as the notification log has it.

Reads the log and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.store.records import NotificationRecord


@dataclass(frozen=True)
class Head:
    """A post that heads a thread.

    Parameters
    ----------
    post_id, channel_id
        Where it is.
    file_ids
        Pictures that hang on it.
    """

    post_id: str
    channel_id: str
    file_ids: tuple[str, ...] = ()


def heads_of(engine: Engine, incident_id: str) -> Sequence[Head]:
    """List the posts that head, or headed, the thread of an incident."""
    query = select(NotificationRecord.post_id, NotificationRecord.payload).where(
        NotificationRecord.incident_id == incident_id,
        col(NotificationRecord.post_id).is_not(None),
        col(NotificationRecord.root_id).is_(None),
    )
    with Session(engine) as session:
        rows = session.exec(query).all()
    return [
        Head(post_id, str(payload.get("channel_id")), tuple(payload["body"].get("file_ids", ())))
        for post_id, payload in rows
        if post_id is not None
    ]
