"""What a judge's answers are worth: false episodes, detections, delays, each with its interval.

Intervals are those of 95 %: Garwood's for a Poisson mean (Biometrika 28, 1936), Clopper and Pearson's for a
share (Biometrika 26, 1934).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from streams.judging.verdict import State
from streams.statistics.rates import poisson_interval


@dataclass(frozen=True)
class Share:
    """How many of how many, with the interval of the share in percent."""

    found: int
    of: int

    @property
    def percent(self) -> float:
        """The share in percent; 0 of 0 is 0."""
        return 100 * self.found / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's, in percent."""
        if not self.of:
            return 0.0, 100.0
        found = stats.binomtest(self.found, self.of).proportion_ci(0.95, method="exact")
        return 100 * float(found.low), 100 * float(found.high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.percent:.0f} % ({low:.0f}-{high:.0f}), {self.found} of {self.of}"


@dataclass(frozen=True)
class Quiet:
    """What was said about lumisections in which nothing was wrong."""

    lumisections: int
    episodes: int
    alarmed: int
    warned: int
    not_judged: int

    def __add__(self, other: "Quiet") -> "Quiet":
        return Quiet(
            self.lumisections + other.lumisections,
            self.episodes + other.episodes,
            self.alarmed + other.alarmed,
            self.warned + other.warned,
            self.not_judged + other.not_judged,
        )

    @property
    def per_1000(self) -> float:
        """False episodes in 1000 lumisections."""
        return 1000 * self.episodes / self.lumisections if self.lumisections else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Garwood's, of `per_1000`."""
        low, high = poisson_interval(self.episodes)
        scale = 1000 / max(self.lumisections, 1)
        return scale * low, scale * high

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.per_1000:.2f} per 1000 LS ({low:.2f}-{high:.2f}), "
            f"{self.episodes} in {self.lumisections} LS"
        )


NOTHING = Quiet(0, 0, 0, 0, 0)


def quiet(states: Sequence[State]) -> Quiet:
    """Count what was said where nothing was wrong. An episode is a change into alarm."""
    alarms = [state is State.ALARM for state in states]
    begins = [now and not before for before, now in zip([False, *alarms], alarms, strict=False)]
    return Quiet(
        lumisections=len(states),
        episodes=sum(begins),
        alarmed=sum(alarms),
        warned=sum(state is State.WARNING for state in states),
        not_judged=sum(state in {State.NOT_JUDGED, State.INSUFFICIENT} for state in states),
    )


def delay(states: Sequence[State], onset: int) -> int | None:
    """Return the lumisections from the onset to the first alarm, both counted; None without an alarm."""
    return next(
        (number for number, state in enumerate(states[onset:], start=1) if state is State.ALARM), None
    )


@dataclass(frozen=True)
class Detection:
    """What was said in the repetitions of a case.

    Attributes
    ----------
    delays
        Of each repetition, None where no alarm came. Repetitions that were in alarm before the onset are
        left out: they tell nothing.
    spoiled
        How many those were.
    after
        What was said from the onset on.
    outside
        The same of lumisections that nobody could have learnt to judge.
    """

    delays: tuple[int | None, ...]
    spoiled: int
    after: Quiet
    outside: Quiet = NOTHING

    @property
    def share(self) -> Share:
        """How many raised an alarm."""
        return Share(sum(one is not None for one in self.delays), len(self.delays))

    @property
    def median_delay(self) -> float | None:
        """Median over all repetitions, where no alarm is an infinite delay; None where it is infinite."""
        numbers = [np.inf if one is None else one for one in self.delays]
        median = float(np.median(numbers)) if numbers else np.inf
        return median if np.isfinite(median) else None


def detection(
    sequences: Sequence[Sequence[State]], onset: int, strange: Sequence[Sequence[bool]] = ()
) -> Detection:
    """Score repetitions.

    Parameters
    ----------
    sequences
        The states of each.
    onset
        Position of the first bad lumisection, at least 1.
    strange
        For each state, whether nobody could have learnt to judge that lumisection; empty: all could be.
    """
    clean = [number for number, states in enumerate(sequences) if states[onset - 1] is not State.ALARM]
    after, outside = NOTHING, NOTHING
    for number in clean:
        after += quiet(sequences[number][onset:])
        if strange:
            said = zip(sequences[number][onset:], strange[number][onset:], strict=True)
            outside += quiet([state for state, beyond in said if beyond])
    return Detection(
        delays=tuple(delay(sequences[number], onset) for number in clean),
        spoiled=len(sequences) - len(clean),
        after=after,
        outside=outside,
    )
