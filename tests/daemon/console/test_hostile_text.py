"""Names and words from outside that look like markup, script or SQL: shown as text, on every page."""

from urllib.parse import quote

import pytest
from playwright.sync_api import expect
from sqlalchemy import inspect
from sqlmodel import Session

from daemon.incidents.intake import take_verdict
from daemon.journal.happenings import record_event, record_happening
from daemon.journal.lineage import Artefact, add_edge
from daemon.operations import utc_now
from daemon.responses.policy import propose
from daemon.site.settings import load_site
from daemon.store.database import open_database, transaction
from daemon.store.records import (
    DecisionRecord,
    IncidentRecord,
    NotificationRecord,
    ResponseRecord,
    ResponseState,
    ResponseStepRecord,
    StepState,
)
from hw.records import BoardOperationRecord, PackageRecord
from streams.judging.assessment import InputShift
from tests.daemon.console.conftest import make_site, running
from tests.support import wall_server

HOSTILE = (
    "\"><img src=x onerror='window.__pwned=1'><script>window.__pwned=1</script>"
    "'; DROP TABLE daemon_verdicts; --{{7*7}}"
)
HOSTILE_ID = HOSTILE.replace("/", "")
"""For addresses: a slash would lead elsewhere."""
INCIDENT, RESPONSE = "anomaly-1", "anomaly-1-r1"
PAGES = [
    "/",
    "/models/anomaly",
    f"/models/anomaly?run={wall_server.RUN}&ls=4",
    f"/models/anomaly?input={quote(HOSTILE)}&package={quote(HOSTILE)}&ls=4&run=1",
    f"/models/{quote(HOSTILE_ID, safe='')}",
    "/incidents",
    f"/incidents/{INCIDENT}",
    f"/incidents/{quote(HOSTILE_ID, safe='')}",
    "/approvals",
    "/silences",
    "/boards",
    "/packages",
    f"/packages/{quote(HOSTILE_ID, safe='')}",
    f"/lineage?id={quote(HOSTILE_ID)}",
    "/account",
]
UNKNOWN = {f"/models/{quote(HOSTILE_ID, safe='')}", f"/incidents/{quote(HOSTILE_ID, safe='')}"}


def verdict():
    shift = InputShift(name=HOSTILE, ks_distance=0.2, mean_shift_lsb=1.0, mean_shift=1.0, unit=HOSTILE)
    return wall_server.verdict_of("anomaly", 3, 4, last=4).model_copy(
        update={
            "reason": HOSTILE,
            "story": HOSTILE,
            "package": HOSTILE_ID,
            "suspects": (HOSTILE,),
            "worst_inputs": (shift,),
            "families": ("rate", HOSTILE),
            "reference_id": HOSTILE,
        }
    )


def poison(server):
    """Put hostile words wherever somebody outside can: verdicts, notes, comments, packages, boards, files."""
    site = load_site(server.site)
    engine, now = open_database(site.database_url), utc_now()
    take_verdict(engine, site, verdict(), now=now)
    policy = site.models["anomaly"].policy
    proposal = propose(policy, verdict(), onset_lumisection=3).model_copy(update={"approvals_needed": 2})
    with transaction(engine) as session:
        incident = session.get(IncidentRecord, INCIDENT)
        response = session.get(ResponseRecord, RESPONSE)
        response.proposal = proposal.model_dump(mode="json")
        response.state, response.candidate_package = ResponseState.PROPOSED, HOSTILE_ID
        incident.instruction = HOSTILE
        session.add(
            DecisionRecord(response_id=RESPONSE, operator="eve", kind="approve", comment=HOSTILE, at=now)
        )
        step = ResponseStepRecord(response_id=RESPONSE, number=90, name="x", title=HOSTILE, detail=HOSTILE)
        step.state = StepState.DONE
        session.add(step)
        record_happening(session, incident, "incident.note", HOSTILE, now=now, actor="eve")
        record_event(session, "note", HOSTILE, now=now, actor="eve", detail={})
        message = {"text": HOSTILE, "method": "POST", "path": HOSTILE, "body": {"message": HOSTILE}}
        session.add(
            NotificationRecord(
                key="k", incident_id=INCIDENT, channel=HOSTILE, action="post", payload=message, created_at=now
            )
        )
        hashes = dict.fromkeys(("structure_hash", "weights_hash", "contract_hash"), HOSTILE)
        session.add(
            PackageRecord(
                id=HOSTILE_ID,
                name="anomaly",
                version=HOSTILE,
                path=HOSTILE,
                toolchain=HOSTILE,
                toolchain_version=HOSTILE,
                bench_passed=True,
                recorded_at=now,
                **hashes,
            )
        )
        session.add(
            BoardOperationRecord(
                board=HOSTILE,
                simulated=True,
                plan_kind=HOSTILE,
                from_package=HOSTILE,
                to_package=HOSTILE_ID,
                outcome=HOSTILE,
                reason=HOSTILE,
                loaded_words=1,
                load_s=0.1,
                switch_s=0.1,
                golden_events=1,
                golden_mismatches=0,
                operator=HOSTILE,
                done_at=now,
            )
        )
        add_edge(
            session, Artefact("package", HOSTILE_ID), Artefact("root_file", HOSTILE + "2"), HOSTILE, now=now
        )
    log = site.state_dir / "responses" / RESPONSE / "retrain" / "job.log"
    log.parent.mkdir(parents=True)
    log.write_text(HOSTILE)
    return engine


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    site = make_site(folder)
    file = site / "lumiwatch.toml"
    words = HOSTILE.replace("\\", "\\\\").replace('"', '\\"')
    file.write_text(file.read_text().replace("Ada Lovelace", words))
    arguments = ("--models", "1", "--lumisections", "3")
    with running(folder, *arguments, program="wall_server") as started:
        engine = poison(started)
        yield started
        with Session(engine):
            assert "daemon_verdicts" in inspect(engine).get_table_names()


@pytest.mark.parametrize("path", PAGES)
def test_hostile_words_are_shown_as_text_and_nothing_of_them_runs(server, visit, path):
    page = visit(server, "ada")
    page.goto(server.url + path)

    expect(page.get_by_text(f"Expert: {HOSTILE}")).to_be_visible()
    if path not in UNKNOWN:
        page.wait_for_function("() => document.querySelectorAll('.lw-main *').length > 5")
    for plot in page.locator(".barlayer .point").all()[:3]:
        plot.hover(force=True)
    page.wait_for_timeout(1_000)

    assert page.evaluate("window.__pwned") is None
    assert page.locator("img[src='x']").count() == 0
    assert "49" not in page.locator(".lw-header").inner_text()


def test_hostile_words_can_be_read_where_they_belong(server, visit):
    page = visit(server, "ada")

    for path, least in {
        "/": 1,
        "/models/anomaly": 3,
        f"/incidents/{INCIDENT}": 5,
        "/approvals": 1,
        "/boards": 3,
        "/packages": 1,
        f"/packages/{quote(HOSTILE_ID, safe='')}": 5,
    }.items():
        page.goto(server.url + path)
        words = page.locator("#content").get_by_text(HOSTILE)
        expect(words.nth(least - 1)).to_be_attached()
    assert page.evaluate("window.__pwned") is None
