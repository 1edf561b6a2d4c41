"""Boards by hand: a named person loads a package, brings the previous one back, or scrubs.

The same checks as a response makes, in the same process, with the same records. A response that is open goes
first. Knows no routes; how a board is loaded and proved is in `board_work`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.access.roles import Act
from daemon.errors import BoardUnknown, InvalidChoice, NotPermitted, NotPossibleNow, StepFailed
from daemon.incidents.flipped import sentence
from daemon.journal.happenings import record_event, record_happening
from daemon.operations import Access
from daemon.responses.board_work import BoardWork, package_path
from daemon.responses.retrain_requests import active_response
from daemon.responses.scrubbing import Scrubbing
from daemon.site.keys import site_trusted_keys
from daemon.site.settings import Site, SiteModel
from daemon.store.database import transaction
from daemon.store.queries import site_model
from daemon.store.records import UNRESOLVED, IncidentKind, IncidentRecord
from hw.apply import ApplyReport, check_package
from hw.errors import HardwareError
from hw.package import Package, image_sizes
from hw.plan import PlanKind, plan
from hw.records import BoardOperationRecord, record_package
from hw.scrub import ScrubReport

Allowed = Literal["weights", "partial", "full"]
_WAIT_S: Final = 20.0


class BoardPlan(BaseModel):
    """The way from the package on a board to another one, and what it costs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    board: str
    from_package: str
    to_package: str
    kind: PlanKind
    reason: str
    changed_words: int
    changed_segments: tuple[str, ...]
    changed_partitions: tuple[str, ...]
    transfer_bytes: int
    dead_time_s: float
    dead_time_source: str
    lost: str


class Scrubbed(BaseModel):
    """What a look at a board came to, and the incident that it is about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    report: ScrubReport
    incident: str | None


class ByHand:
    """Work on boards in the name of a person.

    Parameters
    ----------
    engine
        The site's database.
    site
        Models and their approvers.
    boards
        The same object that responses and scrubbing work with.
    scrubbing
        Takes what a look finds.
    access
        Asked at the beginning of each act.
    clock
        Gives aware UTC.
    """

    def __init__(
        self,
        engine: Engine,
        site: Site,
        boards: BoardWork,
        scrubbing: Scrubbing,
        access: Access,
        clock: Callable[[], datetime],
    ) -> None:
        self._engine, self._site, self._boards = engine, site, boards
        self._scrubbing, self._access, self._clock = scrubbing, access, clock

    def plan(self, model: str, package_id: str | None) -> BoardPlan:
        """Say the way to a package, or to the one that ran before; touches nothing.

        Raises
        ------
        NotFound, NotPossibleNow
            No such model or package, it may not go onto this board, or the board does not answer.
        """
        watched = self._watched(model)
        with _told():
            return self._plan(watched, package_id)[0]

    def apply(
        self, model: str, package_id: str, allowed: Allowed, *, planned_from: str, operator: str, why: str
    ) -> ApplyReport:
        """Make a package run on a model's board.

        Parameters
        ----------
        package_id
            Of a package at the site.
        allowed
            The most invasive way that the person allows.
        planned_from
            The package on the board when the person saw the plan.
        why
            For the record.

        Raises
        ------
        NotFound, NotPermitted, NotPossibleNow, InvalidChoice
            No such model or package; no right; a response is open, more people are to be asked, the board
            does not play along; or the plan is more invasive than allowed.
        """
        watched = self._start(model, operator, "load a package by hand")
        people = _people_needed(watched)
        if people > 1:
            raise NotPossibleNow(
                f"the policy of {model} asks {people} people before its board is touched: ask for a response"
            )
        with _told(), self._boards.turn(model, _WAIT_S):
            way, package, previous = self._plan(watched, package_id)
            _check_unchanged(way, planned_from)
            if not PlanKind(allowed).covers(way.kind):
                raise InvalidChoice(
                    f"the plan is {way.kind.value} ({way.reason}): allow it with --allow {way.kind.value}"
                )
            self._know(package)
            self._ask(watched, f"load package {package.short_id} ({way.kind.value})", operator, why)
            with self._failure_noted(model, operator):
                report = self._boards.load(model, package, previous, way.kind.value, operator)
        self._end(model, "board.applied" if report.ok else "board.failed", report, operator)
        return report

    def roll_back(self, model: str, *, planned_from: str, operator: str, why: str) -> ApplyReport:
        """Bring back the package that ran before the present one. Parameters and errors as of `apply`."""
        watched = self._start(model, operator, "roll a board back by hand")
        with _told(), self._boards.turn(model, _WAIT_S):
            way, previous, _ = self._plan(watched, None)
            _check_unchanged(way, planned_from)
            self._ask(watched, f"bring package {previous.short_id} back", operator, why)
            with self._failure_noted(model, operator):
                report = self._boards.bring_back(model, previous, operator)
        self._end(model, "board.rolled_back" if report.ok else "board.failed", report, operator)
        return report

    def scrub(self, model: str, *, repair: bool, operator: str, why: str) -> Scrubbed:
        """Compare the active weights of a board with its package now. Errors as of `apply`."""
        watched = self._start(model, operator, "scrub a board by hand")
        with _told():
            looked, running = self._boards.scrub(model, repair=repair, operator=operator, wait_s=_WAIT_S)
        report = looked.report
        with transaction(self._engine) as session:
            record_event(
                session,
                "board.scrubbed",
                f"{operator} scrubbed the board of {watched.name}: "
                f"{sentence(report) if report.flipped else report.reason}. {why}",
                now=self._clock(),
                actor=operator,
                model=model,
                simulated=looked.simulated,
                detail={"why": why, "repair": repair, "outcome": report.outcome.value},
            )
        incident = self._scrubbing.take(looked, running, actor=operator, why=why)
        return Scrubbed(report=report, incident=incident)

    def _watched(self, model: str) -> SiteModel:
        watched = site_model(self._site, model)
        if not watched.has_firmware:
            raise NotPossibleNow(f"{model} is watched by histograms and has no board")
        return watched

    def _start(self, model: str, operator: str, act: str) -> SiteModel:
        """Ask whether a person may work on a board now."""
        self._access.check(operator, Act.WORK_ON_BOARDS)
        watched = self._watched(model)
        approvers = watched.policy.approvers
        if operator not in approvers:
            raise NotPermitted(
                f"operator {operator!r} may not {act}: approvers of {model} are {', '.join(approvers)}"
            )
        with Session(self._engine) as session:
            response = active_response(session, model)
        if response is not None:
            raise NotPossibleNow(
                f"response {response.id} of {model} is {response.state}: decide it, or let it end first"
            )
        return watched

    def _plan(self, model: SiteModel, package_id: str | None) -> tuple[BoardPlan, Package, Package]:
        """Give the plan, the package to go to, and the one on the board."""
        identity = self._boards.identity(model.name)
        running = self._boards.package(identity.package_id)  # without it nothing could be brought back
        target = self._boards.package(package_id or self._before(model.name, running.id))
        if target.manifest.name != model.name:
            raise InvalidChoice(
                f"package {target.short_id} is of model {target.manifest.name}, not {model.name}"
            )
        check_package(target, site_trusted_keys(self._site), contract_hash=model.contract.hash)
        way = plan(running.model, target.model, image_bytes=image_sizes(target))
        found = BoardPlan(
            model=model.name,
            board=identity.address,
            from_package=running.id,
            to_package=target.id,
            kind=way.kind,
            reason=way.reason,
            changed_words=way.changed_words,
            changed_segments=way.changed_segments,
            changed_partitions=way.changed_partitions,
            transfer_bytes=way.transfer_bytes,
            dead_time_s=way.dead_time_s,
            dead_time_source=way.dead_time_source,
            lost=way.lost,
        )
        return found, target, running

    def _before(self, model: str, running: str) -> str:
        """Name the package that the running one took the place of."""
        with Session(self._engine) as session:
            operation = session.exec(
                select(BoardOperationRecord)
                .where(
                    BoardOperationRecord.to_package == running,
                    BoardOperationRecord.from_package != running,
                    BoardOperationRecord.outcome == "applied",
                )
                .order_by(col(BoardOperationRecord.id).desc())
                .limit(1)
            ).first()
        if operation is None:
            raise NotPossibleNow(
                f"nothing is known to have run on the board of {model} before package {running[:12]}: "
                "name a package with `lumiwatch hw apply`"
            )
        return operation.from_package

    def _know(self, package: Package) -> None:
        """Note a package that was built elsewhere: what a board runs is among those known here."""
        path = package_path(self._engine, self._site, package.id)
        with transaction(self._engine) as session:
            record_package(session, package, path, now=self._clock())

    def _ask(self, model: SiteModel, act: str, operator: str, why: str) -> None:
        """Write down what somebody is about to do: it is known even if nobody lives to say how it ended."""
        text = f"{operator} begins by hand to {act} on the board of {model.name}: {why}"
        self._write(model.name, "board.asked", text, operator, {"why": why})

    @contextmanager
    def _failure_noted(self, model: str, operator: str) -> Iterator[None]:
        try:
            yield
        except (HardwareError, BoardUnknown, StepFailed) as error:
            self._write(
                model, "board.failed", f"{operator} by hand, board of {model}: {error}.", operator, {}
            )
            raise

    def _end(self, model: str, kind: str, report: ApplyReport, operator: str) -> None:
        text = (
            f"{operator} by hand, board of {model}: {report.outcome.replace('_', ' ')}, package "
            f"{report.to_package[:12]} ({report.plan_kind.value}): {report.reason}."
        )
        self._write(model, kind, text, operator, {"apply": report.model_dump(mode="json")})

    def _write(self, model: str, kind: str, text: str, operator: str, detail: dict[str, Any]) -> None:
        """Write an event; the history of the model's incident has it too, where there is one."""
        now = self._clock()
        with transaction(self._engine) as session:
            incident = session.exec(
                select(IncidentRecord)
                .where(
                    IncidentRecord.model == model,
                    IncidentRecord.kind == IncidentKind.ALARM,
                    col(IncidentRecord.state).in_(UNRESOLVED),
                )
                .order_by(col(IncidentRecord.number).desc())
                .limit(1)
            ).first()
            if incident is not None:
                record_happening(session, incident, kind, text, now=now, actor=operator, detail=detail)
            else:
                record_event(session, kind, text, now=now, actor=operator, model=model, detail=detail)


def _check_unchanged(way: BoardPlan, planned_from: str) -> None:
    if way.from_package != planned_from:
        raise NotPossibleNow(
            f"the board of {way.model} runs package {way.from_package[:12]} by now: look at the plan again"
        )


def _people_needed(model: SiteModel) -> int:
    policy = model.policy
    hardware = policy.hardware_approvals_needed
    if policy.distinct_approvers:
        return policy.approvals_needed + hardware
    return max(policy.approvals_needed, hardware)


@contextmanager
def _told() -> Iterator[None]:
    """Say what a board or a package refuses as what is not possible now."""
    try:
        yield
    except (HardwareError, BoardUnknown, StepFailed) as error:
        raise NotPossibleNow(str(error)) from error
