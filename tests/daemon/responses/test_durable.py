"""The durable engine under real processes that are really killed."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from daemon.errors import NotFound
from daemon.incidents.intake import take_verdict
from daemon.operations import Operations, utc_now
from daemon.responses.durable import JsonSerializer
from daemon.site.settings import Site
from daemon.store import queries
from daemon.store.records import IncidentState, ResponseState, StepState
from streams.judging.verdict import State
from tests.support.daemon import NEW_PACKAGE, Everybody, NoWorkflows, make_verdict

RESPONSE = "anomaly-1-r1"


@contextmanager
def responder(site: Site, calls: Path, slow_step: str = "") -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.support.respond", str(site.folder), str(calls), slow_step]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[3])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def state_is(engine: Engine, state: ResponseState) -> Callable[[], bool]:
    def check() -> bool:
        try:
            return queries.response(engine, RESPONSE).state is state
        except NotFound:
            return False

    return check


@pytest.mark.slow
def test_a_response_survives_kill_9_while_it_waits_and_while_it_works(
    site: Site, engine: Engine, tmp_path: Path
):
    calls = tmp_path / "calls"

    # killed while it waits for the decision
    with responder(site, calls) as process:
        wait_for(state_is(engine, ResponseState.PROPOSED))
        process.kill()

    # decided while nobody runs
    Operations(engine, site, NoWorkflows(), access=Everybody()).approve(RESPONSE, operator="local")

    # killed in the middle of the build
    with responder(site, calls, "build") as process:
        wait_for(lambda: calls.exists() and "build" in calls.read_text())
        process.kill()
    steps = {step.name: step.state for step in queries.response(engine, RESPONSE).steps}
    assert steps["retrain"] is StepState.DONE
    assert steps["build"] is StepState.RUNNING

    # taken up, to its end
    for lumisection in range(70, 80):
        verdict = make_verdict(lumisection, State.GOOD, package=NEW_PACKAGE)
        take_verdict(engine, site, verdict, now=utc_now())
    with responder(site, calls) as process:
        assert process.wait(30) == 0

    assert queries.response(engine, RESPONSE).state is ResponseState.SUCCEEDED
    assert queries.incident(engine, "anomaly-1").state is IncidentState.RESOLVED
    assert calls.read_text().split() == ["retrain", "build", "build", "bench", "apply", "successor_reference"]


def test_a_waiting_response_does_not_hold_up_the_end_of_the_daemon(
    site: Site, engine: Engine, tmp_path: Path
):
    with responder(site, tmp_path / "calls") as process:
        wait_for(state_is(engine, ResponseState.PROPOSED))
        process.send_signal(signal.SIGTERM)

        assert process.wait(60) == 0
    assert queries.response(engine, RESPONSE).state is ResponseState.PROPOSED


def test_a_response_whose_start_was_lost_is_started_at_the_next_launch(
    site: Site, engine: Engine, tmp_path: Path
):
    take_verdict(engine, site, make_verdict(63, id="alarm-63"), now=utc_now())  # and killed before the start

    with responder(site, tmp_path / "calls"):
        wait_for(state_is(engine, ResponseState.PROPOSED))


def test_what_the_engine_stores_is_json_and_never_code():
    serializer = JsonSerializer()

    assert serializer.deserialize(serializer.serialize({"a": [1, None]})) == {"a": [1, None]}
    error = serializer.deserialize(serializer.serialize(KeyError("x")))
    assert isinstance(error, RuntimeError)
    assert "KeyError" in str(error)
