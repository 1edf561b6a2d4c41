"""The daemon lets the database forget, except for what an incident needs."""

import gc
import os
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import psutil
import pytest
from sqlalchemy import text
from sqlmodel import Session, col, func, select

from daemon.chat.records import ChatUseRecord
from daemon.incidents.intake import take_verdict
from daemon.journal import audit_log
from daemon.journal.happenings import record_event
from daemon.process.assembly import build_daemon
from daemon.responses.durable import DurableResponses
from daemon.site.settings import load_site
from daemon.store.database import open_database, transaction
from daemon.store.records import (
    DecisionRecord,
    EventRecord,
    IncidentEventRecord,
    IncidentRecord,
    IncidentState,
    NotificationRecord,
    NotificationState,
    ResponseRecord,
    ResponseStepRecord,
    VerdictRecord,
)
from daemon.upkeep.housekeeping import AROUND_INCIDENT, Housekeeping
from daemon.upkeep.retention import forget_notifications
from streams.judging.verdict import State
from streams.store.records import AssessmentRow, WindowRow, WindowState
from tests.support.daemon import make_verdict

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


def add_answered_incident(session, number, at, state=IncidentState.RESOLVED):
    name = f"anomaly-{number}"
    session.add(
        IncidentRecord(
            id=name, number=number, model="anomaly", simulated=True, run=1, onset_lumisection=1,
            first_lumisection=1, last_run=1, last_lumisection=2, families=["rate"], reason="r", package="p",
            state=state, opened_at=at, resolved_at=at, opening_verdict={}, latest_verdict={},
        )
    )  # fmt: skip
    session.flush()
    response = f"{name}-r1"
    session.add(IncidentEventRecord(incident_id=name, at=at, kind="incident.note", actor="ada", text="t"))
    session.add(
        ResponseRecord(
            id=response, number=1, incident_id=name, model="anomaly", requested_by="x", created_at=at
        )
    )
    session.flush()
    session.add(DecisionRecord(response_id=response, operator="ada", kind="approve", at=at))
    session.add(ResponseStepRecord(response_id=response, number=1, name="propose", title="t"))
    for sequence in (number * 10, number * 10 + 1):
        session.add(
            NotificationRecord(
                key=f"{name}:{sequence}", incident_id=name, event_sequence=sequence, channel="log",
                action="post", payload={}, state=NotificationState.DELIVERED, created_at=at,
            )
        )  # fmt: skip


def wait_for(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request, site):
    url = site.database_url if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    engine = open_database(url)
    yield engine
    engine.dispose()


def owners(engine, column):
    with Session(engine) as session:
        return set(session.exec(select(column)).all())


def test_details_go_with_their_workflows_when_an_incident_is_long_resolved(either, site):
    days = site.settings.retention.incidents_days
    with transaction(either) as session:
        add_answered_incident(session, 1, NOW)
        add_answered_incident(session, 2, NOW, state=IncidentState.OPEN)
        add_answered_incident(session, 3, NOW + timedelta(days=10))
    forgotten = []
    now = NOW + timedelta(days=days + 1)

    Housekeeping(either, site, lambda: now, forget_workflows=forgotten.extend).tidy()
    Housekeeping(either, site, lambda: now, forget_workflows=forgotten.extend).tidy()

    assert forgotten == ["anomaly-1-r1"]
    assert owners(either, IncidentEventRecord.incident_id) == {"anomaly-2", "anomaly-3"}
    left = {"anomaly-2-r1", "anomaly-3-r1"}
    assert (
        owners(either, DecisionRecord.response_id) == owners(either, ResponseStepRecord.response_id) == left
    )
    assert owners(either, IncidentRecord.id) == {"anomaly-1", "anomaly-2", "anomaly-3"}


def test_messages_go_but_for_those_that_a_thread_or_a_restart_needs(either):
    with transaction(either) as session:
        add_answered_incident(session, 1, NOW, state=IncidentState.OPEN)
        add_answered_incident(session, 2, NOW)
        add_answered_incident(session, 3, NOW)
        waiting = session.exec(
            select(NotificationRecord).where(NotificationRecord.event_sequence == 20)
        ).one()
        waiting.state = NotificationState.PENDING

    assert forget_notifications(either, NOW, at_most=10) == 0
    assert forget_notifications(either, NOW + timedelta(seconds=1), at_most=1) == 1
    assert forget_notifications(either, NOW + timedelta(seconds=1), at_most=10) == 1
    assert forget_notifications(either, NOW + timedelta(seconds=1), at_most=10) == 0

    assert owners(either, NotificationRecord.event_sequence) == {10, 11, 20, 31}


def test_old_events_go_once_a_day_and_the_audit_log_stays_sound(either, site):
    now = [NOW]

    def happen(n):
        with transaction(either) as session:
            for _ in range(n):
                record_event(session, "site.tested", "t", now=now[0])

    keeper = Housekeeping(either, site, lambda: now[0])
    happen(3)
    now[0] += timedelta(days=site.settings.retention.events_days, seconds=1)
    happen(2)
    assert keeper.tidy() == 3
    assert keeper.tidy() == 0  # the event that signs it off is young
    report = audit_log.verify(either)
    assert (report.sound, report.n_events, report.pruned_up_to) == (True, 3, 3)


def test_work_files_of_ended_responses_and_old_pictures_go(engine, site):
    with transaction(engine) as session:
        for number in (1, 2, 3):
            add_answered_incident(session, number, NOW)
        for number, ended_at in ((1, NOW), (2, NOW + timedelta(days=29))):
            session.get(ResponseRecord, f"anomaly-{number}-r1").ended_at = ended_at
    folder = site.state_dir / "responses"
    for name in ("anomaly-1-r1", "anomaly-2-r1", "anomaly-3-r1", "unknown"):
        (folder / name / "retrain").mkdir(parents=True)
        (folder / name / "retrain" / "candidate.npz").write_bytes(b"large")
    pictures = site.state_dir / "pictures"
    pictures.mkdir()
    now = NOW + timedelta(days=31)
    for name, age_days in (("old", 91), ("new", 89)):
        (pictures / f"{name}.png").write_bytes(b"")
        at = (now - timedelta(days=age_days)).timestamp()
        os.utime(pictures / f"{name}.png", (at, at))

    assert Housekeeping(engine, site, lambda: now).tidy() == 2

    assert {path.name for path in folder.iterdir()} == {"anomaly-2-r1", "anomaly-3-r1", "unknown"}
    assert [path.name for path in pictures.iterdir()] == ["new.png"]


def test_what_another_room_lets_go_is_counted(engine, site):
    asked = []

    def chore(now):
        asked.append(now)
        return 7

    assert Housekeeping(engine, site, lambda: NOW, chores=[chore]).tidy() == 7
    assert asked == [NOW]


class TwoSteps:
    """Fake procedure: two steps with results."""

    def run(self, response_id, run_step):
        for name in ("propose", "decide"):
            run_step(name, lambda: {"of": response_id})
        return "succeeded"

    def wake(self):
        pass


def workflow_rows(engine):
    schema = "" if engine.dialect.name == "sqlite" else "dbos."
    with engine.connect() as connection:
        return {
            table: connection.execute(text(f"SELECT count(*) FROM {schema}{table}")).scalar()
            for table in ("workflow_status", "operation_outputs")
        }


def test_the_workflow_engine_forgets_the_finished_workflows_of_old_responses(either):
    ended = []
    durable = DurableResponses(
        either,
        either.url.render_as_string(hide_password=False),
        TwoSteps(),
        Event(),
        lambda response_id, _: ended.append(response_id),
    )
    durable.launch()
    try:
        for response_id in ("anomaly-1-r1", "anomaly-2-r1"):
            durable.start(response_id)
        wait_for(lambda: len(ended) == 2)
        assert workflow_rows(either) == {"workflow_status": 2, "operation_outputs": 4}

        durable.forget(["anomaly-1-r1", "never-there-r1"])

        assert workflow_rows(either) == {"workflow_status": 1, "operation_outputs": 2}
    finally:
        durable.stop()


WEEKS = 24
STEADY = 8
"""Weeks after which everything that is kept for some days has come and gone."""
TABLES = (EventRecord, IncidentEventRecord, DecisionRecord, ResponseStepRecord, NotificationRecord)


def live_a_day(engine, site, run, now):
    """A day of one run: an alarm that recovers, with windows, assessments, steps and messages."""
    for lumisection in range(1, 9):
        at = now + timedelta(hours=3 * lumisection - 3)
        state = State.ALARM if lumisection in {3, 4} else State.GOOD
        verdict = make_verdict(lumisection, state, run=run, id=f"{run}-{lumisection}")
        place = {"model": "anomaly", "run": run, "lumisection": lumisection, "package": verdict.package}
        with transaction(engine) as session:
            window = WindowRow(
                **place, contract_hash="c", summary=b"counts" * 2000, state=WindowState.CLOSED, n_events=1,
                assessed_events=1, opened_at=at, updated_at=at, closed_at=at,
            )  # fmt: skip
            session.add(window)
            session.flush()
            session.add(
                AssessmentRow(
                    **place, verdict_id=verdict.id, window_id=window.id, revision=1, assessment="{}" * 500,
                    verdict="{}" * 500, published=True, created_at=at, state=state,
                )
            )  # fmt: skip
        result = take_verdict(engine, site, verdict, now=at)
        for response_id in result.start_responses:
            with transaction(engine) as session:
                session.add(ResponseStepRecord(response_id=response_id, number=1, name="propose", title="t"))
                session.add(DecisionRecord(response_id=response_id, operator="ada", kind="reject", at=at))
                session.add(
                    NotificationRecord(
                        key=response_id, incident_id=result.opened, event_sequence=run, channel="log",
                        action="post", payload={"text": "x" * 2000}, state="delivered", created_at=at,
                    )
                )  # fmt: skip


def size(engine):
    with engine.connect() as connection:
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    return Path(engine.url.database).stat().st_size


@pytest.mark.slow
def test_half_a_year_of_a_site_leaves_the_tables_the_file_and_the_memory_as_large_as_two_months(site_folder):
    kept = {"events_days": 21, "incidents_days": 21, "notifications_days": 14}
    stream = {"late_data_days": 1, "windows_kept_days": 7, "verdicts_kept_days": 14}
    site = load_site(site_folder, overrides={"retention": kept, "stream": stream})
    engine = open_database(site.database_url)
    now = [NOW]
    keeper = Housekeeping(engine, site, lambda: now[0])
    weeks = []
    for run in range(1, WEEKS * 7 + 1):
        live_a_day(engine, site, run, now[0])
        now[0] += timedelta(days=1)
        for _ in range(3):
            keeper.tidy()
        if run % 7 == 0:
            with Session(engine) as session:
                rows = Counter(
                    {
                        record.__tablename__: session.exec(select(func.count()).select_from(record)).one()
                        for record in TABLES
                    }
                )
                full = session.exec(
                    select(func.count()).select_from(WindowRow).where(col(WindowRow.summary) != b"")
                ).one()
            gc.collect()
            weeks.append((rows, full, size(engine), psutil.Process().memory_info().rss))

    rows, _, file, memory = weeks[STEADY]
    for later_rows, _, later_file, later_memory in weeks[STEADY:]:
        assert later_rows == pytest.approx(rows, rel=0.1)
        assert later_memory < memory + 30e6
        assert later_file < file * 1.2  # what stays for good: a row for each lumisection and each incident
    assert {name for name, count in rows.items() if count} == {record.__tablename__ for record in TABLES}
    report = audit_log.verify(engine)
    assert report.sound
    assert report.pruned_up_to > 4 * report.n_events
    engine.dispose()


def test_the_daemon_lets_used_buttons_of_the_chat_go(site):
    daemon = build_daemon(site)
    engine = daemon.services.engine
    now = daemon.services.clock()
    with transaction(engine) as session:
        for nonce, left in (("old", timedelta(days=-1)), ("new", timedelta(days=1))):
            session.add(
                ChatUseRecord(
                    nonce=nonce, act="acknowledge", incident_id="anomaly-1", response_id="", operator="ada",
                    used_at=now, expires_at=now + left,
                )
            )  # fmt: skip

    daemon.housekeeping.tidy()

    assert owners(engine, ChatUseRecord.nonce) == {"new"}
    engine.dispose()
