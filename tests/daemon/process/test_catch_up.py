"""Verdicts that only the database has."""

from datetime import UTC, datetime

from sqlalchemy.engine import Engine
from sqlmodel import Session, select

from daemon.incidents.intake import take_verdict
from daemon.process.catch_up import catch_up
from daemon.site.settings import Site
from daemon.store import queries
from daemon.store.database import transaction
from daemon.store.records import VerdictRecord
from streams.judging.verdict import State, Verdict
from streams.store.records import AssessmentRow, WindowRow
from tests.support.daemon import HandClock, make_verdict

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def stored_by_a_worker(engine: Engine, verdicts: list[Verdict]) -> None:
    with transaction(engine) as session:
        for verdict in verdicts:
            window = WindowRow(
                model=verdict.model,
                run=verdict.run,
                lumisection=verdict.lumisection,
                package=verdict.package,
                contract_hash="f" * 64,
                summary=b"",
                opened_at=NOW,
                updated_at=NOW,
            )
            session.add(window)
            session.flush()
            assert window.id is not None
            row = AssessmentRow(
                verdict_id=verdict.id,
                window_id=window.id,
                model=verdict.model,
                run=verdict.run,
                lumisection=verdict.lumisection,
                package=verdict.package,
                revision=1,
                state=verdict.state.value,
                assessment="{}",
                verdict=verdict.model_dump_json(),
                published=True,
                created_at=NOW,
            )
            session.add(row)


def test_verdicts_that_a_broker_forgot_are_taken_once_and_open_what_they_would_have_opened(
    engine: Engine, site: Site, clock: HandClock
):
    verdicts = [make_verdict(61, State.GOOD), make_verdict(62), make_verdict(63)]
    stored_by_a_worker(engine, verdicts)
    take_verdict(engine, site, verdicts[0], now=clock())  # the only one that came through

    assert catch_up(engine, site, clock) == 2
    assert catch_up(engine, site, clock) == 0
    for verdict in verdicts:  # and if they come after all
        take_verdict(engine, site, verdict, now=clock())

    (incident,) = queries.incidents(engine)
    assert (incident.first_lumisection, incident.last_lumisection) == (62, 63)
    with Session(engine) as session:
        assert len(session.exec(select(VerdictRecord)).all()) == 3
