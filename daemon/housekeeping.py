"""Housekeeping: lets the database forget what nobody needs any longer, a little every minute.

Says what incidents still need; what is forgotten when stands in `streams.store.retention`. Knows no web and
no Kafka.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, exists
from sqlalchemy import select as select_columns
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, select

from daemon.database import transaction
from daemon.records import IncidentRecord, VerdictRecord
from daemon.settings import Site
from streams.store.records import AssessmentRow, WindowRow
from streams.store.retention import ROWS_AT_ONCE, Retention, RetentionSettings, Stretch

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 60.0
STEPS_AT_ONCE: Final = 20
"""Steps of a model each minute, while there is something left to forget."""
AROUND_INCIDENT: Final = 40
"""Lumisections before and after the ends of an incident whose windows are kept."""
_STOP_S: Final = 5.0


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
    """

    def __init__(
        self,
        engine: Engine,
        site: Site,
        clock: Callable[[], datetime],
        on_contained: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._settings = retention_settings(site)
        self._retention = Retention(engine, self._settings)
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
        total = 0
        with Session(self._engine) as session:
            models = list(session.exec(select(WindowRow.model).distinct()))
        for model in models:
            needed = _needed(self._engine, model)
            for _ in range(STEPS_AT_ONCE):
                forgotten = sum(self._retention.step(model, now, needed))
                total += forgotten
                if not forgotten or self._stop.is_set():
                    break
        return total + _forget_verdicts(self._engine, now - self._settings.assessments)

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


def _needed(engine: Engine, model: str) -> list[Stretch]:
    """Return the lumisections around the beginning and the end of every incident of a model."""
    with Session(engine) as session:
        incidents = session.exec(select(IncidentRecord).where(IncidentRecord.model == model)).all()
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
