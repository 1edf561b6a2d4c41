"""Trials: which runs they take, when their effects begin, and what is made of what is said."""

import dataclasses

import pytest

from streams.backtest.trial import (
    BEFORE_ONSET,
    Trial,
    control_places,
    default_effects,
    learning_places,
    play,
    trials_of,
)
from streams.contracts.contract import load_contract, parse_contract
from streams.effects.effect import NONE, parse_effect
from streams.judging.assessment import AssessmentSettings
from streams.judging.verdict import State
from tests.streams.conftest import CONTRACT_PATH

SETTINGS = AssessmentSettings()
GROSS = parse_effect("jet_gain=1.2")


def test_no_run_serves_two_purposes():
    learning = {run for run, _ in learning_places(8, 100)}
    control = {run for run, _ in control_places(5000, 100)}
    trials = [trial.run for trial in trials_of([GROSS, NONE], 50, 20, 100)]
    assert len(set(trials)) == 100
    assert not learning & control
    assert not (learning | control) & set(trials)


def test_control_walks_through_whole_fills():
    assert control_places(5, 3) == [(10_001, 1), (10_001, 2), (10_001, 3), (10_002, 1), (10_002, 2)]


def test_a_reference_learns_from_lumisections_spread_over_each_fill():
    places = learning_places(2, 600)
    assert len(places) == 150
    assert places[:2] == [(1, 1), (1, 9)]
    assert places[-1][1] > 590


def test_repetitions_are_spread_over_the_fill_and_stay_in_it():
    trials = list(trials_of([GROSS], 5, 30, 100))
    assert [trial.first for trial in trials] == [1, 13, 26, 38, 51]
    assert trials[-1].last == 100
    assert {trial.onset - trial.first for trial in trials} == {BEFORE_ONSET}


@pytest.mark.parametrize(
    ("written", "at_work"),
    [
        ("jet_gain=1.05", "jet_gain=1.05@LS21"),
        ("jet_gain=1.05@LS1+100", "jet_gain=1.05@LS21+100"),
        ("jet_gain=1.05@LS3-LS5", "jet_gain=1.05@LS23-LS25"),
        ("none", "none"),
    ],
)
def test_the_lumisections_of_an_effect_count_from_its_onset(written, at_work):
    (trial,) = trials_of([parse_effect(written)], 1, 10, 40)
    assert [str(effect) for effect in trial.effects] == [at_work]
    assert trial.onset == 21


def test_a_gross_gain_is_found_in_the_first_bad_lumisection_and_the_trial_ends(source, learnt):
    (trial,) = trials_of([GROSS], 1, 20, 40)
    outcome = play(source, learnt, SETTINGS, (1e-3, 1e-6), trial)

    assert outcome.delays == (1, 1)
    assert outcome.spoiled == (False, False)
    assert any("jet" in name for name in outcome.suspects[0])
    assert outcome.lumisections == tuple(range(1, 22))
    assert outcome.states[-1] is State.ALARM
    assert set(outcome.states[:-1]) <= {State.GOOD, State.WARNING}
    assert outcome.evidence[-1] > 0 > max(outcome.evidence[:-1])


def test_without_an_effect_a_trial_finds_nothing_to_its_end(source, learnt):
    (trial,) = trials_of([NONE], 1, 10, 40)
    outcome = play(source, learnt, SETTINGS, (1e-3,), trial)
    assert outcome.delays == (None,)
    assert outcome.suspects == ((),)
    assert len(outcome.lumisections) == BEFORE_ONSET + 10


def test_an_alarm_before_the_onset_spoils_a_trial(source, learnt):
    early = Trial(effect=0, run=3, first=1, onset=6, last=9, effects=(parse_effect("jet_gain=1.2@LS3"),))
    outcome = play(source, learnt, SETTINGS, (1e-3,), early)
    assert outcome.spoiled == (True,)
    assert outcome.delays == (None,)


def test_lumisections_that_are_not_judged_are_counted(source, learnt):
    few = dataclasses.replace(source, n_events=500)
    trial = Trial(effect=0, run=3, first=1, onset=3, last=6, effects=(GROSS,))
    outcome = play(few, learnt, SETTINGS, (1e-3,), trial)
    assert outcome.unjudged == 4
    assert set(outcome.states) == {State.INSUFFICIENT}


def test_the_default_effects_fit_the_contract(small_text):
    example, small = load_contract(CONTRACT_PATH), parse_contract(small_text)
    for contract in (example, small):
        for effect in default_effects(contract):
            effect.check(contract)
    assert {effect.target for effect in default_effects(example)} >= {"met", "egamma", "muon", "jet"}
    assert {effect.target for effect in default_effects(small)} == {"met", "jet", "jet[0].pt"}
