"""A retraining asked for on the model's page, with a decision to begin and another before the board."""

import pytest
from playwright.sync_api import expect

from tests.daemon.console.conftest import make_site, running

pytestmark = pytest.mark.slow

RESPONSE = "anomaly-1-r1"


def test_from_a_request_to_the_second_decision(tmp_path, visit):
    model = make_site(tmp_path) / "models" / "anomaly" / "model.toml"
    text = model.read_text().replace('approvers = ["ada"]', 'approvers = ["ada", "max"]')
    model.write_text(text.replace("hardware_approvals_needed = 0", "hardware_approvals_needed = 1"))
    with running(tmp_path, "--first-stop", "38", "--pace", "0", "--step", "0.1") as server:
        page = visit(server, "ada")
        page.goto(f"{server.url}/models/anomaly")
        page.get_by_role("button", name="Ask for retraining").click()
        page.get_by_label("Why").fill("the rate creeps up")
        page.get_by_role("button", name="Ask", exact=True).click()

        page.wait_for_url(f"{server.url}/incidents/anomaly-1")
        expect(page.get_by_text("Retraining asked for by ada: the rate creeps up").first).to_be_visible()
        expect(page.get_by_text("Expected plan: weights").first).to_be_visible()
        expect(page.get_by_text("It waits for 1 approval of ada or max (whether to begin)")).to_be_visible()
        page.get_by_role("button", name="Approve").click()
        page.get_by_role("button", name="Yes, approve").click()

        # she sees what was built and proven, and may not approve it too
        expect(page.get_by_text("It waits for 1 approval of max")).to_be_visible()
        expect(page.get_by_role("cell", name="0 mismatching bits in 20,000 events.")).to_be_visible()
        expect(page.get_by_role("cell", name="only input.scale and input.offset differ")).to_be_visible()
        expect(page.get_by_text("How to retrain")).to_have_count(0)
        page.get_by_role("button", name="Approve").click()
        expect(page.get_by_text("The package goes onto the board now.")).to_be_visible()
        page.get_by_role("button", name="Yes, approve").click()
        expect(page.get_by_role("alert").filter(has_text="its board needs somebody else")).to_be_visible()
        assert [one["operator"] for one in server.get(f"/responses/{RESPONSE}").json()["decisions"]] == [
            "ada"
        ]

        other = visit(server, "max")
        other.goto(f"{server.url}/incidents/anomaly-1")
        other.get_by_role("button", name="Approve").click()
        other.get_by_role("button", name="Yes, approve").click()

        expect(other.get_by_text("max, for the board, approved").first).to_be_visible()
        response = server.get(f"/responses/{RESPONSE}").json()
        assert [(one["operator"], one["stage"]) for one in response["decisions"]] == [
            ("ada", "response"),
            ("max", "hardware"),
        ]
        assert response["decided_by"] == "ada, max"


def test_who_may_not_ask_is_not_offered_it(tmp_path, visit):
    with running(tmp_path, "--first-stop", "34", "--pace", "0") as server:
        page = visit(server, "max")
        page.goto(f"{server.url}/models/anomaly")

        expect(page.get_by_role("heading", name="Incidents")).to_be_visible()
        expect(page.get_by_role("button", name="Ask for retraining")).to_have_count(0)
