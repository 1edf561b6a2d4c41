"""Silences in a real browser: made, seen everywhere, ended; refused without the role; by keyboard alone."""

import pytest
from playwright.sync_api import expect

from tests.daemon.console.conftest import running


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("silences"), "--pace", "0", "--first-stop", "43") as started:
        yield started


def test_a_silence_is_made_seen_everywhere_and_ended(server, visit):
    page = visit(server, "max")
    page.get_by_role("link", name="Incidents", exact=True).click()
    page.get_by_role("link", name="anomaly-1").click()
    page.get_by_role("link", name="Silence", exact=True).click()

    form = page.get_by_role("region", name="New silence")
    expect(form.get_by_label("Model")).to_have_value("anomaly")
    form.get_by_label("Reason").fill("<b>beam tests</b>")
    form.get_by_label("Reason").press("Enter")

    active = page.get_by_role("region", name="Active silences")
    expect(active.get_by_text("SILENCED")).to_be_visible()
    expect(active.get_by_text("<b>beam tests</b> (max, silence-1)")).to_be_visible()
    for path in ("/", "/incidents", "/incidents/anomaly-1"):
        page.goto(f"{server.url}{path}")
        expect(page.locator(".lw-badge").get_by_text("SILENCED")).to_be_visible()
        expect(page.get_by_text("UTC by max: <b>beam tests</b>").first).to_be_visible()

    page.goto(f"{server.url}/silences")
    page.get_by_role("button", name="End silence-1").click()

    expect(page.get_by_text("Nothing is silenced.")).to_be_visible()
    (silence,) = server.get("/silences").json()
    assert (silence["author"], silence["ended_by"], silence["model"]) == ("max", "max", "anomaly")
    page.goto(server.url)
    expect(page.get_by_role("link", name="anomaly: ALARM")).to_be_visible()
    expect(page.get_by_text("SILENCED")).to_have_count(0)


def test_a_silence_without_a_reason_is_refused_in_words(server, visit):
    page = visit(server, "max")
    page.goto(f"{server.url}/silences")

    page.get_by_role("button", name="Silence", exact=True).click()

    expect(page.get_by_text("Not accepted: give a reason of 1 to 500 characters")).to_be_visible()
    expect(page.get_by_text("Nothing is silenced.")).to_be_visible()
