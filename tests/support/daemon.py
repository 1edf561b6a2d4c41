"""Helpers for tests of the daemon: verdicts, a clock that is moved by hand, and a fake workshop."""

# ruff: noqa: ARG002 - a fake keeps the signatures of what it stands for

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from daemon.access.roles import Act
from daemon.errors import StepFailed
from daemon.responses.workshop import Applied, Benched, Built, Progress, Retrained, Task
from daemon.site.sections import PolicySettings
from daemon.site.settings import Site
from streams.judging.verdict import State, Verdict

EXAMPLE_SITE = Path(__file__).parents[2] / "deploy" / "site"
OLD_PACKAGE = "a" * 64
NEW_PACKAGE = "b" * 64
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def copy_site(folder: Path) -> Path:
    """Copy the example site, so that its state folder is a test's own; hls4ml compiles the quickest."""
    target = folder / "site"
    shutil.copytree(EXAMPLE_SITE, target, ignore=shutil.ignore_patterns("state"))
    model = target / "models" / "anomaly" / "model.toml"
    model.write_text(model.read_text().replace('toolchain = "lumiwatch-rtl"', 'toolchain = "hls4ml"'))
    return target


def with_policy(site: Site, **changes: Any) -> Site:
    """Give a site whose example model has another policy."""
    model = site.models["anomaly"]
    policy = PolicySettings.model_validate({**model.policy.model_dump(), **changes})
    settings = model.settings.model_copy(update={"policy": policy})
    return replace(site, models={"anomaly": replace(model, settings=settings)})


def make_verdict(lumisection: int, state: State = State.ALARM, **changes: Any) -> Verdict:
    """Make a verdict of run 1 of the example model; an alarm names the rate."""
    alarm = state is State.ALARM
    content: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "model": "anomaly",
        "run": 1,
        "lumisection": lumisection,
        "state": state,
        "families": ("inputs", "rate") if alarm else (),
        "reason": "Accept rate 11.9 % instead of 10.0 % (+19 %)." if alarm else "All within thresholds.",
        "package": OLD_PACKAGE,
        "reference_id": "c" * 64,
        "n_events": 10000,
        "accept_rate": 0.119 if alarm else 0.1,
        "expected_rate": 0.1,
        "rate_deviation": 0.19 if alarm else 0.0,
        "simulated": True,
        "onset_lumisection": lumisection - 1 if alarm else None,
    }
    return Verdict(**{**content, **changes})


@dataclass
class HandClock:
    """A clock that stands still until it is moved."""

    now: datetime = START

    def __call__(self) -> datetime:
        """Read it."""
        return self.now

    def move(self, seconds: float) -> None:
        """Move it forward."""
        self.now += timedelta(seconds=seconds)


class Everybody:
    """Fake access: everybody may do everything."""

    def check(self, operator: str, act: Act) -> None:
        """Refuse nothing."""


@dataclass
class NoWorkflows:
    """Fake workflows: only remember what was asked of them."""

    started: list[str] = field(default_factory=list)
    woken: list[str] = field(default_factory=list)

    def start(self, response_id: str) -> None:
        """Remember."""
        self.started.append(response_id)

    def wake(self, response_id: str) -> None:
        """Remember."""
        self.woken.append(response_id)


@dataclass
class FakeWorkshop:
    """Fake workshop: does no work, remembers calls, and can be told to fail at a step."""

    calls: list[str] = field(default_factory=list)
    decided_by: list[str] = field(default_factory=list)
    fail_at: str | None = None
    bench_passes: bool = True
    plan_kind: str = "weights"
    board: str = OLD_PACKAGE
    on_call: Callable[[str], None] = lambda _: None

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.on_call(name)
        if name == self.fail_at:
            raise StepFailed(f"{name} was told to fail")

    def package_on_board(self, model: str) -> str:
        return self.board

    def retrain(self, task: Task, progress: Progress) -> Retrained:
        self._called("retrain")
        progress(0.5, "half way")
        return Retrained(
            training_id="d" * 64,
            strategy=task.strategies[0],
            candidate=task.folder / "candidate.npz",
            dataset_ids=("e" * 64,),
            summary="input_recalibration passes",
        )

    def build(self, task: Task, retrained: Retrained, progress: Progress) -> Built:
        self._called("build")
        return Built(
            package_id=NEW_PACKAGE,
            path=task.folder / "candidate.lwpkg",
            plan_kind=self.plan_kind,
            plan_reason="only weights differ",
            summary="built",
        )

    def bench(self, task: Task, built: Built, progress: Progress) -> Benched:
        self._called("bench")
        return Benched(passed=self.bench_passes, summary="0 mismatching bits", report={})

    def apply(self, task: Task, built: Built, progress: Progress) -> Applied:
        self._called("apply")
        self.decided_by.append(task.decided_by)
        previous, self.board = self.board, built.package_id
        return Applied(package_id=built.package_id, previous_package=previous, summary="switched")

    def reload(self, task: Task, progress: Progress) -> Applied:
        self._called("reload")
        return Applied(package_id=task.package, previous_package=task.package, summary="loaded again")

    def roll_back(self, task: Task, progress: Progress) -> str:
        self._called("roll_back")
        self.board = task.package
        return "the previous package runs again"

    def successor_reference(
        self, task: Task, package_id: str, run: int, first_lumisection: int, last_lumisection: int
    ) -> str:
        self._called("successor_reference")
        return "f" * 64
