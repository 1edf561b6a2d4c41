"""Evidence raises the alarm, windows that agree end it, slow drifts warn, unjudged windows do not count."""

import numpy as np
import pytest

from streams.judging.assessment import Assessment, FamilyResult, Judgement
from streams.judging.verdict import State, VerdictChain, fold
from tests.support.streams import channel_finding

LETTERS = {"g": "good", "w": "warning", "a": "alarm", "n": "not_judged", "i": "insufficient"}
GROSS, BAD = 9.0, 4.9
"""Deviations at which one window alone is an alarm, and at which two in a row are."""


def _assessment(lumisection, z=0.0, *, pull=0.0, judgement=Judgement.JUDGED, **changes):
    judged = judgement is Judgement.JUDGED
    family = FamilyResult(
        name="scale",
        value=z,
        threshold=4.0,
        effect=0.01,
        effect_floor=0.0,
        minimum_detectable=0.01,
        exceeded=z > 4.0,
        judged=True,
    )
    fields = {
        "model": "anomaly",
        "run": 1,
        "lumisection": lumisection,
        "package": "a" * 64,
        "contract_hash": "c" * 64,
        "judgement": judgement,
        "reason": "" if judged else "Because.",
        "reference_id": "r" * 64,
        "channels": (channel_finding("jet gain", z, error=0.002),) if judged else (),
        "families": (family,),
        "budget": 1e-3,
        "n_events": 10_000,
        "accept_rate": 0.1,
        "expected_rate": 0.1,
        "rate_deviation": 0.0,
        "rate_pull": pull,
    }
    return Assessment(**(fields | changes))


def _states(pattern, **changes):
    """G good, B bad, X gross, N not judged, I insufficient, one letter a lumisection."""
    kinds = {"N": Judgement.NOT_JUDGED, "I": Judgement.INSUFFICIENT}
    sizes = {"B": BAD, "X": GROSS}
    return fold(
        _assessment(ls, sizes.get(letter, 0.0), judgement=kinds.get(letter, Judgement.JUDGED), **changes)
        for ls, letter in enumerate(pattern, start=1)
    )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("GGG", "ggg"),
        ("GX", "ga"),
        ("GBG", "gwg"),
        ("GBB", "gwa"),
        ("XGGG", "aaag"),
        ("BBGGG", "waaag"),
        ("BBGGBGGG", "waaaaaag"),
        ("BNB", "wna"),
        ("BIIB", "wiia"),
        ("BBNNNGGG", "wannnaag"),
    ],
)
def test_evidence_raises_the_alarm_and_three_windows_that_agree_end_it(pattern, expected):
    assert [verdict.state for verdict in _states(pattern)] == [LETTERS[letter] for letter in expected]


def test_many_slightly_bad_windows_add_up_and_only_as_many_good_ones_end_the_alarm():
    # given a shift of 1.5 standard deviations, which no window shows by itself
    verdicts = fold(_assessment(ls, 1.5) for ls in range(1, 40))
    alarmed = [verdict.state for verdict in verdicts].index(State.ALARM)
    assert 8 < alarmed < 25
    assert verdicts[alarmed].suspects == ("jet gain",)
    assert verdicts[alarmed].onset_lumisection == 1
    # then it does not flap while the shift stays, and ends after 16 / 1.5^2 windows without it
    assert {verdict.state for verdict in verdicts[alarmed:]} == {State.ALARM}
    windows = [_assessment(ls, 1.5 if ls < 40 else 0.0) for ls in range(1, 60)]
    states = [verdict.state for verdict in fold(windows)]
    assert 4 <= states[39:].index(State.GOOD) <= 8


def test_a_bias_within_the_tolerance_never_adds_up():
    tolerated = [
        _assessment(ls, 0.9, channels=(channel_finding("jet gain", 0.9, tolerance=1.0),))
        for ls in range(1, 3000)
    ]
    assert {verdict.state for verdict in fold(tolerated)} == {State.GOOD}


def test_evidence_is_measured_against_the_level_of_an_alarm():
    verdicts = _states("GBB")
    assert verdicts[0].evidence < -1
    assert -1 < verdicts[1].evidence < 0 < verdicts[2].evidence


def test_the_onset_is_the_first_window_of_those_that_speak():
    verdicts = _states("GBGGGGGBBGGGX")
    onsets = [verdict.onset_lumisection for verdict in verdicts]
    assert onsets[1] == 2
    assert onsets[8] in {2, 8}
    assert onsets[11] is None
    assert onsets[12] == 13


def test_a_chance_excess_before_an_overwhelming_window_is_not_its_onset():
    # given evidence that has not faded when the fault comes
    windows = [*[_assessment(ls, 0.2) for ls in range(1, 10)], _assessment(10, 3.5), _assessment(11, 0.5)]
    assert fold(windows)[-1].evidence > fold(windows[:9])[-1].evidence
    faulty = fold([*windows, _assessment(12, 35.0)])[-1]
    assert (faulty.state, faulty.onset_lumisection) == (State.ALARM, 12)


def test_an_alarm_that_is_over_is_no_onset_of_the_next_one():
    values = [*[0.0] * 5, *[30.0] * 10, *[0.0] * 5, 8.0]
    verdicts = fold(_assessment(ls, z) for ls, z in enumerate(values, start=1))
    assert verdicts[5].onset_lumisection == 6
    assert verdicts[19].state is State.GOOD
    assert (verdicts[20].state, verdicts[20].onset_lumisection) == (State.ALARM, 21)


def test_a_reason_is_a_sentence_for_a_shifter():
    assert _states("BB")[1].reason == "Jet gain +0.98%."
    assert _states("B")[0].reason == "Jet gain +0.98%; not confirmed yet."
    assert _states("BBGG")[3].reason == "Alarm since LS 1: jet gain; not recovered yet."
    assert _states("BBGGG")[4].reason == "Back to good: the last 3 judged lumisections agree."
    assert _states("N")[0].reason == "Because."


def test_a_drift_goes_on_into_the_next_run():
    verdicts = fold([_assessment(1), _assessment(2, BAD), _assessment(7, BAD, run=2)])
    assert verdicts[-1].state is State.ALARM
    assert verdicts[-1].onset_lumisection == 7  # of this run


def test_an_old_firmware_does_not_count_against_a_new_one():
    old = [_assessment(1, BAD), _assessment(2, BAD)]
    new = [_assessment(2, package="b" * 64), _assessment(3, BAD, package="b" * 64)]
    assert [verdict.state for verdict in fold([*old, *new])] == ["warning", "alarm", "good", "warning"]


def test_a_slow_drift_within_the_band_warns_and_stops_warning_when_it_is_gone():
    rng = np.random.default_rng(9)
    pulls = np.concatenate([rng.normal(size=100), rng.normal(2.0, 1.0, 60), rng.normal(size=120)])
    verdicts = fold(_assessment(ls, pull=float(pull)) for ls, pull in enumerate(pulls, start=1))
    states = [verdict.state for verdict in verdicts]
    assert set(states[:100]) == {State.GOOD}
    assert State.WARNING in states[100:160]
    assert "Slow drift" in verdicts[states.index(State.WARNING)].reason
    assert states[-1] is State.GOOD
    assert State.ALARM not in states


def test_a_chain_rebuilt_from_stored_assessments_goes_on_as_if_nothing_happened():
    rng = np.random.default_rng(4)
    assessments = [
        _assessment(ls, float(rng.normal()) + BAD * (rng.random() < 0.2), pull=float(rng.normal(0.4)))
        for ls in range(1, 200)
    ]
    whole = fold(assessments)
    assert {verdict.state for verdict in whole} == {State.GOOD, State.WARNING, State.ALARM}
    stored = [Assessment.model_validate_json(one.model_dump_json()) for one in assessments]
    rebuilt = VerdictChain()
    for one in stored[:120]:
        rebuilt.update(one)
    assert [rebuilt.update(one) for one in stored[120:]] == whole[120:]


def test_assessments_of_an_earlier_version_hold_no_evidence_and_are_read():
    old = _assessment(1, channels=(), budget=None)
    (verdict,) = fold([old])
    assert verdict.state is State.GOOD
    assert verdict.evidence is None


def test_identities_tell_windows_and_revisions_apart():
    ids = {
        _states("G")[0].id,
        fold([_assessment(1, package="b" * 64)])[0].id,
        fold([_assessment(1, revision=2)])[0].id,
        fold([_assessment(1, run=2)])[0].id,
    }
    assert len(ids) == 4
    assert _states("G")[0].id == _states("B")[0].id


def test_the_rate_chart_speaks_at_the_fifth_deviation_in_a_row():
    # given a rate that is 6 standard deviations off, then one window that is not, then half the rate
    off = {"rate_error": 0.01, "rate_deviation": 0.06}
    fine = {"rate_error": 0.01, "rate_deviation": 0.04}
    half = {"rate_error": 0.2, "rate_deviation": -0.55}
    windows = [*[off] * 5, fine, *[half] * 5]
    verdicts = fold(_assessment(ls, **window) for ls, window in enumerate(windows, start=1))
    assert [verdict.rate_chart.in_a_row for verdict in verdicts] == [1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]
    assert [ls for ls, verdict in enumerate(verdicts, start=1) if verdict.rate_chart.speaks] == [5, 11]
    # it stands beside the verdict
    assert {verdict.state for verdict in verdicts} == {State.GOOD}


def test_the_rate_chart_sees_judged_windows_of_one_run():
    off = {"rate_error": 0.01, "rate_deviation": 0.06}
    windows = [_assessment(ls, **off) for ls in range(1, 5)]
    unjudged = _assessment(5, judgement=Judgement.NOT_JUDGED, **off)
    verdicts = fold([*windows, unjudged, _assessment(6, **off), _assessment(7, run=2, **off)])
    assert verdicts[4].rate_chart is None
    assert verdicts[5].rate_chart.speaks
    assert verdicts[6].rate_chart.in_a_row == 1


def test_less_is_forgiven_where_fills_have_shown_how_large_a_bias_is():
    finding = channel_finding("jet gain", 3.0, error=0.002).model_copy(update={"tolerance": 0.5})
    one, fills = (
        fold([_assessment(1, channels=(finding,), bias_learnt=known)])[0].evidence for known in (False, True)
    )
    assert fills > one + 0.1
    rate = finding.model_copy(update={"name": "accept rate", "family": "rate"})
    decided = {
        fold([_assessment(1, channels=(rate,), bias_learnt=known)])[0].evidence for known in (False, True)
    }
    assert len(decided) == 1
