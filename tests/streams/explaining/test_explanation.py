"""The story of a window is that of the effect that was put into it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from streams.counting.summary import summarise
from streams.effects.effect import parse_effect
from streams.explaining import goodness
from streams.explaining.causes import Cause
from streams.explaining.explanation import explain
from streams.integrity import judge_integrity
from streams.judging.assessment import AssessmentSettings, assess
from tests.support.streams import conditions

RUN, LUMISECTION, WINDOW_EVENTS = 9, 8, 20_000


@pytest.fixture(scope="module")
def told(generated, fill_reference, contract):
    """Return a function that tells the story of a window after an effect, and names what tells most."""

    def tell(*effects, lumisection=LUMISECTION, window=None, suspects=None, **options):
        if window is None:
            parsed = [parse_effect(text) for text in effects]
            window = generated.summary(RUN, lumisection, WINDOW_EVENTS, effects=parsed, **options)
        known = generated.conditions(RUN, lumisection)
        found = assess(window, fill_reference, known, contract, AssessmentSettings())
        if suspects is None:
            suspects = [min([*found.channels, *found.extremes], key=lambda one: one.p_value).name]
        return explain(found, window, fill_reference.expectation, contract, suspects=suspects)

    return tell


@pytest.mark.parametrize(("name", "gain"), [("jet", 1.02), ("jet", 0.97), ("met", 1.05), ("egamma", 1.04)])
def test_a_gain_is_told_with_its_size(told, name, gain):
    story = told(f"{name}_gain={gain}")

    assert (story.cause, story.object) == (Cause.GAIN, name)
    assert abs(story.size - gain) < 4 * story.error + 0.002  # the generated energy scale wanders
    assert f"energy scale of {name} is x{story.size:.4g}" in story.sentence


@pytest.mark.parametrize(("name", "shift"), [("met", 2.5), ("egamma", 1.0), ("jet", -1.5)])
def test_an_offset_is_told_in_its_unit(told, name, shift):
    story = told(f"{name}_offset={shift}")

    assert (story.cause, story.object, story.unit) == (Cause.OFFSET, name, "GeV")
    assert story.size == pytest.approx(shift, abs=0.2)


def test_a_dead_region_is_told_with_its_place_and_its_share(told):
    story = told("jet_hole=1.2,0.6:width=0.7,0.52")

    assert (story.cause, story.object) == (Cause.DEAD_REGION, "jet")
    assert story.place.eta[0] < 1.2 < story.place.eta[1]
    assert story.place.phi[0] < 0.6 < story.place.phi[1]
    low, high = story.place.eta_codes
    assert low * 0.0435 == pytest.approx(story.place.eta[0], abs=0.0435)
    assert high * 0.0435 == pytest.approx(story.place.eta[1], abs=0.0435)
    assert -1.0 <= story.size < -0.5
    assert "of the objects there are missing" in story.sentence


def test_a_hot_tower_is_told_with_its_place_pt_and_share(told):
    story = told("jet_noise=60:fraction=0.01:at=-1.2,2.6")

    assert (story.cause, story.object) == (Cause.HOT_TOWER, "jet")
    assert story.place.eta[0] < -1.2 < story.place.eta[1]
    assert story.place.phi[0] < 2.6 < story.place.phi[1]
    assert story.size == pytest.approx(0.01, abs=0.003)
    assert "about 60 GeV" in story.sentence


@pytest.mark.parametrize(
    ("effect", "cause"),
    [
        ("met_tail=3:fraction=0.02", Cause.TAIL),
        ("jet_noise=60:fraction=0.03", Cause.NOISE),
        ("met_resolution=0.3", Cause.RESOLUTION),
        ("jet_pileup=0.7:below=40", Cause.NUMBER),
    ],
)
def test_what_happens_to_a_part_of_the_objects_is_told(told, effect, cause):
    assert told(effect).cause is cause


@pytest.mark.parametrize(
    ("effect", "cause", "inputs"),
    [
        ("jet[0].pt_stuck=padding", Cause.DEAD_CHANNEL, ("jet[0].pt",)),
        ("met[0].pt_stuck=40", Cause.DEAD_CHANNEL, ("met[0].pt",)),
        ("jet_dead=1", Cause.DEAD_SLOT, ("jet[1].pt", "jet[1].eta", "jet[1].phi")),
        ("jet[0].pt_bit=3:at=1", Cause.STUCK_BIT, ("jet[0].pt",)),
        ("egamma[0].eta_bit=2:at=0", Cause.STUCK_BIT, ("egamma[0].eta",)),
        ("jet[0].pt_swap=jet[1].pt", Cause.SWAP, ("jet[0].pt", "jet[1].pt")),
        ("jet[0].eta_swap=jet[0].phi", Cause.SWAP, ("jet[0].eta", "jet[0].phi")),
        ("jet[0].eta_swap=jet[1].eta", Cause.SWAP, ("jet[0].eta", "jet[1].eta")),
    ],
)
def test_what_happens_to_single_inputs_is_told_with_their_names(told, effect, cause, inputs):
    story = told(effect)

    assert (story.cause, story.inputs) == (cause, inputs)
    assert all(name in story.sentence for name in inputs) or cause is Cause.DEAD_SLOT


def test_a_stuck_bit_is_named(told):
    assert "Bit 0 of met[0].phi is stuck at 1" in told("met[0].phi_bit=0:at=1").sentence


def test_a_wrong_pileup_is_told_and_small_errors_are_not(told, generated):
    true = generated.pileup(RUN, 12)

    story = told(lumisection=12, pileup=1.12 * true)

    assert story.cause is Cause.PILEUP
    assert story.size == pytest.approx(1.12 * true, rel=0.03)
    assert "while the conditions say" in story.sentence
    assert told(lumisection=12, pileup=1.01 * true).cause is not Cause.PILEUP


def test_changed_firmware_over_unchanged_inputs_is_told_as_such(told, generated, contract):
    batch = generated.batch(RUN, LUMISECTION, WINDOW_EVENTS)
    score = (batch.score * 1.3).astype(np.int32)
    window = summarise(replace(batch, score=score, accept=score >= generated.threshold), contract)

    story = told(window=window)

    assert story.cause is Cause.OUTPUT
    assert "inputs look as they did" in story.sentence


def test_two_unrelated_faults_are_no_simple_story_or_the_larger_one(told):
    story = told("jet_gain=1.03", "muon_hole=0.5,0.6:width=1.5,1.5", "met_tail=4:fraction=0.1")

    assert story.cause in {Cause.NONE, Cause.TAIL, Cause.DEAD_REGION}
    assert story.explained < 0.9


def test_a_faint_drift_is_told_by_its_suspect(told):
    story = told("none", suspects=["jet gain"])

    assert story.cause is Cause.FAINT
    assert "Jet gain" in story.sentence


def test_a_firmware_fault_comes_first(generated, fill_reference, contract):
    window = generated.summary(RUN, LUMISECTION, 5000, effects=[parse_effect("jet_gain=1.1")])
    found = assess(
        window, fill_reference, generated.conditions(RUN, LUMISECTION), contract, AssessmentSettings()
    )
    found = found.model_copy(update={"integrity": judge_integrity(100, 40, 0.0)})

    for expectation in (fill_reference.expectation, None):
        story = explain(found, window, expectation, contract, firmware_fault=True)
        assert story.cause is Cause.INTEGRITY
        assert "40 of 100" in story.sentence


def test_real_events_tell_the_same_stories(detector, reference, contract):
    told = {}
    for effect in ("jet_gain=1.1", "met_offset=5", "jet_hole=0.5,0.6:width=1.2,1", "jet_dead=0"):
        window = detector.summary(101, effects=[parse_effect(effect)])
        found = assess(window, reference, conditions(101), contract, AssessmentSettings())
        told[effect] = explain(found, window, reference.expectation, contract).cause

    assert list(told.values()) == [Cause.GAIN, Cause.OFFSET, Cause.DEAD_REGION, Cause.DEAD_SLOT]


def test_what_counts_deviate_by_chance_is_poissons():
    logs, mean, variance = goodness._deviance_table()
    counts = np.arange(200.0)
    for index in (0, 20, 39):
        expected = np.exp(logs[index])
        shares = stats.poisson.pmf(counts, expected)
        terms = goodness._deviance(counts, np.full(200, expected))
        assert mean[index] == pytest.approx((shares * terms).sum())
        assert variance[index] == pytest.approx((shares * terms**2).sum() - mean[index] ** 2)
