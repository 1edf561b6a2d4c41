"""Which recorded runs suit as a reference for a run: a ranking, with the reason for every exclusion.

The rule is what shifters and experts use when they choose a reference run by hand: the same luminosity, the
same firmware and prescales, enough data, nothing wrong in it, and not long ago. The ranking is pure; what it
needs to know of each run is read from the site's database. Builds and approves nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.errors import NotFound
from daemon.site.settings import SiteModel
from daemon.store.records import IncidentRecord
from streams.conditions import Conditions
from streams.judging.calibration import MINIMUM_FILLS
from streams.judging.reference import MINIMUM_LUMISECTIONS
from streams.judging.reference_header import in_words
from streams.judging.verdict import State
from streams.store.records import WITH_COUNTS, AssessmentRow, ConditionsRow, WindowRow

RATIO: Final = 0.15
"""Largest relative difference of the mean luminosity (or pileup): AutoDQM's experts look for as much."""
RECENT_DAYS: Final = 60.0
BEST: Final = 5
"""Runs that a reference is built from; with three or more, each is held out in turn."""


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run of one model.

    Attributes
    ----------
    packages, contracts
        Of its windows, the most frequent first.
    prescale_columns
        Of its lumisections in stable beams.
    n_lumisections, n_events
        Of complete windows with counts, in stable beams and of enough events.
    pileup, luminosity_hz_cm2
        Means over those; None where there are none, or nobody measured it.
    incidents
        Ids of incidents that it is part of.
    alarms
        Windows whose latest verdict is an alarm.
    last_at
        When its last window was opened.
    values
        Lowest and highest of the second condition that references follow, over those lumisections; None
        where they follow none.
    """

    run: int
    packages: tuple[str, ...]
    contracts: tuple[str, ...]
    prescale_columns: frozenset[int]
    n_lumisections: int
    n_events: int
    pileup: float | None
    luminosity_hz_cm2: float | None
    incidents: tuple[str, ...]
    alarms: int
    last_at: datetime
    values: tuple[float, float] | None = None


@dataclass(frozen=True)
class RankedRun:
    """A run in the ranking.

    Attributes
    ----------
    ratio
        Its mean luminosity, or pileup, over that of the run in question; None where it is not known.
    penalty
        Difference and age, each in units of what is allowed: smaller is better.
    excluded
        Why it cannot be a reference; empty if it can.
    """

    facts: RunFacts
    ratio: float | None
    ratio_of: str
    penalty: float
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """The runs of a model, ranked as a reference for one of them.

    Attributes
    ----------
    interpolate
        Name of the second condition that references follow; None: none.
    """

    target: RunFacts
    ranking: tuple[RankedRun, ...]
    interpolate: str | None = None

    @property
    def best(self) -> tuple[RankedRun, ...]:
        """Return the runs that a reference would be built from, with what covers the second condition."""
        suiting = [one for one in self.ranking if not one.excluded]
        best = suiting[:BEST]
        for missing in self._missing(best):
            best += [one for one in suiting[BEST:] if missing not in self._missing([one])][:1]
        return tuple(best)

    @property
    def uncovered(self) -> str:
        """Say which values of the second condition the best runs do not reach; empty where they do."""
        missing = self._missing(self.best)
        if not missing or self.interpolate is None or self.target.values is None:
            return ""
        low, high = self.target.values
        told = f"{low:.6g} to {high:.6g}" if low < high else f"{low:.6g}"
        return (
            f"no run suits whose {in_words(self.interpolate)} is as {' or as '.join(missing)} as in run "
            f"{self.target.run} ({told}): not all of its windows would be judged"
        )

    def _missing(self, runs: Sequence[RankedRun]) -> list[str]:
        """Return to which sides of the second condition no run reaches as far as the one in question."""
        if self.target.values is None:
            return []
        low, high = self.target.values
        known = [one.facts.values for one in runs if one.facts.values is not None]
        lower = [] if any(one[0] <= low for one in known) else ["low"]
        return lower + ([] if any(one[1] >= high for one in known) else ["high"])

    @property
    def too_few_to_hold_out(self) -> bool:
        """Whether runs cannot be held out, so that wander from fill to fill would not be seen."""
        return len(self.best) < MINIMUM_FILLS


def rank_runs(
    target: RunFacts,
    candidates: Sequence[RunFacts],
    contract_hash: str,
    now: datetime,
    interpolate: str | None = None,
) -> Choice:
    """Rank runs as a reference for one of them, the best first and the excluded last.

    Parameters
    ----------
    target
        The run in question.
    candidates
        All runs; the one in question is never its own reference.
    contract_hash
        Of the model's contract today.
    now
        Aware UTC; age counts from here.
    interpolate
        Name of the second condition that references follow. Runs of another value of it are welcome, so the
        pileup is compared and not the luminosity.
    """
    follows = interpolate is not None
    ranked = [
        _ranked(target, one, contract_hash, now, follows) for one in candidates if one.run != target.run
    ]
    ranked.sort(key=lambda one: (bool(one.excluded), one.penalty, -one.facts.run))
    return Choice(target, tuple(ranked), interpolate)


def choose_reference_runs(
    engine: Engine, model: SiteModel, now: datetime, *, run: int | None = None
) -> Choice:
    """Rank the recorded runs of a model as a reference for one of them.

    Parameters
    ----------
    run
        The run in question; None: the latest.

    Raises
    ------
    NotFound
        There is no such run, or none at all.
    """
    facts = run_facts(engine, model)
    if not facts:
        raise NotFound(f"no run of {model.name} is recorded here: replay or record one first")
    if run is None:
        target = max(facts, key=lambda one: (one.last_at, one.run))
    else:
        found = [one for one in facts if one.run == run]
        if not found:
            known = ", ".join(str(one.run) for one in facts[-10:])
            raise NotFound(f"run {run} of {model.name} is not recorded here; the last ones are {known}")
        target = found[0]
    return rank_runs(target, facts, model.contract.hash, now, model.settings.watch.interpolate)


def run_facts(engine: Engine, model: SiteModel) -> list[RunFacts]:
    """Read what is known of every recorded run of a model, by run number."""
    name, collected = model.name, defaultdict[int, _Collected](_Collected)
    minimum_events, interpolate = model.settings.watch.minimum_events, model.settings.watch.interpolate
    with Session(engine) as session:
        documents = session.exec(
            select(ConditionsRow.run, ConditionsRow.lumisection, ConditionsRow.document).where(
                ConditionsRow.model == name
            )
        ).all()
        conditions = {
            (run, lumisection): Conditions.model_validate_json(text) for run, lumisection, text in documents
        }
        windows = session.exec(
            select(
                WindowRow.run,
                WindowRow.lumisection,
                WindowRow.package,
                WindowRow.contract_hash,
                WindowRow.state,
                WindowRow.complete,
                WindowRow.n_events,
                WindowRow.opened_at,
            ).where(WindowRow.model == name)  # type: ignore[call-overload] # SQLModel types four columns
        ).all()
        states = session.exec(
            select(AssessmentRow.run, AssessmentRow.window_id, AssessmentRow.state)
            .where(AssessmentRow.model == name)
            .order_by(col(AssessmentRow.id))
        ).all()
        incidents = session.exec(
            select(IncidentRecord.id, IncidentRecord.run, IncidentRecord.last_run)
            .where(IncidentRecord.model == name)
            .order_by(col(IncidentRecord.number))
        ).all()
    for run, lumisection, package, contract, state, complete, n_events, opened_at in windows:
        known = conditions.get((run, lumisection))
        one = collected[run]
        one.count(package, contract, opened_at)
        if known is not None and known.stable_beams:
            one.columns.add(known.prescale_column)
            told = interpolate is None or interpolate in known.values
            if complete and state in WITH_COUNTS and n_events >= minimum_events and told:
                one.use(known, n_events, interpolate)
    latest = {window: (run, state) for run, window, state in states}
    for run, state in latest.values():
        collected[run].alarms += state == State.ALARM
    for identity, first, last in incidents:
        for run in list(collected):
            if first <= run <= last:
                collected[run].incidents.append(identity)
    return [one.facts(run) for run, one in sorted(collected.items()) if one.packages]


@dataclass
class _Collected:
    """What is counted of a run, window by window."""

    packages: dict[str, int] = field(default_factory=dict)
    contracts: dict[str, int] = field(default_factory=dict)
    columns: set[int] = field(default_factory=set)
    pileups: list[float] = field(default_factory=list)
    luminosities: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    n_events: int = 0
    alarms: int = 0
    incidents: list[str] = field(default_factory=list)
    last_at: datetime | None = None

    def count(self, package: str, contract: str, opened_at: datetime) -> None:
        self.packages[package] = self.packages.get(package, 0) + 1
        self.contracts[contract] = self.contracts.get(contract, 0) + 1
        self.last_at = opened_at if self.last_at is None else max(self.last_at, opened_at)

    def use(self, conditions: Conditions, n_events: int, interpolate: str | None) -> None:
        self.pileups.append(conditions.pileup)
        self.n_events += n_events
        if interpolate is not None:
            self.values.append(conditions.values[interpolate])
        if conditions.luminosity_hz_cm2 is not None:
            self.luminosities.append(conditions.luminosity_hz_cm2)

    def facts(self, run: int) -> RunFacts:
        if self.last_at is None:
            raise AssertionError("a run with packages has windows")
        return RunFacts(
            run=run,
            packages=_by_number(self.packages),
            contracts=_by_number(self.contracts),
            prescale_columns=frozenset(self.columns),
            n_lumisections=len(self.pileups),
            n_events=self.n_events,
            pileup=_mean(self.pileups),
            luminosity_hz_cm2=_mean(self.luminosities),
            incidents=tuple(self.incidents),
            alarms=self.alarms,
            last_at=self.last_at,
            values=(min(self.values), max(self.values)) if self.values else None,
        )


def _by_number(counts: dict[str, int]) -> tuple[str, ...]:
    return tuple(sorted(counts, key=lambda one: (-counts[one], one)))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _ranked(target: RunFacts, one: RunFacts, contract_hash: str, now: datetime, follows: bool) -> RankedRun:
    ratio, what = _ratio(target, one, follows)
    age_days = max((now - one.last_at).total_seconds() / 86400.0, 0.0)
    reasons = []
    if one.contracts != (contract_hash,):
        reasons.append("another contract")
    if one.packages != target.packages[:1]:
        reasons.append("another package" if len(one.packages) == 1 else "several packages")
    if one.n_lumisections < MINIMUM_LUMISECTIONS:
        reasons.append(f"{one.n_lumisections} usable lumisections, {MINIMUM_LUMISECTIONS} are needed")
    if one.incidents:
        reasons.append(f"incident {', '.join(one.incidents)}")
    elif one.alarms:
        reasons.append(f"{one.alarms} windows in alarm")
    if not one.prescale_columns <= target.prescale_columns:
        strange = sorted(one.prescale_columns - target.prescale_columns)
        reasons.append(f"prescale column {', '.join(map(str, strange))}")
    if ratio is None:
        reasons.append("pileup unknown")
    elif abs(ratio - 1) > RATIO:
        reasons.append(f"{what} {ratio:.2f} times that of run {target.run}")
    if age_days > RECENT_DAYS:
        reasons.append(f"{age_days:.0f} days old")
    off = abs(ratio - 1) / RATIO if ratio is not None else 1.0
    return RankedRun(one, ratio, what, off + age_days / RECENT_DAYS, tuple(reasons))


def _ratio(target: RunFacts, one: RunFacts, follows: bool) -> tuple[float | None, str]:
    """Compare the luminosities; the pileups where one is missing, or a second condition is followed."""
    pairs = (
        ("luminosity", one.luminosity_hz_cm2, target.luminosity_hz_cm2),
        ("pileup", one.pileup, target.pileup),
    )
    for what, value, wanted in pairs[1:] if follows else pairs:
        if value is not None and wanted:
            return value / wanted, what
    return None, "pileup"
