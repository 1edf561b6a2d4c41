"""A proposal that waits is tried out on recorded events; the trial decides nothing and holds nothing up."""

import os
import shutil
import sys
import threading
from dataclasses import replace

import pytest

from daemon.incidents.intake import take_verdict
from daemon.operations import utc_now
from daemon.responses import jobs
from daemon.responses.estimate import Estimate
from daemon.responses.trial import Trials, tried_of
from daemon.site.keys import site_trusted_keys
from daemon.site.settings import load_site
from daemon.store import queries
from daemon.store.database import open_database
from daemon.store.records import ResponseState
from hw.package import open_package
from retrain.evaluate import Evaluation
from retrain.messages import RetrainResult, StrategyOutcome
from streams.events.recorder import Recorder, RecorderSettings
from tests.daemon.responses.test_durable import wait_for
from tests.support.daemon import make_verdict
from tests.support.kill_site import MODEL, _batch, make_firmware, site_for_kills
from tests.support.procedure import Bench

RESPONSE = "anomaly-1-r1"


@pytest.fixture(scope="module")
def commissioned(tmp_path_factory):
    return make_firmware(tmp_path_factory.mktemp("trial"))


@pytest.fixture
def site(commissioned, tmp_path):
    folder = tmp_path / "site"
    shutil.copytree(commissioned, folder)
    loaded = load_site(folder)
    made = site_for_kills(folder, loaded.database_url)
    return with_trial(made, trial=True)


def with_trial(site, **changes):
    model = site.models[MODEL]
    retrain = model.settings.retrain.model_copy(update={"events_timeout_s": 0.0, **changes})
    model = replace(model, settings=model.settings.model_copy(update={"retrain": retrain}))
    return replace(site, models={MODEL: model})


@pytest.fixture
def engine(site):
    opened = open_database(site.database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def bench(engine, site, clock):
    """A proposal for a drift of which events are recorded; it waits for its decision."""
    (file,) = site.packages_dir.glob("*.lwpkg")
    package = open_package(file, site_trusted_keys(site))
    contract = site.models[MODEL].contract
    recorder = Recorder(RecorderSettings(site.recent_dir, prescale=1))
    for lumisection in (1, 2, 3, 4):
        recorder.record(_batch(contract, 5, lumisection, package), contract)
    recorder.close()
    alarm = make_verdict(4, run=5, onset_lumisection=3, package=package.id)
    take_verdict(engine, site, alarm, now=utc_now())
    made = Bench(engine, site, clock)
    made.propose()
    return made


@pytest.fixture
def trials(engine, site):
    made = Trials(engine, site, utc_now)
    yield made
    made.stop()


def estimate(engine):
    return Estimate.model_validate(queries.response(engine, RESPONSE).estimate)


@pytest.mark.slow
def test_a_waiting_proposal_is_tried_out_once_and_says_where_that_comes_from(bench, engine, site, trials):
    before = estimate(engine).summary

    assert trials.look() == RESPONSE

    found = estimate(engine)
    assert found.trial["summary"].startswith("Trial on ")
    assert "recorded events that nothing was tuned on: now accept rate " in found.trial["summary"]
    assert found.summary == f"{before} {found.trial['summary']}"
    assert bench.told("response.tried") == [found.trial["summary"]]
    assert queries.response(engine, RESPONSE).state is ResponseState.PROPOSED
    folder = site.state_dir / "responses" / RESPONSE
    assert (folder / "trial" / "result.json").is_file()
    assert not (folder / "retrain").exists(), "an approved response retrains for itself"
    assert trials.look() is None, "it is tried once"


def test_without_being_asked_for_nothing_is_tried(bench, engine, site):
    assert Trials(engine, with_trial(site, trial=False), utc_now).look() is None
    assert estimate(engine).trial is None


def test_too_few_events_are_said_and_the_proposal_waits_on(bench, engine, site):
    trials = Trials(engine, with_trial(site, trial=True, minimum_events=10**6), utc_now)

    assert trials.look() == RESPONSE

    assert "The trial could not be made: " in estimate(engine).summary
    assert "1000000 are needed" in estimate(engine).summary
    assert queries.response(engine, RESPONSE).state is ResponseState.PROPOSED


def slow_job(started):
    """A job that says where it is and never ends by itself."""
    real = jobs.run_child
    words = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(600)"

    def run(arguments, **rest):
        real([sys.executable, "-c", words], **rest)

    return run


@pytest.mark.parametrize("end", ["decision", "daemon"])
def test_a_trial_ends_with_the_wait_or_with_the_daemon(bench, engine, trials, tmp_path, monkeypatch, end):
    started = tmp_path / "started"
    monkeypatch.setattr(jobs, "run_child", slow_job(started))
    trials.start()
    wait_for(lambda: started.exists() and started.read_text() != "")
    child = int(started.read_text())

    if end == "decision":
        bench.operations.reject(RESPONSE, operator="ada")
        assert bench.run() == ResponseState.REJECTED
    else:
        trials.stop()

    wait_for(lambda: not alive(child))
    assert estimate(engine).trial is None
    assert bench.told("response.tried") == []


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_trial_that_was_cut_short_begins_again(bench, engine, site, tmp_path, monkeypatch):
    started = tmp_path / "started"
    with monkeypatch.context() as patched:
        patched.setattr(jobs, "run_child", slow_job(started))
        first = Trials(engine, site, utc_now)
        first.start()
        wait_for(lambda: started.exists() and started.read_text() != "")
        first.stop()
    assert estimate(engine).trial is None

    assert Trials(engine, site, utc_now).look() == RESPONSE
    assert estimate(engine).trial is not None
    assert not any(thread.name == "trials" for thread in threading.enumerate())


EVALUATION = Evaluation(
    events=8000, reference_events=8000, accept_rate=0.0936, accept_rate_error=0.0033, reference_rate=0.0802,
    reference_rate_error=0.003, rate_deviation=0.167, rate_deviation_error=0.05, score_distance=0.031,
    score_p_value=1e-6, order=1.0, passed=False, reasons=["rate"],
)  # fmt: skip


def result(*strategies, chosen=None, reason="none passed"):
    return RetrainResult(
        status="candidate" if chosen else "none_passed", reason=reason, chosen=chosen, model_name="anomaly",
        contract_hash="c", training_id=None, model=None, parent_weights_hash="w", parent_package=None,
        dataset_ids=[], baseline=EVALUATION, strategies=list(strategies), seconds=1.0,
    )  # fmt: skip


def test_its_words_give_rates_with_errors_and_what_did_not_pass():
    better = EVALUATION.model_copy(update={"accept_rate": 0.0805, "score_distance": 0.006})
    failed = StrategyOutcome(strategy="bias", offered=True, passed=False, reason="no", seconds=1.0)
    passed = StrategyOutcome(
        strategy="last_layer", offered=True, passed=True, reason="yes", evaluation=better, words_changed=12,
        seconds=1.0,
    )  # fmt: skip

    tried = tried_of(result(failed, passed, chosen="last_layer"))

    assert tried.summary == (
        "Trial on 8,000 recorded events that nothing was tuned on: now accept rate 9.36% ± 0.33% of 8.02% "
        "and score distance 0.031; with last_layer 8.05% ± 0.33% of 8.02% and 0.006, 12 words to load; "
        "bias did not pass."
    )
    assert (tried.chosen, tried.accept_rate, tried.expected_rate) == ("last_layer", 0.0805, 0.0802)
    assert tried_of(result(failed)).summary.endswith("score distance 0.031; none passed.")
