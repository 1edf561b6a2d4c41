"""Tables of this package: windows, batches, sources, conditions, assessments, references, workers.

Only columns and their meaning; what is done with them stands in `streams.store.windows` and
`streams.judging.reference_store`.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, Column, Engine, Index, LargeBinary, UniqueConstraint, inspect, text
from sqlalchemy.exc import OperationalError
from sqlmodel import Field, SQLModel

from streams.errors import DatabaseError
from streams.store.database import UtcDateTime, write_session


class WindowState(StrEnum):
    """How far a window has come.

    ``open``: waits for data. ``closed``: assessed; late data still counts. ``sealed``: takes no data any
    more, because its batches are not told apart any longer. ``archived``: its counts are gone too.
    """

    OPEN = "open"
    CLOSED = "closed"
    SEALED = "sealed"
    ARCHIVED = "archived"


WITH_COUNTS = (WindowState.CLOSED, WindowState.SEALED)
"""States of a window that is assessed and still has its counts."""


class ReferenceState(StrEnum):
    """Whether a reference is in use."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    RETIRED = "retired"


def _time(*, nullable: bool = False) -> Column[datetime]:
    return Column(UtcDateTime(), nullable=nullable)


class WindowRow(SQLModel, table=True):
    """One model, run, lumisection and package: its merged summary and where it stands.

    ``assessed_events`` below ``n_events`` on a closed window means that late data waits to be assessed;
    ``revision`` counts the assessments made.
    """

    __tablename__ = "stream_windows"
    __table_args__ = (
        UniqueConstraint("model", "run", "lumisection", "package"),
        Index("ix_stream_windows_state", "state", "model"),
        # asked for every second: closed windows with late data, and the few that are open
        Index(
            "ix_stream_windows_unassessed",
            "state",
            "model",
            sqlite_where=text("assessed_events < n_events"),
            postgresql_where=text("assessed_events < n_events"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    model: str
    run: int
    lumisection: int
    package: str
    contract_hash: str
    state: str = WindowState.OPEN
    complete: bool = False
    simulated: bool = False
    n_batches: int = 0
    n_events: int = 0
    n_accept: int = 0
    late_events: int = 0
    assessed_events: int = 0
    revision: int = 0
    summary: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    opened_at: datetime = Field(sa_column=_time())
    updated_at: datetime = Field(sa_column=_time())
    closed_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))


class BatchRow(SQLModel, table=True):
    """One batch that a window holds, written in the same transaction: what is here is never counted again.

    ``digest`` (CRC-32C of the message) tells a batch that came twice from a sequence that was used again.
    """

    __tablename__ = "stream_batches"
    # thousands of rows for each lumisection: on SQLite the primary key alone holds them
    __table_args__ = ({"sqlite_with_rowid": False},)

    model: str = Field(primary_key=True)
    run: int = Field(primary_key=True)
    lumisection: int = Field(primary_key=True)
    source: str = Field(primary_key=True)
    sequence: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    digest: int = Field(sa_column=Column(BigInteger, nullable=False))
    n_events: int
    window_id: int = Field(foreign_key="stream_windows.id")


class SourceRow(SQLModel, table=True):
    """How far a source has come in a run: its latest lumisection, and when it last sent anything new."""

    __tablename__ = "stream_sources"

    model: str = Field(primary_key=True)
    run: int = Field(primary_key=True)
    source: str = Field(primary_key=True)
    lumisection: int
    seen_at: datetime = Field(sa_column=_time())


class ConditionsRow(SQLModel, table=True):
    """The latest conditions of a lumisection (JSON), and when its end was announced.

    ``ended_at``: when the announcement was read here. ``announced_at``: when it was sent.
    ``settled``: its windows are closed, or nobody waits for them any longer.
    """

    __tablename__ = "stream_conditions"
    __table_args__ = (Index("ix_stream_conditions_settled", "settled", "model", "run"),)

    model: str = Field(primary_key=True)
    run: int = Field(primary_key=True)
    lumisection: int = Field(primary_key=True)
    document: str
    settled: bool = False
    ended_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    announced_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    updated_at: datetime = Field(sa_column=_time())


class AssessmentRow(SQLModel, table=True):
    """One assessment and the verdict on it (JSON each), in the order in which they were made.

    ``published`` turns true once the verdict is on the verdicts topic.
    """

    __tablename__ = "stream_assessments"
    __table_args__ = (Index("ix_stream_assessments_place", "model", "run", "lumisection"),)

    id: int | None = Field(default=None, primary_key=True)
    verdict_id: str = Field(unique=True)
    window_id: int = Field(foreign_key="stream_windows.id", index=True)
    model: str
    run: int
    lumisection: int
    package: str
    revision: int
    state: str
    assessment: str
    verdict: str
    published: bool = Field(default=False, index=True)
    created_at: datetime = Field(sa_column=_time())


class ReferenceRow(SQLModel, table=True):
    """One reference: its bytes, and who put it in or out of use."""

    __tablename__ = "stream_references"
    __table_args__ = (Index("ix_stream_references_use", "model", "state"),)

    id: str = Field(primary_key=True)
    model: str
    package: str
    contract_hash: str
    state: str = ReferenceState.PROPOSED
    parent_id: str | None = None
    built_from: str
    n_events: int
    n_lumisections: int
    content: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=_time())
    approved_by: str | None = None
    approved_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    retired_by: str | None = None
    retired_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))


class WorkerRow(SQLModel, table=True):
    """The latest report of one worker (JSON, see `streams.worker_status`), and when it was written."""

    __tablename__ = "stream_workers"

    name: str = Field(primary_key=True)
    seen_at: datetime = Field(sa_column=_time())
    report: str


TABLES = (WindowRow, BatchRow, SourceRow, ConditionsRow, AssessmentRow, ReferenceRow, WorkerRow)


def require_tables(engine: Engine) -> None:
    """Make sure that the tables of this package exist; a site's database is brought up to date by its owner.

    Raises
    ------
    DatabaseError
        Names what is missing and what to run.
    """
    name = engine.url.render_as_string(hide_password=True)
    try:
        present = inspect(engine).get_table_names()
    except OperationalError as error:
        cause = str(error.orig).splitlines()[0]
        raise DatabaseError(
            f"database {name} does not answer: start it, or mend the URL ({cause})"
        ) from error
    missing = {str(table.__tablename__) for table in TABLES}.difference(present)
    if missing:
        raise DatabaseError(
            f"database {name} has no table {min(missing)}: "
            "start the worker by `lumiwatch worker`, which makes the tables, or start `lumiwatch serve` first"
        )


def create_tables(engine: Engine) -> None:
    """Create the tables of this package that are missing, in a database that serves this package alone.

    Several processes may do so at once. Never for a site's database: its schema has versions, which this
    knows nothing of.
    """
    with write_session(engine, lock="streams.store.records") as session:
        tables = [SQLModel.metadata.tables[str(table.__tablename__)] for table in TABLES]
        SQLModel.metadata.create_all(session.connection(), tables=tables)
