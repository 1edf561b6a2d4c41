"""What the stream has found so far: closed windows and verdicts, for whoever builds references or shows them.

Only reads.
"""

from dataclasses import dataclass

from sqlalchemy import Engine
from sqlmodel import col, select

from streams.conditions import Conditions
from streams.counting.codec import decode_summary
from streams.counting.summary import Summary
from streams.judging.assessment import Assessment
from streams.judging.verdict import Verdict
from streams.store.database import read_session
from streams.store.records import WITH_COUNTS, AssessmentRow, ConditionsRow, WindowRow


@dataclass(frozen=True, eq=False)
class ClosedWindow:
    """A closed window with everything known of it.

    Attributes
    ----------
    summary
        Its counts.
    conditions
        Conditions of its lumisection, if they arrived.
    complete
        Whether every expected batch had arrived.
    late_events
        Events that came after it had closed first.
    n_batches
        Batches counted in it.
    """

    summary: Summary
    conditions: Conditions | None
    complete: bool
    late_events: int
    n_batches: int


@dataclass(frozen=True)
class JudgedWindow:
    """A stored assessment and its verdict; ``order`` grows with every one stored."""

    order: int
    assessment: Assessment
    verdict: Verdict


def closed_windows(
    engine: Engine,
    model: str,
    *,
    run: int | None = None,
    package: str | None = None,
    first_lumisection: int = 0,
    last_lumisection: int = 2**31 - 1,
) -> list[ClosedWindow]:
    """Return the closed windows of a model, in the order of their lumisections.

    Parameters
    ----------
    engine
        The site's database.
    run, package
        Only of this run, of this package; None for all.
    first_lumisection, last_lumisection
        Both included.
    """
    query = (
        select(WindowRow)
        .where(
            WindowRow.model == model,
            col(WindowRow.state).in_(WITH_COUNTS),
            col(WindowRow.lumisection).between(first_lumisection, last_lumisection),
        )
        .order_by(col(WindowRow.run), col(WindowRow.lumisection), col(WindowRow.id))
    )
    if run is not None:
        query = query.where(WindowRow.run == run)
    if package is not None:
        query = query.where(WindowRow.package == package)
    with read_session(engine) as session:
        result = []
        for row in session.exec(query):
            known = session.get(ConditionsRow, (row.model, row.run, row.lumisection))
            conditions = Conditions.model_validate_json(known.document) if known is not None else None
            result.append(
                ClosedWindow(
                    decode_summary(row.summary), conditions, row.complete, row.late_events, row.n_batches
                )
            )
        return result


def judged_windows(engine: Engine, model: str, *, after: int = 0, limit: int = 1000) -> list[JudgedWindow]:
    """Return stored assessments with verdicts of a model, the oldest first.

    Parameters
    ----------
    engine
        The site's database.
    after
        Only those whose ``order`` is larger; 0 for all.
    limit
        At most this many.
    """
    query = (
        select(AssessmentRow)
        .where(AssessmentRow.model == model, col(AssessmentRow.id) > after)
        .order_by(col(AssessmentRow.id))
        .limit(limit)
    )
    with read_session(engine) as session:
        return [_judged(row) for row in session.exec(query)]


def latest_judged_windows(engine: Engine, model: str, limit: int) -> list[JudgedWindow]:
    """Return the last stored assessments with verdicts of a model, the oldest first."""
    query = (
        select(AssessmentRow)
        .where(AssessmentRow.model == model)
        .order_by(col(AssessmentRow.id).desc())
        .limit(limit)
    )
    with read_session(engine) as session:
        return [_judged(row) for row in reversed(session.exec(query).all())]


def _judged(row: AssessmentRow) -> JudgedWindow:
    return JudgedWindow(
        order=row.id or 0,
        assessment=Assessment.model_validate_json(row.assessment),
        verdict=Verdict.model_validate_json(row.verdict),
    )
