"""The site's side of backtests: recorded windows are judged again exactly as they were."""

from datetime import UTC, datetime

import pytest
from sqlmodel import select

from daemon.backtest.run import (
    recorded_assessments,
    recorded_length,
    recorded_reference,
    stored_reference,
)
from daemon.references.judgement import assessment_settings
from daemon.site.settings import load_site
from daemon.store.database import open_database
from streams.effects.effect import parse_effect
from streams.errors import BacktestError, ReferenceProblem
from streams.judging.reference_store import approve_reference, propose_reference
from streams.judging.verdict import State, VerdictChain
from streams.store.database import write_session
from streams.store.history import latest_judged_windows
from streams.store.records import WindowRow
from tests.support.backtest import RUN, learnt_reference, record_windows
from tests.support.daemon import copy_site

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A site whose run had 20 good lumisections and a jet gain of 3 % in 6 more, judged as it ran."""
    site = load_site(copy_site(tmp_path_factory.mktemp("recorded")))
    engine = open_database(site.database_url)
    model = site.models["anomaly"]
    reference = learnt_reference(model.contract)
    propose_reference(engine, reference, NOW)
    approve_reference(engine, reference.id, "local", NOW)
    record_windows(engine, site, model, 26, effects=[parse_effect("jet_gain=1.03@LS21")])
    yield site, engine, model, reference
    engine.dispose()


def test_recorded_windows_give_the_verdicts_that_were_stored(recorded):
    site, engine, model, reference = recorded
    stored = [one.verdict for one in latest_judged_windows(engine, model.name, 100)]
    chain = VerdictChain()
    again = [
        chain.update(assessment)
        for assessment in recorded_assessments(
            engine, model, RUN, reference, assessment_settings(site, model)
        )
    ]
    # how long it took is not measured again, and the chain itself tells no story
    apart = {"delay_s": None, "late": False, "story": ""}
    assert [one.model_copy(update=apart) for one in stored] == again
    assert [one.state for one in again[:20]] == [State.GOOD] * 20
    assert again[-1].state is State.ALARM


def test_the_reference_of_a_run_is_the_approved_one(recorded):
    _, engine, model, reference = recorded
    assert recorded_reference(engine, model, RUN).id == reference.id
    assert recorded_length(engine, model.name, RUN) == (26, 0)
    with pytest.raises(BacktestError, match="run 8 of anomaly has no closed window here"):
        recorded_reference(engine, model, 8)


def test_a_stored_reference_is_found_by_the_beginning_of_its_id(recorded):
    _, engine, model, reference = recorded
    found = stored_reference(engine, model, reference.id[:8])
    assert found.id == reference.id
    with pytest.raises(ReferenceProblem, match="no reference begins with 'zz'"):
        stored_reference(engine, model, "zz")


def test_a_window_that_another_lumiwatch_stored_is_named(recorded):
    site, engine, model, reference = recorded
    with write_session(engine, lock=model.name) as session:
        row = session.exec(select(WindowRow).where(WindowRow.lumisection == 2)).one()
        kept, row.summary = row.summary, b"old"
    again = recorded_assessments(engine, model, RUN, reference, assessment_settings(site, model))
    assert next(again).lumisection == 1
    with pytest.raises(BacktestError, match=r"the window of LS 2 cannot be read .* choose a later run"):
        next(again)
    with write_session(engine, lock=model.name) as session:
        session.exec(select(WindowRow).where(WindowRow.lumisection == 2)).one().summary = kept
