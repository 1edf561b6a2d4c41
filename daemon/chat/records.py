"""Which tickets of the chat were used: one row each, so that none acts twice.

The primary key decides a race. Knows no signature: what comes here was recognised before.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import delete
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, Session, SQLModel, col

from daemon.alerts.rendering import escape
from daemon.chat.refusal import Reason, Refused
from daemon.chat.signing import Ticket
from daemon.store.database import transaction
from streams.store.database import UtcDateTime


class ChatUseRecord(SQLModel, table=True):
    """One used ticket."""

    __tablename__ = "daemon_chat_uses"

    nonce: str = Field(primary_key=True)
    act: str
    incident_id: str
    response_id: str
    operator: str
    used_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime, index=True)  # afterwards the row is not needed


def spend(engine: Engine, ticket: Ticket, *, operator: str, now: datetime) -> None:
    """Write down that a ticket is used.

    Raises
    ------
    Refused
        It was used before (`used`).
    """
    try:
        with transaction(engine) as session:
            session.add(
                ChatUseRecord(
                    nonce=ticket.nonce,
                    act=ticket.act,
                    incident_id=ticket.incident_id,
                    response_id=ticket.response_id,
                    operator=operator,
                    used_at=now,
                    expires_at=datetime.fromtimestamp(int(ticket.expires_at), tz=UTC),
                )
            )
    except IntegrityError:
        raise Refused(
            Reason.USED,
            f"This button of {escape(ticket.incident_id)} was used already: nothing was done a second time.",
        ) from None


def give_back(engine: Engine, ticket: Ticket) -> None:
    """Make a ticket usable again whose act was refused: a person without rights must not use it up."""
    with transaction(engine) as session:
        session.connection().execute(delete(ChatUseRecord).where(col(ChatUseRecord.nonce) == ticket.nonce))


def forget_uses(session: Session, before: datetime) -> int:
    """Delete the uses of tickets that expired before a time: they cannot come back.

    Parameters
    ----------
    session
        Of the caller's transaction.
    before
        Aware UTC, not later than now.

    Returns
    -------
    int
        Number of rows deleted.
    """
    old = delete(ChatUseRecord).where(col(ChatUseRecord.expires_at) < before)
    return session.connection().execute(old).rowcount
