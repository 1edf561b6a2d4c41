"""The report of a backtest: false alarms, detections, delays and coverage, each with its interval.

Intervals are those of 95 %: Garwood's for a Poisson mean (Biometrika 28, 1936), Clopper and Pearson's for a
share (Biometrika 26, 1934). Knows no source, no process and no page.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import special

from streams.backtest.folding import Moment
from streams.backtest.trial import Outcome
from streams.judging.assessment import Assessment, Judgement
from streams.judging.budget import describe_budget
from streams.judging.verdict import State
from streams.statistics.rates import poisson_interval

RELIABLE: Final = 0.9
"""Share of repetitions in which an effect is found that counts as found reliably."""
LATE: Final = 0.9
"""Quantile of the delays that is reported beside their median."""
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")
_UNJUDGED: Final = {State.INSUFFICIENT, State.NOT_JUDGED}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FalseAlarms(_Part):
    """What was said, under one budget, of lumisections in which nothing was done.

    Attributes
    ----------
    lumisections
        Judged ones.
    episodes, warnings
        Changes into alarm and into warning: an alarm lasts until the chain has recovered.
    alarmed, warned
        Lumisections in alarm and in warning.
    per_1000, interval
        Episodes in 1000 lumisections, and the Poisson interval.
    """

    budget: float
    lumisections: int
    episodes: int
    alarmed: int
    warnings: int
    warned: int
    per_1000: float
    interval: tuple[float, float]

    @property
    def exceeds(self) -> bool:
        """Whether there are significantly more false alarms than the budget allows."""
        return self.interval[0] > 1000 * self.budget


class Detection(_Part):
    """What was said of one effect under one budget.

    Attributes
    ----------
    repetitions, spoiled
        Those that count, and those left out because they were in alarm before the effect began.
    probability, interval
        Of an alarm within the horizon, and the interval.
    median_delay, late_delay
        Median and 90 % quantile of the delays in lumisections, 1 for the first bad one; a repetition
        without an alarm has an infinite one. None: infinite.
    channels
        What raised the alarms, and in how many repetitions.
    """

    budget: float
    repetitions: int
    spoiled: int
    detected: int
    probability: float
    interval: tuple[float, float]
    median_delay: float | None
    late_delay: float | None
    channels: tuple[tuple[str, int], ...]


class Example(_Part):
    """One repetition, lumisection by lumisection, under the first budget; see `Moment`."""

    run: int
    onset: int
    lumisections: tuple[int, ...]
    evidence: tuple[float | None, ...]
    states: tuple[State, ...]


class EffectReport(_Part):
    """All of one effect: its detections in the order of the budgets.

    Attributes
    ----------
    effect
        As it is written; lumisections count from the onset.
    horizon
        Lumisections from the onset on that were looked at.
    unjudged
        Bad lumisections that were not judged.
    """

    effect: str
    horizon: int
    detections: tuple[Detection, ...]
    unjudged: int
    example: Example


class Alarm(_Part):
    """One alarm raised where nothing was done, under the first budget."""

    run: int
    lumisection: int
    reason: str
    suspects: tuple[str, ...]


class Coverage(_Part):
    """How many lumisections were judged, and why others were not.

    Attributes
    ----------
    reasons
        One sentence of each kind, with the numbers of the first, and how many there were.
    """

    lumisections: int
    judged: int
    insufficient: int
    not_judged: int
    reasons: tuple[tuple[str, int], ...]


class Report(_Part):
    """All that a backtest found.

    Attributes
    ----------
    source
        Where the lumisections came from, for people.
    recorded
        They are windows of a run: an alarm is a false one only if nothing was wrong in it.
    reference_id, built_from
        What they were judged against.
    budgets
        The first is the one that counts.
    false_alarms
        In the order of the budgets.
    alarms
        Those of the first budget.
    seed, n_events
        Of the lumisections; None where they were recorded.
    versions
        Of lumiwatch and what the numbers depend on.
    """

    model: str
    contract_hash: str
    package: str
    source: str
    recorded: bool
    reference_id: str
    built_from: str
    budgets: tuple[float, ...]
    false_alarms: tuple[FalseAlarms, ...]
    alarms: tuple[Alarm, ...]
    coverage: Coverage
    effects: tuple[EffectReport, ...]
    seed: int | None
    n_events: int | None
    versions: dict[str, str]

    @property
    def passed(self) -> bool:
        """Whether the first budget is kept, as far as the lumisections can tell."""
        return not self.false_alarms[0].exceeds

    @property
    def headline(self) -> str:
        """The whole report in a few sentences."""
        first = self.false_alarms[0]
        low, high = first.interval
        kind = "alarm" if self.recorded else "false alarm"
        kept = (
            "more than" if first.exceeds else "within" if high <= 1000 * first.budget else "compatible with"
        )
        text = (
            f"{first.episodes} {kind}{'' if first.episodes == 1 else 's'} in {first.lumisections} judged "
            f"lumisections, {low:.2g} to {high:.2g} per 1000 (95 %): {kept} the budget of "
            f"{describe_budget(first.budget)}."
        )
        if not self.effects:
            return text
        missed = [one.effect for one in self.effects if one.detections[0].probability < RELIABLE]
        count = f"{len(self.effects) - len(missed)} of {len(self.effects)}"
        but = f", not so {', '.join(missed)}" if missed else ""
        return f"{text} {count} effects are found in 9 of 10 repetitions{but}."


class ControlCount:
    """Counts what is said of lumisections in which nothing was done."""

    def __init__(self, budgets: Sequence[float]) -> None:
        self._episodes = [_Episodes() for _ in budgets]
        self._budgets = budgets
        self._judgements: Counter[Judgement] = Counter()
        self._reasons: Counter[str] = Counter()
        self._words: dict[str, str] = {}
        self.alarms: list[Alarm] = []

    def take(self, assessment: Assessment, moments: Sequence[Moment]) -> None:
        """Take the next lumisection: its assessment, and what is said under each budget."""
        self._judgements[assessment.judgement] += 1
        if not assessment.judged:
            kind = _NUMBER.sub("#", assessment.reason)
            self._reasons[self._words.setdefault(kind, assessment.reason)] += 1
        for index, (count, moment) in enumerate(zip(self._episodes, moments, strict=True)):
            if count.take(moment.state) and index == 0:
                self.alarms.append(
                    Alarm(
                        run=assessment.run,
                        lumisection=assessment.lumisection,
                        reason=moment.reason,
                        suspects=moment.suspects,
                    )
                )

    def false_alarms(self) -> tuple[FalseAlarms, ...]:
        """Return what was counted under each budget."""
        pairs = zip(self._budgets, self._episodes, strict=True)
        return tuple(count.report(budget) for budget, count in pairs)

    def coverage(self) -> Coverage:
        """Return how many lumisections were judged."""
        return Coverage(
            lumisections=self._judgements.total(),
            judged=self._judgements[Judgement.JUDGED],
            insufficient=self._judgements[Judgement.INSUFFICIENT],
            not_judged=self._judgements[Judgement.NOT_JUDGED],
            reasons=tuple(self._reasons.most_common()),
        )


class _Episodes:
    """Counts changes of state; what is not judged changes nothing."""

    def __init__(self) -> None:
        self._last = State.GOOD
        self._lumisections: Counter[State] = Counter()
        self._begun: Counter[State] = Counter()

    def take(self, state: State) -> bool:
        """Take the next state; returns whether an alarm begins."""
        if state in _UNJUDGED:
            return False
        begins = state is not self._last
        self._lumisections[state] += 1
        self._begun[state] += begins
        self._last = state
        return begins and state is State.ALARM

    def report(self, budget: float) -> FalseAlarms:
        judged = self._lumisections.total()
        low, high = poisson_interval(self._begun[State.ALARM])
        scale = 1000 / max(judged, 1)
        return FalseAlarms(
            budget=budget,
            lumisections=judged,
            episodes=self._begun[State.ALARM],
            alarmed=self._lumisections[State.ALARM],
            warnings=self._begun[State.WARNING],
            warned=self._lumisections[State.WARNING],
            per_1000=scale * self._begun[State.ALARM],
            interval=(scale * low, scale * high),
        )


def effect_report(
    effect: str, horizon: int, outcomes: Sequence[Outcome], budgets: Sequence[float]
) -> EffectReport:
    """Sum up the repetitions of one effect, at least one."""
    first = outcomes[0]
    return EffectReport(
        effect=effect,
        horizon=horizon,
        detections=tuple(_detection(outcomes, index, budget) for index, budget in enumerate(budgets)),
        unjudged=sum(one.unjudged for one in outcomes),
        example=Example(
            run=first.trial.run,
            onset=first.trial.onset,
            lumisections=first.lumisections,
            evidence=first.evidence,
            states=first.states,
        ),
    )


def share_interval(found: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Clopper and Pearson); 0 to 1 for 0 of 0."""
    if of == 0:
        return 0.0, 1.0
    missed = of - found
    low = float(special.betaincinv(found, missed + 1, 0.025)) if found else 0.0
    return low, float(special.betaincinv(found + 1, missed, 0.975)) if missed else 1.0


def _detection(outcomes: Sequence[Outcome], index: int, budget: float) -> Detection:
    clean = [one for one in outcomes if not one.spoiled[index]]
    delays = [one.delays[index] for one in clean]
    detected = sum(delay is not None for delay in delays)
    channels = Counter(name for one in clean for name in one.suspects[index])
    return Detection(
        budget=budget,
        repetitions=len(clean),
        spoiled=len(outcomes) - len(clean),
        detected=detected,
        probability=detected / len(clean) if clean else 0.0,
        interval=share_interval(detected, len(clean)),
        median_delay=_quantile(delays, 0.5),
        late_delay=_quantile(delays, LATE),
        channels=tuple(channels.most_common()),
    )


def _quantile(delays: Sequence[int | None], share: float) -> float | None:
    """Return the delay within which this share of the repetitions has an alarm; None where not so many do."""
    if not delays:
        return None
    numbers = np.array([np.inf if delay is None else delay for delay in delays])
    value = float(np.quantile(numbers, share, method="inverted_cdf"))
    return value if np.isfinite(value) else None
