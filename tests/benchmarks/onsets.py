"""How far the onset that an alarm names lies from the true one: the table in docs/explanations.md.

Usage: python -m tests.benchmarks.onsets [REPETITIONS [SEED]]. The cases of `make bench-drift` that must raise
an alarm, which begin after 20 lumisections in control; the first alarm that comes later counts.
"""

import multiprocessing
import sys
from collections import defaultdict

import numpy as np

from streams.backtest.generator import GeneratedDetector
from streams.contracts.contract import load_contract
from streams.judging.verdict import State
from tests.benchmarks.drift.cases import CASES, Wanted
from tests.benchmarks.drift.judge import verdict_chain
from tests.benchmarks.drift.lumisections import BEFORE_ONSET, learning, repetition
from tests.benchmarks.drift.run import CONTRACT, Size


class Onsets:
    """Judges repetitions of cases on one reference."""

    def __init__(self, seed):
        self.detector = GeneratedDetector(load_contract(CONTRACT), seed)
        learned = learning(self.detector, Size.fills, Size.every)
        self.verdicts = verdict_chain(self.detector, learned)

    def error(self, task):
        """Return the case, and how many lumisections the named onset is too late; None without an alarm."""
        position, number = task
        one = repetition(self.detector, CASES[position], position, number)
        verdicts = self.verdicts(one.summaries, one.conditions)
        onset = verdicts[BEFORE_ONSET].lumisection
        alarms = (verdict for verdict in verdicts[BEFORE_ONSET:] if verdict.state is State.ALARM)
        first = next(alarms, None)
        return position, None if first is None else first.onset_lumisection - onset


_ONSETS: list[Onsets] = []
"""Of this process: what has learnt is no data that could be sent."""


def _error(task):
    return _ONSETS[0].error(task)


def main() -> None:
    repetitions, seed = (int(said) for said in [*sys.argv[1:], "20", "20261202"][:2])
    positions = [index for index, case in enumerate(CASES) if case.wanted is Wanted.ALARM]
    tasks = [(position, number) for position in positions for number in range(repetitions)]
    found: dict[int, list[int]] = defaultdict(list)
    with multiprocessing.get_context("fork").Pool(
        initializer=_ONSETS.append, initargs=(Onsets(seed),)
    ) as pool:
        for position, error in pool.imap(_error, tasks):
            if error is not None:
                found[position].append(error)
    for position, errors in found.items():
        off, of = np.array(errors), len(errors)
        near = f"{(off == 0).sum()} of {of} | {(abs(off) <= 2).sum()} of {of}"
        sys.stdout.write(f"| {CASES[position].name} | {near} | {off.min():+d} to {off.max():+d} |\n")


if __name__ == "__main__":
    main()
