"""SIGKILL in the middle: whichever process dies, and whenever, the loop ends as if nothing had happened.

Everything is real: broker, worker, daemon, jobs and board are processes of their own.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest
from sqlmodel import Session, select

from daemon import client
from daemon.errors import BoardUnknown
from daemon.store import queries
from daemon.store.records import IncidentState, ResponseState, StepState
from hw.errors import BoardUnreachable
from hw.records import BoardOperationRecord
from retrain.records import TrainingRow
from streams.judging.verdict import State
from tests.support.commands import lumiwatch
from tests.support.plant import (
    ALARMED,
    DRIFT_FROM,
    MODEL,
    RESPONSE,
    Commissioned,
    Plant,
    Records,
    commission,
    plant,
    site_copy,
    wait_for,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def commissioned(tmp_path_factory: pytest.TempPathFactory) -> Commissioned:
    return commission(tmp_path_factory.mktemp("commissioned"))


def check_resolved_once(records: Records, first_package: str, response_id: str = RESPONSE) -> None:
    """One incident, one approval, one training, one change of the board: all as if nobody had died."""
    (incident,) = queries.incidents(records.engine)
    assert incident.state is IncidentState.RESOLVED, incident
    response = records.response(response_id)
    assert response is not None
    assert response.state is ResponseState.SUCCEEDED, response.outcome
    # the response is over in one transaction, the record of its last step follows in another
    wait_for(lambda: records.step("close", response_id) is StepState.DONE, "the record of the last step")
    response = records.response(response_id)
    assert response is not None
    assert {step.state for step in response.steps} == {StepState.DONE}
    assert [decision.operator for decision in response.decisions] == ["local"]
    assert records.board().package_id == response.candidate_package != first_package
    happened = [event.detail["step"] for event in incident_events(records, "response.step", response_id)]
    assert happened == ["retrain", "build", "bench", "apply", "verify", "reference"]
    assert len(incident_events(records, "response.ended", response_id)) == 1


def incident_events(records: Records, kind: str, response_id: str = RESPONSE) -> list:
    events = queries.incident(records.engine, f"{MODEL}-1").events
    return [event for event in events if event.kind == kind and event.response_id == response_id]


def operations(records: Records) -> list[tuple[str, str]]:
    """What was done to the board: package and outcome."""
    with Session(records.engine) as session:
        rows = session.exec(select(BoardOperationRecord).order_by("id")).all()
    return [(row.to_package, row.outcome) for row in rows]


def approve(records: Records, response_id: str = RESPONSE) -> None:
    """As an operator does, on the command line."""
    said = lumiwatch("approve", response_id, "--site", str(records.folder))
    assert said.returncode == 0, said.stderr


def step_has_begun(records: Records, name: str, response_id: str = RESPONSE) -> bool:
    return records.step(name, response_id) not in (None, StepState.PENDING)


def test_worker_and_daemon_killed_again_and_again(commissioned: Commissioned, tmp_path: Path) -> None:
    with plant(commissioned, tmp_path) as running:
        check_worker(running)
        check_daemon(running)


def check_worker(running: Plant) -> None:
    """Kill the worker in the middle of a replay: every event counts once, every verdict comes once."""
    running.take(1, ALARMED)
    running.wait(running.windows, "the first window")
    running.kill("worker")
    running.wait(lambda: running.state() is ResponseState.PROPOSED, "a proposal")
    # the alarm has come, the lumisections after it may not be counted yet; and the daemon dies as well
    running.wait(lambda: running.said.count("worker was started again") == 1, "the worker")
    running.kill("worker")
    running.kill("daemon")
    running.wait(lambda: len(running.judged()) >= ALARMED, "every verdict")

    running.check_counts(range(1, ALARMED + 1))
    assert running.judged() == list(range(1, ALARMED + 1))
    (incident,) = queries.incidents(running.engine)
    assert DRIFT_FROM <= incident.first_lumisection <= DRIFT_FROM + 3
    # every verdict may have been there before the second kill was noticed
    running.wait(lambda: running.said.count("worker was started again") == 2, "the worker")
    assert sum("worker was killed by SIGKILL" in line for line in running.said) == 2


def check_daemon(running: Plant) -> None:
    """Kill the daemon at every stage of a response: it ends well, after one approval and one switch."""
    first = running.commissioned.package.id

    # it died while the proposal waited: nothing happens without an approval, which comes after the restart
    running.wait(running.installation._daemon_is_ready, "the daemon")
    assert running.state() is ResponseState.PROPOSED
    assert (running.board().package_id, running.switches()) == (first, 0)
    with client.connect(running.site) as api:
        api.post(f"/responses/{RESPONSE}/decisions", {"decision": "approve"})

    # in the middle of its work; `board` also checks that the board runs one package, whole
    for step in ("retrain", "build"):
        running.wait(partial(step_has_begun, running, step), step)
        running.kill("daemon")
        if not step_has_begun(running, "apply"):
            assert running.board().package_id == first
    # right after the board was switched, before that is written down
    running.wait(lambda: running.switches() == 1, "the switch")
    running.kill("daemon")
    assert running.board().package_id != first
    # and while it verifies; meanwhile the run goes on
    running.wait(partial(step_has_begun, running, "verify"), "the verification")
    running.take(ALARMED + 1, ALARMED + 2)
    running.kill("daemon")
    running.take(ALARMED + 3, ALARMED + 4)
    running.wait(lambda: running.state() is not ResponseState.RUNNING, "the end")

    check_resolved_once(running, first)
    assert running.switches() == 1
    done = operations(running)
    assert {package for package, _ in done} == {running.board().package_id}
    assert [outcome for _, outcome in done].count("applied") <= 1
    with Session(running.engine) as session:
        kinds = [row.kind for row in session.exec(select(TrainingRow)).all()]
    assert sorted(kinds) == ["retrain", "train"]


@contextmanager
def up(folder: Path) -> Iterator[psutil.Process]:
    """`lumiwatch up` as a person starts it; killed with SIGKILL at the end, after which nothing is left."""
    screen = folder / "screen"
    with screen.open("ab") as sink:
        started = sink.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon.cli", "up", "--site", str(folder), "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, "COLUMNS": "200"},
        )
    try:
        wait_for(
            lambda: b"Ctrl-C" in screen.read_bytes()[started:] or process.poll() is not None,
            "lumiwatch up",
        )
        assert process.poll() is None, screen.read_text()
        yield psutil.Process(process.pid)
    finally:
        descendants = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(descendants, timeout=10)
        assert alive == []


def test_a_whole_installation_killed_and_its_board_too(commissioned: Commissioned, tmp_path: Path) -> None:
    records = Records(site_copy(commissioned, tmp_path), commissioned)
    first = commissioned.package.id

    # killed while a proposal waits, and with messages in the broker that nobody has counted
    with up(records.folder) as process:
        records.take(1, ALARMED)
        wait_for(lambda: records.state() is ResponseState.PROPOSED, "a proposal")
        wait_for(lambda: len(records.judged()) == ALARMED, "every verdict")
        child_of(process, "worker").suspend()
        records.take(ALARMED + 1, ALARMED + 1)

    # what waited in memory is gone; nothing else is, and offsets that begin anew skip nothing
    with up(records.folder) as process:
        assert [incident.id for incident in queries.incidents(records.engine)] == [f"{MODEL}-1"]
        assert records.state() is ResponseState.PROPOSED
        assert records.board().package_id == first
        approve(records)
        records.take(ALARMED + 2, ALARMED + 3)
        check_board_killed(records, process)

        # a later response works, and everything is killed when it is about to touch the board
        second = respond_again(records)
        wait_for(
            partial(step_has_begun, records, "apply", second), "the step that touches the board", look_s=0.02
        )
    lumisections = [*range(1, ALARMED + 1), ALARMED + 2, ALARMED + 3]
    assert records.judged() == lumisections
    records.check_counts(lumisections)

    # it is taken up, with one change of the board that runs now
    with up(records.folder):
        wait_for(lambda: records.step("apply", second) is StepState.DONE, "the reconfigured board")
        records.take(ALARMED + 4, ALARMED + 7)
        wait_for(lambda: records.state(second) is not ResponseState.RUNNING, "the end")
        check_resolved_once(records, first, second)
        assert records.switches() in {0, 1}  # none, if it was written down just before: then it started so
        wait_for(lambda: records.judged() == [*lumisections, *range(ALARMED + 4, ALARMED + 8)], "the rest")
        assert queries.verdict_timeline(records.engine, MODEL, limit=1000)[-1].state is State.GOOD
    records.close()


def check_board_killed(records: Records, process: psutil.Process) -> None:
    """Kill the board in the middle of a reconfiguration: it comes back whole, and the response says why."""
    first = records.commissioned.package.id
    wait_for(lambda: records.switches() == 1, "the switch", look_s=0.02)
    child_of(process, "hw.boards.emulated").kill()
    with pytest.raises((BoardUnreachable, BoardUnknown), match=r"does not answer|connection|not running"):
        records.take(ALARMED + 4, ALARMED + 4)

    wait_for(lambda: records.state() is not ResponseState.RUNNING, "the end")
    response = records.response()
    assert response is not None
    assert response.state is ResponseState.ROLLED_BACK, response.outcome
    assert response.outcome is not None
    assert "board at 127.0.0.1" in response.outcome
    assert records.board().package_id == first
    assert queries.incidents(records.engine)[0].state is IncidentState.OPEN
    screen = (records.folder / "screen").read_text()
    assert f"board-{MODEL} was killed by SIGKILL" in screen
    assert f"board-{MODEL} was started again" in screen


def respond_again(records: Records) -> str:
    """Ask for another response through the API, and approve it; returns its id."""
    with client.connect(records.site) as api:
        response: str = api.post(f"/incidents/{MODEL}-1/responses", {})["id"]
        wait_for(lambda: records.state(response) is ResponseState.PROPOSED, "a proposal")
        api.post(f"/responses/{response}/decisions", {"decision": "approve"})
    return response


def child_of(process: psutil.Process, argument: str) -> psutil.Process:
    (child,) = [child for child in process.children() if argument in child.cmdline()]
    return child
