"""Name and password in a real browser: what a viewer sees, and that logging out is the end."""

import re
import subprocess
import sys

import httpx
import pytest
from playwright.sync_api import expect

from tests.daemon.console.conftest import ROLES, Server, browser, running, visitor

__all__ = ["browser", "visitor"]
PASSWORD = "correct horse battery"
INCIDENT = "/incidents/anomaly-1"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("console")
    with running(folder, "--pace", "0") as started:
        password = folder / "password"
        password.write_text(f"{PASSWORD}\n")
        for name in ("vera", "max"):
            command = ["users", "password", name, "--password-file", str(password)]
            command = [sys.executable, "-m", "daemon.cli", *command, "--site", str(folder / "site")]
            subprocess.run(command, check=True, capture_output=True)
        yield started


def log_in(page, server: Server, name: str, password: str = PASSWORD, path: str = "/") -> None:
    # the login page loads itself once more for the sake of links in chats: not while somebody types
    page.add_init_script("sessionStorage.setItem('lumiwatch-arrival', location.href)")
    page.goto(server.url + path)
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type(password)
    page.keyboard.press("Enter")


def test_a_viewer_logs_in_by_keyboard_sees_no_act_and_logs_out(server, visitor):
    page = visitor.new_page()
    log_in(page, server, "vera", "wrong password", INCIDENT)
    expect(page.get_by_role("alert")).to_have_text("Not logged in: the name or the password is wrong.")
    expect(page.get_by_role("heading", name="Incident")).to_have_count(0)

    log_in(page, server, "vera", path=INCIDENT)

    expect(page.get_by_text("Viewer: Vera Rubin")).to_be_visible()
    expect(page).to_have_url(server.url + INCIDENT)
    expect(page.get_by_text("You are logged in as vera, and vera may not decide this.")).to_be_visible()
    acts = re.compile("Acknowledge|Approve|Reject|Prescale|Propose")
    expect(page.get_by_role("button", name=acts)).to_have_count(0)

    (cookie,) = [cookie for cookie in visitor.cookies() if cookie["name"] == "lumiwatch_session"]
    page.get_by_role("button", name="Log out").click()

    expect(page.get_by_role("heading", name="Log in to lumiwatch")).to_be_visible()
    visitor.add_cookies([cookie])
    page.goto(server.url + INCIDENT)
    expect(page.get_by_role("heading", name="Log in to lumiwatch")).to_be_visible()


def test_an_operator_acknowledges_in_their_own_name(server, visitor):
    page = visitor.new_page()
    log_in(page, server, "max", path=INCIDENT)

    page.get_by_role("button", name="Acknowledge").click()

    expect(page.get_by_text("max acknowledged the incident.", exact=True)).to_be_visible()
    assert server.get(INCIDENT).json()["acknowledged_by"] == "max"


def test_somebody_changes_their_password_and_makes_and_revokes_a_token(server, visitor):
    page = visitor.new_page()
    log_in(page, server, "max", path="/account")
    expect(page.get_by_text("Logged in as max, role operator. You may: read, acknowledge")).to_be_visible()
    expect(page.get_by_role("heading", name="Passwords of others")).to_have_count(0)

    new = "another horse battery"
    for present, again, said in (
        ("wrong password", new, "Not accepted: that is not your present password"),
        (PASSWORD, "something else", "Not accepted: the two new passwords are not the same"),
        (PASSWORD, new, "Your password is changed."),
    ):
        page.get_by_label("Present password").fill(present)
        page.get_by_label("New password").fill(new)
        page.get_by_label("The same again").fill(again)
        page.get_by_role("button", name="Change my password").click()
        expect(page.get_by_text(said)).to_be_visible()

    page.get_by_label("What it is for").fill("dashboard")
    page.get_by_role("button", name="Make a token").click()
    shown = page.get_by_text(re.compile("^lw_"))
    expect(shown).to_be_visible()
    program = {"Authorization": f"Bearer {shown.inner_text()}"}
    assert httpx.get(f"{server.url}/api/v1/me", headers=program).json()["name"] == "max"
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("No token.")).to_be_visible()
    assert httpx.get(f"{server.url}/api/v1/me", headers=program).status_code == 401

    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in to lumiwatch")).to_be_visible()
    log_in(page, server, "max", new, "/account")
    expect(page.get_by_text("Operator: Max Planck")).to_be_visible()


def test_an_admin_sets_the_password_of_somebody_else(tmp_path, visitor, monkeypatch):
    monkeypatch.setitem(ROLES, "ada", "admin")
    with running(tmp_path, "--pace", "0") as server:
        page = visitor.new_page()
        page.goto(f"{server.url}/login?token={server.token('ada')}")
        page.wait_for_url(f"{server.url}/")
        page.goto(f"{server.url}/account")

        page.get_by_role("combobox", name="Whose password").click()
        page.get_by_role("option", name="Vera Rubin").click()
        page.get_by_label("Password for them", exact=True).fill(PASSWORD)
        page.get_by_label("Password for them, again").fill(PASSWORD)
        page.get_by_role("button", name="Set their password").click()

        expect(page.get_by_text("The password of vera is set.")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="Log in to lumiwatch")).to_be_visible()
        log_in(page, server, "vera", path="/account")
        expect(page.get_by_text("Viewer: Vera Rubin")).to_be_visible()
        events = server.get("/audit?kind=access.password_changed").json()
        assert [(event["actor"], event["detail"]) for event in events] == [("ada", {"person": "vera"})]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_login_page_follows_the_theme_and_asks_nobody_else(server, visitor, theme):
    visitor.add_cookies([{"name": "lumiwatch_theme", "value": theme, "url": server.url}])
    page = visitor.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))

    page.goto(f"{server.url}/login")

    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"dark": "rgb(13, 17, 23)", "light": "rgb(242, 244, 247)"}[theme]
    assert {url.startswith(server.url) for url in asked} == {True}
