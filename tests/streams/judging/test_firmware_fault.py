"""A firmware that differs from its emulator raises the alarm with a reason of its own, apart from drift."""

import pytest

from streams.integrity import judge_integrity
from streams.judging.assessment import Assessment, FamilyResult, Judgement
from streams.judging.findings import ChannelFinding
from streams.judging.verdict import INTEGRITY, State, fold

TOLERANCE = 1e-4


def _assessment(lumisection, n_mismatched=0, *, n_checked=200, bad=False, **changes):
    family = FamilyResult(
        name="rate",
        value=9.0 if bad else 1.0,
        threshold=2.0,
        effect=0.3,
        effect_floor=0.1,
        minimum_detectable=0.02,
        exceeded=bad,
        judged=True,
    )
    rate = ChannelFinding(
        name="accept rate",
        family="rate",
        share=1.0,
        effect=0.3 if bad else 0.0,
        error=0.01,
        z=4.5 if bad else 0.0,
        tolerance=1.0,
        detectable=0.05,
    )
    fields = {
        "model": "anomaly",
        "run": 1,
        "lumisection": lumisection,
        "package": "a" * 64,
        "contract_hash": "c" * 64,
        "judgement": Judgement.JUDGED,
        "reference_id": "r" * 64,
        "families": (family,),
        "channels": (rate,),
        "budget": 1e-3,
        "n_events": 20_000,
        "accept_rate": 0.1,
        "stable_beams": True,
        "integrity": judge_integrity(n_checked, n_mismatched, TOLERANCE),
    }
    return Assessment(**(fields | changes))


def _sequence(mismatches, **changes):
    return fold(_assessment(ls, n, **changes) for ls, n in enumerate(mismatches, start=1))


def test_a_significant_mismatch_is_an_alarm_at_once_and_names_integrity():
    # given a window of which 12 of 2,000 checked events differ, and no drift
    (verdict,) = _sequence([12], n_checked=2000)
    assert verdict.state is State.ALARM
    assert verdict.firmware_fault
    assert verdict.families == (INTEGRITY,)
    assert verdict.reason == (
        "Firmware fault: 12 of 2,000 checked events differ from the emulator (0.006, tolerated 0.0001)."
    )
    assert verdict.onset_lumisection == 1
    assert verdict.integrity.n_mismatched == 12


def test_firmware_that_agrees_or_is_not_checked_is_no_fault():
    assert not any(verdict.firmware_fault for verdict in _sequence([0] * 5))
    (unchecked,) = _sequence([0], n_checked=0)
    assert unchecked.state is State.GOOD
    assert not unchecked.firmware_fault


def test_single_mismatches_add_up():
    # given one mismatch in 200 checked events now and then: no window is significant alone
    verdicts = _sequence([1, 0, 0, 1, 1])
    assert [verdict.firmware_fault for verdict in verdicts] == [False, False, False, False, True]
    assert verdicts[-1].onset_lumisection == 1
    assert "3 of 1,000 checked events differ" in verdicts[-1].reason


def test_a_fault_ends_when_luck_no_longer_explains_the_clean_windows():
    # given a fault of one event in a hundred: 200 clean events happen in 13 %, 600 in 0.2 % of cases
    verdicts = _sequence([2, 2, 0, 0, 0, 0])
    assert [verdict.firmware_fault for verdict in verdicts] == [True, True, True, True, False, False]
    assert verdicts[3].families == ()
    assert "all 200 checked events agree" in verdicts[3].reason
    assert verdicts[-1].state is State.GOOD


def test_a_rare_fault_needs_a_longer_clean_stretch():
    # given 3 of 1,000: 600 clean events still happen in 16 % of cases, 1,600 in 0.8 %
    verdicts = _sequence([2, 1, 0, 0, 0, 1, *[0] * 10])
    ended = [verdict.lumisection for verdict in verdicts if not verdict.firmware_fault]
    assert ended[0] > 6 + 3
    assert ended == list(range(ended[0], 17))


def test_new_firmware_starts_clean():
    verdicts = fold([_assessment(1, 5), _assessment(2, 0, package="b" * 64)])
    assert [verdict.firmware_fault for verdict in verdicts] == [True, False]


def test_drift_and_fault_are_both_said():
    verdicts = _sequence([3, 3], bad=True)
    assert verdicts[-1].families == ("rate", INTEGRITY)
    assert verdicts[-1].reason.startswith("Firmware fault: 3 of 200")
    assert "Accept rate +30.00%" in verdicts[-1].reason


@pytest.mark.parametrize("judgement", [Judgement.INSUFFICIENT, Judgement.NOT_JUDGED])
def test_a_fault_needs_no_reference_and_few_events(judgement):
    (verdict,) = _sequence([3], judgement=judgement, reason="Because.", reference_id=None)
    assert verdict.state is State.ALARM
    assert verdict.reason.endswith("Because.")


def test_out_of_stable_beams_a_fault_is_said_and_nobody_is_alarmed():
    (verdict,) = _sequence([3], judgement=Judgement.NOT_JUDGED, reason="No beam.", stable_beams=False)
    assert verdict.state is State.NOT_JUDGED
    assert not verdict.firmware_fault
    assert verdict.families == ()
    assert verdict.reason.startswith("Firmware fault: 3 of 200")


def test_an_assessment_from_before_integrity_was_checked_still_folds():
    stored = _assessment(1).model_dump(exclude={"integrity", "stable_beams", "delay_s", "late"})
    (verdict,) = fold([Assessment.model_validate(stored)])
    assert verdict.state is State.GOOD
    assert verdict.integrity is None
