"""Codes out of range are counted against what the reference saw of them, mostly nothing."""

import dataclasses

import numpy as np
import pytest

from streams.judging.assessment import AssessmentSettings, assess
from streams.judging.expectation import sliced
from streams.judging.flows import OUT_OF_RANGE, counting_noise, out_of_range
from streams.judging.verdict import State, VerdictChain
from tests.support.streams import conditions


def _moved(window, name, events):
    """Return the window with some events of an input above its range."""
    index = window.layout.input_names.index(name)
    inputs = window.inputs.copy()
    first, end = window.layout.starts[index], window.layout.starts[index + 1]
    fullest = first + int(np.argmax(inputs[first:end]))
    inputs[fullest] -= events
    inputs[end - 1] += events
    return dataclasses.replace(window, inputs=inputs)


def test_a_few_codes_out_of_a_range_that_was_never_left_are_found(detector, reference, contract):
    # given 1 % of one input's codes above its range, which moves no distribution by more than that
    window = _moved(detector.summary(50), "egamma[3].phi", 20)
    assessment = assess(window, reference, conditions(50), contract, AssessmentSettings())
    (found,) = (one for one in assessment.extremes if one.name == OUT_OF_RANGE)
    assert found.place == "egamma[3].phi above"
    assert found.effect == pytest.approx(0.01)
    assert "range" in assessment.exceeded_families
    verdict = VerdictChain().update(assessment)
    assert verdict.state is State.ALARM
    assert "+1.00% of the codes of egamma[3].phi above the range" in verdict.reason


def test_nothing_out_of_range_says_nothing(detector, reference):
    found = out_of_range(detector.summary(50), reference.expectation.at(50.0))
    assert (found.value, found.effect) == (0.0, 0.0)


def test_what_the_reference_often_saw_is_expected(detector):
    parts = [_moved(detector.summary(number), "jet[0].pt", 100) for number in range(1, 9)]
    expected = sliced(parts, [50.0] * 8).at(50.0)
    usual = out_of_range(_moved(detector.summary(50), "jet[0].pt", 100), expected)
    assert usual.value < 1e-6
    # by hand: 200 of 2000 against 800 of 16000; the root of the deviance of a binomial of 1000 and 1/9
    many = out_of_range(_moved(detector.summary(50), "jet[0].pt", 200), expected)
    deviance = 2 * (200 * np.log(200 / (1000 / 9)) + 800 * np.log(800 / (8000 / 9)))
    assert many.value == pytest.approx(np.sqrt(deviance))
    assert many.effect == pytest.approx(0.05)


def test_the_noise_of_counting_is_that_of_the_largest_of_many_normal_values():
    location, scale = counting_noise(57)
    largest = np.abs(np.random.default_rng(3).normal(size=(20_000, 2 * 57))).max(axis=1)
    assert np.quantile(largest, np.exp(-1)) == pytest.approx(location, abs=0.05)
    beyond = location + 3 * scale
    assert np.mean(largest > beyond) < -np.expm1(-np.exp(-3.0))
