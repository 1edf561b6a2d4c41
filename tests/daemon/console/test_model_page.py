"""The page of a model: any input and lumisection by keyboard, by a click, and by a link somebody sends."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect
from sqlmodel import Session

from daemon.console.choice import Choice, choice_of
from daemon.operations import utc_now
from daemon.site.settings import load_site
from daemon.store.database import open_database
from daemon.store.records import VerdictRecord
from tests.daemon.console.conftest import running

RUN = 362439


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("model"), "--pace", "0", "--first-stop", "44") as started:
        yield started


def chosen(page):
    """What the address says."""
    return {key: values[0] for key, values in parse_qs(urlsplit(page.url).query).items()}


def axis_title(page, words):
    """Wait until some plot has this title under its axis."""
    expect(page.locator(".xtitle").filter(has_text=re.compile(f"^{re.escape(words)}"))).to_have_count(1)


@pytest.mark.parametrize(
    "choice",
    [
        Choice(),
        Choice(run=1, lumisection=0),
        Choice(run=RUN, lumisection=43, package="ab" * 32, quantity="jet[0].pt"),
        Choice(quantity="jet map & more?#"),
    ],
)
def test_an_address_gives_the_choice_back(choice):
    query = {key: values[0] for key, values in parse_qs(urlsplit(choice.address("anomaly")).query).items()}

    assert choice_of(query) == choice


@pytest.mark.parametrize(
    "query",
    [
        {"run": "-1", "ls": "1e9", "input": "", "package": "x" * 129},
        {"run": "\u0663", "ls": " 4", "input": "a\x00b", "package": "a\nb"},
        {"run": "1; DROP TABLE daemon_verdicts", "ls": "9" * 30},
    ],
)
def test_an_address_that_says_no_choice_says_none(query):
    assert choice_of(query) == Choice()


def test_a_click_on_the_heat_map_lays_that_input_over_its_reference(server, visit):
    page = visit(server, "max")
    page.goto(f"{server.url}/models/anomaly")
    picture = page.locator(".heatmaplayer image").first
    picture.scroll_into_view_if_needed()
    expect(page.get_by_role("heading", name=f"LS 44 of run {RUN}")).to_be_visible()
    axis_title(page, "jet[0].pt, LS 44")
    box = picture.bounding_box()

    page.mouse.click(box["x"] + box["width"] * 9.5 / 44, box["y"] + box["height"] * 16.5 / 57)

    expect(page.get_by_role("heading", name=f"LS 10 of run {RUN}")).to_be_visible()
    axis_title(page, "muon[0].eta, LS 10")
    assert chosen(page) == {"run": str(RUN), "ls": "10", "input": "muon[0].eta"}
    expect(page.get_by_label("Lumisection", exact=True)).to_have_value("10")


def test_input_and_lumisection_are_chosen_by_keyboard_alone_and_a_link_shows_the_same(server, visit):
    page = visit(server, "max")
    page.goto(f"{server.url}/models/anomaly")
    field = page.get_by_label("Lumisection", exact=True)
    expect(field).to_be_visible()

    field.focus()
    page.keyboard.type("42")
    expect(page.get_by_role("heading", name=f"LS 42 of run {RUN}")).to_be_visible()
    page.get_by_role("button", name="Earlier").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=f"LS 41 of run {RUN}")).to_be_visible()
    page.get_by_label("Input, score or map").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("jet map")
    expect(page.get_by_role("option")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('.heatmaplayer image').length === 2")
    page.wait_for_url(re.compile(r"input=jet%20map"))
    link = page.url

    other = visit(server, "ada")
    other.goto(link)
    expect(other.get_by_role("heading", name=f"LS 41 of run {RUN}")).to_be_visible()
    expect(other.locator(".gtitle").filter(has_text="jet map, LS 41")).to_have_count(1)
    other.get_by_role("button", name="Newest").click()
    expect(other.get_by_role("heading", name=f"LS 44 of run {RUN}")).to_be_visible()
    assert chosen(other) == {"input": "jet map"}


def test_what_explains_a_lumisection_is_said_and_its_inputs_can_be_picked(server, visit):
    page = visit(server, "max")
    page.goto(f"{server.url}/models/anomaly?run={RUN}&ls=43&input=score")

    panel = page.get_by_role("region", name="One lumisection")
    expect(panel.get_by_text("ALARM", exact=True)).to_be_visible()
    expect(panel.get_by_text(re.compile(r"Likely: The energy scale of jet is x1\."))).to_be_visible()
    axis_title(page, "score, LS 43")
    panel.get_by_role("button", name=re.compile(r"jet\[1\]\.pt: KS distance")).click()
    axis_title(page, "jet[1].pt, LS 43")
    assert chosen(page)["input"] == "jet[1].pt"


def test_a_lumisection_that_was_not_judged_is_said_in_words(server, visit):
    page = visit(server, "max")
    page.goto(f"{server.url}/models/anomaly?run={RUN}&ls=4000&input=nonsense")

    expect(page.get_by_text(f"LS 4000 in run {RUN} was not judged: choose another.")).to_be_visible()
    page.wait_for_function("document.querySelectorAll('.heatmaplayer image').length === 1")


def test_of_a_lumisection_with_new_firmware_inside_either_package_can_be_chosen(server, visit):
    old = server.get("/models/anomaly/verdicts?limit=500").json()[39]
    site = load_site(server.site)
    with Session(open_database(site.database_url)) as session:
        known = session.get(VerdictRecord, old["id"])
        payload = {**known.payload, "id": "second", "package": "cd" * 32}
        copied = known.model_dump(exclude={"id", "package", "payload", "received_at"})
        session.add(
            VerdictRecord(id="second", package="cd" * 32, payload=payload, received_at=utc_now(), **copied)
        )
        session.commit()
    page = visit(server, "max")
    page.goto(f"{server.url}/models/anomaly?run={RUN}&ls=40&input=jet[0].pt")

    package = page.get_by_label("Package")
    expect(package).to_have_value("cdcdcdcdcdcd")
    expect(page.get_by_text("The stream kept no counts of jet[0].pt for LS 40")).to_be_visible()
    package.focus()
    page.keyboard.press("Enter")
    page.get_by_role("option", name=old["package"][:12]).click()
    axis_title(page, "jet[0].pt, LS 40")
    assert chosen(page)["package"] == old["package"]
