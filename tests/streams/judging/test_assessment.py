"""An assessment judges what can be judged and says why it does not judge the rest."""

import dataclasses

import numpy as np
import pytest

from streams.effects.effect import parse_effect
from streams.judging.assessment import Assessment, AssessmentSettings, Judgement, assess
from tests.support.streams import OTHER_PACKAGE, conditions

SETTINGS = AssessmentSettings()


def _assess(window, reference, contract, given=None, settings=SETTINGS):
    return assess(window, reference, given or conditions(window.lumisection), contract, settings)


def test_an_ordinary_window_is_judged_and_does_not_exceed(detector, reference, contract):
    got = _assess(detector.summary(50), reference, contract)
    assert got.judgement is Judgement.JUDGED
    assert got.exceeded_families == ()
    names = {family.name for family in got.families}
    assert names == {
        "inputs",
        "scale",
        "mean",
        "tail",
        "presence",
        "maps",
        "correlations",
        "range",
        "spikes",
        "score",
        "rate",
    }
    assert sum(one.share for one in (*got.channels, *got.extremes)) <= 1.0
    assert got.simulated
    assert got.expected_rate == pytest.approx(reference.expected_rate)
    assert Assessment.model_validate_json(got.model_dump_json()) == got


def test_a_jet_gain_shows_in_the_jets(detector, reference, contract):
    window = detector.summary(50, effects=(parse_effect("jet_gain=1.15"),), n_events=4000)
    got = _assess(window, reference, contract)
    assert {"inputs", "scale"} <= set(got.exceeded_families)
    gain = next(one for one in got.channels if one.name == "jet gain")
    assert gain.effect == pytest.approx(0.15, abs=0.02)
    assert got.worst_inputs[0].name.startswith("jet[")
    assert got.worst_inputs[0].mean_shift_lsb > 0
    assert got.worst_inputs[0].unit == "GeV"


def test_a_rate_within_the_band_is_tolerated_however_significant(detector, reference, contract):
    many = detector.summary(50)
    scaled = dataclasses.replace(
        many,
        n_events=many.n_events * 500,
        n_accept=int(many.n_events * 500 * reference.expected_rate * 1.09),
        inputs=many.inputs * 500,
        score=many.score * 500,
    )
    assert not _assess(scaled, reference, contract).family("rate").exceeded
    beyond = dataclasses.replace(scaled, n_accept=int(scaled.n_events * reference.expected_rate * 1.6))
    assert _assess(beyond, reference, contract).family("rate").exceeded


def test_a_window_of_many_events_is_judged_no_more_sharply_than_the_calibration_was(
    detector, reference, contract
):
    window = detector.summary(50)
    many = dataclasses.replace(
        window,
        n_events=window.n_events * 500,
        n_accept=window.n_accept * 500,
        inputs=window.inputs * 500,
        score=window.score * 500,
        maps=window.maps * 500,
    )
    once, often = (_assess(one, reference, contract) for one in (window, many))
    errors = {one.name: one.error for one in often.channels}
    assert len(once.channels) > 8
    assert all(errors[one.name] == pytest.approx(one.error / 1.5**0.5, rel=1e-4) for one in once.channels)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"beam_mode": "RAMP"}, "RAMP"),
        ({"pileup": 60.0}, "Pileup 60.0"),
        ({"subsystems": ["calo"]}, "Out of the run: muon"),
    ],
)
def test_other_conditions_are_not_judged(detector, reference, contract, changes, said):
    settings = AssessmentSettings(required_subsystems=("muon",) if "subsystems" in changes else ())
    broken = detector.summary(50, effects=(parse_effect("jet_gain=1.3"),))
    got = _assess(broken, reference, contract, conditions(50, **changes), settings)
    assert got.judgement is Judgement.NOT_JUDGED
    assert said in got.reason
    assert got.exceeded_families == ()


def test_missing_conditions_and_references_are_not_judged(detector, reference, contract):
    window = detector.summary(50)
    assert "never arrived" in assess(window, reference, None, contract, SETTINGS).reason
    assert "approve" in assess(window, None, conditions(50), contract, SETTINGS).reason
    stranger = dataclasses.replace(window, contract_hash="0" * 64)
    assert "another contract" in assess(stranger, reference, conditions(50), contract, SETTINGS).reason


def test_few_events_are_insufficient_never_bad(detector, reference, contract):
    few = detector.summary(50, n_events=300, effects=(parse_effect("jet_gain=2"),))
    got = _assess(few, reference, contract)
    assert got.judgement is Judgement.INSUFFICIENT
    assert "300 events" in got.reason


def test_new_firmware_is_judged_by_score_and_rate_alone(detector, reference, contract):
    window = detector.summary(50, effects=(parse_effect("jet_gain=1.3"),), package=OTHER_PACKAGE)
    got = _assess(window, reference, contract)
    assert got.family("inputs").exceeded
    assert {family.name for family in got.families if family.judged} == {"score", "rate"}
    assert set(got.exceeded_families) <= {"score", "rate"}
    assert [one.name for one in (*got.channels, *got.extremes)] == ["accept rate", "score shape"]
    assert got.reference_package == reference.package


def test_an_empty_window_has_no_statistics(detector, reference, contract):
    window = detector.summary(50, n_events=1)
    empty = dataclasses.replace(
        window,
        n_events=0,
        n_accept=0,
        inputs=np.zeros_like(window.inputs),
        score=np.zeros_like(window.score),
        maps=np.zeros_like(window.maps),
    )
    got = _assess(empty, reference, contract)
    assert got.judgement is Judgement.INSUFFICIENT
    assert got.families == ()
