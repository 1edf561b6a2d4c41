"""A page that stays open while the daemon goes away and comes back."""

import re
import socket
from contextlib import ExitStack

import pytest
from playwright.sync_api import expect

from tests.daemon.console.conftest import running

_LUMISECTION = ".lw-figure b"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.slow
def test_an_open_page_says_that_the_daemon_is_away_and_goes_on_by_itself_when_it_is_back(tmp_path, visit):
    port = free_port()
    with ExitStack() as first:
        server = first.enter_context(running(tmp_path, "--pace", "0", "--first-stop", "3", port=port))
        page = visit(server, "ada")
        expect(page.locator(_LUMISECTION).first).to_have_text("3")
        lost = page.get_by_role("alert").filter(has_text="Connection lost")
        expect(lost).to_be_hidden()
        first.close()

        expect(lost).to_be_visible()
        expect(lost).to_contain_text(re.compile(r"What you see is of \d\d:\d\d:\d\d UTC and older"))
        expect(page.locator(_LUMISECTION).first).to_have_text("3")

        with running(tmp_path, "--pace", "0", "--first-stop", "5", port=port):
            expect(lost).to_be_hidden()
            expect(page.locator(_LUMISECTION).first).to_have_text("5")
            expect(page.get_by_text("Expert: Ada Lovelace")).to_be_visible()


@pytest.mark.slow
def test_an_open_page_asks_to_log_in_when_its_session_ended_meanwhile(tmp_path, visit, visitor):
    port = free_port()
    with ExitStack() as first:
        server = first.enter_context(running(tmp_path, "--pace", "0", "--first-stop", "3", port=port))
        page = visit(server, "ada")
        expect(page.locator(_LUMISECTION).first).to_have_text("3")
        first.close()
        expect(page.get_by_role("alert").filter(has_text="Connection lost")).to_be_visible()
        visitor.clear_cookies()

        with running(tmp_path, "--pace", "0", "--first-stop", "3", port=port):
            expect(page.get_by_role("heading", name="Log in to lumiwatch")).to_be_visible()
