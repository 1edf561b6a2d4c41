"""The generated lumisections of the drift benchmark: to learn from, in control, and with something wrong.

Fills to learn from, fills in control and repetitions of cases come from runs of their own, so none sees the
gain or the pileup of another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.backtest.generator import GeneratedDetector
from streams.conditions import Conditions
from streams.counting.summary import Summary
from streams.effects.effect import parse_effect
from tests.benchmarks.drift.cases import EVENTS, Case

LEARNING_RUNS: Final = 1
CONTROL_RUNS: Final = 10_001
CASE_RUNS: Final = 20_001
SAMPLE_RUNS: Final = 30_001
"""First run of each purpose."""
BEFORE_ONSET: Final = 20
"""Lumisections in control before something goes wrong."""
CONTROL_STEP: Final = 6
"""Tools that judge each lumisection by itself are asked about every so-manieth."""
FIRST_LUMISECTION: Final = 100
LAST_LUMISECTION: Final = 480
"""Where in a fill repetitions begin: spread over its pileups, and pileup x0.7 stays within the reference."""


@dataclass(frozen=True, eq=False)
class Sequence:
    """Consecutive lumisections of one run, as a judge sees them."""

    summaries: list[Summary]
    conditions: list[Conditions]


@dataclass(frozen=True, eq=False)
class Learning:
    """Approved lumisections of several fills, to build references and thresholds from."""

    summaries: list[Summary]
    conditions: list[Conditions]


def learning(detector: GeneratedDetector, n_fills: int, every: int = 4) -> Learning:
    """Return every so-manieth lumisection of some fills."""
    places = _learning_places(detector, n_fills, every)
    return Learning(
        summaries=[detector.summary(*place, EVENTS) for place in places],
        conditions=[detector.conditions(*place) for place in places],
    )


def highest_learnt(detector: GeneratedDetector, n_fills: int, every: int = 4) -> float:
    """Return the highest true pileup of the lumisections to learn from, which no judge is told."""
    return max(detector.pileup(*place) for place in _learning_places(detector, n_fills, every))


def control_fills(detector: GeneratedDetector, n_lumisections: int) -> Iterator[tuple[int, int]]:
    """Yield run and number of lumisections of whole fills; the last one may be cut."""
    run, left = CONTROL_RUNS, n_lumisections
    while left > 0:
        number = min(detector.lumisections_per_fill, left)
        yield run, number
        run, left = run + 1, left - number


def control_fill(detector: GeneratedDetector, run: int, n_lumisections: int) -> Sequence:
    """Return a fill in which nothing is wrong."""
    numbers = range(1, n_lumisections + 1)
    return Sequence(
        [detector.summary(run, number, EVENTS) for number in numbers],
        [detector.conditions(run, number) for number in numbers],
    )


def in_control(detector: GeneratedDetector, n_lumisections: int) -> Iterator[Sequence]:
    """Yield the fills that `control_fills` names."""
    for run, number in control_fills(detector, n_lumisections):
        yield control_fill(detector, run, number)


def repetition(detector: GeneratedDetector, case: Case, position: int, number: int) -> Sequence:
    """Return one repetition of a case: `BEFORE_ONSET` lumisections in control, then those of its horizon.

    Parameters
    ----------
    position
        Of the case among all cases.
    number
        Of the repetition; each has a run and a place in the fill of its own.
    """
    run = CASE_RUNS + 1000 * position + number
    onset = _first_lumisection(number) + BEFORE_ONSET
    effects = [parse_effect(case.effect_from(onset))]
    summaries, conditions = [], []
    for one, pileup in true_pileups(detector, case, position, number).items():
        factor = case.pileup_factor if one >= onset else 1.0
        summaries.append(detector.summary(run, one, EVENTS, effects=effects, pileup=pileup))
        told = detector.conditions(run, one)
        conditions.append(told.model_copy(update={"pileup": factor * told.pileup}))
    return Sequence(summaries, conditions)


def true_pileups(detector: GeneratedDetector, case: Case, position: int, number: int) -> dict[int, float]:
    """Return the true pileup of each lumisection of a repetition, in order."""
    run = CASE_RUNS + 1000 * position + number
    first = _first_lumisection(number)
    onset = first + BEFORE_ONSET
    return {
        one: (case.pileup_factor if one >= onset else 1.0) * detector.pileup(run, one)
        for one in range(first, onset + case.horizon)
    }


def bad_events(detector: GeneratedDetector, case: Case, position: int, number: int) -> npt.NDArray[np.int16]:
    """Return the events of one bad lumisection of a repetition, after a ramp is over.

    Those of the lumisection that `repetition` puts last, event by event.
    """
    run = CASE_RUNS + 1000 * position + number
    onset = _first_lumisection(number) + BEFORE_ONSET
    last = onset + case.horizon - 1
    pileup = case.pileup_factor * detector.pileup(run, last)
    effects = [parse_effect(case.effect_from(onset))]
    return detector.batch(run, last, EVENTS, effects=effects, pileup=pileup).inputs


def control_events(detector: GeneratedDetector, n_lumisections: int) -> Iterator[npt.NDArray[np.int16]]:
    """Yield the events of every `CONTROL_STEP`-th lumisection of those that `in_control` goes through."""
    for number in range(n_lumisections):
        fill, place = divmod(number * CONTROL_STEP, detector.lumisections_per_fill)
        yield detector.events(CONTROL_RUNS + fill, 1 + place, EVENTS)


def sample(detector: GeneratedDetector, n_events: int) -> npt.NDArray[np.int16]:
    """Return events drawn evenly from a fill: the reference sample that tools without pileup ask for."""
    per = 200
    step = max(detector.lumisections_per_fill * per // n_events, 1)
    numbers = range(1, detector.lumisections_per_fill + 1, step)
    blocks = [detector.events(SAMPLE_RUNS, number, per) for number in numbers]
    return np.asfortranarray(np.concatenate(blocks)[:n_events])


def _first_lumisection(number: int) -> int:
    return FIRST_LUMISECTION + number * 61 % (LAST_LUMISECTION - FIRST_LUMISECTION)


def _learning_places(detector: GeneratedDetector, n_fills: int, every: int) -> list[tuple[int, int]]:
    return [
        (LEARNING_RUNS + fill, number)
        for fill in range(n_fills)
        for number in range(1, detector.lumisections_per_fill + 1, every)
    ]
