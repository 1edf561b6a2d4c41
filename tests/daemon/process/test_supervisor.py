"""What becomes of processes that end by themselves: real processes, a clock moved by hand."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from daemon.errors import ProcessFailed
from daemon.process.supervisor import Child, RestartPolicy, Supervisor

POLICY = RestartPolicy(first_pause_s=1.0, longest_pause_s=4.0, failures=4, within_s=60.0)
SLEEP = ["-c", "import time; time.sleep(60)"]


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Desk:
    supervisor: Supervisor
    clock: Clock
    said: list[str] = field(default_factory=list)

    def kill(self, child: Child) -> None:
        os.kill(child.process.pid, signal.SIGKILL)
        child.process.wait()

    def revive(self, after_s: float) -> None:
        self.supervisor.check()
        self.clock.now_s += after_s
        self.supervisor.check()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    clock, said = Clock(), list[str]()
    with Supervisor(tmp_path / "logs", said.append, POLICY, clock) as supervisor:
        yield Desk(supervisor, clock, said)


def ended(code: int, words: str = "") -> Callable[[], Sequence[str]]:
    return lambda: ["-c", f"print({words!r}); raise SystemExit({code})"]


def wait_end(child: Child) -> None:
    child.process.wait(60)


def test_a_killed_process_is_started_again_after_a_pause_and_both_are_said(desk: Desk):
    child = desk.supervisor.start("worker", lambda: SLEEP)
    first = child.process.pid
    desk.kill(child)

    desk.supervisor.check()
    desk.clock.now_s += 0.5
    desk.supervisor.check()
    assert child.process.pid == first
    desk.clock.now_s += 0.6
    desk.supervisor.check()

    assert child.process.pid != first
    assert child.process.poll() is None
    assert "worker was killed by SIGKILL" in desk.said[0]
    assert "starting it again in 1 s" in desk.said[0]
    assert desk.said[1] == "worker was started again"


def test_the_arguments_are_asked_for_at_each_start(desk: Desk):
    asked = []

    def arguments() -> Sequence[str]:
        asked.append(1)
        return SLEEP

    child = desk.supervisor.start("board", arguments)
    desk.kill(child)
    desk.revive(2.0)

    assert len(asked) == 2


def test_pauses_grow_and_a_process_that_fails_again_and_again_is_given_up(desk: Desk):
    child = desk.supervisor.start("worker", ended(70, "the database is gone"))
    pauses = []
    for _ in range(3):
        wait_end(child)
        desk.supervisor.check()
        assert child.due_s is not None
        pauses.append(child.due_s - desk.clock.now_s)
        desk.revive(pauses[-1])
    wait_end(child)
    with pytest.raises(
        ProcessFailed, match=r"the database is gone.*end 4 within 60 s.*mend what the log says"
    ):
        desk.supervisor.check()

    assert pauses == [1.0, 2.0, 4.0]


def test_failures_of_long_ago_are_forgiven(desk: Desk):
    child = desk.supervisor.start("worker", lambda: SLEEP)
    for _ in range(8):
        desk.kill(child)
        desk.revive(40.0)

    assert child.process.poll() is None


def test_wrong_input_at_the_start_is_not_tried_again(desk: Desk):
    child = desk.supervisor.start("worker", ended(2, "lumiwatch.toml: key 'kafka' is wrong"))
    wait_end(child)

    with pytest.raises(ProcessFailed, match="key 'kafka' is wrong"):
        desk.supervisor.check()


def test_a_process_that_must_not_restart_ends_the_command(desk: Desk):
    child = desk.supervisor.start("probe", ended(0), restarts=False)
    wait_end(child)

    with pytest.raises(ProcessFailed, match="probe ended with status 0"):
        desk.supervisor.check()


def test_a_process_that_ends_before_it_is_ready_is_an_error_at_once(desk: Desk):
    child = desk.supervisor.start("daemon", ended(1, "port 8642 is in use"))

    started = time.monotonic()
    with pytest.raises(ProcessFailed, match="port 8642 is in use"):
        desk.supervisor.wait_ready(child, lambda: False)
    assert time.monotonic() - started < 30


def test_a_log_that_grew_long_is_kept_once_and_its_process_writes_on(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("daemon.process.supervisor.LONGEST_LOG_BYTES", 100)
    go_on = tmp_path / "go-on"
    talk = (
        "import pathlib, time\n"
        "print('x' * 200, flush=True)\n"
        f"while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)\n"
        "print('after')"
    )
    child = desk.supervisor.start("worker", lambda: ["-c", talk])
    while child.log.stat().st_size < 200:
        time.sleep(0.01)

    desk.supervisor.check()
    go_on.touch()
    wait_end(child)

    assert child.log.with_name("worker.log.1").read_text() == "x" * 200 + "\n"
    assert child.log.read_text() == "after\n"
