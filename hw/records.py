"""Tables of this package's records: which packages exist, and what was done to which board.

Refuses to know the database: `daemon` opens it.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from sqlalchemy import Column, DateTime
from sqlmodel import Field, Session, SQLModel, col, select

from hw.apply import ApplyReport
from hw.package import Package

LOADED = ("applied", "unchanged")
"""Outcomes after which the board runs the package of the operation."""


def _time(*, nullable: bool = False) -> Column[datetime]:
    return Column(DateTime(timezone=True), nullable=nullable)


class PackageRecord(SQLModel, table=True):
    """A package that was built or imported here. Times are UTC."""

    __tablename__ = "hw_packages"

    id: str = Field(primary_key=True, description="sha256 hex of the manifest")
    name: str = Field(index=True, description="the monitored model")
    version: str
    path: str
    structure_hash: str
    weights_hash: str
    contract_hash: str
    toolchain: str
    toolchain_version: str
    bench_passed: bool
    parent_id: str | None = None
    training_id: str | None = None
    recorded_at: datetime = Field(sa_column=_time())


class BoardOperationRecord(SQLModel, table=True):
    """One operation on a board, successful or not. Times are UTC."""

    __tablename__ = "hw_board_operations"

    id: int | None = Field(default=None, primary_key=True)
    board: str = Field(index=True)
    simulated: bool
    plan_kind: str
    from_package: str
    to_package: str
    outcome: str
    reason: str
    loaded_words: int
    load_s: float
    switch_s: float
    golden_events: int
    golden_mismatches: int
    operator: str | None = None
    done_at: datetime = Field(sa_column=_time())


def record_package(session: Session, package: Package, path: Path, *, now: datetime) -> PackageRecord:
    """Note a package; noting it again only updates its path. The caller commits."""
    manifest = package.manifest
    known = session.get(PackageRecord, package.id)
    record = known or PackageRecord(
        id=package.id,
        name=manifest.name,
        version=manifest.version,
        path=str(path),
        structure_hash=manifest.structure_hash,
        weights_hash=manifest.weights_hash,
        contract_hash=manifest.contract_hash,
        toolchain=manifest.toolchain.name,
        toolchain_version=manifest.toolchain.version,
        bench_passed=manifest.bench is not None and manifest.bench.passed,
        parent_id=manifest.lineage.parent_package,
        training_id=manifest.lineage.training,
        recorded_at=now,
    )
    record.path = str(path)
    session.add(record)
    return record


def record_operation(
    session: Session, report: ApplyReport, *, now: datetime, operator: str | None = None
) -> BoardOperationRecord:
    """Note what was done to a board. The caller commits."""
    record = BoardOperationRecord(
        board=report.board,
        simulated=report.simulated,
        plan_kind=report.plan_kind.value,
        from_package=report.from_package,
        to_package=report.to_package,
        outcome=report.outcome,
        reason=report.reason,
        loaded_words=report.loaded_words,
        load_s=report.load_s,
        switch_s=report.switch_s,
        golden_events=report.golden_events,
        golden_mismatches=report.golden_mismatches,
        operator=operator,
        done_at=now,
    )
    session.add(record)
    return record


def packages_of(session: Session, name: str) -> list[PackageRecord]:
    """List the packages of a monitored model, newest first."""
    newest = PackageRecord.__table__.c.recorded_at.desc()  # type: ignore[attr-defined]  # SQLModel hides it
    return list(session.exec(select(PackageRecord).where(PackageRecord.name == name).order_by(newest)))


def last_package(session: Session, name: str) -> PackageRecord | None:
    """Find the package that a board of a model ran last.

    If nothing was ever done to its board, the newest first firmware: never a successor that was built
    and not brought onto a board, which nobody may have approved or which failed its bench.
    """
    operations = (
        select(BoardOperationRecord)
        .join(PackageRecord, col(PackageRecord.id) == col(BoardOperationRecord.to_package))
        .where(PackageRecord.name == name)
        .order_by(col(BoardOperationRecord.id).desc())
    )
    operation = session.exec(operations).first()
    if operation is not None:
        loaded = operation.outcome in LOADED
        return session.get(PackageRecord, operation.to_package if loaded else operation.from_package)
    firsts = [package for package in packages_of(session, name) if package.parent_id is None]
    return firsts[0] if firsts else None
