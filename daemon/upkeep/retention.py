"""What the daemon's own tables forget: messages that were sent, and the details of incidents long resolved.

Each call takes a bounded number of rows, in one short transaction. An incident's own row, its responses' rows
and the lineage stay for good: they are what people and firmware refer to. Old events are the audit log's
(`audit_log.prune`), windows and verdicts the stream's (`streams.store.retention`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import delete, exists, func, or_, select
from sqlalchemy.engine import Engine
from sqlmodel import SQLModel, col

from daemon.store.database import transaction
from daemon.store.records import (
    DecisionRecord,
    IncidentEventRecord,
    IncidentRecord,
    IncidentState,
    NotificationRecord,
    NotificationState,
    ResponseRecord,
    ResponseStepRecord,
)

ForgetWorkflows = Callable[[Sequence[str]], None]
"""Lets the workflow engine forget the finished workflows of responses."""


def forget_notifications(engine: Engine, before: datetime, *, at_most: int) -> int:
    """Forget messages from before a time; returns how many.

    What is still to be sent stays, and so does what was said of an incident that is not resolved: its thread
    goes on. The one about the newest event stays too: it says where to go on after a restart.
    """
    newest = select(func.max(col(NotificationRecord.event_sequence))).scalar_subquery()
    unresolved = exists().where(
        col(IncidentRecord.id) == col(NotificationRecord.incident_id),
        col(IncidentRecord.state) != IncidentState.RESOLVED,
    )
    old = (
        select(col(NotificationRecord.id))
        .where(
            col(NotificationRecord.created_at) < before,
            col(NotificationRecord.state) != NotificationState.PENDING,
            or_(
                col(NotificationRecord.event_sequence).is_(None),
                col(NotificationRecord.event_sequence) < newest,
            ),
            ~unresolved,
        )
        .limit(at_most)
    )
    with transaction(engine) as session:
        names = session.connection().execute(old).scalars().all()
        session.connection().execute(delete(NotificationRecord).where(col(NotificationRecord.id).in_(names)))
    return len(names)


def forget_incident_details(
    engine: Engine, before: datetime, forget_workflows: ForgetWorkflows, *, at_most: int
) -> int:
    """Forget history, decisions and steps of incidents that were resolved before a time.

    Parameters
    ----------
    forget_workflows
        Called first: a crash after it leaves rows that the next call takes.
    at_most
        Incidents in one call.

    Returns
    -------
    Rows that are gone.
    """
    has_history = exists().where(col(IncidentEventRecord.incident_id) == col(IncidentRecord.id))
    old = (
        select(col(IncidentRecord.id))
        .where(
            col(IncidentRecord.state) == IncidentState.RESOLVED,
            col(IncidentRecord.resolved_at) < before,
            has_history,
        )
        .limit(at_most)
    )
    with engine.connect() as connection:
        incidents = connection.execute(old).scalars().all()
        responses = connection.execute(
            select(col(ResponseRecord.id)).where(col(ResponseRecord.incident_id).in_(incidents))
        ).scalars()
        answers = list(responses)
    if not incidents:
        return 0
    if answers:
        forget_workflows(answers)
    parts: tuple[tuple[type[SQLModel], object, Sequence[str]], ...] = (
        (DecisionRecord, DecisionRecord.response_id, answers),
        (ResponseStepRecord, ResponseStepRecord.response_id, answers),
        (IncidentEventRecord, IncidentEventRecord.incident_id, incidents),
    )
    with transaction(engine) as session:
        connection = session.connection()
        return sum(
            connection.execute(delete(record).where(col(column).in_(owners))).rowcount
            for record, column, owners in parts
        )
