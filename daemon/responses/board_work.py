"""What responses do to boards, through `hw.apply`, and what is written down of it.

Knows addresses and records; how a board is loaded and proved is in `hw`.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from threading import Event, RLock

from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.errors import BoardUnknown, NotFound, StepFailed
from daemon.incidents.flipped import Looked
from daemon.process.children import Interrupted
from daemon.site.keys import site_trusted_keys
from daemon.site.settings import Site
from daemon.store.database import transaction
from daemon.store.views import BoardStatus
from hw.apply import ApplyReport, apply, rollback
from hw.board import BoardIdentity
from hw.boards.ipbus import IPbusBoard
from hw.errors import BoardBusy, BoardUnreachable, HardwareError
from hw.ipbus_client import BoardAddress
from hw.package import Package, open_package
from hw.plan import PlanKind
from hw.records import BoardOperationRecord, PackageRecord, last_package, record_operation
from hw.scrub import ScrubOutcome, scrub

_STATUS_TIMEOUT_S = 2.0
_COMES_BACK_S = 20.0
_LOOK_AGAIN_S = 0.5
EMULATED = "emulated"


def package_path(engine: Engine, site: Site, package_id: str) -> Path:
    """Find the file of a package.

    Raises
    ------
    NotFound
        The site does not have it.
    """
    path = site.packages_dir / f"{package_id}.lwpkg"
    if path.exists():
        return path
    with Session(engine) as session:
        record = session.get(PackageRecord, package_id)
    if record is None or not Path(record.path).exists():
        raise NotFound(
            f"the file of package {package_id[:12]} is not at this site: put it into {site.packages_dir} "
            f"under the name {package_id[:12]}....lwpkg (its full id)"
        )
    return Path(record.path)


def board_address(site: Site, model: str) -> str:
    """Tell where the board of a model is: ``host:port``, ``tcp://host:port`` or ``udp://host:port``.

    Raises
    ------
    BoardUnknown
        It is an emulated one that nobody has started.
    """
    configured = site.models[model].settings.firmware.board
    if configured != EMULATED:
        return configured
    try:
        return str(json.loads(site.board_file(model).read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError):
        raise BoardUnknown(
            f"the emulated board of {model} is not running: start it with `lumiwatch up`, "
            f"or set firmware.board in model.toml"
        ) from None


class BoardWork:
    """Applies packages and rolls them back, with a record of every operation.

    Parameters
    ----------
    engine
        The site's database.
    site
        Addresses and keys.
    clock
        Gives aware UTC.
    stopping
        Set when the daemon stops: no board is waited for any more.
    """

    def __init__(
        self, engine: Engine, site: Site, clock: Callable[[], datetime], stopping: Event | None = None
    ) -> None:
        self._engine = engine
        self._site = site
        self._clock = clock
        self._stopping = stopping or Event()
        self._turns: dict[str, RLock] = {}

    @contextlib.contextmanager
    def turn(self, model: str, wait_s: float | None = None) -> Iterator[None]:
        """Be the only one in this process that works on a board, records included; may be nested.

        Parameters
        ----------
        wait_s
            Longest time to wait for whoever works on it now; None: until that has ended.

        Raises
        ------
        BoardBusy
            Somebody still works on it.
        Interrupted
            The daemon stops.
        """
        lock = self._turns.setdefault(model, RLock())
        deadline_s = None if wait_s is None else time.monotonic() + wait_s
        while True:
            left_s = _LOOK_AGAIN_S if deadline_s is None else deadline_s - time.monotonic()
            if lock.acquire(timeout=min(max(left_s, 0.0), _LOOK_AGAIN_S)):
                break
            if self._stopping.is_set():
                raise Interrupted
            if left_s <= 0:
                raise BoardBusy(f"the board of {model} is being worked on: try again when that has ended")
        try:
            yield
        finally:
            lock.release()

    def package(self, package_id: str) -> Package:
        """Open a package of the site and verify it. Raises `NotFound`, `PackageError`."""
        path = package_path(self._engine, self._site, package_id)
        return open_package(path, site_trusted_keys(self._site))

    def address(self, model: str) -> str:
        """Tell where the board of a model is. Raises `BoardUnknown`."""
        return board_address(self._site, model)

    def package_on_board(self, model: str) -> str:
        """Ask the board which package it runs."""
        return self.identity(model).package_id

    def identity(self, model: str) -> BoardIdentity:
        """Ask the board what it is. Raises `BoardUnknown`, `BoardError`."""
        with self._board(model) as board:
            return board.identify()

    def status(self, model: str) -> BoardStatus:
        """Ask a board what it is; an unreachable one is an answer, not an error."""
        try:
            address = self.address(model)
        except BoardUnknown as error:
            return BoardStatus(model=model, address=EMULATED, reachable=False, error=str(error))
        try:
            with self._board(model, _STATUS_TIMEOUT_S) as board:
                identity = board.identify()
        except HardwareError as error:
            return BoardStatus(model=model, address=address, reachable=False, error=str(error))
        counters = identity.counters
        return BoardStatus(
            model=model,
            address=address,
            reachable=True,
            simulated=identity.simulated,
            package_id=identity.package_id,
            shell_hash=identity.shell_hash,
            partition_hashes=list(identity.partition_hashes),
            structure_hash=identity.structure_hash,
            weights_hash=identity.weights_hash,
            active_bank=identity.active_bank,
            counters={
                "events": counters.events,
                "accepts": counters.accepts,
                "switches": counters.switches,
                "replacements": counters.replacements,
                "boots": counters.boots,
                "refusals": counters.refusals,
            },
        )

    def apply(
        self, model: str, package: Package, previous: Package, plan_kind: str, operator: str
    ) -> ApplyReport:
        """Make a package run on the board; a board that runs something unexpected is not touched.

        Raises
        ------
        HardwareError
            The package may not go onto the board, or the board does not play along.
        StepFailed
            The board runs another package than the response answers for, or went back by itself.
        Interrupted
            The daemon stops.
        """
        report = self.load(model, package, previous, plan_kind, operator)
        if not report.ok:
            raise StepFailed(f"the board went back to the previous package: {report.reason}")
        return report

    def load(
        self, model: str, package: Package, previous: Package, plan_kind: str, operator: str
    ) -> ApplyReport:
        """Do what `apply` does, and leave it to the caller what a board that went back by itself means."""
        with self.turn(model):
            self._wait_until_it_answers(model)
            with self._board(model) as board:
                running = board.identify().package_id
                if running not in {previous.id, package.id}:
                    raise StepFailed(
                        f"the board runs package {running[:12]}, the incident is about {previous.short_id}: "
                        f"somebody reconfigured it; ask for a new response"
                    )
                report = apply(
                    package,
                    board,
                    site_trusted_keys(self._site),
                    contract_hash=self._site.models[model].contract.hash,
                    approved=PlanKind(plan_kind),
                    previous=previous,
                )
            self._record(report, operator)
        return report

    def roll_back(self, model: str, previous: Package, operator: str) -> str:
        """Bring the previous package back; returns a sentence. Raises as `apply` does.

        A board that dies meanwhile may come back with what it ran before: it is brought back once more.
        """
        report = self.bring_back(model, previous, operator)
        if not report.ok:
            raise StepFailed(f"package {previous.short_id} could not be brought back: {report.reason}")
        return f"package {previous.short_id} runs on the board: {report.reason}"

    def bring_back(self, model: str, previous: Package, operator: str) -> ApplyReport:
        """Do what `roll_back` does, and leave it to the caller what a failure means."""
        with self.turn(model):
            try:
                report = self._roll_back(model, previous)
            except BoardUnreachable:
                report = self._roll_back(model, previous)
            self._record(report, operator)
        return report

    def scrub(
        self, model: str, *, repair: bool, operator: str | None = None, wait_s: float = 0.0
    ) -> tuple[Looked, str]:
        """Compare the board's active weights with the package that it should run; put them right if asked.

        Parameters
        ----------
        operator
            Who asked, for the record of a repair.
        wait_s
            As of `turn`.

        Returns
        -------
        tuple
            What was found and done, and the id of the package that the board runs.

        Raises
        ------
        BoardUnknown, BoardError, NotFound, PackageError
            The board cannot be asked, is being worked on, or the package is not at the site.
        """
        keys = site_trusted_keys(self._site)
        with self.turn(model, wait_s), self._board(model) as board:
            identity = board.identify()
            package = self.package(self._expected(model, identity.package_id))
            report = scrub(package, board, keys, repair=False)
            if repair and report.outcome is ScrubOutcome.FLIPPED:
                try:
                    with board.exclusive():  # nobody else configures it between this look and the repair
                        report = scrub(package, board, keys, repair=True)
                except HardwareError as error:  # what was found is told all the same
                    failed = {"outcome": ScrubOutcome.FAILED, "reason": str(error)}
                    report = report.model_copy(update=failed)
                if report.repair is not None:
                    self._record(report.repair, operator)
        return Looked(model, report, identity.simulated), identity.package_id

    def _expected(self, model: str, running: str) -> str:
        """Name the package that was loaded last from here; a board that was never touched is believed."""
        with Session(self._engine) as session:
            touched = session.exec(
                select(BoardOperationRecord.id)
                .join(PackageRecord, col(PackageRecord.id) == col(BoardOperationRecord.to_package))
                .where(PackageRecord.name == model)
                .limit(1)
            ).first()
            record = last_package(session, model)
        return running if touched is None or record is None else record.id

    def _roll_back(self, model: str, previous: Package) -> ApplyReport:
        self._wait_until_it_answers(model)
        with self._board(model) as board:
            return rollback(board, previous, site_trusted_keys(self._site))

    def _wait_until_it_answers(self, model: str) -> None:
        """Give a board that is just being started the time to come back; then its silence is an error."""
        deadline_s = time.monotonic() + _COMES_BACK_S
        while True:
            try:
                self.package_on_board(model)
            except (BoardUnknown, BoardUnreachable):
                if time.monotonic() > deadline_s:
                    raise
            else:
                return
            if self._stopping.wait(_LOOK_AGAIN_S):
                raise Interrupted

    def _record(self, report: ApplyReport, operator: str | None) -> None:
        with transaction(self._engine) as session:
            record_operation(session, report, now=self._clock(), operator=operator)

    @contextlib.contextmanager
    def _board(self, model: str, timeout_s: float = 5.0) -> Iterator[IPbusBoard]:
        address = self.address(model)
        with contextlib.ExitStack() as stack:
            if BoardAddress.parse(address).transport == "udp":
                stack.enter_context(self.turn(model, timeout_s))  # one client at a time
            yield stack.enter_context(contextlib.closing(IPbusBoard(address, timeout_s=timeout_s)))
