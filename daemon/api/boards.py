"""Boards by hand on `/api/v1`: the plan, and what a named person does to a board."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from daemon.access.roles import Act
from daemon.api.callers import Actor, ServicesOf, reader
from daemon.errors import NotPossibleNow
from daemon.process.services import Services
from daemon.responses.by_hand import BoardPlan, ByHand, Scrubbed
from daemon.store.queries import site_model
from hw.apply import ApplyReport

router = APIRouter(prefix="/api/v1")

_PackageId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Why = Annotated[str, Field(min_length=1, max_length=2000, description="for the record")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Load(_Body):
    """A package to load, the most invasive way that is allowed, and the package that the plan began with."""

    package_id: _PackageId
    planned_from: _PackageId
    allow: Literal["weights", "partial", "full"] = "weights"
    why: _Why


class BringBack(_Body):
    """The package that the plan began with, and why it is to go."""

    planned_from: _PackageId
    why: _Why


class Look(_Body):
    """Whether flipped bits are put right, and why one looks."""

    repair: bool = True
    why: _Why


@router.get("/models/{model}/board/plan", dependencies=[Depends(reader)])
def get_board_plan(
    model: str,
    services: ServicesOf,
    package: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$")] = None,
) -> BoardPlan:
    """Say the way to a package, or back to the one that ran before."""
    site_model(services.site, model)
    return _by_hand(services).plan(model, package)


@router.post("/models/{model}/board/apply")
def apply(model: str, body: Load, services: ServicesOf, operator: Actor) -> ApplyReport:
    """Make a package run on the board."""
    services.access.check(operator.name, Act.WORK_ON_BOARDS)
    return _by_hand(services).apply(
        model,
        body.package_id,
        body.allow,
        planned_from=body.planned_from,
        operator=operator.name,
        why=body.why,
    )


@router.post("/models/{model}/board/rollback")
def roll_back(model: str, body: BringBack, services: ServicesOf, operator: Actor) -> ApplyReport:
    """Bring back the package that ran before."""
    services.access.check(operator.name, Act.WORK_ON_BOARDS)
    return _by_hand(services).roll_back(
        model, planned_from=body.planned_from, operator=operator.name, why=body.why
    )


@router.post("/models/{model}/board/scrub")
def scrub(model: str, body: Look, services: ServicesOf, operator: Actor) -> Scrubbed:
    """Compare the board's weights with its package now."""
    services.access.check(operator.name, Act.WORK_ON_BOARDS)
    return _by_hand(services).scrub(model, repair=body.repair, operator=operator.name, why=body.why)


def _by_hand(services: Services) -> ByHand:
    if services.by_hand is None:
        raise NotPossibleNow("this process works on no boards: ask the daemon")
    return services.by_hand
