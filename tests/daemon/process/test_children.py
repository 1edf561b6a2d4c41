import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Timer

import pytest

from daemon.errors import ChildFailed
from daemon.process.children import Interrupted, run_child


class Child:
    def __init__(self, tmp_path: Path) -> None:
        self.log = tmp_path / "child.log"
        self.stopping = Event()
        self.reports: list[tuple[float, str]] = []

    def run(self, code: str, timeout_s: float = 20.0) -> None:
        run_child(
            [sys.executable, "-c", code],
            log=self.log,
            timeout_s=timeout_s,
            stopping=self.stopping,
            progress=lambda fraction, message: self.reports.append((fraction, message)),
        )


@pytest.fixture
def child(tmp_path: Path) -> Child:
    return Child(tmp_path)


def test_progress_is_passed_on_and_the_rest_is_logged(child: Child):
    child.run("""print('{"progress": 0.5, "message": "half"}'); print('chatter'); print('{"progress": 7}')""")

    assert child.reports == [(0.5, "half"), (1.0, "")]
    assert child.log.read_text() == "chatter\n"


def test_a_failure_says_the_last_line(child: Child):
    with pytest.raises(ChildFailed, match="exit code 3: no data"):
        child.run("import sys; print('no data', file=sys.stderr); sys.exit(3)")


def test_a_child_out_of_time_is_killed(child: Child):
    with pytest.raises(ChildFailed, match="out of time"):
        child.run("import time; time.sleep(60)", timeout_s=0.5)


def test_a_stopping_daemon_kills_the_child_and_its_children(child: Child, tmp_path: Path):
    pid_file = tmp_path / "pid"
    code = (
        "import subprocess, sys, time, pathlib;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(p.pid)); time.sleep(60)"
    )

    def stop_when_started() -> None:
        while not pid_file.exists() or not pid_file.read_text():
            time.sleep(0.02)
        child.stopping.set()

    Timer(0, stop_when_started).start()
    with pytest.raises(Interrupted):
        child.run(code)

    grandchild = int(pid_file.read_text())
    deadline = time.monotonic() + 60
    while _runs(grandchild) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(grandchild)


def test_a_program_that_is_not_there_is_said(child: Child):
    with pytest.raises(ChildFailed, match="cannot be started"):
        run_child(
            ["/no/such/program"], log=child.log, timeout_s=1, stopping=Event(), progress=lambda *_: None
        )


def _runs(pid: int) -> bool:
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z" and os.kill(pid, 0) is None
        )
    except (OSError, ProcessLookupError):
        return False


def test_ctrl_c_at_the_very_moment_of_the_start_is_not_lost(tmp_path: Path):
    # given a library that has something to do after each fork, and Ctrl-C pressed just then
    code = f"""
import os, signal, sys, threading
from pathlib import Path
from daemon.process.children import run_child
signal.signal(signal.SIGINT, signal.default_int_handler)
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
log = Path({str(tmp_path / "log")!r})
run_child(sleep, log=log, timeout_s=20, stopping=threading.Event(), progress=print)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == -signal.SIGINT, ended.stderr
    assert ended.stderr.endswith("KeyboardInterrupt\n")
