"""The daemon lets the database forget, except for what an incident needs."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import Session, select

from daemon.database import open_database, transaction
from daemon.housekeeping import AROUND_INCIDENT, Housekeeping
from daemon.records import IncidentRecord, VerdictRecord
from streams.store.records import AssessmentRow, WindowRow, WindowState

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LAST = 150
ONSET = 60


@pytest.fixture
def engine(site):
    engine = open_database(site.database_url)
    yield engine
    engine.dispose()


def add_window(session, lumisection):
    window = WindowRow(
        model="anomaly", run=1, lumisection=lumisection, package="p", contract_hash="c", summary=b"counts",
        state=WindowState.CLOSED, n_events=1, assessed_events=1, opened_at=NOW, updated_at=NOW, closed_at=NOW,
    )  # fmt: skip
    session.add(window)
    session.flush()
    name = f"verdict-{lumisection}"
    place = {"model": "anomaly", "run": 1, "lumisection": lumisection, "package": "p", "state": "alarm"}
    session.add(
        AssessmentRow(
            verdict_id=name, window_id=window.id, revision=1, assessment="{}", verdict="{}", published=True,
            created_at=NOW, **place,
        )
    )  # fmt: skip
    session.add(VerdictRecord(id=name, simulated=True, received_at=NOW, payload={}, **place))


def add_incident(session):
    session.add(
        IncidentRecord(
            id="anomaly-1", number=1, model="anomaly", simulated=True, run=1, onset_lumisection=ONSET,
            first_lumisection=ONSET + 1, last_run=1, last_lumisection=ONSET + 5, families=["rate"],
            reason="r", package="p", opened_at=NOW, opening_verdict={}, latest_verdict={},
        )
    )  # fmt: skip


def test_what_is_old_goes_and_what_an_incident_needs_stays(engine, site):
    with transaction(engine) as session:
        for lumisection in range(1, LAST + 1):
            add_window(session, lumisection)
        add_incident(session)
    keeper = Housekeeping(engine, site, lambda: NOW + timedelta(days=100))

    while keeper.tidy():
        pass

    needed = set(range(ONSET - AROUND_INCIDENT, ONSET + 5 + AROUND_INCIDENT + 1))
    every_twentieth = set(range(20, LAST + 1, 20))
    with Session(engine) as session:
        windows = session.exec(select(WindowRow)).all()
        assessments = set(session.exec(select(AssessmentRow.lumisection)).all())
        verdicts = set(session.exec(select(VerdictRecord.lumisection)).all())
    assert len(windows) == LAST
    assert {window.lumisection for window in windows if window.summary} == needed
    assert assessments == verdicts == needed | every_twentieth


def test_it_starts_and_stops(engine, site):
    keeper = Housekeeping(engine, site, lambda: NOW)
    keeper.start()
    keeper.stop()
    assert not keeper._thread.is_alive()
