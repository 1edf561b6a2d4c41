"""References of recorded runs that follow a second condition."""

import json
import shutil
from threading import Event

import pytest

from daemon.operations import utc_now
from daemon.responses.workbench import Workbench
from daemon.responses.workshop import Task
from daemon.site.settings import load_site
from daemon.store.database import open_database
from streams.backtest.generator import PACKAGE
from streams.errors import ReferenceProblem
from streams.judging.reference_store import load_reference
from tests.support.daemon import copy_site
from tests.support.recorded import EACH, record_runs

BUNCHES = {11: 1200.0, 12: 2400.0, 13: 1200.0, 14: 2400.0, 16: 1800.0, 17: 3000.0}
"""Run -> number of colliding bunches; nobody told that of run 15."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = copy_site(tmp_path_factory.mktemp("recorded"))
    model = folder / "models" / "anomaly" / "model.toml"
    model.write_text(model.read_text().replace("[watch]", '[watch]\ninterpolate = "bunches"', 1))
    told = {
        (run, number): {"values": {"bunches": bunches}}
        for run, bunches in BUNCHES.items()
        for number in range(1, EACH + 1)
    }
    record_runs(folder, (11, 12, 13, 14, 15, 16, 17), changes=told).dispose()
    return folder


@pytest.fixture
def site(recorded, tmp_path):
    """A copy of its own for a test."""
    return shutil.copytree(recorded, tmp_path / "site")


def _build(lumiwatch, site, *runs, options=()):
    named = [part for run in runs for part in ("--run", run)]
    return lumiwatch("reference", "build", "--model", "anomaly", *named, "--site", site, *options)


def test_it_is_built_of_runs_that_tell_it_and_shown_with_its_strata(lumiwatch, site):
    document = json.loads(_build(lumiwatch, site, 11, 12, 13, 14, 15, options=["--json"]).out)
    assert document["left_out"] == {"without bunches": EACH}
    assert document["interpolated"] == "bunches"
    assert [one["value"] for one in document["strata"]] == [1200.0, 2400.0]
    assert document["detectable"]["second_value"] in {1200.0, 2400.0}

    said = lumiwatch("reference", "show", document["id"][:12], "--site", site)
    assert said.code == 0, said.err
    text = " ".join(said.out.split())
    assert "bunches 1200 to 2400, pileup 35." in text
    assert "and bunches 1200" in text


def test_a_lonely_run_is_named_and_what_to_do(lumiwatch, site):
    line = _build(lumiwatch, site, 11, 13, "17:1-5").line
    assert "5 lumisections of bunches 3000 are far from all others, and too few for a stratum" in line


def test_two_of_them_are_compared_where_both_cover(lumiwatch, site):
    first, other = (
        json.loads(_build(lumiwatch, site, *runs, options=["--json"]).out)["id"][:12]
        for runs in ((11, 12, 13, 14), (12, 14, 16))
    )
    said = lumiwatch("reference", "compare", first, other, "--site", site)
    assert said.code == 0, said.err
    assert said.out.startswith("They ")
    assert "bunches" in said.out
    document = json.loads(lumiwatch("reference", "compare", first, other, "--site", site, "--json").out)
    assert {one["value"] for one in document["channels"]} <= {1800.0, 2100.0, 2400.0}


def test_runs_that_do_not_tell_it_are_not_proposed_and_what_is_not_reached_is_said(lumiwatch, site):
    said = lumiwatch("reference", "propose", "anomaly", "--run", 16, "--site", site, "--json")
    ranking = {one["run"]: one for one in json.loads(said.out)["ranking"]}
    assert ranking[15]["excluded"][0] == "0 usable lumisections, 16 are needed"
    assert not any(ranking[run]["excluded"] for run in (11, 12, 13, 14, 17))
    text = " ".join(lumiwatch("reference", "propose", "anomaly", "--run", 17, "--site", site).out.split())
    assert "no run suits whose bunches is as high as in run 17 (3000)" in text


def test_a_successor_after_a_response_covers_what_its_windows_told(lumiwatch, site):
    parent = json.loads(_build(lumiwatch, site, 11, 12, 13, 14, options=["--json"]).out)["id"]
    loaded = load_site(site)
    engine = open_database(loaded.database_url)
    bench = Workbench(engine, loaded, Event(), utc_now)
    task = Task(
        response_id="anomaly-1-r1",
        incident_id="anomaly-1",
        model="anomaly",
        simulated=True,
        run=16,
        first_lumisection=1,
        last_lumisection=8,
        package=PACKAGE,
        reference_id=parent,
        strategies=(),
        decided_by="local",
        automatic=False,
        folder=loaded.state_dir / "responses" / "anomaly-1",
    )
    made = load_reference(engine, bench.successor_reference(task, PACKAGE, 16, 1, 8))
    assert made.header.coverage_in_words.startswith("bunches 1800, pileup ")
    assert (made.header.n_lumisections, made.parent_id) == (8, parent)
    with pytest.raises(ReferenceProblem, match="the conditions of no window name bunches"):
        bench.successor_reference(task, PACKAGE, 15, 1, 8)
    engine.dispose()
