"""The wall with many models: few statements, small messages, the state of each in words."""

from datetime import timedelta

import pytest
from playwright.sync_api import expect
from sqlalchemy import event
from sqlmodel import Session

from daemon.console import wall
from daemon.operations import utc_now
from daemon.site.settings import load_site
from daemon.store import latest, queries
from daemon.store.database import open_database
from streams.judging.verdict import State
from tests.daemon.console.conftest import running
from tests.support import wall_server
from tests.support.access import make_services
from tests.support.daemon import copy_site

MODELS, LUMISECTIONS = 50, 500


def services_of(tmp_path, models, lumisections=70):
    folder = copy_site(tmp_path / str(models))
    wall_server.add_models(folder, models)
    site = load_site(folder)
    engine = open_database(site.database_url)
    now = utc_now()
    wall_server.add_worker(engine, now)
    wall_server.fill(engine, site, lumisections, now)
    return make_services(engine, site, lambda: now)


def statements(services, ask):
    said = []

    def note(_connection, _cursor, statement, *_):
        said.append(statement)

    event.listen(services.engine, "before_cursor_execute", note)
    try:
        ask()
    finally:
        event.remove(services.engine, "before_cursor_execute", note)
    return [statement for statement in said if statement.lstrip().upper().startswith("SELECT")]


def test_the_wall_asks_as_much_for_fifty_models_as_for_one(tmp_path):
    one, fifty = services_of(tmp_path, 1, 3), services_of(tmp_path, MODELS, 3)

    asked = statements(one, lambda: wall.look(one))
    asked_of_fifty = statements(fifty, lambda: wall.look(fifty))

    assert len(asked) == len(asked_of_fifty) <= 7
    assert len(wall.look(fifty).tiles) == MODELS


def test_the_api_asks_as_much_for_fifty_models_as_for_one(tmp_path):
    one, fifty = services_of(tmp_path, 1, 3), services_of(tmp_path, MODELS, 3)

    asked = [
        statements(site, lambda s=site: queries.model_statuses(s.engine, s.site)) for site in (one, fifty)
    ]

    assert len(asked[0]) == len(asked[1]) <= 4


def test_more_models_than_one_statement_takes_are_all_read(tmp_path, monkeypatch):
    services = services_of(tmp_path, 9, 20)
    whole = wall.look(services)
    monkeypatch.setattr(latest, "MOST_AT_ONCE", 4)

    assert wall.look(services) == whole
    assert {tile.model for tile in whole.tiles} == set(services.site.models)
    assert all(tile.verdict.lumisection == 20 for tile in whole.tiles)


def test_a_strip_holds_the_latest_lumisections_only_and_in_order(tmp_path):
    services = services_of(tmp_path, 2)

    for tile in wall.look(services).tiles:
        assert [mark.lumisection for mark in tile.strip] == list(range(11, 71))
        assert tile.verdict.lumisection == 70


def test_those_that_need_somebody_come_first_and_silence_is_no_good(tmp_path):
    services = services_of(tmp_path, 8)

    shown = wall.look(services)
    assert [tile.look.word for tile in shown.tiles] == [
        "ALARM",
        "WARNING",
        "TOO FEW EVENTS",
        "NOT JUDGED",
        *["GOOD"] * 4,
    ]
    assert [number for _, number in shown.counts] == [1, 1, 1, 1, 4]
    assert shown.tiles[0].alarm_words.endswith("since LS 58: tau-nn-1, open")

    later = services.clock() + wall.SILENCE + timedelta(seconds=1)
    silent = wall.tiles(services, [], later)
    assert {tile.look.word for tile in silent} == {"NO DATA"}


def frames(page):
    """Collect the sizes of what the page's socket receives."""
    received = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda data: received.append(len(data))))
    return received


@pytest.mark.slow
def test_fifty_models_with_five_hundred_verdicts_each_load_and_update_with_small_messages(tmp_path, visit):
    arguments = ("--models", str(MODELS), "--lumisections", str(LUMISECTIONS))
    with running(tmp_path, *arguments, program="wall_server") as server:
        page = visit(server, "max")
        received = frames(page)
        page.goto(server.url)
        expect(page.locator("a.lw-tile")).to_have_count(MODELS)
        expect(page.get_by_role("status").filter(has_text="46 GOOD")).to_be_visible()
        expect(page.get_by_role("link", name="tau-nn: ALARM")).to_be_visible()
        page.wait_for_timeout(5_000)
        whole = len(page.content())
        received.clear()
        page.wait_for_timeout(5_000)
        quiet = sum(received)

        site = load_site(server.site)
        with Session(open_database(site.database_url)) as session:
            newest = wall_server.verdict_of("met-tail-3", 40, LUMISECTIONS + 1, last=LUMISECTIONS)
            newest = newest.model_copy(update={"state": State.NOT_JUDGED})
            session.add(wall_server.record_of(newest, utc_now()))
            session.commit()
        tile = page.get_by_role("link", name="met-tail-3: NOT JUDGED")
        expect(tile.locator("b")).to_have_text(f"LS {LUMISECTIONS + 1}")

        # the age of the one alarm may have changed meanwhile: a large tile
        assert quiet < whole / 20
        assert 0 < sum(received) < whole / 10
        expect(page.get_by_role("status").filter(has_text="2 NOT JUDGED")).to_be_visible()
