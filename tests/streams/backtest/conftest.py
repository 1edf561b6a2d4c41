"""A small generated detector, its reference, and a plan that takes seconds."""

import pytest

from streams.backtest.source import GeneratedSource
from streams.backtest.trial import judge_window, learning_places
from streams.contracts.contract import parse_contract
from streams.effects.effect import parse_effect
from streams.judging.assessment import AssessmentSettings
from streams.judging.reference import build_reference
from tests.streams.conftest import SMALL_CONTRACT


@pytest.fixture(scope="session")
def source():
    return GeneratedSource(
        parse_contract(SMALL_CONTRACT), "small", 1, n_events=2000, lumisections_per_fill=40
    )


@pytest.fixture(scope="session")
def learnt(source):
    windows = [source.window(*place) for place in learning_places(2, 40)]
    return build_reference(
        [summary for summary, _ in windows],
        source.contract,
        pileups=[conditions.pileup for _, conditions in windows],
        built_from="two fills",
    )


@pytest.fixture(scope="session")
def assessments(source, learnt):
    """Thirty lumisections in control, then ten with a jet gain of 3 % that no budget overlooks at once."""
    gain = parse_effect("jet_gain=1.03@LS31")
    settings = AssessmentSettings()
    return [judge_window(source, learnt, settings, (7, number), [gain]) for number in range(1, 41)]
