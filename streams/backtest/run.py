"""A whole backtest: learn, judge what is in control, play every trial; in one process or in several.

The answer does not depend on how many: every lumisection is a function of its run and number, and what is
in control is folded in order. Of what is counted only assessments are kept, and few of them at once.
"""

import platform
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from multiprocessing import get_context
from types import TracebackType
from typing import Final, Protocol, Self, TypeVar

from streams.backtest.folding import Folds
from streams.backtest.report import ControlCount, EffectReport, Report, effect_report
from streams.backtest.source import Source, Window
from streams.backtest.trial import (
    BEFORE_ONSET,
    RUNS_OF_AN_EFFECT,
    Outcome,
    Place,
    Trial,
    control_places,
    judge_window,
    learning_places,
    play,
    trials_of,
)
from streams.effects.effect import Effect
from streams.errors import BacktestError
from streams.events.provenance import tool_version
from streams.judging.assessment import Assessment, AssessmentSettings
from streams.judging.reference import Reference, build_reference, decode_reference, encode_reference
from streams.judging.second_condition import second_condition

_CHUNK: Final = 10
"""Lumisections that a process makes at once."""
_AHEAD: Final = 3
"""Tasks of each process that are under way or done before they are asked for."""
_LIBRARIES: Final = ("numpy", "scipy", "numba", "river")

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


class Progress(Protocol):
    """How a backtest reports: a fraction between 0 and 1 and a few words."""

    def __call__(self, fraction: float, message: str = "") -> None:
        """Report progress."""


@dataclass(frozen=True)
class Plan:
    """How much a backtest looks at.

    Attributes
    ----------
    budgets
        Probabilities of a false alarm for each lumisection; the first is the one that counts.
    effects
        What happens to the detector, each by itself, with lumisections that count from the onset.
    fills
        Fills that a reference is learnt from, where none is given.
    lumisections
        In control.
    repetitions
        Of each effect.
    horizon
        Lumisections from the onset on in which an effect must be found.
    interpolate
        Name of the second condition that a learnt reference follows; None: none.

    Raises
    ------
    BacktestError
        A number makes no sense.
    """

    budgets: tuple[float, ...]
    effects: tuple[Effect, ...] = ()
    fills: int = 4
    lumisections: int = 1000
    repetitions: int = 20
    horizon: int = 40
    interpolate: str | None = None

    def __post_init__(self) -> None:
        if not self.budgets or not all(0 < budget < 1 for budget in self.budgets):
            raise BacktestError("a budget lies between 0 and 1 false alarms for each lumisection: give one")
        if min(self.fills, self.lumisections, self.repetitions, self.horizon) < 1:
            raise BacktestError("fills, lumisections, repetitions and horizon: give 1 or more of each")
        if self.repetitions > RUNS_OF_AN_EFFECT:
            raise BacktestError(f"{self.repetitions} repetitions: give {RUNS_OF_AN_EFFECT} or fewer")


@dataclass(frozen=True)
class _Judging:
    """What a process needs for its part, besides the source."""

    reference: bytes
    settings: AssessmentSettings
    budgets: tuple[float, ...]


def backtest(
    source: Source,
    plan: Plan,
    settings: AssessmentSettings,
    *,
    reference: Reference | None = None,
    processes: int = 1,
    progress: Progress,
) -> Report:
    """Judge made lumisections, in control and under effects.

    Parameters
    ----------
    source
        Makes them.
    settings
        The site's decisions about the judgement of the model.
    reference
        What they are judged against; None: one is learnt from fills that are used for nothing else.
    processes
        How many share the work. The report is the same.

    Raises
    ------
    BacktestError
        The reference describes other data.
    ContractError, EffectError, ResampleError, ReferenceProblem
        The source cannot be made under the contract, or an effect cannot act.
    """
    for effect in plan.effects:
        effect.check(source.contract)
    if reference is not None:
        _check_reference(reference, source)
    length = source.lumisections_per_fill
    learning = [] if reference is not None else learning_places(plan.fills, length)
    control = control_places(plan.lumisections, length)
    trials = list(trials_of(plan.effects, plan.repetitions, plan.horizon, length))
    count = _Progress(progress, len(learning) + len(control) + len(trials) * (BEFORE_ONSET + plan.horizon))
    with _Workers(source, processes) as workers:
        if reference is None:
            reference = _learnt(source, workers, learning, plan, count)
        judging = _Judging(encode_reference(reference), settings, plan.budgets)
        quiet = _control(workers, control, judging, count)
        effects = _effects(workers, trials, judging, plan, count)
    return Report(
        model=source.model,
        contract_hash=source.contract.hash,
        package=source.package,
        source=source.words,
        recorded=False,
        reference_id=reference.id,
        built_from=reference.header.built_from,
        budgets=plan.budgets,
        false_alarms=quiet.false_alarms(),
        alarms=tuple(quiet.alarms),
        coverage=quiet.coverage(),
        effects=effects,
        seed=source.seed,
        n_events=source.n_events,
        versions=versions(),
    )


def backtest_recorded(
    assessments: Iterable[Assessment], reference: Reference, budgets: tuple[float, ...], words: str
) -> Report:
    """Fold the assessments of recorded windows, in the order in which they were judged.

    Parameters
    ----------
    assessments
        Of one model; read once, and not kept.
    reference
        What they were judged against.
    words
        Where they are from, for people.

    Raises
    ------
    BacktestError
        There are none.
    """
    plan = Plan(budgets)
    folds, quiet = Folds(plan.budgets), ControlCount(plan.budgets)
    for assessment in assessments:
        quiet.take(assessment, folds.update(assessment))
    coverage = quiet.coverage()
    if not coverage.lumisections:
        raise BacktestError(f"{words}: no closed window: choose a run that was watched here")
    return Report(
        model=reference.model,
        contract_hash=reference.contract_hash,
        package=reference.package,
        source=words,
        recorded=True,
        reference_id=reference.id,
        built_from=reference.header.built_from,
        budgets=plan.budgets,
        false_alarms=quiet.false_alarms(),
        alarms=tuple(quiet.alarms),
        coverage=coverage,
        effects=(),
        seed=None,
        n_events=None,
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Return the versions of lumiwatch and of what its numbers depend on."""
    found = {"lumiwatch": tool_version(), "python": platform.python_version()}
    return found | {name: metadata.version(name) for name in _LIBRARIES}


def _check_reference(reference: Reference, source: Source) -> None:
    if (reference.model, reference.contract_hash) != (source.model, source.contract.hash):
        raise BacktestError(
            f"reference {reference.id[:12]} is of another model or contract than '{source.model}': "
            "choose one of this model, or leave it out"
        )
    if reference.package != source.package:
        raise BacktestError(
            f"reference {reference.id[:12]} describes package {reference.package[:12]}, and these events are "
            f"scored by {source.package[:12]}: give that package and a dataset, or leave the reference out"
        )


def _learnt(
    source: Source, workers: "_Workers", places: Sequence[Place], plan: Plan, count: "_Progress"
) -> Reference:
    windows: list[Window] = []
    for part in workers.each(_counted, _chunks(places)):
        windows += part
        count.add(len(part), "learning")
    return build_reference(
        [summary for summary, _ in windows],
        source.contract,
        pileups=[conditions.pileup for _, conditions in windows],
        built_from=f"{len(windows)} lumisections of {plan.fills} fills, {source.words}",
        budget_per_lumisection=plan.budgets[0],
        second=second_condition(plan.interpolate, [conditions for _, conditions in windows]),
    )


def _control(
    workers: "_Workers", places: Sequence[Place], judging: _Judging, count: "_Progress"
) -> ControlCount:
    folds, quiet = Folds(judging.budgets), ControlCount(judging.budgets)
    for part in workers.each(_assessed, [(judging, chunk) for chunk in _chunks(places)]):
        for assessment in part:
            quiet.take(assessment, folds.update(assessment))
        count.add(len(part), "in control")
    return quiet


def _effects(
    workers: "_Workers", trials: Sequence[Trial], judging: _Judging, plan: Plan, count: "_Progress"
) -> tuple[EffectReport, ...]:
    outcomes: list[list[Outcome]] = [[] for _ in plan.effects]
    for outcome in workers.each(_played, [(judging, trial) for trial in trials]):
        outcomes[outcome.trial.effect].append(outcome)
        count.add(BEFORE_ONSET + plan.horizon, str(plan.effects[outcome.trial.effect]))
    return tuple(
        effect_report(str(effect), plan.horizon, found, plan.budgets)
        for effect, found in zip(plan.effects, outcomes, strict=True)
    )


def _chunks(places: Sequence[Place]) -> list[Sequence[Place]]:
    return [places[start : start + _CHUNK] for start in range(0, len(places), _CHUNK)]


@lru_cache(maxsize=1)
def _reference(payload: bytes) -> Reference:
    return decode_reference(payload)


def _counted(source: Source, places: Sequence[Place]) -> list[Window]:
    return [source.window(*place) for place in places]


def _assessed(source: Source, task: tuple[_Judging, Sequence[Place]]) -> list[Assessment]:
    judging, places = task
    reference = _reference(judging.reference)
    return [judge_window(source, reference, judging.settings, place) for place in places]


def _played(source: Source, task: tuple[_Judging, Trial]) -> Outcome:
    judging, trial = task
    return play(source, _reference(judging.reference), judging.settings, judging.budgets, trial)


class _Progress:
    """Turns lumisections done into a fraction."""

    def __init__(self, report: Progress, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def add(self, lumisections: int, message: str) -> None:
        self._done += lumisections
        self._report(self._done / self._total, message)


class _Workers:
    """Runs functions of the source and a task, here or in other processes; results come in order."""

    def __init__(self, source: Source, processes: int) -> None:
        self._source = source
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self._processes > 1:
            # a fork would copy whatever locks the threads of this process hold
            self._pool = ProcessPoolExecutor(
                self._processes, get_context("spawn"), initializer=_begin, initargs=(self._source,)
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def each(self, function: Callable[[Source, _Task], _Result], tasks: Iterable[_Task]) -> Iterator[_Result]:
        """Yield the result of each task, in order, a few tasks ahead."""
        if self._pool is None:
            for task in tasks:
                yield function(self._source, task)
            return
        waiting: deque[Future[_Result]] = deque()
        for task in tasks:
            waiting.append(self._pool.submit(_call, function, task))
            if len(waiting) >= _AHEAD * self._processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_own: list[Source] = []
"""The source of this process, if it is a worker."""


def _begin(source: Source) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and the parent decides
    _own.append(source)


def _call(function: Callable[[Source, _Task], _Result], task: _Task) -> _Result:
    return function(_own[0], task)
