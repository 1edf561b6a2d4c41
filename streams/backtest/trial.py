"""One trial of a backtest: lumisections in control, then an effect, until it is found or time is up.

What a fill is for is told by its run: to learn from, in control, or a trial of its own, so that none sees
the pileup or the gains of another. Knows no process and no report.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from streams.backtest.folding import Folds, Moment
from streams.backtest.source import Source
from streams.contracts.contract import Contract
from streams.effects.effect import Effect, parse_effect
from streams.errors import EffectError
from streams.judging.assessment import Assessment, AssessmentSettings, assess
from streams.judging.reference import Reference
from streams.judging.verdict import State

LEARNING_RUNS: Final = 1
CONTROL_RUNS: Final = 10_001
TRIAL_RUNS: Final = 1_000_001
"""First run of each purpose."""
RUNS_OF_AN_EFFECT: Final = 10_000
"""Most repetitions of one effect."""
BEFORE_ONSET: Final = 20
"""Lumisections in control before an effect begins: the chain must have nothing to say of them."""
LEARNT_PER_FILL: Final = 75
"""Lumisections of a fill that a reference is built from, evenly spread."""

Place = tuple[int, int]
"""Run and lumisection."""


@dataclass(frozen=True)
class Trial:
    """One repetition of one effect.

    Attributes
    ----------
    effect
        Position of the effect among those of the backtest.
    run, first
        Its own run, and the first lumisection looked at.
    effects
        What happens, with lumisections of this run; nothing before `onset`.
    onset
        First bad lumisection.
    last
        Last lumisection looked at.
    """

    effect: int
    run: int
    first: int
    onset: int
    last: int
    effects: tuple[Effect, ...]


@dataclass(frozen=True)
class Outcome:
    """What was said in a trial.

    Attributes
    ----------
    delays
        For each budget: lumisections from the onset to the first alarm, 1 for the first bad one; None: no
        alarm.
    spoiled
        For each budget: it was in alarm when the effect began, and tells nothing.
    suspects
        For each budget: the channels that raised the alarm.
    lumisections, evidence, states
        Under the first budget, lumisection by lumisection, until all had raised their alarm.
    unjudged
        Lumisections since the onset that were not judged.
    """

    trial: Trial
    delays: tuple[int | None, ...]
    spoiled: tuple[bool, ...]
    suspects: tuple[tuple[str, ...], ...]
    lumisections: tuple[int, ...]
    evidence: tuple[float | None, ...]
    states: tuple[State, ...]
    unjudged: int


def learning_places(fills: int, lumisections_per_fill: int) -> list[Place]:
    """Return where a reference is learnt from: some lumisections of each fill, evenly spread."""
    every = max(1, lumisections_per_fill // LEARNT_PER_FILL)
    numbers = range(1, lumisections_per_fill + 1, every)
    return [(LEARNING_RUNS + fill, number) for fill in range(fills) for number in numbers]


def control_places(lumisections: int, lumisections_per_fill: int) -> list[Place]:
    """Return so many lumisections in control, fill after fill."""
    return [
        (CONTROL_RUNS + number // lumisections_per_fill, number % lumisections_per_fill + 1)
        for number in range(lumisections)
    ]


def trials_of(
    effects: Sequence[Effect], repetitions: int, horizon: int, lumisections_per_fill: int
) -> Iterator[Trial]:
    """Yield the trials of all effects: each repetition in a run of its own, spread over the fill.

    The lumisections of an effect count from its onset: ``@LS1+100`` grows over the first hundred bad ones.
    """
    room = max(lumisections_per_fill - BEFORE_ONSET - horizon, 0)
    for position, effect in enumerate(effects):
        for number in range(repetitions):
            first = 1 + room * number // max(repetitions - 1, 1)
            onset = first + BEFORE_ONSET
            yield Trial(
                effect=position,
                run=TRIAL_RUNS + RUNS_OF_AN_EFFECT * position + number,
                first=first,
                onset=onset,
                last=onset + horizon - 1,
                effects=(_from(effect, onset),),
            )


def judge_window(
    source: Source,
    reference: Reference,
    settings: AssessmentSettings,
    place: Place,
    effects: Sequence[Effect] = (),
) -> Assessment:
    """Make, count and assess one lumisection, as a worker does with a closed window."""
    window, conditions = source.window(*place, effects)
    return assess(window, reference, conditions, source.contract, settings)


def play(
    source: Source,
    reference: Reference,
    settings: AssessmentSettings,
    budgets: Sequence[float],
    trial: Trial,
) -> Outcome:
    """Play a trial until there is an alarm under every budget, or its last lumisection is judged."""
    folds = Folds(budgets)
    delays: list[int | None] = [None] * len(budgets)
    spoiled, suspects = [False] * len(budgets), [()] * len(budgets)  # type: list[bool], list[tuple[str, ...]]
    trace: list[tuple[int, Moment]] = []
    reasons: Counter[bool] = Counter()
    for lumisection in range(trial.first, trial.last + 1):
        assessment = judge_window(source, reference, settings, (trial.run, lumisection), trial.effects)
        moments = folds.update(assessment)
        trace.append((lumisection, moments[0]))
        for index, moment in enumerate(moments):
            alarm = moment.state is State.ALARM
            if lumisection == trial.onset - 1:
                spoiled[index] = alarm
            elif lumisection >= trial.onset and alarm and not spoiled[index] and delays[index] is None:
                delays[index], suspects[index] = lumisection - trial.onset + 1, moment.suspects
        if lumisection >= trial.onset:
            reasons[assessment.judged] += 1
            if all(one is not None or bad for one, bad in zip(delays, spoiled, strict=True)):
                break
    return Outcome(
        trial=trial,
        delays=tuple(delays),
        spoiled=tuple(spoiled),
        suspects=tuple(suspects),
        lumisections=tuple(lumisection for lumisection, _ in trace),
        evidence=tuple(moment.evidence for _, moment in trace),
        states=tuple(moment.state for _, moment in trace),
        unjudged=reasons[False],
    )


def default_effects(contract: Contract) -> tuple[Effect, ...]:
    """Return a list of effects that every trigger group asks about, as far as a contract has what they need.

    An energy scale off by 1 % for each object that is not rare by nature and 2 % else, a slow ramp, a tail of
    missing momentum, a dead region, a dead channel, a noisy tower.
    """
    names = [group.name for group in contract.objects]
    texts = [f"{name}_gain={'1.01' if name in {'jet', 'met', 'egamma'} else '1.02'}" for name in names]
    for name in names:
        if name == "met":
            texts.append("met_tail=3:fraction=0.01")
        elif name == "jet":
            texts += [
                "jet_gain=1.02@LS1+40",
                "jet_hole=0.9,1.8:width=0.44,0.26",
                "jet[0].pt_stuck=padding",
                "jet_noise=60:fraction=0.005",
            ]
    return tuple(effect for text in texts if _fits(effect := parse_effect(text), contract))


def _fits(effect: Effect, contract: Contract) -> bool:
    try:
        effect.check(contract)
    except EffectError:
        return False
    return True


def _from(effect: Effect, onset: int) -> Effect:
    """Return an effect whose lumisections count from its onset as one of a run."""
    if effect.kind == "none":
        return effect
    last = None if effect.last_lumisection is None else effect.last_lumisection + onset - 1
    return replace(
        effect, first_lumisection=max(effect.first_lumisection, 1) + onset - 1, last_lumisection=last
    )
