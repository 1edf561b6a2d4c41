"""Folding assessments under several budgets at once: counted and assessed once, judged once for each.

A budget changes how much evidence an alarm needs and nothing of what is measured, so the same assessments
serve all. Knows no source of lumisections.
"""

from collections.abc import Sequence
from typing import NamedTuple

from streams.judging.assessment import Assessment, family_threshold
from streams.judging.verdict import State, Verdict, VerdictChain


class Moment(NamedTuple):
    """What was said after one lumisection.

    Attributes
    ----------
    evidence
        Decimal logarithm of the evidence over the level of an alarm; None where there is none.
    suspects
        Channels that tell most, in a warning or an alarm.
    """

    state: State
    evidence: float | None
    suspects: tuple[str, ...]
    reason: str


class Folds:
    """One verdict chain for each of some budgets, all fed with the same assessments."""

    def __init__(self, budgets: Sequence[float]) -> None:
        self._chains = [(budget, VerdictChain()) for budget in budgets]

    def update(self, assessment: Assessment) -> tuple[Moment, ...]:
        """Take the next assessment; returns what is said under each budget, in their order."""
        return tuple(
            _moment(chain.update(under_budget(assessment, budget))) for budget, chain in self._chains
        )


def under_budget(assessment: Assessment, budget: float) -> Assessment:
    """Return what an assessment would be, had its reference another budget.

    The size that is detectable in one window, which is for people only, stays that of the reference's.
    """
    if assessment.budget is None or assessment.budget == budget:
        return assessment
    families = assessment.families
    if families:
        threshold = family_threshold(budget, len(families))
        families = tuple(
            one.model_copy(update={"threshold": threshold, "exceeded": one.value > threshold})
            for one in families
        )
    return assessment.model_copy(update={"budget": budget, "families": families})


def _moment(verdict: Verdict) -> Moment:
    return Moment(verdict.state, verdict.evidence, verdict.suspects, verdict.reason)
