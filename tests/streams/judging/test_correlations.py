"""What changes how inputs go together, and no histogram, is found in one lumisection and named."""

import dataclasses

import numpy as np
import pytest

from streams.backtest.generator import GeneratedDetector
from streams.counting.summary import summarise
from streams.effects.effect import parse_effect
from streams.judging.assessment import AssessmentSettings, assess
from streams.judging.calibration import ExtremeNoise
from streams.judging.expectation import sliced
from streams.judging.extremes import EFFECT_FLOORS, extremes
from streams.judging.pairs import CORRELATIONS, SWAPPED
from streams.judging.reference import build_reference
from streams.judging.words import describe_excess, describe_suspect

N_EVENTS = 20_000
LUMISECTIONS = range(1, 25)


@pytest.fixture(scope="module")
def detector(contract):
    return GeneratedDetector(contract, 3, pileup_start=45.0, pileup_end=45.0, lumisections_per_fill=24)


@pytest.fixture(scope="module")
def learnt(detector):
    """Summaries and pileups of one fill."""
    return (
        [detector.summary(1, lumisection, N_EVENTS) for lumisection in LUMISECTIONS],
        [detector.conditions(1, lumisection).pileup for lumisection in LUMISECTIONS],
    )


@pytest.fixture(scope="module")
def reference(learnt, contract):
    return build_reference(learnt[0], contract, pileups=learnt[1], built_from="test")


def unpaired(summary):
    return dataclasses.replace(summary, n_paired=0, pairs=summary.pairs[:0])


def found_in(window, expected):
    return next((one for one in extremes(window, expected) if one.name == CORRELATIONS), None)


def test_good_lumisections_show_no_change(detector, reference, contract):
    for lumisection in (3, 13, 23):
        got = assess(
            detector.summary(2, lumisection, N_EVENTS),
            reference,
            detector.conditions(2, lumisection),
            contract,
            AssessmentSettings(),
        )
        assert not got.family(CORRELATIONS).exceeded
        assert next(one for one in got.extremes if one.family == CORRELATIONS).p_value > 1e-3


def test_two_swapped_inputs_are_found_and_named(detector, reference, contract):
    swapped = detector.summary(2, 12, N_EVENTS, effects=[parse_effect("jet[0].eta_swap=jet[1].eta")])
    got = assess(swapped, reference, detector.conditions(2, 12), contract, AssessmentSettings())
    changed, exchanged = (one for one in got.extremes if one.family == CORRELATIONS)
    assert CORRELATIONS in got.exceeded_families
    assert "jet[2].eta" in changed.place
    assert 0.02 < abs(changed.effect) < 0.1
    assert exchanged.place == "jet[0].eta, jet[1].eta"
    assert exchanged.effect == pytest.approx(1.0, abs=0.3)
    assert exchanged.p_value < 1e-6
    assert describe_excess(got).startswith("Jet[0].eta and jet[1].eta look swapped in")


def test_a_swap_in_half_of_the_events_is_told_by_its_share_and_one_in_few_is_none(
    detector, reference, contract
):
    batch = detector.batch(2, 12, N_EVENTS)
    one, other = contract.input_index("jet[0].eta"), contract.input_index("jet[1].eta")
    found = []
    for share in (0.5, 0.05):
        inputs, end = batch.inputs.copy(), int(share * N_EVENTS)
        inputs[:end, one], inputs[:end, other] = batch.inputs[:end, other], batch.inputs[:end, one]
        window = summarise(dataclasses.replace(batch, inputs=np.asfortranarray(inputs)), contract)
        got = assess(window, reference, detector.conditions(2, 12), contract, AssessmentSettings())
        found.append(next(one for one in got.extremes if one.name == SWAPPED))
    half, few = found
    assert half.place == "jet[0].eta, jet[1].eta"
    assert half.effect == pytest.approx(0.5, abs=0.3)
    assert half.p_value < 0.02
    assert few.place != half.place or few.effect == 0.0


def test_inputs_that_their_histograms_tell_apart_are_not_called_swapped(detector, reference, contract):
    swapped = detector.summary(2, 12, N_EVENTS, effects=[parse_effect("jet[0].eta_swap=jet[9].eta")])
    got = assess(swapped, reference, detector.conditions(2, 12), contract, AssessmentSettings())
    assert "inputs" in got.exceeded_families
    assert next(one for one in got.extremes if one.name == SWAPPED).place != "jet[0].eta, jet[9].eta"


def test_a_change_of_a_correlation_is_said_in_words(detector, reference, contract):
    got = assess(
        detector.summary(2, 12, N_EVENTS),
        reference,
        detector.conditions(2, 12),
        contract,
        AssessmentSettings(),
    )
    changed = next(one for one in got.extremes if one.family == CORRELATIONS)
    said = describe_suspect(got, CORRELATIONS)
    assert said == f"Correlation of {changed.place.replace(', ', ' and ')} changed by {changed.effect:+.3f}"


def test_objects_of_another_crossing_are_found_though_no_histogram_changes(detector, learnt, contract):
    # given a lumisection whose jets are those of the event before
    batch = detector.batch(2, 12, N_EVENTS)
    jets = [index for index, spec in enumerate(contract.inputs) if spec.object == "jet"]
    inputs = batch.inputs.copy()
    inputs[:, jets] = np.roll(inputs[:, jets], 1, axis=0)
    mixed = summarise(dataclasses.replace(batch, inputs=np.asfortranarray(inputs)), contract)
    good = detector.summary(2, 12, N_EVENTS)
    # when it is compared
    found = found_in(mixed, sliced(*learnt).at(detector.conditions(2, 12).pileup))
    # then its histograms are those of a good one, and its correlations are not
    np.testing.assert_array_equal(mixed.inputs, good.inputs)
    assert found.value > 10
    assert "jet" in found.place


def test_windows_and_references_without_pairs_are_not_judged_by_them(detector, learnt):
    summaries, pileups = learnt
    window = detector.summary(2, 12, N_EVENTS)
    assert found_in(window, sliced(summaries, pileups).at(45.0)) is not None
    assert found_in(unpaired(window), sliced(summaries, pileups).at(45.0)) is None
    older = [unpaired(one) for one in summaries]
    assert found_in(window, sliced(older, pileups).at(45.0)) is None


def test_a_part_of_a_window_is_judged_by_what_it_has(detector, learnt):
    # given a window of which an older lumiwatch counted the first half
    window = detector.summary(2, 12, N_EVENTS)
    part = detector.summary(2, 13, N_EVENTS // 4)
    expected = sliced(*learnt).at(45.0)
    mixed = dataclasses.replace(window, n_paired=part.n_paired, pairs=part.pairs)
    # when it is compared, then the noise is that of the events with pairs
    assert found_in(mixed, expected).value == pytest.approx(found_in(part, expected).value)


def test_no_correlation_comes_from_between_two_slices(contract):
    # given two slices of different pileup
    fill = GeneratedDetector(contract, 4, pileup_start=60.0, pileup_end=30.0, lumisections_per_fill=20)
    summaries = [fill.summary(1, lumisection, 2000) for lumisection in range(1, 21)]
    expectation = sliced(summaries, [fill.pileup(1, lumisection) for lumisection in range(1, 21)])
    low, high = expectation.slices[:2]
    # when one looks between them, then correlations lie between theirs, though shares differ
    between = expectation.at((low.pileup + high.pileup) / 2).marks
    ends = np.stack([low.marks.correlations, high.marks.correlations])
    np.testing.assert_allclose(between.marks.correlations, ends.mean(axis=0), atol=1e-12)
    assert between.size == pytest.approx(4 / (1 / low.counts.n_paired + 1 / high.counts.n_paired))


def test_too_rare_pairs_say_nothing(detector, learnt):
    few = detector.summary(2, 12, 100)
    found = found_in(few, sliced(*learnt).at(45.0))
    assert "muon" not in found.place
    assert found.value < 6


def test_the_square_of_a_normal_maximum_has_gumbels_tail(rng):
    largest = np.abs(rng.normal(size=(4000, 500))).max(axis=1)
    noise = ExtremeNoise(
        family=CORRELATIONS, location=2 * np.log(500) - np.log(np.pi * np.log(500)), scale=2.0, squared=True
    )
    for probability in (0.1, 0.01, 0.001):
        expected = probability * len(largest)
        above = np.count_nonzero(largest > noise.value_at(probability))
        assert above <= expected + 4 * np.sqrt(expected)
        assert noise.p_value(noise.value_at(probability)) == pytest.approx(probability)
    assert EFFECT_FLOORS[CORRELATIONS] == 0.02


@pytest.fixture
def rng():
    return np.random.default_rng(5)
