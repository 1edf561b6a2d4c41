"""DQM files land while a whole site runs: each counts once, whatever is killed, and a drift is an alarm."""

import json
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect
from sqlmodel import Session, select

from daemon.references.histograms import journal_dir
from daemon.site.settings import load_site
from daemon.store import queries
from daemon.store.database import open_database
from daemon.store.records import ResponseRecord
from streams.store.history import closed_windows
from tests.support import dqm
from tests.support.browser import chromium
from tests.support.commands import RunningCommand, lumiwatch, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MODEL = "calo"
RUN = 315267
FILES, LUMISECTIONS = 12, 4
DRIFT_FROM = 9 * LUMISECTIONS + 1
KILLS = 4

SITE = """
site = "DQM"
[stream]
allowed_lateness_s = 30
"""
MODEL_FILE = """
name = "calo"
[policy]
approvers = ["local"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("watch") / "site"
    (folder / "models" / MODEL).mkdir(parents=True)
    (folder / "lumiwatch.toml").write_text(SITE)
    (folder / "models" / MODEL / "model.toml").write_text(MODEL_FILE)
    (folder / "models" / MODEL / "contract.toml").write_text(dqm.CONTRACT)
    return folder


@pytest.fixture(scope="module")
def up(site) -> RunningCommand:
    with running(site.with_name("up.screen"), "up", "--site", site, "--port", 0) as command:
        command.wait_for("running; Ctrl-C")
        yield command
        assert command.process.poll() is None, command.screen


def events(lumisection: int) -> dqm.Events:
    return dqm.events(lumisection, scale=1.2 if lumisection >= DRIFT_FROM else 1.0)


def land(folder: Path, number: int) -> None:
    """Write a file beside the folder's others and rename it into place, as a DQM job does."""
    first = number * LUMISECTIONS + 1
    numbers = range(first, first + LUMISECTIONS)
    dqm.write_dqmio(folder / f".{number:02d}.root", [(RUN, one, events(one).elements()) for one in numbers])
    (folder / f".{number:02d}.root").rename(folder / f"{number:02d}.root")


def wait(condition, timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not get there in time"
        time.sleep(0.1)


def test_histograms_are_watched_through_kills_and_a_drift_opens_an_incident(site, up, tmp_path):
    loaded = load_site(site)
    engine = open_database(loaded.database_url)
    # given an approved reference from the DQM files of good lumisections
    good = [
        dqm.write_dqmio(
            tmp_path / f"good{part}.root",
            [(1, one, dqm.events(10_000 + one).elements()) for one in range(part, 60, 2)],
        )
        for part in (0, 1)
    ]
    build = ("reference", "from-histograms", *map(str, good), "--model", MODEL, "--site", str(site))
    built = lumiwatch(*build, "--pileup", "40", "--json")
    assert built.returncode == 0, built.stderr
    reference = json.loads(built.stdout)["id"]
    approved = lumiwatch("reference", "approve", reference, "--site", str(site))
    assert approved.returncode == 0, approved.stderr
    traced = lumiwatch("lineage", "show", reference, "--site", str(site), "--json")
    assert {node["kind"] for node in json.loads(traced.stdout)["nodes"]} == {"reference", "dqm_file"}

    # when files land while the watcher is killed again and again, and broken files lie among them
    folder = tmp_path / "landing"
    folder.mkdir()
    (folder / "broken.root").write_bytes(good[0].read_bytes()[:3000])
    chance = random.Random(3)
    arguments = ("watch", folder, "--model", MODEL, "--site", site, "--pileup", 40)
    fast = ("--interval", 0.1, "--settle", 0.1)
    landed = 0
    for kill in range(KILLS):
        with running(tmp_path / f"watch{kill}", *arguments, *fast) as command:
            for _ in range(FILES // KILLS):
                land(folder, landed)
                landed += 1
            command.wait_for(f"sent: .*/{landed - 1 - chance.randrange(FILES // KILLS):02d}.root")
            time.sleep(chance.uniform(0.0, 0.05))
            command.process.send_signal(signal.SIGKILL)
            command.process.wait()
    ended = lumiwatch(*map(str, (*arguments, *fast)), "--once", "--json")

    # then the last one says what it could not take, and everything else was counted exactly once
    assert ended.returncode in (0, 1), ended.stderr
    (note,) = (journal_dir(loaded, MODEL) / "refused").iterdir()
    assert str(folder / "broken.root") in json.loads(note.read_text())["reason"]
    last = FILES * LUMISECTIONS
    wait(lambda: len(closed_windows(engine, MODEL, run=RUN)) == last)
    windows = {one.summary.lumisection: one.summary for one in closed_windows(engine, MODEL, run=RUN)}
    assert sorted(windows) == list(range(1, last + 1))
    for number, summary in windows.items():
        expected = np.asarray(events(number).elements()[dqm.PT].values(flow=True))
        assert summary.histogram(0).tolist() == expected.tolist()
        assert summary.n_events == len(events(number).pt)

    # and the drift opened one incident, which nobody is asked to retrain for
    wait(lambda: queries.incidents(engine, model=MODEL))
    (incident,) = queries.incidents(engine, model=MODEL)
    assert incident.onset_lumisection == DRIFT_FROM
    assert incident.families == ["inputs"]
    assert "jet.pt" in incident.reason
    wait(lambda: queries.notifications(engine, incident_id=incident.id))
    (message,) = queries.notifications(engine, incident_id=incident.id)
    assert "jet.pt" in str(message.payload["text"])
    with Session(engine) as session:
        assert session.exec(select(ResponseRecord)).all() == []
    asked = lumiwatch("incidents", "respond", incident.id, "--site", str(site))
    assert asked.returncode == 2
    assert "has no firmware to reconfigure" in asked.stderr

    # and the console shows histograms, and offers nothing that needs firmware
    link = up.wait_for(r"console: (\S+)")[1]
    with chromium() as browser:
        page = browser.new_page()
        page.goto(link)
        page.wait_for_url(f"{link.split('/login')[0]}/")  # the login page sends the browser on by itself
        page.goto(f"{link.split('/login')[0]}/incidents/{incident.id}")
        expect(page.get_by_role("button", name="Acknowledge")).to_be_visible()
        expect(page.get_by_role("button", name="Propose again")).to_have_count(0)
        expect(page.get_by_alt_text("Picture of the alarm")).to_be_visible()
        page.goto(f"{link.split('/login')[0]}/models/{MODEL}")
        expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
        page.wait_for_function(
            "[...document.querySelectorAll('.xtitle')].some(title => title.textContent.startsWith('jet.pt'))"
        )
        expect(page.get_by_text("accept rate")).to_have_count(0)
        page.goto(link.split("/login")[0])
        expect(page.get_by_text("differs most, KS distance")).to_be_visible()
        expect(page.get_by_text("accept rate")).to_have_count(0)
        page.goto(f"{link.split('/login')[0]}/boards")
        expect(page.get_by_role("heading", name="Boards", exact=True)).to_be_visible()

    # and a watcher that looks again finds nothing to do
    again = lumiwatch(*map(str, (*arguments, *fast)), "--once", "--json")
    assert (again.returncode, again.stdout) == (0, "")


def test_a_model_of_firmware_cannot_be_watched_by_histograms(site, tmp_path):
    missing = lumiwatch("watch", str(tmp_path / "none"), "--model", MODEL, "--site", str(site), "--once")
    assert missing.returncode == 2
    assert "no such folder" in missing.stderr
    unsuited = lumiwatch("replay", "x.npz", "--model", MODEL, "--run", "1", "--site", str(site))
    assert unsuited.returncode == 2
    assert "is watched by histograms" in unsuited.stderr
