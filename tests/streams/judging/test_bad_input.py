"""What cannot be judged is refused or not judged: never a number that looks like a result."""

import dataclasses
import warnings

import numpy as np
import pytest

from streams.contracts.contract import parse_contract
from streams.errors import ReferenceProblem
from streams.judging.assessment import AssessmentSettings, Judgement, assess
from streams.judging.detectable import detectable_effects
from streams.judging.findings import Yardstick, find
from streams.judging.reference import build_reference
from streams.judging.verdict import State, VerdictChain
from tests.support.streams import conditions
from tests.support.summaries import padded_events, summary_of_events

SETTINGS = AssessmentSettings(minimum_events=1)
N_REFERENCE = 24


@pytest.fixture(autouse=True)
def _no_warnings():
    """Let a division by zero or a NaN fail the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


@pytest.fixture(scope="module")
def small(small_text):
    return parse_contract(small_text)


def _events(contract, n_events, rng, *, there=0.8, scale=20.0):
    events = padded_events(contract, n_events)
    events[:, 0] = np.clip(rng.exponential(scale, n_events), 1, 100)
    for first in (1, 4):
        here = rng.random(n_events) < there
        jets = np.stack(
            [
                np.clip(rng.exponential(scale, n_events), 1, 255),
                np.clip(rng.normal(0, 40, n_events), -115, 115),
                rng.integers(0, 144, n_events),
            ],
            axis=1,
        )
        events[here, first : first + 3] = jets[here].astype(np.int16)
    return events


def _summary(contract, lumisection, n_events=1000, **options):
    rng = np.random.default_rng(lumisection)
    events = _events(contract, n_events, rng, **options)
    return summary_of_events(contract, events, rng.exponential(4e5, n_events) + 1, lumisection=lumisection)


def _constant(contract, lumisection, n_events=1000):
    score = np.full(n_events, 1000)
    return summary_of_events(contract, padded_events(contract, n_events), score, lumisection=lumisection)


def _reference(contract, parts, pileups=None):
    return build_reference(parts, contract, pileups=pileups or [50.0] * len(parts), built_from="x")


@pytest.fixture(scope="module")
def parts(small):
    return [_summary(small, lumisection) for lumisection in range(1, N_REFERENCE + 1)]


@pytest.fixture(scope="module")
def good(small, parts):
    return _reference(small, parts)


def _assess(small, reference, window, pileup=50.0, settings=SETTINGS):
    got = assess(window, reference, conditions(window.lumisection, pileup=pileup), small, settings)
    assert all(np.isfinite([family.value, family.threshold, family.effect]).all() for family in got.families)
    return got


def _state(assessment):
    return VerdictChain().update(assessment).state


def test_a_window_in_a_gap_of_pileup_is_not_judged(small, parts):
    half = N_REFERENCE // 2
    reference = _reference(small, parts, [20.0] * half + [50.0] * half)
    got = _assess(small, reference, _summary(small, 99), 35.0)
    assert got.judgement is Judgement.NOT_JUDGED
    assert got.reason == "Pileup 35.0 is outside of the reference's 20.0, 50.0."
    assert _state(_assess(small, reference, _summary(small, 99), 21.5)) is State.GOOD
    # below and above everything, where there is nothing to interpolate, half a unit is more than the most
    assert _assess(small, reference, _summary(small, 99), 19.6).judgement is Judgement.JUDGED
    for outside in (19.4, 50.6):
        assert _assess(small, reference, _summary(small, 99), outside).judgement is Judgement.NOT_JUDGED


def test_the_more_lumisections_a_reference_has_the_less_is_judged_beyond_them(small, parts):
    few = _reference(small, parts, [20.0] * N_REFERENCE).header
    some, many = (few.model_copy(update={"n_lumisections": number}) for number in (75, 150))

    def covers(header, pileup):
        return not header.uncovered(conditions(1).model_copy(update={"pileup": pileup}), 0.5)

    assert covers(few, 20.4)
    assert not covers(few, 20.5)
    assert covers(some, 20.25)
    assert not covers(some, 20.26)
    assert covers(many, 20.0)
    assert not covers(many, 20.01)


def test_a_reference_of_gaps_alone_says_so_in_few_words(small, parts):
    reference = _reference(small, parts, np.linspace(0.0, 1000.0, N_REFERENCE).tolist())
    got = _assess(small, reference, _summary(small, 99), 20.0)
    assert got.reason == "Pileup 20.0 is outside of the reference's 24 ranges from 0.0 to 1000.0."


@pytest.mark.parametrize("pileup", [0.0, 1000.0])
def test_absurd_pileups_are_judged_by_references_of_the_same_alone(small, parts, good, pileup):
    assert _assess(small, good, _summary(small, 99), pileup).judgement is Judgement.NOT_JUDGED
    same = _reference(small, parts, [pileup] * N_REFERENCE)
    assert _state(_assess(small, same, _summary(small, 99), pileup)) is State.GOOD
    assert len(detectable_effects(same, small, n_events=1000, pileup=pileup)) > 7


def test_beyond_its_slices_a_reference_expects_no_less_than_nothing(small):
    parts = [_summary(small, number, scale=5.0 + number) for number in range(1, 33)]
    reference = _reference(small, parts, [20.0 + number / 2 for number in range(1, 33)])
    wide = SETTINGS.model_copy(update={"pileup_margin": 3.0})
    for pileup in (18.6, 20.5, 37.9):
        got = _assess(small, reference, _summary(small, 99, scale=2 * (pileup - 20.0) + 6.0), pileup, wide)
        assert got.judgement is Judgement.JUDGED


def test_constant_inputs_are_left_out_of_the_judgement(small):
    rng = np.random.default_rng(1)
    events = padded_events(small, 1000)
    parts = [
        summary_of_events(small, events, rng.exponential(4e5, 1000) + 1, lumisection=number)
        for number in range(1, N_REFERENCE + 1)
    ]
    got = _assess(small, _reference(small, parts[:-1]), parts[-1])
    assert {family.name for family in got.families} == {"range", "spikes", "score", "rate"}
    assert _state(got) is State.GOOD


def test_lumisections_that_do_not_vary_at_all_make_no_reference(small, parts):
    constant = [_constant(small, number) for number in range(1, N_REFERENCE + 1)]
    copies = [dataclasses.replace(parts[0], lumisection=number) for number in range(1, N_REFERENCE + 1)]
    for wrong in (constant, copies):
        with pytest.raises(ReferenceProblem, match="nothing scatters"):
            _reference(small, wrong)


def test_objects_that_are_never_there_are_missed(small, good):
    got = _assess(small, good, _summary(small, 99, there=0.0))
    assert {"presence", "inputs"} <= set(got.exceeded_families)
    assert _state(got) is State.ALARM


def test_objects_that_were_never_there_are_noticed(small):
    parts = [_summary(small, number, there=0.0) for number in range(1, N_REFERENCE + 1)]
    reference = _reference(small, parts)
    assert _state(_assess(small, reference, _summary(small, 99, there=0.0))) is State.GOOD
    assert "inputs" in _assess(small, reference, _summary(small, 99)).exceeded_families


@pytest.mark.parametrize("n_events", [1, 2, 99])
def test_a_handful_of_events_is_insufficient_whatever_the_site_asks_for(small, good, n_events):
    for lumisection in range(100, 120):
        got = _assess(small, good, _summary(small, lumisection, n_events))
        assert _state(got) is State.INSUFFICIENT
        assert got.exceeded_families == ()


def test_windows_of_few_events_raise_no_alarm_by_themselves(small, good):
    states = [
        _state(_assess(small, good, _summary(small, lumisection, 100))) for lumisection in range(100, 150)
    ]
    assert State.ALARM not in states


@pytest.mark.parametrize("n_events", [1, 3, 50])
def test_sixteen_tiny_lumisections_make_no_reference(small, n_events):
    tiny = [_summary(small, number, n_events) for number in range(1, 17)]
    with pytest.raises(ReferenceProblem, match="too few for a reference: give 1000 or more"):
        _reference(small, tiny)


def test_sixteen_small_lumisections_raise_no_alarm(small):
    reference = _reference(small, [_summary(small, number, 70) for number in range(1, 17)])
    states = [
        _state(_assess(small, reference, _summary(small, lumisection))) for lumisection in range(100, 130)
    ]
    assert State.ALARM not in states


def test_lumisections_of_very_different_size_raise_no_alarm(small):
    parts = [_summary(small, number, 1 if number % 2 else 4000) for number in range(1, 33)]
    reference = _reference(small, parts)
    states = [_state(_assess(small, reference, _summary(small, number))) for number in range(100, 120)]
    assert State.ALARM not in states


def test_a_reference_that_matches_a_condition_judges_the_values_it_has_seen(small, parts):
    pileups = [50.0] * N_REFERENCE
    reference = build_reference(
        parts, small, pileups=pileups, built_from="x", matched={"prescale_column": [3, 2] * 12}
    )
    window = _summary(small, 99)
    same, other = (
        assess(window, reference, conditions(99, prescale_column=column), small, SETTINGS)
        for column in (3, 4)
    )
    assert same.judgement is Judgement.JUDGED
    assert other.judgement is Judgement.NOT_JUDGED
    assert other.reason == "Prescale column 4 is none of the reference's 2, 3."


def test_histograms_of_another_contract_are_not_judged(small, good, small_text):
    other = parse_contract(small_text.replace("version = 2", "version = 3"))
    got = assess(_summary(other, 99), good, conditions(99), other, SETTINGS)
    assert got.judgement is Judgement.NOT_JUDGED
    assert "another contract" in got.reason
    with pytest.raises(ReferenceProblem, match="convert it again"):
        _reference(other, [_summary(small, 1)])
    with pytest.raises(ReferenceProblem, match="give the contract it was made under"):
        detectable_effects(good, other, n_events=1000, pileup=50.0)


@pytest.mark.parametrize("rate_band", [0.5, 1.0])
def test_a_large_tolerance_leaves_a_channel_its_hearing(small, good, rate_band):
    many = _summary(small, 99)
    twice = dataclasses.replace(
        many,
        n_events=500 * many.n_events,
        n_accept=min(500 * many.n_events, round(500 * many.n_events * good.expected_rate * 4)),
        inputs=many.inputs * 500,
        score=many.score * 500,
        maps=many.maps * 500,
    )
    header = good.header
    yardstick = Yardstick(
        good.design(small), good.expectation, header.calibration, header.budget, {}, rate_band
    )
    rate = next(one for one in find(twice, 50.0, yardstick).channels if one.name == "accept rate")
    assert rate.tolerance > 2
    assert rate.z - rate.tolerance > 4
