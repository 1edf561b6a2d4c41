"""References from recorded windows: which lumisections of a site's runs may stand for good data, and why not.

Which windows are taken is a pure choice; building and proposing writes the same lineage as every other
reference. Approves nothing.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.engine import Engine
from sqlmodel import Session, col, func, select

from daemon.errors import NotPossibleNow
from daemon.journal.lineage import Artefact, add_edge, run_artefact
from daemon.site.settings import SiteModel
from daemon.store.database import transaction
from streams.conditions import Matchable
from streams.errors import ReferenceProblem
from streams.integrity import IntegrityState, judge_integrity
from streams.judging.reference import Reference, build_reference
from streams.judging.reference_header import in_words
from streams.judging.reference_store import propose_reference
from streams.judging.second_condition import second_condition
from streams.store.history import ClosedWindow, closed_windows
from streams.store.records import WITH_COUNTS, WindowRow

_LAST: Final = 2**31 - 1
_RANGE: Final = re.compile(r"(?P<run>\d{1,9})(:(?P<first>\d{1,9})-(?P<last>\d{1,9}))?")


@dataclass(frozen=True)
class RunRange:
    """Lumisections of a run, both ends included."""

    run: int
    first: int = 0
    last: int = _LAST

    def __str__(self) -> str:
        """Write it as it is read."""
        return (
            str(self.run) if (self.first, self.last) == (0, _LAST) else f"{self.run}:{self.first}-{self.last}"
        )


@dataclass(frozen=True, eq=False)
class Chosen:
    """The windows of which a reference can be made.

    Attributes
    ----------
    windows
        All with conditions, of one package.
    left_out
        Reason -> number of windows left out.
    """

    windows: tuple[ClosedWindow, ...]
    left_out: Mapping[str, int]


def parse_run_range(text: str) -> RunRange:
    """Read ``355100`` or ``355100:20-400``; raises `ReferenceProblem` for anything else."""
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise ReferenceProblem(f"run '{text:.40}' is not understood: write it as 355100 or 355100:20-400")
    if found["first"] is None:
        return RunRange(int(found["run"]))
    made = RunRange(int(found["run"]), int(found["first"]), int(found["last"]))
    if made.first > made.last:
        raise ReferenceProblem(f"run '{text:.40}' ends before it begins: exchange the lumisections")
    return made


def choose_windows(
    windows: Sequence[ClosedWindow],
    *,
    minimum_events: int,
    integrity_tolerance: float,
    interpolate: str | None = None,
) -> Chosen:
    """Take the windows that could be judged; of several packages that of most windows.

    Parameters
    ----------
    windows
        Closed.
    minimum_events, integrity_tolerance
        As the windows of the model are judged.
    interpolate
        Name of a condition that each must tell.
    """
    left_out: Counter[str] = Counter()
    usable: dict[str, list[ClosedWindow]] = defaultdict(list)
    for window in windows:
        reason = _unusable(window, minimum_events, integrity_tolerance, interpolate)
        if reason:
            left_out[reason] += 1
        else:
            usable[window.summary.package].append(window)
    package = max(usable, key=lambda one: len(usable[one]), default="")
    for other, found in usable.items():
        if other != package:
            left_out[f"of package {other[:12]}, not of {package[:12]} as most"] += len(found)
    return Chosen(tuple(usable.get(package, [])), dict(left_out))


def propose_recorded_reference(
    engine: Engine,
    model: SiteModel,
    ranges: Sequence[RunRange],
    clock: Callable[[], datetime],
    *,
    budget: float | None = None,
) -> tuple[Reference, Chosen]:
    """Build a reference from recorded windows, and propose it for approval.

    Parameters
    ----------
    ranges
        Which lumisections; those named twice count once.
    budget
        Instead of the model's ``watch.false_alarm_budget``.

    Raises
    ------
    ReferenceProblem
        Too few windows can be used; says what was left out.
    """
    watch = model.settings.watch
    found: dict[tuple[int, int, str], ClosedWindow] = {}
    for one in ranges:
        for window in closed_windows(
            engine, model.name, run=one.run, first_lumisection=one.first, last_lumisection=one.last
        ):
            found[window.summary.run, window.summary.lumisection, window.summary.package] = window
    chosen = choose_windows(
        [window for window in found.values() if window.summary.contract_hash == model.contract.hash],
        minimum_events=watch.minimum_events,
        integrity_tolerance=watch.integrity_tolerance,
        interpolate=watch.interpolate,
    )
    chosen = Chosen(chosen.windows, dict(chosen.left_out) | _not_loaded(engine, model, ranges, found))
    conditions = [window.conditions for window in chosen.windows if window.conditions is not None]
    matched: dict[Matchable, list[int]] = {
        name: [getattr(one, name) for one in conditions] for name in watch.match
    }
    try:
        reference = build_reference(
            [window.summary for window in chosen.windows],
            model.contract,
            pileups=[one.pileup for one in conditions],
            built_from=f"{len(conditions)} recorded lumisections of runs {', '.join(map(str, ranges))}",
            budget_per_lumisection=budget or watch.false_alarm_budget,
            matched=matched,
            second=second_condition(watch.interpolate, conditions),
        )
    except ReferenceProblem as error:
        raise ReferenceProblem(f"{error} (left out: {describe_left_out(chosen.left_out)})") from error
    now = clock()
    propose_reference(engine, reference, now)
    with transaction(engine) as session:
        child = Artefact("reference", reference.id)
        add_edge(session, child, Artefact("package", reference.package), "describes", now=now)
        for run in reference.header.runs:
            add_edge(session, child, run_artefact(model.name, run), "built from", now=now)
    return reference, chosen


def describe_left_out(left_out: Mapping[str, int]) -> str:
    """Say what was left out and why, the most frequent first: ``3 incomplete, 1 of no conditions``."""
    ordered = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {reason}" for reason, count in ordered) or "none"


def _unusable(
    window: ClosedWindow, minimum_events: int, integrity_tolerance: float, interpolate: str | None
) -> str:
    summary, conditions = window.summary, window.conditions
    if conditions is None:
        return "without conditions"
    if not conditions.stable_beams:
        return "not in stable beams"
    if not window.complete:
        return "incomplete"
    integrity = judge_integrity(summary.n_checked, summary.n_mismatched, integrity_tolerance)
    if integrity.state is IntegrityState.FAULT:
        return "of firmware that differed from its emulator"
    if summary.n_events < minimum_events:
        return f"of fewer than {minimum_events} events"
    if interpolate is not None and interpolate not in conditions.values:
        return f"without {in_words(interpolate)}"
    return ""


def _not_loaded(
    engine: Engine,
    model: SiteModel,
    ranges: Sequence[RunRange],
    found: Mapping[tuple[int, int, str], ClosedWindow],
) -> dict[str, int]:
    """Count what these runs have that no reference can be made of: other contracts, open, counts gone."""
    left_out: Counter[str] = Counter()
    left_out["of another contract"] += sum(
        window.summary.contract_hash != model.contract.hash for window in found.values()
    )
    with Session(engine) as session:
        for one in ranges:
            rows = session.exec(
                select(WindowRow.state, func.count())
                .where(
                    WindowRow.model == model.name,
                    WindowRow.run == one.run,
                    col(WindowRow.lumisection).between(one.first, one.last),
                    col(WindowRow.state).not_in(WITH_COUNTS),
                )
                .group_by(WindowRow.state)
            ).all()
            for state, count in rows:
                left_out["still open" if state == "open" else "without counts any more"] += count
    if not found and not +left_out:
        runs = ", ".join(str(one) for one in ranges)
        raise NotPossibleNow(
            f"no window of {model.name} is recorded in {runs}: see `lumiwatch reference propose`"
        )
    return dict(+left_out)
