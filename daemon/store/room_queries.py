"""Reading what other rooms keep: windows and references of the stream, packages of the hardware.

Plain functions like `queries`, over the same database. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from sqlalchemy.engine import Engine
from sqlalchemy.orm import defer
from sqlmodel import Session, col, func, or_, select

from daemon.responses.steps import APPLY, BENCH
from daemon.store.records import ResponseRecord, ResponseStepRecord
from daemon.store.views import BenchView, BoardOperationView, PackageView, ReferenceView, WindowView
from hw.records import BoardOperationRecord, PackageRecord
from hw.report import BenchReport
from streams.conditions import Conditions
from streams.judging.assessment import Assessment
from streams.judging.reference_store import list_references
from streams.store.records import AssessmentRow, ConditionsRow, WindowRow


def windows(engine: Engine, model: str, *, run: int | None = None, limit: int = 500) -> list[WindowView]:
    """Give the latest `limit` windows of a model, oldest first, without their histograms."""
    # not the whole row: its summary is large
    query = (
        select(WindowRow)
        .where(WindowRow.model == model)
        .options(defer(_column(WindowRow.summary), raiseload=True))
    )
    if run is not None:
        query = query.where(WindowRow.run == run)
    query = query.order_by(
        col(WindowRow.run).desc(), col(WindowRow.lumisection).desc(), col(WindowRow.id).desc()
    ).limit(limit)
    with Session(engine) as session:
        rows = session.exec(query).all()
        assessed = _assessments(session, [row.id for row in rows if row.id is not None])
        conditions = _conditions(session, model, {row.run for row in rows})
        return [
            WindowView(
                model=model,
                run=row.run,
                lumisection=row.lumisection,
                package=row.package,
                state=row.state,
                n_events=row.n_events,
                n_accept=row.n_accept,
                late_events=row.late_events,
                accept_rate=row.n_accept / row.n_events if row.n_events else None,
                expected_rate=_expected_rate(assessed, row),
                pileup=conditions.get((row.run, row.lumisection)),
            )
            for row in reversed(rows)
        ]


def newest_assessment(engine: Engine, model: str, run: int) -> int | None:
    """Give the number of the latest assessment of a run: while it stays, no window was judged."""
    newest = select(func.max(AssessmentRow.id)).where(AssessmentRow.model == model, AssessmentRow.run == run)
    with Session(engine) as session:
        return session.exec(newest).one()


def references(engine: Engine, model: str | None = None) -> list[ReferenceView]:
    """Give the references of one model, or of all, newest first."""
    return [
        ReferenceView(
            id=row.id,
            model=row.model,
            package=row.package,
            state=row.state,
            parent_id=row.parent_id,
            built_from=row.built_from,
            n_events=row.n_events,
            n_lumisections=row.n_lumisections,
            created_at=row.created_at,
            approved_by=row.approved_by,
            approved_at=row.approved_at,
        )
        for row in reversed(list_references(engine, model))
    ]


def packages(engine: Engine) -> list[PackageView]:
    """Give the firmware packages that the site knows, newest first."""
    with Session(engine) as session:
        rows = session.exec(select(PackageRecord).order_by(col(PackageRecord.recorded_at).desc())).all()
        return [
            # SQLite gives the time back without its zone, which is UTC
            PackageView(**{**row.model_dump(), "recorded_at": row.recorded_at.replace(tzinfo=UTC)})
            for row in rows
        ]


def board_operations(
    engine: Engine, *, package_id: str | None = None, limit: int = 50
) -> list[BoardOperationView]:
    """Give what was done to the boards, newest first; `package_id` narrows to one package, loaded or left."""
    query = (
        select(BoardOperationRecord, PackageRecord.name)
        .join(PackageRecord, col(PackageRecord.id) == BoardOperationRecord.to_package, isouter=True)
        .order_by(col(BoardOperationRecord.id).desc())
        .limit(limit)
    )
    if package_id is not None:
        query = query.where(
            or_(
                BoardOperationRecord.to_package == package_id,
                BoardOperationRecord.from_package == package_id,
            )
        )
    with Session(engine) as session:
        return [_operation(record, name) for record, name in session.exec(query).all()]


def last_operations(engine: Engine, models: Sequence[str]) -> dict[str, BoardOperationView]:
    """Give the last thing that was done to the board of each model, by model, in one statement."""
    newest = (
        select(func.max(BoardOperationRecord.id))
        .join(PackageRecord, col(PackageRecord.id) == BoardOperationRecord.to_package)
        .where(col(PackageRecord.name).in_(models))
        .group_by(PackageRecord.name)
    )
    query = (
        select(BoardOperationRecord, PackageRecord.name)
        .join(PackageRecord, col(PackageRecord.id) == BoardOperationRecord.to_package)
        .where(col(BoardOperationRecord.id).in_(newest))
    )
    with Session(engine) as session:
        return {name: _operation(record, name) for record, name in session.exec(query).all()}


def benches(engine: Engine, package_id: str) -> list[BenchView]:
    """Give the benches that responses made of a package, oldest first: before the board, and on it."""
    query = (
        select(ResponseStepRecord)
        .join(ResponseRecord, col(ResponseRecord.id) == ResponseStepRecord.response_id)
        .where(
            ResponseRecord.candidate_package == package_id,
            col(ResponseStepRecord.name).in_([BENCH.name, APPLY.name]),
        )
        .order_by(col(ResponseStepRecord.ended_at))
    )
    found = []
    with Session(engine) as session:
        for step in session.exec(query).all():
            report = step.result.get("report") or step.result.get("detail", {}).get("bench")
            if report:
                title = f"{step.response_id}: {step.title.lower()}"
                found.append(
                    BenchView(title=title, at=step.ended_at, report=BenchReport.model_validate(report))
                )
    return found


def _operation(record: BoardOperationRecord, model: str | None) -> BoardOperationView:
    content = record.model_dump(exclude={"id", "done_at", "loaded_words"})
    # SQLite gives the time back without its zone, which is UTC
    return BoardOperationView(**content, model=model, at=record.done_at.replace(tzinfo=UTC))


def _column(attribute: object) -> Any:
    """Tell the type checker that a class's attribute is a column, which SQLModel hides."""
    return attribute


def _expected_rate(assessed: dict[int, Assessment], row: WindowRow) -> float | None:
    assessment = assessed.get(row.id) if row.id is not None else None
    return assessment.expected_rate if assessment is not None else None


def _assessments(session: Session, window_ids: list[int]) -> dict[int, Assessment]:
    rows = session.exec(
        select(AssessmentRow)
        .where(col(AssessmentRow.window_id).in_(window_ids))
        .order_by(col(AssessmentRow.id))
    ).all()
    return {row.window_id: Assessment.model_validate_json(row.assessment) for row in rows}


def _conditions(session: Session, model: str, runs: set[int]) -> dict[tuple[int, int], float]:
    rows = session.exec(
        select(ConditionsRow).where(ConditionsRow.model == model, col(ConditionsRow.run).in_(runs))
    ).all()
    return {(row.run, row.lumisection): Conditions.model_validate_json(row.document).pileup for row in rows}
