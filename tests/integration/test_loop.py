"""The whole loop as a person runs it: real broker, worker, daemon and board, public interfaces only."""

import json
from pathlib import Path

import pytest

from tests.support.browser import chromium
from tests.support.commands import listening, lumiwatch
from tests.support.demo import demo

FEW = ("--events", "3000")
SHORT = ("--effect", "jet_gain=1.05@LS25", "--pace", "0.7", *FEW)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]


def test_the_demo_closes_the_loop_by_itself(tmp_path: Path) -> None:
    with demo(tmp_path / "demo", "--auto-approve") as running:
        code, summary = running.ended()
        screen = running.screen

    assert code == 0, screen
    assert summary["failures"] == []
    # detected soon, by an incident that is over now
    assert 1 <= summary["delay_lumisections"] <= 4
    assert summary["incident_state"] == "resolved"
    assert summary["response_state"] == "succeeded"
    # the drift pushed the accept rate out of its band, the new firmware brought it back
    before, drifted, after = (summary[when]["value"] for when in ("before", "drifted", "after"))
    assert drifted / before > 1.10
    assert abs(after / before - 1) < 0.05
    # the firmware really is another one, proven bit by bit
    assert summary["board_package"] != summary["first_package"]
    assert summary["bit_mismatches"] == 0
    assert summary["events_compared"] > 10_000
    # the exact message was shown, marked as a replay
    assert "REPLAY" in screen
    assert "ALARM" in screen

    # and the lineage of the running firmware is there afterwards, without any process
    shown = lumiwatch("lineage", "show", summary["board_package"], "--site", str(running.site), "--json")
    assert shown.returncode == 0, shown.stderr
    graph = json.loads(shown.stdout)
    kinds = {node["kind"] for node in graph["nodes"]}
    assert {"package", "training", "dataset", "root_file", "response", "incident"} <= kinds
    assert any(node["id"].startswith("uproot-HZZ.root@") for node in graph["nodes"])


def test_without_an_effect_nothing_happens(tmp_path: Path) -> None:
    with demo(tmp_path / "demo", "--effect", "none", *FEW) as running:
        code, summary = running.ended()

    assert code == 0, running.screen
    assert summary["incident_id"] is None
    assert summary["windows_judged"] == 120
    assert summary["board_package"] == summary["first_package"]
    listed = lumiwatch("incidents", "--all", "--site", str(running.site), "--json")
    assert json.loads(listed.stdout) == []


def test_a_rejected_response_keeps_the_firmware_and_leaves_the_incident_open(tmp_path: Path) -> None:
    with demo(tmp_path / "demo", *SHORT) as running:
        response = running.wait_for(r"lumiwatch approve (\S+)")
        said = lumiwatch("reject", response, "--site", str(running.site), "-m", "beam studies")
        assert said.returncode == 0, said.stderr
        code, summary = running.ended()

    # honest: the rate did not recover, so this is no success
    assert code == 1
    assert summary["response_state"] == "rejected"
    assert summary["incident_state"] == "open"
    assert summary["board_package"] == summary["first_package"]
    shown = lumiwatch("incidents", "show", summary["incident_id"], "--site", str(running.site), "--json")
    assert "beam studies" in shown.stdout


def test_interrupting_the_demo_leaves_no_process_and_no_port(tmp_path: Path) -> None:
    with demo(tmp_path / "demo", *SHORT) as running:
        running.wait_for(r"run +\d+ lumisections")
        names = {process.name() for process in running.command.descendants()}
        assert "tansu" in names
        assert len(listening(running.command.descendants())) >= 3  # broker, board and console

        assert running.command.interrupt() == 130


def test_an_operator_approves_in_the_browser(tmp_path: Path) -> None:
    with demo(tmp_path / "demo", *SHORT) as running:
        link = running.wait_for(r"http://127\.0\.0\.1:\d+/login\?token=\w+")
        running.wait_for(r"lumiwatch approve (\S+)")
        with chromium() as browser:
            page = browser.new_page()
            page.goto(link)
            page.get_by_role("link", name="Look and decide").click()
            page.get_by_role("button", name="Approve").click()
            page.get_by_role("button", name="Yes, approve").click()
            running.wait_for(r"Approved by local")
        code, summary = running.ended()

    assert code == 0, running.screen
    assert summary["response_state"] == "succeeded"
    assert summary["board_package"] != summary["first_package"]
