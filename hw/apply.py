"""Bringing a package onto a board and back: check, load, read back, switch, prove it and keep it, or undo.

Nothing is written to the board before all checks have passed. Refuses to know who approved it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Literal, NoReturn

import numpy as np
from pydantic import BaseModel, ConfigDict

from hw.board import Board, BoardIdentity
from hw.errors import (
    BenchNotPassed,
    BoardError,
    BoardRefused,
    ContractMismatch,
    GoldenMismatch,
    ShellMismatch,
    StructureMismatch,
)
from hw.package import Package, board_content, read_package
from hw.plan import PlanKind
from hw.signing import TrustedKey

_log = logging.getLogger(__name__)

Outcome = Literal["applied", "unchanged", "rolled_back"]


class ApplyReport(BaseModel):
    """What was done to a board.

    Parameters
    ----------
    board
        Its address.
    simulated
        True for an emulated board.
    plan_kind
        `nothing`, `weights`, `partial` or `full`.
    from_package, to_package
        Package ids before and as wanted.
    outcome
        `applied`; `unchanged`: the board ran it already; `rolled_back`: golden vectors differed.
    reason
        One sentence.
    loaded_words
        Words written into the weight memory.
    load_s, switch_s, golden_s
        Wall times of loading and reading back, of the switch command, and of the golden vectors.
    golden_events, golden_mismatches
        Vectors compared and different.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    board: str
    simulated: bool
    plan_kind: PlanKind
    from_package: str
    to_package: str
    outcome: Outcome
    reason: str
    loaded_words: int
    load_s: float
    switch_s: float
    golden_s: float
    golden_events: int
    golden_mismatches: int

    @property
    def ok(self) -> bool:
        """Whether the board runs the wanted package and proved it."""
        return self.outcome != "rolled_back"


def apply(
    package: Package,
    board: Board,
    trusted_keys: Sequence[TrustedKey],
    *,
    contract_hash: str | None = None,
    approved: PlanKind = PlanKind.WEIGHTS,
    previous: Package | None = None,
) -> ApplyReport:
    """Make a package run on a board; doing it twice is harmless.

    Parameters
    ----------
    package
        What shall run. Its signature is verified once more.
    board
        Where.
    trusted_keys
        Whose signatures count.
    contract_hash
        The contract the site feeds the board with; a package for another one is refused.
    approved
        The most invasive way that was approved; a less invasive one is taken where it is enough.
    previous
        What to bring back when new partitions or a new firmware fail their golden vectors.

    Returns
    -------
    ApplyReport
        With `outcome == "rolled_back"` the board runs what it ran before.

    Raises
    ------
    PackageError, BenchNotPassed, ContractMismatch, ShellMismatch, StructureMismatch
        Before the board is touched.
    GoldenMismatch
        When the golden vectors differ and the board cannot go back.
    BoardUnreachable, BoardRefused, BoardBusy
        When the board does not play along; it still runs what it ran before.
    """
    check_package(package, trusted_keys, contract_hash=contract_hash)
    with board.exclusive():
        before = board.identify()
        if before.structure_hash == package.manifest.structure_hash:
            return _apply_weights(package, board, before)
        changed = _changed_partitions(package, before)
        kind = PlanKind.FULL if changed is None else PlanKind.PARTIAL
        if not approved.covers(kind):
            _refuse(package, board, before, kind)
        return _apply_fabric(package, board, before, previous, changed)


def rollback(board: Board, previous: Package, trusted_keys: Sequence[TrustedKey]) -> ApplyReport:
    """Bring the previous package back; when its weights are still in the inactive bank, nothing is loaded.

    Raises as `apply` does.
    """
    return apply(previous, board, trusted_keys, approved=PlanKind.FULL)


def check_package(
    package: Package, trusted_keys: Sequence[TrustedKey], *, contract_hash: str | None = None
) -> None:
    """Make sure a package may go onto a board at all.

    Raises
    ------
    PackageError, BenchNotPassed, ContractMismatch
        When it may not.
    """
    verified = read_package(package.content, trusted_keys, what=f"package {package.short_id}")
    bench = verified.manifest.bench
    hashes = (verified.manifest.structure_hash, verified.manifest.weights_hash)
    if bench is None or not bench.passed or (bench.structure_hash, bench.weights_hash) != hashes:
        raise BenchNotPassed(
            f"package {package.short_id} carries no passed bench of its own weights: build it again"
        )
    if contract_hash not in (None, verified.manifest.contract_hash):
        raise ContractMismatch(
            f"package {package.short_id} is for contract {verified.manifest.contract_hash[:12]}, "
            f"the site feeds {(contract_hash or '')[:12]}: build it for the site's contract"
        )


def _apply_weights(package: Package, board: Board, before: BoardIdentity) -> ApplyReport:
    words = package.model.memory()
    loaded, load_s, switch_s = 0, 0.0, 0.0
    running = before.package_id == package.id and np.array_equal(board.read_back(active=True), words)
    if not running:
        started = time.perf_counter()
        if not np.array_equal(board.read_back(), words):
            board.load_inactive(words)
            loaded = len(words)
            if not np.array_equal(board.read_back(), words):
                raise BoardError(f"board at {board.address} does not hold what was loaded: check its memory")
        load_s, started = time.perf_counter() - started, time.perf_counter()
        _switch(board, package.manifest.structure_hash, package.manifest.weights_hash, package.id)
        switch_s = time.perf_counter() - started
    golden_s, mismatches = _golden(board, package)
    outcome: Outcome = "unchanged" if running else "applied"
    reason = "the board ran this package already" if running else "golden vectors agree in every bit"
    if mismatches:
        reason = f"{mismatches} of {len(package.golden_scores)} golden vectors differ"
        if running:
            raise GoldenMismatch(
                f"board at {board.address}: {reason} in the running package: prescale it out"
            )
        _switch_back(board, before, reason)
        outcome, reason = "rolled_back", f"{reason}; the previous bank is active again"
    else:
        board.commit()
    kind = PlanKind.NOTHING if running else PlanKind.WEIGHTS
    return _report(
        package,
        board,
        before,
        kind=kind,
        outcome=outcome,
        reason=reason,
        loaded_words=loaded,
        load_s=load_s,
        switch_s=switch_s,
        golden_s=golden_s,
        golden_mismatches=mismatches,
    )


def _changed_partitions(package: Package, before: BoardIdentity) -> tuple[str, ...] | None:
    """Name the partitions that a board lacks; None when its static part is another one."""
    if before.shell_hash != package.manifest.shell_hash:
        return None
    pairs = zip(package.manifest.partitions, before.partition_hashes, strict=True)
    return tuple(entry.name for entry, running in pairs if entry.structure_hash != running)


def _refuse(package: Package, board: Board, before: BoardIdentity, kind: PlanKind) -> NoReturn:
    if kind is PlanKind.FULL:
        raise ShellMismatch(
            f"package {package.short_id} needs the static part {package.manifest.shell_hash[:12]}, board at "
            f"{board.address} runs {before.shell_hash[:12]}: approve a full reconfiguration"
        )
    raise StructureMismatch(
        f"package {package.short_id} needs structure {package.manifest.structure_hash[:12]}, "
        f"board at {board.address} runs {before.structure_hash[:12]}: approve a partial reconfiguration"
    )


def _apply_fabric(
    package: Package,
    board: Board,
    before: BoardIdentity,
    previous: Package | None,
    changed: tuple[str, ...] | None,
) -> ApplyReport:
    """Replace the changed partitions, or everything when `changed` is None."""
    started = time.perf_counter()
    _configure(board, package, changed)
    switch_s = time.perf_counter() - started
    golden_s, mismatches = _golden(board, package)
    outcome: Outcome = "applied"
    reason = "golden vectors agree in every bit"
    if mismatches:
        reason = f"{mismatches} of {len(package.golden_scores)} golden vectors differ"
        if previous is None:
            raise GoldenMismatch(f"board at {board.address}: {reason}: boot a package known to be good")
        _configure(board, previous, changed)
        outcome, reason = "rolled_back", f"{reason}; package {previous.short_id} runs again"
    else:
        board.commit()
    return _report(
        package,
        board,
        before,
        kind=PlanKind.FULL if changed is None else PlanKind.PARTIAL,
        outcome=outcome,
        reason=reason,
        loaded_words=0,
        load_s=0.0,
        switch_s=switch_s,
        golden_s=golden_s,
        golden_mismatches=mismatches,
    )


def _configure(board: Board, package: Package, partitions: tuple[str, ...] | None) -> None:
    content = board_content(package, partitions)
    if partitions is None:
        board.boot(content)
    else:
        board.replace(content)


def _switch(board: Board, structure_hash: str, weights_hash: str, package_id: str) -> None:
    board.switch(structure_hash=structure_hash, weights_hash=weights_hash, package_id=package_id)


def _switch_back(board: Board, before: BoardIdentity, why: str) -> None:
    try:
        _switch(board, before.structure_hash, before.weights_hash, before.package_id)
    except BoardRefused as error:
        raise GoldenMismatch(
            f"board at {board.address}: {why} and the previous weights are lost ({error}): prescale it out"
        ) from error


def _golden(board: Board, package: Package) -> tuple[float, int]:
    started = time.perf_counter()
    done = board.process(package.golden_inputs)
    expected = package.golden_scores
    wrong = (done.scores != expected) | (done.accepts != (expected > package.model.threshold_raw))
    mismatches = len(expected) if done.package_id != package.id else int(np.count_nonzero(wrong))
    if mismatches:
        _log.error("board at %s: %d golden vectors differ", board.address, mismatches)
    return time.perf_counter() - started, mismatches


def _report(
    package: Package,
    board: Board,
    before: BoardIdentity,
    *,
    kind: PlanKind,
    outcome: Outcome,
    reason: str,
    loaded_words: int,
    load_s: float,
    switch_s: float,
    golden_s: float,
    golden_mismatches: int,
) -> ApplyReport:
    return ApplyReport(
        board=board.address,
        simulated=before.simulated,
        plan_kind=kind,
        from_package=before.package_id,
        to_package=package.id,
        outcome=outcome,
        reason=reason,
        loaded_words=loaded_words,
        load_s=load_s,
        switch_s=switch_s,
        golden_s=golden_s,
        golden_events=len(package.golden_scores),
        golden_mismatches=golden_mismatches,
    )
