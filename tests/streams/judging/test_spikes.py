"""Spikes: a few codes of an input that are much too frequent, found at once and told by their place."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from streams.effects.effect import parse_effect
from streams.judging.assessment import AssessmentSettings, assess
from streams.judging.reference import decode_reference, encode_reference
from streams.judging.spikes import SPIKE, SPIKES, TOLERATED, spike, spike_noise
from streams.judging.verdict import State, VerdictChain
from tests.support.streams import conditions

FLOOR = 0.002
EVENTS = 10_000


@pytest.fixture(scope="module")
def window(detector):
    return detector.summary(50, n_events=EVENTS)


def _with(window, name, codes, events):
    """Return the window with events moved from the fullest code of an input to some others, evenly."""
    index = window.layout.input_names.index(name)
    start, end = window.layout.starts[index], window.layout.starts[index + 1]
    inputs = window.inputs.copy()
    inputs[start + int(np.argmax(inputs[start:end]))] -= events * len(codes)
    inputs[[start + 1 + code - window.layout.minimums[index] for code in codes]] += events
    return dataclasses.replace(window, inputs=inputs)


def test_an_ordinary_window_shows_none_above_the_noise_of_counting(window, reference):
    expected, (usual, _) = (
        reference.expectation.at(50.0),
        spike_noise(window.layout.n_input_bins, np.zeros(2)),
    )
    assert spike(window, expected, FLOOR).value < usual
    found = spike(window, expected, 0.05)
    assert (found.value, found.effect, found.place) == (0.0, 0.0, "")


def test_a_code_that_is_much_too_frequent_is_found_and_named(window, reference):
    expected = reference.expectation.at(50.0)
    made = _with(window, "jet[0].pt", [300], 60)
    index = made.layout.input_names.index("jet[0].pt")
    bin_ = made.layout.starts[index] + 1 + 300
    found = spike(made, expected, FLOOR)
    assert (found.place, found.object, found.family) == ("jet[0].pt 300", "jet", SPIKES)
    assert found.effect == pytest.approx(made.inputs[bin_] / EVENTS - expected.inputs[bin_])
    usual = (1 + TOLERATED) * expected.inputs[bin_] * EVENTS
    roots = np.sqrt(made.inputs[bin_] + 3 / 8) - np.sqrt(usual + 3 / 8)
    assert found.value == pytest.approx(2 * roots / np.sqrt(1 + EVENTS / expected.size))
    assert found.value == pytest.approx(found.effect * found.size)


def test_neighbouring_codes_are_looked_at_together(window, reference):
    made = _with(window, "jet[0].pt", [300, 301, 302, 303], 15)  # none of them is a spike by itself
    assert spike(made, reference.expectation.at(50.0), FLOOR).place == "jet[0].pt 300..303"


def test_too_small_an_excess_and_one_of_a_quarter_are_none(window, reference):
    expected = reference.expectation.at(50.0)
    assert not spike(_with(window, "jet[0].pt", [300], 15), expected, FLOOR).place.startswith("jet[0].pt")
    index = window.layout.input_names.index("jet[0].phi")
    usual = window.inputs[window.layout.starts[index] + 1 + 70]
    assert usual > 20
    assert spike(_with(window, "jet[0].phi", [70], usual // 8), expected, 1e-4).value < 4.0


def test_the_noise_of_counting_is_that_of_the_largest_of_all_places():
    n_bins, windows = 500, 4000
    largest = np.random.default_rng(3).normal(size=(windows, 2 * n_bins)).max(axis=1)
    location, scale = spike_noise(n_bins, np.zeros(5))
    assert np.mean(largest > location) == pytest.approx(1 - np.exp(-1), abs=0.05)
    assert np.mean(largest > location + 3 * scale) <= -np.expm1(-np.exp(-3.0))
    assert location == pytest.approx(stats.norm.isf(1 / (2 * n_bins)))


def test_spikes_that_good_lumisections_have_are_as_rare_as_they_were():
    values = np.zeros(100)
    values[7] = 9.0
    location, scale = spike_noise(500, values)
    assert np.exp(-(9.0 - location) / scale) == pytest.approx(1 / 100)


def test_noise_of_one_energy_is_an_alarm_at_once_and_told(detector, reference, contract):
    noise = parse_effect("jet_noise=200:fraction=0.01")
    assessment = assess(
        detector.summary(50, n_events=EVENTS, effects=(noise,)),
        reference,
        conditions(50),
        contract,
        AssessmentSettings(),
    )
    verdict = VerdictChain().update(assessment)
    assert verdict.state is State.ALARM
    assert SPIKES in verdict.families
    (found,) = (one for one in assessment.extremes if one.name == SPIKE)
    assert found.place.startswith("jet[0].pt 4")
    assert f"% of the events have {found.place}" in verdict.reason


def test_a_reference_of_before_spikes_were_looked_for_judges_the_rest(detector, reference, contract):
    header = reference.header
    extremes = {name: one for name, one in header.calibration.extremes.items() if name != SPIKE}
    floors = {family: one for family, one in header.effect_floors.items() if family != SPIKES}
    older = decode_reference(
        encode_reference(
            dataclasses.replace(
                reference,
                header=header.model_copy(
                    update={
                        "calibration": header.calibration.model_copy(update={"extremes": extremes}),
                        "effect_floors": floors,
                    }
                ),
            )
        )
    )
    window = detector.summary(50)
    got = assess(window, older, conditions(50), contract, AssessmentSettings())
    assert SPIKES not in {family.name for family in got.families}
    assert got.judged
    assert len(got.extremes) == len(header.calibration.extremes) - 1
