"""The same assessments under several budgets: what a budget changes, and what it does not."""

import pytest

from streams.backtest.folding import Folds, under_budget
from streams.backtest.trial import learning_places
from streams.judging.assessment import AssessmentSettings, assess
from streams.judging.reference import build_reference
from streams.judging.verdict import State, VerdictChain

BUDGETS = (0.1, 0.01, 1e-3, 1e-5, 1e-8)


def test_under_its_own_budget_an_assessment_is_what_it_was(assessments):
    for assessment in assessments:
        assert under_budget(assessment, assessment.budget) is assessment


def test_another_budget_gives_what_a_reference_of_that_budget_gives(source, learnt, assessments):
    windows = [source.window(*place) for place in learning_places(2, 40)]
    strict = build_reference(
        [summary for summary, _ in windows],
        source.contract,
        pileups=[conditions.pileup for _, conditions in windows],
        built_from="two fills",
        budget_per_lumisection=1e-5,
    )
    window, conditions = source.window(7, 3)
    loose = assess(window, learnt, conditions, source.contract, AssessmentSettings())
    wanted = assess(window, strict, conditions, source.contract, AssessmentSettings())

    found = under_budget(loose, 1e-5)
    assert found.budget == wanted.budget == 1e-5
    judged = [(one.name, one.value, one.threshold, one.exceeded) for one in found.families]
    assert judged == [(one.name, one.value, one.threshold, one.exceeded) for one in wanted.families]
    assert [one.z for one in found.channels] == [one.z for one in wanted.channels]


def test_every_budget_folds_as_its_own_chain_would(assessments):
    folds = Folds(BUDGETS)
    moments = [folds.update(assessment) for assessment in assessments]
    for index, budget in enumerate(BUDGETS):
        chain = VerdictChain()
        for assessment, at_once in zip(assessments, moments, strict=True):
            verdict = chain.update(under_budget(assessment, budget))
            moment = at_once[index]
            assert (moment.state, moment.evidence, moment.suspects, moment.reason) == (
                verdict.state,
                verdict.evidence,
                verdict.suspects,
                verdict.reason,
            )


def test_a_smaller_budget_never_raises_its_first_alarm_earlier(assessments):
    folds = Folds(BUDGETS)
    moments = [folds.update(assessment) for assessment in assessments]
    first = [
        next((number for number, one in enumerate(moments) if one[index].state is State.ALARM), len(moments))
        for index in range(len(BUDGETS))
    ]
    assert first == sorted(first)
    assert first[2] >= 30  # the budget of a thousandth is silent in control ...
    assert first[-1] < 40  # ... and even the smallest finds the gain


def test_what_is_not_judged_is_left_alone(source, assessments):
    window, conditions = source.window(7, 3)
    unjudged = assess(window, None, conditions, source.contract, AssessmentSettings())
    assert under_budget(unjudged, 0.5) is unjudged
    assert Folds((0.5,)).update(unjudged)[0].state is State.NOT_JUDGED


@pytest.mark.parametrize("budget", [0.1, 1e-6])
def test_a_budget_moves_the_evidence_by_its_logarithm(assessments, budget):
    (own,), (other,) = Folds((1e-3,)).update(assessments[0]), Folds((budget,)).update(assessments[0])
    # but for what is forgiven of each window, which is a little more under a smaller budget
    assert other.evidence - own.evidence == pytest.approx({0.1: 2.0, 1e-6: -3.0}[budget], abs=0.01)
