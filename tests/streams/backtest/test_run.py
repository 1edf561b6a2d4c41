"""Whole backtests: quiet in control, quick to find, the same for the same seed, in one process or two."""

import dataclasses

import numpy as np
import pytest

from streams.backtest.run import Plan, backtest, backtest_recorded
from streams.backtest.source import UNSCORED, DatasetSource
from streams.effects.effect import parse_effect
from streams.errors import BacktestError, EffectError, ReferenceProblem
from streams.judging.assessment import AssessmentSettings

SETTINGS = AssessmentSettings()
PLAN = Plan(
    budgets=(1e-3, 0.1, 1e-6),
    effects=(parse_effect("jet_gain=1.2"), parse_effect("met_gain=1.05")),
    fills=2,
    lumisections=45,
    repetitions=2,
    horizon=8,
)


def run(source, plan=PLAN, **options):
    return backtest(source, plan, SETTINGS, progress=lambda _fraction, _message="": None, **options)


@pytest.fixture(scope="module")
def report(source):
    return run(source)


def test_a_gross_gain_is_found_at_once_and_nothing_is_said_in_control(report):
    assert report.false_alarms[0].episodes == 0
    assert report.alarms == ()
    assert report.passed
    gross = report.effects[0].detections[0]
    assert (gross.detected, gross.repetitions, gross.late_delay) == (2, 2, 1)
    assert any("jet" in name for name, _ in gross.channels)


def test_all_lumisections_in_control_are_covered(report):
    covered = report.coverage
    assert (covered.lumisections, covered.judged) == (45, 45)
    assert covered.reasons == ()


def test_the_roc_is_monotone(report):
    order = np.argsort(report.budgets)
    for effect in report.effects:
        found = [effect.detections[index].detected for index in order]
        assert found == sorted(found)
        delays = [effect.detections[index].median_delay or np.inf for index in order]
        assert delays == sorted(delays, reverse=True)
    episodes = [report.false_alarms[index].episodes for index in order]
    assert episodes == sorted(episodes)


def test_a_learnt_reference_follows_a_second_condition_if_asked(source):
    bunches = dataclasses.replace(source, bunches=(1200.0, 2400.0))
    plan = dataclasses.replace(PLAN, effects=(), fills=4, lumisections=80)
    said = run(bunches, dataclasses.replace(plan, interpolate="bunches"))
    # the measured pileup of a few at the ends of a fill lies beyond what was learnt
    assert 75 <= said.coverage.judged <= 80
    assert said.false_alarms[0].episodes == 0
    assert said.source.endswith(", 1200, 2400 bunches")
    assert said.reference_id != run(bunches, plan).reference_id
    with pytest.raises(ReferenceProblem, match="a lumisection has no value of bunches"):
        run(source, dataclasses.replace(plan, interpolate="bunches"))


def test_the_number_of_processes_changes_nothing(source, learnt):
    plan = Plan((1e-3, 0.1), PLAN.effects[:1], lumisections=15, repetitions=1, horizon=2)
    alone, shared = (run(source, plan, reference=learnt, processes=number) for number in (1, 2))
    assert shared == alone


def test_another_seed_is_another_answer(source, report):
    plan = dataclasses.replace(PLAN, effects=(), lumisections=1)
    again, other = (run(dataclasses.replace(source, seed=seed), plan) for seed in (1, 2))
    assert again.reference_id == report.reference_id != other.reference_id
    assert other.effects == ()


def test_a_given_reference_is_used_as_it_is(source, learnt):
    plan = dataclasses.replace(PLAN, effects=(), lumisections=3)
    assert run(source, plan, reference=learnt).reference_id == learnt.id


def test_a_reference_of_other_firmware_is_refused(source, reference, learnt):
    with pytest.raises(BacktestError, match="is of another model or contract than 'small'"):
        run(source, reference=reference)
    header = learnt.header.model_copy(update={"package": "ab" * 32})
    with pytest.raises(BacktestError, match="describes package abababababab, and these events are scored by"):
        run(source, reference=dataclasses.replace(learnt, header=header))


def test_progress_goes_from_nothing_to_all(source):
    told = []
    plan = dataclasses.replace(PLAN, effects=PLAN.effects[:1], lumisections=15, repetitions=1)
    backtest(source, plan, SETTINGS, progress=lambda fraction, _message="": told.append(fraction))
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_an_effect_that_cannot_act_is_refused_before_anything_is_made(source):
    with pytest.raises(EffectError, match="has pt for jet, met"):
        run(source, dataclasses.replace(PLAN, effects=(parse_effect("muon_gain=1.1"),)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budgets": ()}, "a budget lies between 0 and 1"),
        ({"budgets": (1.0,)}, "a budget lies between 0 and 1"),
        ({"horizon": 0}, "give 1 or more of each"),
        ({"repetitions": 10_001}, "give 10000 or fewer"),
    ],
)
def test_a_plan_without_sense_is_refused(change, said):
    with pytest.raises(BacktestError, match=said):
        dataclasses.replace(PLAN, **change)


def test_events_of_a_dataset_are_judged_without_a_score_too(dataset, contract):
    source = DatasetSource(
        dataset, contract, "anomaly", 3, n_events=2000, lumisections_per_fill=16, pileup=40.0
    )
    plan = Plan((1e-3,), (parse_effect("jet_gain=1.1"),), fills=1, lumisections=10, repetitions=1, horizon=5)
    report = run(source, plan)
    assert report.package == UNSCORED
    assert report.false_alarms[0].episodes == 0
    assert report.effects[0].detections[0].detected == 1
    assert "without a score" in report.source


def test_recorded_assessments_are_folded_as_they_come(assessments, learnt):
    report = backtest_recorded(iter(assessments), learnt, (1e-3, 0.1), "recorded windows of run 7")
    assert report.recorded
    assert report.coverage.judged == 40
    (alarm,) = report.alarms
    assert alarm.run == 7
    assert alarm.lumisection >= 31
    assert "1 alarm in 40 judged lumisections" in report.headline
    with pytest.raises(BacktestError, match="run 8: no closed window"):
        backtest_recorded(iter(()), learnt, (1e-3,), "run 8")
