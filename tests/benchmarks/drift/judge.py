"""Who judges the lumisections of the drift benchmark: lumiwatch as it is installed."""

from collections.abc import Callable, Sequence
from typing import Protocol

from streams.backtest.generator import GeneratedDetector
from streams.conditions import Conditions
from streams.counting.summary import Summary
from streams.judging.assessment import AssessmentSettings, assess
from streams.judging.reference import build_reference
from streams.judging.verdict import State, Verdict, VerdictChain
from tests.benchmarks.drift.lumisections import Learning


class Judge(Protocol):
    """Judges consecutive lumisections of one run, in order, knowing nothing of other runs."""

    def __call__(self, summaries: Sequence[Summary], conditions: Sequence[Conditions]) -> list[State]:
        """Return what it says after each lumisection."""
        ...


MakeJudge = Callable[[GeneratedDetector, Learning], Judge]


def lumiwatch(detector: GeneratedDetector, learned: Learning) -> Judge:
    """Return lumiwatch's verdict chain on a reference built from the lumisections to learn from."""
    verdicts = verdict_chain(detector, learned)
    return lambda summaries, conditions: [one.state for one in verdicts(summaries, conditions)]


def verdict_chain(
    detector: GeneratedDetector, learned: Learning
) -> Callable[[Sequence[Summary], Sequence[Conditions]], list[Verdict]]:
    """Return what gives the whole verdicts."""
    contract, settings = detector.contract, AssessmentSettings()
    reference = build_reference(
        learned.summaries,
        contract,
        pileups=[one.pileup for one in learned.conditions],
        built_from="generated fills",
    )

    def judge_sequence(summaries: Sequence[Summary], conditions: Sequence[Conditions]) -> list[Verdict]:
        chain = VerdictChain()
        return [
            chain.update(assess(window, reference, told, contract, settings))
            for window, told in zip(summaries, conditions, strict=True)
        ]

    return judge_sequence
