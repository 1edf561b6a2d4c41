"""A database of an earlier lumiwatch is upgraded while a proposal waits: the decision still counts."""

import shutil
from pathlib import Path

import pytest
from sqlalchemy import MetaData
from sqlmodel import SQLModel

from daemon.access.roles import Act
from daemon.journal import audit_log
from daemon.migrations import HEAD, recorded_version
from daemon.migrations.upgrade import VERSIONS, upgrade
from daemon.operations import Operations
from daemon.responses.policy import Proposal
from daemon.site.settings import Site
from daemon.store import queries
from daemon.store.database import open_database
from daemon.store.records import DecisionStage, IncidentState, ResponseState
from streams.store.database import open_engine
from tests.daemon.test_operations import proposed
from tests.support.daemon import HandClock, NoWorkflows, make_verdict

OLD = "0002"
NEW_IN_PROPOSALS = set(Proposal.model_fields) & {
    "hardware_approvals_needed", "distinct_approvers", "escalate_after_s", "escalate_to",
}  # fmt: skip


class Everybody:
    def check(self, operator: str, act: Act) -> None:
        pass


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/old.db"
    return request.getfixturevalue("postgres_url")


def make_old_database(url: str, folder: Path, rows_of) -> None:
    """Make a database with the schema of `OLD`, and give it those columns of the rows that it knows."""
    versions = folder / "versions"
    shutil.copytree(VERSIONS, versions, ignore=lambda _, names: [n for n in names if n[:5] > f"m{OLD}"])
    old = open_engine(url)
    upgrade(old, versions=versions)
    tables = MetaData()
    tables.reflect(old)
    for table in tables.sorted_tables:
        known = SQLModel.metadata.tables.get(table.name)
        if known is None:
            continue
        # numbers that PostgreSQL gives out itself are left to it, or it would give them out once more
        given = {column.name for column in table.columns if column.server_default is None}
        with rows_of.connect() as source, old.begin() as target:
            for row in source.execute(known.select().order_by(*known.primary_key)).mappings():
                values = {name: row[name] for name in given & row.keys()}
                if proposal := values.get("proposal"):
                    values["proposal"] = {k: v for k, v in proposal.items() if k not in NEW_IN_PROPOSALS}
                target.execute(table.insert().values(values))
    with old.connect() as connection:
        assert recorded_version(connection) == OLD
    old.dispose()


def test_a_proposal_of_before_can_still_be_approved(url, tmp_path, site: Site, clock: HandClock):
    assert len(NEW_IN_PROPOSALS) == 4
    now = open_database(f"sqlite:///{tmp_path}/now.db")
    response_id = proposed(now, site, clock, make_verdict(63, onset_lumisection=61))
    told = len(queries.events(now))
    make_old_database(url, tmp_path, now)
    now.dispose()

    engine = open_database(url)

    with engine.connect() as connection:
        assert recorded_version(connection) == HEAD
    waiting = queries.response(engine, response_id)
    assert waiting.state is ResponseState.PROPOSED
    assert waiting.waits_for is not None
    assert waiting.waits_for.stage is DecisionStage.RESPONSE
    assert len(queries.events(engine)) == told > 0
    assert audit_log.verify(engine).broken is None

    operations = Operations(engine, site, NoWorkflows(), clock, access=Everybody())
    operations.approve(response_id, operator=waiting.waits_for.missing[0])

    assert queries.response(engine, response_id).state is ResponseState.RUNNING
    assert queries.incident(engine, waiting.incident_id).state is IncidentState.RESPONDING
    assert audit_log.verify(engine).broken is None
    engine.dispose()
