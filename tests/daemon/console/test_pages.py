"""Approvals, logs, boards, packages, lineage and configuration in a real browser, on one response's life."""

import re

import pytest
from playwright.sync_api import expect

from tests.daemon.console.conftest import running

INCIDENT, RESPONSE = "/incidents/anomaly-1", "anomaly-1-r1"
PAGES = {
    "/": "Wall",
    "/models/anomaly": "anomaly",
    "/incidents": "Incidents",
    INCIDENT: "Incident anomaly-1",
    "/approvals": "Approvals",
    "/silences": "Silences",
    "/boards": "Boards",
    "/packages": "Packages",
    "/lineage": "Lineage",
    "/configuration": "Configuration",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("pages"), "--pace", "0.3", "--step", "1.5") as started:
        yield started


def focused(page):
    """Words, link and outline of what has the keyboard."""
    return page.evaluate(
        "() => { const it = document.activeElement, style = getComputedStyle(it);"
        " return [it.textContent.trim(), it.getAttribute('href'), style.outlineStyle, style.outlineWidth]; }"
    )


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_title_language_one_heading_and_a_way_past_the_header(server, visit, path):
    page = visit(server, "max")
    page.goto(server.url + path)
    expect(page.locator("h1")).to_have_count(1)

    assert page.title() == f"{PAGES[path]} - lumiwatch"
    assert page.evaluate("document.documentElement.lang").startswith("en")
    expect(page.get_by_role("navigation", name="Main")).to_have_count(1)
    page.keyboard.press("Tab")
    words, target, outline, width = focused(page)
    assert (words, target) == ("Skip to the content", "#content")
    assert (outline, width) == ("solid", "3px")
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()


def test_what_waits_is_listed_with_who_may_answer_and_until_when(server, visit):
    page = visit(server, "ada")
    page.goto(f"{server.url}/approvals")

    waiting = page.get_by_role("region", name=f"Response {RESPONSE}")
    expect(waiting.get_by_text("WAITS FOR A DECISION")).to_be_visible()
    expect(waiting.get_by_text("Shall this response begin?")).to_be_visible()
    expect(waiting.get_by_role("row", name="approved by nobody yet (0 of 1)")).to_be_visible()
    expect(waiting.get_by_role("row", name="may still answer ada")).to_be_visible()
    expect(waiting.get_by_role("row", name=re.compile(r"until 20\d\d-.* UTC, in 7 d"))).to_be_visible()
    expect(waiting.get_by_text("You are logged in as ada and may decide this.")).to_be_visible()
    waiting.get_by_role("link", name="Look and decide").click()
    expect(page.get_by_role("heading", name="Incident anomaly-1")).to_be_visible()


@pytest.mark.parametrize("operator", ["max", "vera"])
def test_who_may_not_decide_is_told_so(server, visit, operator):
    page = visit(server, operator)
    page.goto(f"{server.url}/approvals")

    expect(page.get_by_text(f"You are logged in as {operator} and may not decide this.")).to_be_visible()


@pytest.mark.slow
def test_a_decision_its_jobs_and_its_firmware_are_seen_to_the_root_files_and_back(server, visit):
    page = visit(server, "ada")
    page.goto(server.url + INCIDENT)
    page.get_by_role("button", name="Approve").click()
    page.get_by_role("button", name="Yes, approve").click()

    page.get_by_text("Log of retrain").click()
    log = page.get_by_role("log", name="Log of retrain")
    expect(log).to_have_text(
        "select events\n<b>0</b>\nestimate the jet gain: 1.098\n<b>1</b>\nevaluate 5 strategies\n<b>2</b>"
    )
    expect(page.get_by_text("Log of build")).to_be_visible()
    expect(page.get_by_text("SUCCEEDED")).to_be_visible()

    page.goto(f"{server.url}/approvals")
    expect(page.get_by_text("Nothing waits for a decision.")).to_be_visible()
    decided = page.get_by_role("region", name="Decided")
    expect(decided.get_by_role("row", name=re.compile(f"{RESPONSE} ada approved console"))).to_be_visible()

    page.goto(f"{server.url}/boards")
    board = page.get_by_role("region", name="Board of anomaly")
    expect(board.get_by_text("ANSWERS")).to_be_visible()
    expect(board.get_by_text("EMULATED BOARD")).to_be_visible()
    expect(board.get_by_role("row", name=re.compile("last check 20.* UTC"))).to_be_visible()
    expect(board.get_by_role("row", name=re.compile("shell .static part. [0-9a-f]{12}"))).to_be_visible()
    expect(board.get_by_role("row", name=re.compile("partitions p0 [0-9a-f]{12}, p1 "))).to_be_visible()
    scrubbed = re.compile("last scrub 20.* UTC: all 2,635 words are right; every 60 s")
    expect(board.get_by_role("row", name=scrubbed)).to_be_visible()
    expect(board.get_by_role("row", name="dead time then 0.2 ms")).to_be_visible()
    expect(board.get_by_role("row", name="golden vectors then 16 of 16 agree")).to_be_visible()
    package = server.get(f"/responses/{RESPONSE}").json()["candidate_package"]
    board.get_by_role("link", name=package[:12]).click()

    expect(page.get_by_role("heading", name=f"Package {package[:12]}")).to_be_visible()
    row = page.get_by_role("row", name="hls4ml 1.3.0 C simulation 20,000 0 0 0 54,000 must agree")
    expect(row).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("applied.*0.2 ms 16 of 16 agree ada"))).to_be_visible()

    page.locator("#content").get_by_role("link", name="Lineage").focus()
    page.keyboard.press("Enter")
    root = page.get_by_role("link", name="ROOT file uproot-HZZ.root")
    expect(root).to_be_visible()
    for _ in range(40):
        page.keyboard.press("Tab")
        if root.evaluate("element => element === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="ROOT file uproot-HZZ.root")).to_be_visible()
    back = page.locator(".lw-graph").get_by_role("link", name=f"package {package[:12]}")
    expect(back).to_be_visible()
    back.click()
    expect(page.get_by_role("heading", name=f"Package {package[:12]}")).to_be_visible()


def test_the_configuration_is_shown_with_hashes_and_without_secrets(server, visit):
    page = visit(server, "max")
    page.goto(f"{server.url}/configuration")

    for file in ("lumiwatch.toml", "model.toml", "contract.toml"):
        expect(page.get_by_role("row", name=re.compile(rf"{file} [0-9a-f]{{64}}$"))).to_have_count(1)
    expect(page.get_by_role("row", name='policy.approvers ["ada"]')).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("operators.ada.full_name"))).to_be_visible()
    content = page.content()
    for operator in ("ada", "max", "vera"):
        assert server.token(operator) not in content


def test_in_both_themes_states_have_words_and_icons(server, visit):
    page = visit(server, "max")

    for theme in ("Light theme", "Dark theme"):
        page.goto(server.url)
        page.get_by_role("button", name=theme).click()
        expect(
            page.get_by_role("button", name="Dark theme" if theme == "Light theme" else "Light theme")
        ).to_be_visible()
        page.goto(f"{server.url}/incidents")
        badge = page.locator(".lw-badge").first
        expect(badge).to_have_text(re.compile("[A-Z]{4,}"))
        expect(badge.locator(".q-icon")).to_be_visible()
