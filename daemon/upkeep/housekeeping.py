"""Housekeeping: lets the database forget what nobody needs any longer, a little every minute.

Says what incidents still need and calls who forgets: `streams.store.retention`, `retention`, `audit_log`, and
the chores of other rooms. The database file does not shrink: its free pages are used again, see
docs/operations.md. Knows no web and no Kafka.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, exists
from sqlalchemy import select as select_columns
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, or_, select

from daemon.journal import audit_log
from daemon.site.settings import Site
from daemon.store.database import transaction
from daemon.store.records import IncidentRecord, VerdictRecord
from daemon.upkeep.retention import ForgetWorkflows, forget_incident_details, forget_notifications
from daemon.upkeep.work_files import forget_pictures, forget_work_folders
from streams.store.records import AssessmentRow, WindowRow
from streams.store.retention import ROWS_AT_ONCE, Retention, RetentionSettings, Stretch

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 60.0
STEPS_AT_ONCE: Final = 20
"""Steps of a model each minute, while there is something left to forget."""
AROUND_INCIDENT: Final = 40
"""Lumisections before and after the ends of an incident whose windows are kept."""
EVENTS_AT_ONCE: Final = 5000
"""Events that the audit log gives up in one transaction."""
BETWEEN_CHECKPOINTS: Final = timedelta(days=1)
"""Old events go once a day: each time, the audit log gains one that signs it off."""
_INCIDENTS_AT_ONCE: Final = 20
_FILES_AT_ONCE: Final = 50
_STOP_S: Final = 5.0

Chore = Callable[[datetime], int]
"""Forgets a bounded number of rows of another room, given the time; returns how many."""


class Housekeeping:
    """Forgets what is old, in a thread of its own from `start` to `stop`.

    Parameters
    ----------
    engine, site
        Database and settings.
    clock
        Gives the time, aware UTC.
    on_contained
        Called for every failure that was contained, to count it: the next minute tries again.
    forget_workflows
        Lets the workflow engine forget responses.
    chores
        What other rooms let go.
    """

    def __init__(
        self,
        engine: Engine,
        site: Site,
        clock: Callable[[], datetime],
        on_contained: Callable[[], None] = lambda: None,
        *,
        forget_workflows: ForgetWorkflows = lambda _: None,
        chores: Sequence[Chore] = (),
    ) -> None:
        self._engine = engine
        self._site = site
        self._settings = retention_settings(site)
        self._retention = Retention(engine, self._settings)
        self._forget_workflows = forget_workflows
        self._chores = chores
        self._events_left = False
        self._clock = clock
        self._on_contained = on_contained
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin to forget."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the step at hand."""
        self._stop.set()
        self._thread.join(_STOP_S)

    def tidy(self) -> int:
        """Forget what can be forgotten within some steps; return the number of rows concerned."""
        now = self._clock()
        incidents_from = now - timedelta(days=self._site.settings.retention.incidents_days)
        total = 0
        with Session(self._engine) as session:
            models = list(session.exec(select(WindowRow.model).distinct()))
        for model in models:
            needed = _needed(self._engine, model, incidents_from)
            for _ in range(STEPS_AT_ONCE):
                forgotten = sum(self._retention.step(model, now, needed))
                total += forgotten
                if not forgotten or self._stop.is_set():
                    break
        total += _forget_verdicts(self._engine, now - self._settings.assessments)
        return total + self._forget_own(now) + sum(chore(now) for chore in self._chores)

    def _forget_own(self, now: datetime) -> int:
        kept = self._site.settings.retention
        details = forget_incident_details(
            self._engine,
            now - timedelta(days=kept.incidents_days),
            self._forget_workflows,
            at_most=_INCIDENTS_AT_ONCE,
        )
        messages = forget_notifications(
            self._engine,
            now - timedelta(days=kept.notifications_days),
            at_most=ROWS_AT_ONCE * STEPS_AT_ONCE,
        )
        state = self._site.state_dir
        folders = forget_work_folders(
            self._engine,
            state / "responses",
            now - timedelta(days=kept.work_files_days),
            at_most=_FILES_AT_ONCE,
        )
        pictures = forget_pictures(
            state / "pictures", now - timedelta(days=kept.notifications_days), at_most=_FILES_AT_ONCE
        )
        return details + messages + folders + pictures + self._forget_events(now)

    def _forget_events(self, now: datetime) -> int:
        last = audit_log.last_checkpoint(self._engine)
        if last is not None and now - last < BETWEEN_CHECKPOINTS and not self._events_left:
            return 0
        gone = audit_log.prune(
            self._engine,
            now - timedelta(days=self._site.settings.retention.events_days),
            now=now,
            published_only=self._site.settings.kafka.bootstrap is not None,
            at_most=EVENTS_AT_ONCE,
        )
        self._events_left = gone == EVENTS_AT_ONCE
        return gone

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            try:
                count = self.tidy()
            except SQLAlchemyError:
                logger.exception("old rows cannot be forgotten: trying again in a minute")
                self._on_contained()
            else:
                if count:
                    logger.info("forgot %d old rows", count)


def retention_settings(site: Site) -> RetentionSettings:
    """Return how long a site keeps what, from its [stream] settings."""
    stream = site.settings.stream
    return RetentionSettings(
        late_data=timedelta(days=stream.late_data_days),
        windows=timedelta(days=stream.windows_kept_days),
        assessments=timedelta(days=stream.verdicts_kept_days),
    )


def _needed(engine: Engine, model: str, resolved_after: datetime) -> list[Stretch]:
    """Return the lumisections around the beginning and the end of a model's incidents, but for old ones."""
    not_old = or_(
        col(IncidentRecord.resolved_at).is_(None), col(IncidentRecord.resolved_at) >= resolved_after
    )
    with Session(engine) as session:
        incidents = session.exec(select(IncidentRecord).where(IncidentRecord.model == model, not_old)).all()
    stretches = []
    for incident in incidents:
        for run, lumisection in (
            (incident.run, incident.onset_lumisection),
            (incident.last_run, incident.last_lumisection),
        ):
            stretches.append(Stretch(run, lumisection - AROUND_INCIDENT, lumisection + AROUND_INCIDENT))
    return stretches


def _forget_verdicts(engine: Engine, before: datetime) -> int:
    """Forget the daemon's copies of verdicts that the stream has forgotten; others would be taken as new."""
    stored = exists().where(col(AssessmentRow.verdict_id) == col(VerdictRecord.id))
    old = (
        select_columns(col(VerdictRecord.id))
        .where(col(VerdictRecord.received_at) < before, ~stored)
        .limit(ROWS_AT_ONCE * STEPS_AT_ONCE)
    )
    with transaction(engine) as session:
        names = list(session.connection().execute(old).scalars())
        for start in range(0, len(names), ROWS_AT_ONCE):
            chunk = names[start : start + ROWS_AT_ONCE]
            session.connection().execute(delete(VerdictRecord).where(col(VerdictRecord.id).in_(chunk)))
    return len(names)
