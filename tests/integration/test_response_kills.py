"""SIGKILL at every place of a response: it ends as if nobody had died, and the board never runs a mixture.

Daemons, jobs and boards are real processes that are really killed, at places that are named and not timed
(`tests.support.killable`); only the retraining job is a fake.
"""

import random
import selectors
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlmodel import Session, select

from daemon.operations import Operations
from daemon.store import queries
from daemon.store.records import DecisionKind, IncidentState, ResponseState, StepState
from daemon.store.views import ResponseDetail
from hw.records import BoardOperationRecord
from retrain.records import TrainingRow
from streams.judging.verdict import State
from tests.support.daemon import Everybody, NoWorkflows
from tests.support.kill_site import APPROVERS, KillSite, kill_site, make_firmware

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
SEED = 20261128
INSIDE = {
    "propose": ("asked",),
    "retrain": ("job",),
    "build": ("job",),
    "bench": ("job",),
    "apply": ("loaded", "switched", "job"),
    "roll_back": ("switched",),
}
WORK = ("propose", "decide", "retrain", "build", "bench", "confirm", "apply", "verify")
TOLD = ("retrain", "build", "bench", "apply", "verify")
"""Steps that write a line of their own into the history."""


def points_of(steps: Sequence[str]) -> list[str]:
    """Every place of these steps, in the order in which a response comes to them."""
    return [
        f"{step}:{where}"
        for step in steps
        for where in ("before", "begun", *INSIDE.get(step, ()), "worked", "recorded", "after")
    ]


VERIFIED = points_of([*WORK, "reference", "close"])
ROLLED_BACK = points_of([*WORK, "roll_back"])


class Plot:
    """One response of a site, its operators, and the daemon's lives.

    Parameters
    ----------
    outcome
        What the lumisections after the reconfiguration will say: `GOOD`, or `ALARM`, which rolls back.
    """

    def __init__(self, site: KillSite, lives: subprocess.Popen[str], run: int, outcome: State) -> None:
        self.site, self.lives, self.run, self.outcome = site, lives, run, outcome
        self.operations = Operations(site.engine, site.site, NoWorkflows(), access=Everybody())
        self.rng = random.Random(f"{SEED}-{run}")
        self.kills = 0
        self.judged = False
        self.before = site.identity()
        site.drift(run)
        self.incident = queries.incidents(site.engine)[0].id
        self.id = f"{self.incident}-r1"

    @property
    def response(self) -> ResponseDetail:
        return queries.response(self.site.engine, self.id)

    def live(self, order: str = "-") -> str:
        """Let the daemon live until it is killed or has nothing left to do; gives what became of it."""
        if self.rng.random() < 0.5:
            self.act(order)  # while nobody runs
        assert self.lives.stdin is not None
        assert self.lives.stdout is not None
        self.lives.stdin.write(order + "\n")
        self.lives.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self.lives.stdout, selectors.EVENT_READ)
            while not selector.select(0.05):
                self.act(order)
                self.site.keep_board()
        self.site.keep_board()
        return self.lives.stdout.readline().strip()

    def kill(self, order: str) -> None:
        """Let it live until it dies at a point, and look at what it left."""
        assert self.live(order) == "killed", f"{order} was not reached: {self.response}"
        self.kills += 1
        self.check_board()

    def end(self) -> ResponseState:
        """Let it live to its end, and once more: there is nothing left to do."""
        assert self.live() == "ended"
        first = self.response
        assert self.live() == "ended"
        assert self.response == first
        return first.state

    def act(self, order: str) -> None:
        """Do what operators and the stream do now; nobody decides before a kill that comes first."""
        response, point = self.response, order.rpartition("@")[2]
        if response.state is ResponseState.PROPOSED and not point.startswith(("propose:", "decide:b")):
            self.operations.approve(self.id, operator=APPROVERS[0])
        elif response.state is ResponseState.HARDWARE_PROPOSED and not point.startswith("confirm:b"):
            self.operations.approve(self.id, operator=APPROVERS[1])
        steps = {step.name: step.state for step in response.steps}
        if steps.get("apply") is StepState.DONE and not self.judged and response.candidate_package:
            self.judged = True
            package = self.site.package(response.candidate_package)
            self.site.judge(self.run, package, self.outcome)

    def check_board(self) -> None:
        """It runs the old or the new package, whole; and nothing has touched it before both approvals."""
        response, board = self.response, self.site.identity()
        approved = [decision.operator for decision in response.decisions]
        if approved != list(APPROVERS):
            assert board.package_id == self.before.package_id
            if board.address == self.before.address:  # it has not been started anew
                assert board == self.before
        assert board.package_id in {self.before.package_id, response.candidate_package}
        assert self.applied() <= 1

    def applied(self) -> int:
        """How often the new package was brought onto the board."""
        candidate = self.response.candidate_package
        with Session(self.site.engine) as session:
            done = session.exec(select(BoardOperationRecord)).all()
        return sum(one.to_package == candidate and one.outcome == "applied" for one in done)

    def history(self, kind: str) -> list[str]:
        """Texts of a kind in the history, oldest first."""
        events = queries.incident(self.site.engine, self.incident).events
        return [event.text for event in events if event.kind == kind and event.response_id == self.id]

    def check_told_once(self, steps: Sequence[str]) -> None:
        """Everything that happened stands in the history, once."""
        incident = queries.incident(self.site.engine, self.incident)
        told = [event.detail["step"] for event in incident.events if event.kind == "response.step"]
        assert told == list(steps)
        for kind in ("proposed", "estimated", "hardware_proposed", "ended"):
            assert len(self.history(f"response.{kind}")) == 1, kind
        assert [decision.operator for decision in self.response.decisions] == list(APPROVERS)
        assert [decision.kind for decision in self.response.decisions] == [DecisionKind.APPROVE] * 2
        assert len(self.history("response.decided")) == 2
        with Session(self.site.engine) as session:
            trainings = session.exec(select(TrainingRow)).all()
        assert len({row.id for row in trainings}) == len(trainings)

    def check_verified(self) -> None:
        """The board runs the new package, after one switch."""
        response, board = self.response, self.site.identity()
        assert {step.state for step in response.steps} == {StepState.DONE}
        assert board.package_id == response.candidate_package != self.before.package_id
        assert queries.incident(self.site.engine, self.incident).state is IncidentState.RESOLVED
        self.check_told_once((*TOLD, "reference"))

    def check_rolled_back(self, steps: Sequence[str]) -> None:
        """The board runs the package of before."""
        assert self.site.identity().package_id == self.before.package_id
        assert queries.incident(self.site.engine, self.incident).state is IncidentState.OPEN
        self.check_told_once(steps)

    def close(self) -> None:
        """Make room for the next incident."""
        self.operations.resolve(self.incident, operator=APPROVERS[0], comment="next")


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_firmware(tmp_path_factory.mktemp("firmware"))


@contextmanager
def lives_of(site: KillSite) -> Iterator[subprocess.Popen[str]]:
    """A process that gives the daemon one life after the other."""
    log = site.site.state_dir / "lives.log"
    command = [sys.executable, "-m", "tests.support.killable", str(site.site.folder), site.site.database_url]
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    with process:
        yield process


@contextmanager
def stage(
    firmware: Path, folder: Path, database_url: str | None = None
) -> Iterator[tuple[KillSite, subprocess.Popen[str]]]:
    with kill_site(firmware, folder, database_url) as site, lives_of(site) as lives:
        yield site, lives


def test_killed_at_every_place_a_response_is_verified(firmware: Path, tmp_path: Path):
    with stage(firmware, tmp_path) as (site, lives):
        plot = Plot(site, lives, 101, State.GOOD)
        for point in VERIFIED:
            plot.kill(point)

        assert plot.end() is ResponseState.SUCCEEDED
        plot.check_verified()
        assert site.identity().counters.switches == plot.before.counters.switches + 1
        assert plot.kills == len(VERIFIED) >= 30


def test_killed_at_every_place_around_it_a_response_is_rolled_back(firmware: Path, tmp_path: Path):
    with stage(firmware, tmp_path) as (site, lives):
        plot = Plot(site, lives, 201, State.ALARM)
        around = points_of(["verify", "roll_back"])
        chosen = set(plot.rng.sample(ROLLED_BACK, 6)) | set(around)
        for point in filter(chosen.__contains__, ROLLED_BACK):
            plot.kill(point)

        assert plot.end() is ResponseState.ROLLED_BACK
        plot.check_rolled_back((*TOLD, "roll_back"))
        assert site.identity().counters.switches == plot.before.counters.switches + 2


def test_on_postgresql_too(firmware: Path, tmp_path: Path, postgres_url: str):
    with stage(firmware, tmp_path, postgres_url) as (site, lives):
        plot = Plot(site, lives, 301, State.ALARM)
        chosen = set(plot.rng.sample(ROLLED_BACK, 12))
        for point in filter(chosen.__contains__, ROLLED_BACK):
            plot.kill(point)

        assert plot.end() is ResponseState.ROLLED_BACK
        plot.check_rolled_back((*TOLD, "roll_back"))


def test_the_board_dies_alone_or_with_the_daemon(firmware: Path, tmp_path: Path):
    with stage(firmware, tmp_path) as (site, lives):
        # alone, while it is being reconfigured: the response says so and the old package runs
        for number, point in enumerate(("apply:loaded", "apply:switched")):
            plot = Plot(site, lives, 401 + number, State.GOOD)
            assert plot.live(f"board@{point}") == "ended"
            assert plot.end() is ResponseState.ROLLED_BACK, (point, plot.response.outcome)
            plot.check_rolled_back(("retrain", "build", "bench", "apply", "roll_back"))
            plot.close()

        # alone, while it is being brought back
        plot = Plot(site, lives, 411, State.ALARM)
        assert plot.live("board@roll_back:switched") == "ended"
        assert plot.end() is ResponseState.ROLLED_BACK, plot.response.outcome
        plot.check_rolled_back((*TOLD, "roll_back"))
        plot.close()

        # both at once: who comes back goes on
        plot = Plot(site, lives, 421, State.GOOD)
        for point in ("confirm:begun", "apply:loaded", "apply:switched", "apply:recorded", "verify:begun"):
            plot.kill(f"both@{point}")
        assert plot.end() is ResponseState.SUCCEEDED
        plot.check_verified()


def test_a_job_that_is_killed_ends_the_response_before_the_board(firmware: Path, tmp_path: Path):
    with stage(firmware, tmp_path) as (site, lives):
        for number, step in enumerate(("retrain", "build", "bench")):
            plot = Plot(site, lives, 501 + number, State.GOOD)

            assert plot.live(f"job@{step}:job") == "ended"

            assert plot.end() is ResponseState.FAILED
            assert "The firmware was not touched." in (plot.response.outcome or "")
            assert site.identity() == plot.before
            assert len(plot.history("response.ended")) == 1
            plot.close()
