"""`lumiwatch hw apply | rollback | scrub` against a daemon's API and a real board."""

import io
import json
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from daemon.responses.board_work import BoardWork
from daemon.responses.by_hand import ByHand
from daemon.responses.scrubbing import Scrubbing
from daemon.site.settings import load_site
from daemon.store.database import open_database
from tests.support.access import declare, make_services, served
from tests.support.board_site import MODEL
from tests.support.daemon import HandClock, NoWorkflows


@pytest.fixture
def plant(site_board, monkeypatch, tmp_path):
    """Serve the API of a site with egon, an expert who may approve, and olga, an operator."""
    declare(site_board.site.folder)
    site = load_site(site_board.site.folder)
    engine, clock = open_database(site.database_url), HandClock()
    services = make_services(engine, site, clock)
    boards = BoardWork(engine, site, clock)
    scrubbing = Scrubbing(engine, site, boards, NoWorkflows(), CollectorRegistry(), clock)
    by_hand = ByHand(engine, site, boards, scrubbing, services.access, clock)
    with served(replace(services, by_hand=by_hand)) as api:
        site.address_file.write_text(api.url)
        for name in ("egon", "olga"):
            (tmp_path / name).write_text(api.token(name))
        monkeypatch.setenv("LUMIWATCH_TOKEN_FILE", str(tmp_path / "egon"))
        yield site_board
    engine.dispose()


@pytest.fixture
def hw(lumiwatch, plant):
    def run(act, *arguments):
        return lumiwatch("hw", act, *arguments, "--model", MODEL, "--site", plant.site.folder)

    return run


def test_a_package_is_loaded_and_taken_back(hw, plant):
    second = plant.packages.second
    done = hw("apply", second.path, "--why", "a better one", "--yes")
    assert done.code == 0, done.err
    assert f"applied: package {second.short_id}" in done.out
    assert plant.runs == second.id
    for said in ("plan for the board of anomaly", "weights", "bytes", "dead time", "lost"):
        assert said in done.err

    back = hw("rollback", "--why", "not better", "--yes", "--json")
    assert back.code == 0, back.err
    assert json.loads(back.out)["to_package"] == plant.packages.first.id
    assert plant.runs == plant.packages.first.id


@pytest.mark.parametrize(("typed", "code"), [(MODEL, 0), ("yes", 2), ("", 2)])
def test_without_yes_the_model_is_to_be_typed(hw, plant, monkeypatch, typed, code):
    monkeypatch.setattr("typer.prompt", lambda *_, **__: typed)
    assert hw("apply", plant.packages.second.path, "--why", "x").code == code
    assert (plant.runs == plant.packages.second.id) is (code == 0)


def test_where_nobody_can_type_the_board_is_not_touched(hw, plant, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    done = hw("apply", plant.packages.second.path, "--why", "x")
    assert done.code == 2
    assert "the board was not touched" in done.err
    assert plant.runs == plant.packages.first.id


def test_partitions_are_replaced_only_where_it_is_allowed(hw, plant):
    refused = hw("apply", plant.packages.other.path, "--why", "x", "--yes")
    assert refused.code == 2
    assert "the plan is partial: allow it with --allow partial" in " ".join(refused.err.split())
    assert plant.runs == plant.packages.first.id
    assert hw("apply", plant.packages.other.path, "--why", "x", "--yes", "--allow", "partial").code == 0
    assert plant.runs == plant.packages.other.id


def test_an_operator_may_not(hw, plant, monkeypatch, tmp_path):
    monkeypatch.setenv("LUMIWATCH_TOKEN_FILE", str(tmp_path / "olga"))
    for act in (
        ("apply", plant.packages.second.path, "--yes"),
        ("scrub",),
    ):
        done = hw(*act, "--why", "x")
        assert done.code == 2
        assert "olga may not work on boards by hand: the role expert is needed" in " ".join(done.err.split())
    assert plant.runs == plant.packages.first.id


def test_a_reason_is_required(hw, plant):
    assert "--why" in hw("scrub").usage
    assert hw("scrub", "--why", "").code == 2


def test_a_scrub_says_what_it_found_and_whether_it_is_mended(hw, plant):
    assert hw("scrub", "--why", "x").code == 0
    plant.flip("dense1.weight", 2, 9)
    found = hw("scrub", "--why", "x", "--no-repair")
    assert found.code == 1
    assert "dense1.weight[2] (word" in found.out
    assert f"incident {MODEL}-1" in found.out
    assert not plant.right()

    waits = hw("scrub", "--why", "mend it")  # the incident's response is open: it goes first
    assert waits.code == 2
    assert f"response {MODEL}-1-r1" in waits.err
    assert not plant.right()


def test_a_scrub_repairs(hw, plant):
    plant.flip("dense1.weight", 2, 9)
    mended = hw("scrub", "--why", "x", "--json")
    assert mended.code == 0, mended.err
    assert json.loads(mended.out)["report"]["outcome"] == "repaired"
    assert plant.right()


def test_a_foreign_package_never_reaches_the_daemon(hw, plant, packages):
    done = hw("apply", packages.first.path, "--why", "x", "--yes")
    assert "is not signed by a trusted key" in done.line
    assert not (plant.site.packages_dir / f"{packages.first.id}.lwpkg").exists()
