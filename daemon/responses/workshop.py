"""What a response needs done by other rooms: the protocol, and the facts that pass between steps.

Everything here is plain data that survives a restart as JSON. The real work is in
`daemon.responses.workbench`; the order of the steps is in `daemon.responses.procedure`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

Progress = Callable[[float, str], None]


class Fact(BaseModel):
    """Base of what steps hand on."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(Fact):
    """What was decided to be done."""

    kind: Literal["retrain", "reload"] = "retrain"
    response_id: str
    incident_id: str
    model: str
    simulated: bool
    run: int
    first_lumisection: int  # of the drifted data
    last_lumisection: int
    package: str  # on the board when the incident opened
    reference_id: str | None
    strategies: tuple[str, ...]  # in order of preference
    decided_by: str
    automatic: bool  # decided by policy, not by a person
    confirm: bool = False  # ask once more before the board is touched
    folder: Path  # for files of this response


class Retrained(Fact):
    """A candidate that passed."""

    training_id: str
    strategy: str
    candidate: Path  # model.npz
    dataset_ids: tuple[str, ...]
    summary: str
    table: tuple[dict[str, Any], ...] = ()  # one row per strategy tried


class Built(Fact):
    """A signed package of the candidate."""

    package_id: str
    path: Path
    plan_kind: str
    plan_reason: str
    summary: str
    detail: dict[str, Any] = {}


class Benched(Fact):
    """The bit-accurate proof."""

    passed: bool
    summary: str
    report: dict[str, Any]


class Applied(Fact):
    """The board runs the new package."""

    package_id: str
    previous_package: str
    summary: str
    detail: dict[str, Any] = {}


class Workshop(Protocol):
    """Does the work of the steps; every method can be repeated after a crash and then finishes the work.

    Methods raise an error of their room (`RetrainError`, `HardwareError`, `StreamsError`,
    `DaemonError`) when the work cannot be done, and leave the board as it was.
    """

    def package_on_board(self, model: str) -> str:
        """Id of the package that the model's board runs."""

    def retrain(self, task: Task, progress: Progress) -> Retrained:
        """Retrain with the task's strategies, and choose the least invasive one that passes."""

    def build(self, task: Task, retrained: Retrained, progress: Progress) -> Built:
        """Build and sign a package of the candidate, and plan the way onto the board."""

    def bench(self, task: Task, built: Built, progress: Progress) -> Benched:
        """Compare emulator, C simulation and board bit by bit."""

    def apply(self, task: Task, built: Built, progress: Progress) -> Applied:
        """Reconfigure the board; afterwards it runs the new package, or still the previous one."""

    def reload(self, task: Task, progress: Progress) -> Applied:
        """Load the package of before the response once more, and prove it by its golden vectors."""

    def roll_back(self, task: Task, progress: Progress) -> str:
        """Make the board run the package of before the response; returns a sentence."""

    def successor_reference(
        self, task: Task, package_id: str, run: int, first_lumisection: int, last_lumisection: int
    ) -> str:
        """Register a reference for the new package from the verified windows; returns its id."""
