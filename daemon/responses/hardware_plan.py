"""What operators are shown before the board is touched: which package, how proven, on which way.

Pure functions over what the steps found. Knows no database.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from daemon.responses.policy import RELOAD
from daemon.responses.workshop import Benched, Built, Retrained, Task
from hw.plan import PlanKind


class HardwarePlan(BaseModel):
    """The question before the board is touched; stored with the response, and never changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    package: str
    previous_package: str
    strategy: str
    plan: str
    plan_reason: str
    bench: str  # the result, as one sentence
    summary: str


def hardware_plan(task: Task, retrained: Retrained, built: Built, benched: Benched) -> HardwarePlan:
    """Say what a built and benched package would do to the board."""
    return HardwarePlan(
        package=built.package_id,
        previous_package=task.package,
        strategy=retrained.strategy,
        plan=built.plan_kind,
        plan_reason=built.plan_reason,
        bench=benched.summary,
        summary=(
            f"{task.model}: package {built.package_id[:12]} ({retrained.strategy}) is built and signed; "
            f"{benched.summary.rstrip('.')}. Plan: {built.plan_kind}, {built.plan_reason}. "
            "Load it onto the board?"
        ),
    )


def reload_plan(task: Task) -> HardwarePlan:
    """Say what loading the same package once more would do to the board."""
    return HardwarePlan(
        package=task.package,
        previous_package=task.package,
        strategy=RELOAD,
        plan=PlanKind.WEIGHTS.value,
        plan_reason="the same weights are written once more",
        bench="proved when it was built",
        summary=f"{task.model}: load package {task.package[:12]} onto the board once more?",
    )
