"""Verdicts that were stored but never reached this daemon, taken from the database at its start.

A broker that keeps messages in memory forgets published verdicts when it ends; one with a short
retention forgets them while no daemon runs. They are in the database that workers and daemon share.
Knows no broker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.incidents.intake import take_verdict
from daemon.site.settings import Site
from daemon.store.records import VerdictRecord
from streams.judging.verdict import Verdict
from streams.store.records import AssessmentRow

logger = logging.getLogger(__name__)

_AT_ONCE = 500


def catch_up(engine: Engine, site: Site, clock: Callable[[], datetime]) -> int:
    """Take every stored verdict that was not taken yet, in the order in which they were made.

    To be called before responses are taken up: one that verifies must see what happened meanwhile, and
    one that a verdict asks for is started then. Delivered later as well, a verdict changes nothing.

    Returns
    -------
    int
        How many there were.
    """
    count = 0
    while missed := _missed(engine):
        for verdict in missed:
            take_verdict(engine, site, verdict, now=clock())
        count += len(missed)
    if count:
        logger.info("took %d verdicts from the database that no message had brought", count)
    return count


def _missed(engine: Engine) -> list[Verdict]:
    with Session(engine) as session:
        rows = session.exec(
            select(AssessmentRow.verdict)
            .join(VerdictRecord, col(VerdictRecord.id) == col(AssessmentRow.verdict_id), isouter=True)
            .where(col(VerdictRecord.id).is_(None))
            .order_by(col(AssessmentRow.id))
            .limit(_AT_ONCE)
        ).all()
    return [Verdict.model_validate_json(row) for row in rows]
