"""`lumiwatch backtest` as people run it: what it prints, the page it writes, and what it refuses."""

import json
import pickle
import re
from datetime import UTC, datetime

import numpy as np
import pytest

from daemon.backtest.run import EmulatedScore
from daemon.cli import backtest as command
from daemon.site.settings import load_site
from daemon.store.database import open_database
from hw.emulator import Emulator
from streams.backtest.report import FalseAlarms
from streams.backtest.source import UNSCORED
from streams.effects.effect import parse_effect
from streams.judging.reference_store import approve_reference, propose_reference
from tests.support.backtest import RUN, learnt_reference, record_windows
from tests.support.daemon import copy_site

SMALL = (
    *("--events", 2500, "--fills", 1, "--fill-length", 40, "--lumisections", 10, "--repetitions", 1),
    *("--horizon", 3, "--processes", 1),
)


@pytest.fixture
def run(lumiwatch, site):
    """Run a small backtest of the example site."""

    def small(*options):
        return lumiwatch("backtest", "anomaly", "--site", site, *SMALL, *options)

    return small


@pytest.fixture(scope="module")
def recorded_site(tmp_path_factory):
    """A site with a run of 12 good lumisections and three with a gross gain, and what judged it."""
    folder = copy_site(tmp_path_factory.mktemp("recorded"))
    site = load_site(folder)
    engine = open_database(site.database_url)
    model = site.models["anomaly"]
    reference = learnt_reference(model.contract)
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    propose_reference(engine, reference, now)
    approve_reference(engine, reference.id, "local", now)
    record_windows(engine, site, model, 15, effects=[parse_effect("jet_gain=1.2@LS13")])
    engine.dispose()
    return folder


def test_generated_lumisections_are_judged_and_a_page_is_written(run, tmp_path, site):
    page = tmp_path / "report.html"
    ended = run("--effect", "jet_gain=1.2", "--budget", "1/1000LS", "--budget", "1/day", "--page", page)

    assert ended.code == 0, ended.err
    words = " ".join(ended.out.split())
    assert words.startswith("0 false alarms in 10 judged lumisections")
    assert "1 of 1 effects are found in 9 of 10 repetitions." in words
    assert "1/1000LS" in words
    assert "10 lumisections: 10 judged" in words
    written = page.read_text()
    assert "0 false alarms in 10 judged lumisections" in written
    assert written.count("<svg") == 3
    assert not re.search(r'(src|href)="(?!#)|url\((?!#)|<script|<link|@import', written)
    assert not (site / "state").exists()


def test_a_document_holds_all_of_it(run):
    ended = run("--effect", "jet_gain=1.2", "--json", "--seed", 3)
    report = json.loads(ended.out)
    assert ended.code == 0
    assert report["seed"] == 3
    assert report["budgets"][0] == 0.001
    assert len(report["budgets"]) == 5
    assert report["effects"][0]["detections"][0]["median_delay"] == 1
    # a pileup that is measured just beyond the small reference is not judged
    assert report["coverage"]["lumisections"] == 10
    assert report["coverage"]["judged"] >= 8


def test_a_learnt_reference_follows_the_condition_that_fills_differ_in(run):
    given = [option for number in (1200, 2400) for option in ("--condition", f"bunches={number}")]
    ended = run(*given, "--fills", 2, "--effect", "none", "--json")
    report = json.loads(ended.out)
    assert ended.code == 0, ended.err
    assert report["source"].endswith(", 1200, 2400 bunches")
    assert report["coverage"]["judged"] >= 8


def test_a_recorded_run_is_judged_again_by_the_reference_in_use(lumiwatch, recorded_site, tmp_path):
    page = tmp_path / "run.html"
    ended = lumiwatch("backtest", "anomaly", "--site", recorded_site, "--run", RUN, "--json", "--page", page)
    report = json.loads(ended.out)
    assert ended.code == 1  # one alarm in 15 lumisections is more than one in a thousand
    assert "1 alarms are more than the budget allows" in " ".join(ended.err.split())
    assert report["recorded"]
    assert [(one["run"], one["lumisection"]) for one in report["alarms"]] == [(RUN, 13)]
    assert "an alarm is a false one only where nothing was wrong" in page.read_text()


def test_more_false_alarms_than_the_budget_end_with_1(run, monkeypatch):
    monkeypatch.setattr(FalseAlarms, "exceeds", property(lambda _self: True))
    ended = run("--effect", "none")
    assert ended.code == 1
    assert "are more than the budget allows: choose a larger budget" in " ".join(ended.err.split())


def test_an_interrupted_backtest_leaves_nothing(run, monkeypatch, tmp_path):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_done", interrupted)
    page = tmp_path / "report.html"
    assert run("--page", page).code == 130
    assert list(tmp_path.glob("*.html")) == []


def test_events_of_a_dataset_are_drawn_and_judged_without_a_package(run, dataset):
    ended = run("--dataset", dataset, "--pileup", 33, "--effect", "jet_gain=1.3", "--json")
    report = json.loads(ended.out)
    assert ended.code == 0
    assert report["package"] == UNSCORED
    assert "without a score" in report["source"]
    assert report["effects"][0]["detections"][0]["detected"] == 1


def test_a_package_scores_as_its_emulator_does(packages):
    model = packages.first.model
    score = pickle.loads(pickle.dumps(EmulatedScore(model)))  # as another process gets it
    inputs = np.random.default_rng(1).integers(0, 99, (50, len(model.input_names))).astype(np.int16)
    scores, accepts = score(inputs)
    np.testing.assert_array_equal(scores, Emulator(model).scores(inputs))
    np.testing.assert_array_equal(accepts, Emulator(model).accepts(inputs))


def test_a_package_for_another_contract_is_refused(lumiwatch, trusting_site, dataset, packages):
    given = ("--dataset", dataset, "--package", packages.first.path)
    line = lumiwatch("backtest", "anomaly", "--site", trusting_site, *SMALL, *given).line
    assert "made for another contract" in line
    assert "than that of anomaly now" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--generated", "--run", 3), "--generated, --dataset and --run exclude each other: choose one"),
        (("--run", 3, "--effect", "jet_gain=1.1"), "an effect cannot be applied to recorded counts"),
        (("--run", 3, "--package", "p.lwpkg"), "recorded windows are scored already"),
        (("--run", 3), "run 3 of anomaly has no closed window here"),
        (("--run", 3, "--condition", "bunches=2400"), "recorded windows have conditions of their own"),
        (("--condition", "angle=160"), "generated events do not follow 'angle': give bunches"),
        (("--condition", "bunches=1", "--condition", "bunches=2"), "1 fills cannot have 2 values of bunches"),
        (("--package", "p.lwpkg"), "generated events have a score of their own"),
        (("--reference", "abc"), "no reference begins with 'abc'"),
        (("--budget", "much"), "budget 'much' is not understood: write it as 1/1000LS, 2/day or 0.001"),
        (("--budget", "2"), "must lie between 0 and 1"),
        (("--effect", "jet_gain"), "effect 'jet_gain' is badly written"),
        (("--effect", "tau_gain=1.1"), "contract 'anomaly' has pt for egamma, jet, met, muon"),
        (("--dataset", "missing.npz"), "missing.npz"),
        (("--page", "/nowhere/report.html"), "/nowhere/report.html: its folder does not exist"),
    ],
)
def test_what_makes_no_sense_is_one_line(run, options, said):
    assert said in run(*options).line


def test_a_model_that_is_not_watched_is_named(lumiwatch, site):
    assert "model 'muons' is not watched" in lumiwatch("backtest", "muons", "--site", site).line


def test_the_help_shows_how_effects_are_written(lumiwatch):
    assert "jet_gain=1.05" in lumiwatch("backtest", "--help").out
