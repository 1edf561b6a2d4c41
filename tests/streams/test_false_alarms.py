"""The whole judgement on resampled lumisections: silent in control, quick when the jets drift."""

import pytest

from streams.effects.effect import parse_effect
from streams.judging.assessment import AssessmentSettings, assess
from streams.judging.reference import build_reference
from streams.judging.verdict import State, VerdictChain
from tests.support.streams import conditions

EVENTS = 10_000


@pytest.fixture(scope="module")
def large_reference(detector, contract):
    parts = [detector.summary(lumisection, n_events=EVENTS) for lumisection in range(1, 33)]
    return build_reference(parts, contract, pileups=[50.0] * len(parts), built_from="LS 1-32 of run 5")


@pytest.fixture
def judge(detector, large_reference, contract):
    """Return a function that judges lumisections in turn."""
    chain = VerdictChain()

    def run(first, last, effects=()):
        verdicts = []
        for lumisection in range(first, last + 1):
            window = detector.summary(lumisection, n_events=EVENTS, effects=effects)
            given = conditions(lumisection)
            verdicts.append(
                chain.update(assess(window, large_reference, given, contract, AssessmentSettings()))
            )
        return verdicts

    return run


def test_in_control_lumisections_raise_no_alarm_and_a_jet_gain_does_within_three(judge):
    assert {verdict.state for verdict in judge(101, 200)} <= {State.GOOD, State.WARNING}
    drifted = judge(201, 203, effects=(parse_effect("jet_gain=1.05"),))
    assert drifted[-1].state is State.ALARM
    assert drifted[-1].onset_lumisection in {201, 202}
    assert drifted[-1].worst_inputs[0].name.startswith("jet[")
