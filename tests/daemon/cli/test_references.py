"""References from recorded runs: what is taken, what is left out and why, what they let be noticed."""

import json
import shutil
import sqlite3
from datetime import UTC, datetime

import pytest

from daemon.journal.lineage import trace
from daemon.operations import utc_now
from daemon.references.recorded import RunRange, propose_recorded_reference
from daemon.site.settings import load_site
from daemon.store.database import open_database
from tests.support.daemon import copy_site
from tests.support.recorded import record_runs

DIFFERENT = {
    (13, 1): {"beam_mode": "RAMP"},
    (13, 2): {"expected": {"generated": 2}},
    (13, 3): {"n_events": 500},
    (13, 4): {"package": "ef" * 32},
    (15, 1): {"prescale_column": 4},
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A site with runs 11 to 15; some lumisections of 13 cannot be used, 15 ran with other prescales."""
    folder = copy_site(tmp_path_factory.mktemp("recorded"))
    record_runs(folder, (11, 12, 13, 14, 15), changes=DIFFERENT).dispose()
    return folder


@pytest.fixture
def runs_site(recorded, tmp_path):
    """A copy of its own for a test."""
    return shutil.copytree(recorded, tmp_path / "site")


@pytest.fixture(scope="module")
def built(recorded):
    """Ids of two references of the site: of runs 11, 12 and 14, and of the last two."""
    site = load_site(recorded)
    engine = open_database(site.database_url)
    ranges = ([RunRange(11), RunRange(12), RunRange(14)], [RunRange(12), RunRange(14)])
    made = [
        propose_recorded_reference(engine, site.models["anomaly"], some, utc_now)[0].id for some in ranges
    ]
    engine.dispose()
    return made


def _build(lumiwatch, site, *more):
    return lumiwatch("reference", "build", "--model", "anomaly", *more, "--site", site)


def test_a_reference_of_recorded_runs_says_what_was_left_out(lumiwatch, runs_site):
    said = _build(lumiwatch, runs_site, "--run", "11", "--run", "13", "--run", "12:1-8", "--budget", "2/day")
    assert said.code == 0, said.err
    text = " ".join(said.out.split())
    assert (
        "built from 36 windows; left out: 1 incomplete, 1 not in stable beams, 1 of fewer than 2000" in text
    )
    assert "1 of package efefefefefef" in text
    assert "(2 a day)" in text
    assert "jet gain" in text


def test_its_runs_stand_in_its_lineage_and_a_person_still_approves(lumiwatch, runs_site):
    said = _build(lumiwatch, runs_site, "--run", "11", "--run", "12", "--run", "14", "--json")
    document = json.loads(said.out)
    assert document["runs"] == [11, 12, 14]
    assert document["n_lumisections"] == 48
    assert document["calibration"]["n_folds"] == 3
    assert document["left_out"] == {}
    effects = {one["name"]: one for one in document["detectable"]["effects"]}
    assert 0.001 < effects["jet gain"]["in_ten"] < effects["jet gain"]["at_once"] < 0.1
    assert effects["jet[0].pt"]["gain"] > 0
    listed = json.loads(lumiwatch("reference", "list", "--site", runs_site, "--json").out)
    assert [(one["id"], one["state"]) for one in listed] == [(document["id"], "proposed")]
    graph = trace(open_database(load_site(runs_site).database_url), document["id"])
    assert sum("11" in str(edge) for edge in graph.edges) >= 1


def test_a_matched_prescale_column_is_written_into_the_reference(lumiwatch, runs_site):
    model = runs_site / "models" / "anomaly" / "model.toml"
    model.write_text(model.read_text().replace("[watch]", '[watch]\nmatch = ["prescale_column"]', 1))
    document = json.loads(_build(lumiwatch, runs_site, "--run", "15", "--run", "11", "--json").out)
    assert document["matched"] == {"prescale_column": [0, 4]}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give one, or --run"),
        (("d.npz", "--run", "11"), "give one, or --run"),
        (("d.npz",), "give --package"),
        (("--run", "eleven"), "write it as 355100 or 355100:20-400"),
        (("--run", "11:9-3"), "ends before it begins"),
        (("--run", "99"), "no window of anomaly is recorded in 99"),
        (("--run", "11:1-5"), "5 lumisections are too few"),
        (("--run", "13:1-4"), "left out: 1 incomplete, 1 not in stable beams, 1 of fewer than 2000 events"),
        (("--run", "11", "--budget", "often"), "write it as 1/1000LS"),
    ],
)
def test_what_makes_no_reference_is_told(lumiwatch, recorded, options, said):
    assert said in _build(lumiwatch, recorded, *options).line


def test_a_reference_is_shown_with_all_it_lets_be_noticed(lumiwatch, recorded, built):
    said = lumiwatch("reference", "show", built[0][:12], "--site", recorded)
    assert said.code == 0, said.err
    for part in (
        "proposed",
        "11, 12, 14",
        "48 lumisections in 3 parts",
        "a day)",
        "jet mean eta",
        "muon[3].pt",
    ):
        assert part in said.out
    document = json.loads(lumiwatch("reference", "show", built[0][:12], "--site", recorded, "--json").out)
    assert document["id"] == built[0]
    assert document["state"] == "proposed"
    assert {one["kind"] for one in document["detectable"]["effects"]} == {"channel", "input", "map", "score"}


def test_references_of_the_same_detector_agree(lumiwatch, recorded, built):
    said = lumiwatch("reference", "compare", built[0][:12], built[1][:12], "--site", recorded)
    assert said.code == 0, said.err
    verdict = said.out.splitlines()[0]
    assert verdict == "They agree within their noise." or verdict.startswith("They differ by less than 10")
    options = ("--site", recorded, "--json")
    document = json.loads(lumiwatch("reference", "compare", built[0][:12], built[1][:12], *options).out)
    assert len(document["pileups"]) == 3
    assert len(document["inputs"]) == 57


def test_runs_are_ranked_with_the_reason_for_every_exclusion(lumiwatch, recorded):
    document = json.loads(
        lumiwatch("reference", "propose", "anomaly", "--run", "14", "--site", recorded, "--json").out
    )
    ranking = {one["run"]: one for one in document["ranking"]}
    assert set(ranking) == {11, 12, 13, 15}
    assert ranking[11]["best"]
    assert ranking[12]["best"]
    assert ranking[13]["excluded"] == ["several packages", "13 usable lumisections, 16 are needed"]
    assert ranking[15]["excluded"] == ["prescale column 4"]
    text = lumiwatch("reference", "propose", "anomaly", "--run", "14", "--site", recorded).out
    assert "fewer than three runs suit" in text


def test_a_reference_is_built_from_the_best_runs(lumiwatch, runs_site):
    said = lumiwatch(
        "reference", "propose", "anomaly", "--run", "14", "--build", "--site", runs_site, "--json"
    )
    assert json.loads(said.out)["runs"] == [11, 12]


def test_a_run_in_an_incident_is_no_reference(lumiwatch, runs_site):
    with sqlite3.connect(runs_site / "state" / "lumiwatch.sqlite") as database:
        database.execute(
            "insert into daemon_incidents (id, number, model, state, simulated, run, onset_lumisection, "
            "first_lumisection, last_run, last_lumisection, families, reason, package, opened_at, "
            "opening_verdict, latest_verdict) values ('anomaly-1', 1, 'anomaly', 'resolved', 1, 11, 3, 3, "
            "14, 5, '[]', 'x', 'y', ?, '{}', '{}')",
            (datetime.now(UTC).replace(tzinfo=None).isoformat(" "),),
        )
    document = json.loads(lumiwatch("reference", "propose", "anomaly", "--site", runs_site, "--json").out)
    excluded = {one["run"]: one["excluded"] for one in document["ranking"]}
    assert "incident anomaly-1" in excluded[11]
    assert "incident anomaly-1" in excluded[12]
    assert "incident anomaly-1" in excluded[14]
    line = lumiwatch("reference", "propose", "anomaly", "--run", "13", "--build", "--site", runs_site).line
    assert "no recorded run suits run 13" in line


def test_a_run_that_was_not_recorded_is_named(lumiwatch, recorded, site):
    line = lumiwatch("reference", "propose", "anomaly", "--run", "99", "--site", recorded).line
    assert "run 99 of anomaly is not recorded here; the last ones are 11, 12, 13, 14, 15" in line
    assert "no run of anomaly" in lumiwatch("reference", "propose", "anomaly", "--site", site).line
