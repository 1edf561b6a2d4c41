"""The console in a real browser, on a daemon with the real database, judgement and durable responses."""

import re

import httpx
import pytest
from playwright.sync_api import expect

from tests.daemon.console.conftest import running

INCIDENT, RESPONSE = "/incidents/anomaly-1", "anomaly-1-r1"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("console"), "--pace", "0.3", "--step", "0.6") as started:
        yield started


@pytest.mark.parametrize("path", ["/", "/models/anomaly", INCIDENT, "/packages", "/lineage", "/nowhere"])
def test_without_a_login_no_page_says_anything_of_the_site(server, path):
    answer = httpx.get(server.url + path)

    assert answer.status_code == 401
    assert "Log in to lumiwatch" in answer.text
    for secret in ("jet[0]", "accept rate", "anomaly-1", "362439"):
        assert secret not in answer.text.replace(path, "")  # the page goes there after the login


@pytest.mark.parametrize("origin", [None, "http://127.0.0.1:1"])
def test_without_a_login_or_from_another_page_no_socket_opens(server, origin):
    cookies = {}
    headers = {"Origin": origin} if origin else {}
    if origin:
        login = httpx.get(f"{server.url}/login", params={"token": server.token("ada")})
        cookies = dict(login.cookies)

    answer = httpx.get(
        f"{server.url}/_nicegui_ws/socket.io/?EIO=4&transport=polling", cookies=cookies, headers=headers
    )

    assert answer.status_code == 401


def test_the_login_page_lets_an_operator_in_by_keyboard(server, visitor):
    page = visitor.new_page()
    page.goto(f"{server.url}/login")
    expect(page.get_by_label("Name")).to_be_focused()
    page.get_by_text("Log in with a token").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")

    page.keyboard.type(server.token("max"))
    page.keyboard.press("Enter")

    expect(page.get_by_text("Operator: Max Planck")).to_be_visible()


def test_the_wall_shows_the_alarm_in_words_and_leads_to_the_decision(server, visit):
    page = visit(server, "max")

    tile = page.get_by_role("link", name="anomaly: ALARM")
    expect(tile).to_be_visible()
    expect(tile.get_by_text("SIMULATED DATA")).to_be_visible()
    expect(tile.get_by_text("from expected, \u00b110 % tolerated")).to_be_visible()
    expect(
        tile.get_by_text(re.compile(r"Last alarm \d+ (s|min) ago, since LS 4\d: anomaly-1"))
    ).to_be_visible()
    before = int(tile.locator(".lw-figure b").first.inner_text())
    page.wait_for_function(
        "before => Number(document.querySelector('.lw-figure b').innerText) > before", arg=before
    )
    page.get_by_role("link", name="Look and decide").click()
    expect(page.get_by_role("heading", name="Incident anomaly-1")).to_be_visible()


def test_the_model_page_draws_timeline_overlay_and_heat_map(server, visit):
    page = visit(server, "max")
    page.goto(f"{server.url}/models/anomaly")

    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_have_count(4)
    expect(page.get_by_text("Likely: The energy scale of jet is x1.").first).to_be_visible()
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .heatmaplayer image').length === 1")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .barlayer .point').length > 40")
    chosen = page.get_by_label("Input, score or map")
    chosen.click()
    chosen.fill("muon[0].eta")
    page.get_by_role("option", name="muon[0].eta").click()
    page.wait_for_function(
        "[...document.querySelectorAll('.xtitle')].some(title => title.textContent.startsWith('muon[0].eta'))"
    )
    chosen.click()
    chosen.fill("jet map")
    page.get_by_role("option", name="jet map").click()
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .heatmaplayer image').length === 2")


def test_the_message_is_shown_exactly_as_it_was_kept(server, visit):
    page = visit(server, "max")
    page.goto(server.url + INCIDENT)

    text = page.locator(".lw-pre").filter(has_text="ALARM | anomaly").last
    expect(text).to_be_visible()
    kept = server.get("/notifications?incident=anomaly-1").json()[0]["payload"]
    assert text.inner_text().rstrip() == kept["text"].rstrip()
    assert "REPLAY | SIMULATED DATA" in kept["body"]["message"].replace("\\", "")
    expect(page.get_by_alt_text("Picture of the alarm")).to_be_visible()


def test_an_operator_who_is_no_approver_is_refused_and_nothing_changes(server, visit):
    page = visit(server, "max")
    page.goto(server.url + INCIDENT)
    expect(
        page.get_by_text("You are logged in as max, and max may not decide this. Ask ada.")
    ).to_be_visible()

    page.get_by_role("button", name="Approve").click()
    page.get_by_role("button", name="Yes, approve").click()

    expect(
        page.get_by_role("alert").filter(has_text="Not accepted: operator 'max' may not decide")
    ).to_be_visible()
    response = server.get(f"/responses/{RESPONSE}").json()
    assert response["state"] == "proposed"
    assert response["decisions"] == []


def test_a_session_that_was_taken_away_decides_nothing(server, visit, visitor):
    page = visit(server, "ada")
    visitor.clear_cookies()
    page.goto(server.url + INCIDENT)

    expect(page.get_by_role("heading", name="Log in to lumiwatch")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)


@pytest.mark.slow
def test_an_approver_approves_and_sees_the_loop_through_to_the_end(server, visit):
    page = visit(server, "ada")
    page.goto(server.url + INCIDENT)
    attack = "<img src=x onerror=\"document.title='hacked'\"> jets run hot"

    page.get_by_label("Comment").fill(attack)
    page.get_by_text("Input recalibration:").click()
    page.get_by_role("button", name="Approve").click()
    page.get_by_role("button", name="Yes, approve").click()

    expect(page.get_by_text(f"You approved {RESPONSE}.")).to_be_visible()
    expect(page.get_by_role("progressbar").first).to_be_visible()
    expect(page.get_by_text("SUCCEEDED")).to_be_visible(timeout=60_000)
    expect(page.locator(".lw-badge").get_by_text("RESOLVED")).to_be_visible()
    expect(page.get_by_text("0 mismatching bits").first).to_be_visible()
    expect(page.get_by_text(attack).first).to_be_visible()
    assert page.title() == "Incident anomaly-1 - lumiwatch"
    response = server.get(f"/responses/{RESPONSE}").json()
    (decision,) = response["decisions"]
    assert (decision["operator"], decision["via"], decision["strategy"]) == (
        "ada",
        "console",
        "input_recalibration",
    )
    page.goto(f"{server.url}/lineage?id={response['candidate_package']}")
    expect(page.get_by_role("link", name=re.compile("ROOT file"))).to_be_visible()
    page.goto(server.url)
    expect(page.get_by_role("link", name="anomaly: GOOD")).to_be_visible()


def test_every_page_is_readable_in_the_light_theme(server, visit):
    page = visit(server, "max")

    page.get_by_role("button", name="Light theme").click()

    expect(page.get_by_role("button", name="Dark theme")).to_be_visible()
    page.goto(f"{server.url}/packages")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(238, 241, 245)"


def test_what_does_not_exist_is_said_in_words(server, visit):
    page = visit(server, "max")

    page.goto(f"{server.url}/incidents/anomaly-99")
    expect(page.get_by_role("alert").filter(has_text="no incident 'anomaly-99'")).to_be_visible()
    page.goto(f"{server.url}/models/nothing")
    expect(page.get_by_role("alert").filter(has_text="not watched at this site")).to_be_visible()
    page.goto(f"{server.url}/lineage?id=deadbeef")
    expect(page.get_by_text("no artefact 'deadbeef'")).to_be_visible()


@pytest.mark.slow
def test_prescaling_out_by_keyboard_alone_then_proposing_again_and_rejecting(tmp_path, visit):
    with running(tmp_path, "--pace", "0", "--first-stop", "43") as server:
        page = visit(server, "ada")
        page.goto(server.url + INCIDENT)
        button = page.get_by_role("button", name="Prescale out")
        expect(button).to_be_visible()
        for _ in range(60):
            page.keyboard.press("Tab")
            if button.evaluate("element => element === document.activeElement"):
                break
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Yes, prescale out")).to_be_focused()
        page.keyboard.press("Enter")

        expect(page.get_by_text("Instruction to the shift: Prescale the anomaly trigger out")).to_be_visible()
        assert server.get(f"/responses/{RESPONSE}").json()["state"] == "prescaled_out"

        page.get_by_role("button", name="Propose again").click()
        again = page.get_by_role("region", name="Response anomaly-1-r2")
        expect(again.get_by_text("WAITS FOR A DECISION")).to_be_visible()
        again.get_by_role("button", name="Reject").click()
        page.get_by_role("button", name="Yes, reject").click()
        expect(again.get_by_text("Rejected by ada; the firmware was not touched.").first).to_be_visible()
