"""Two of three raise the alarm, three good ones end it, slow drifts warn, unjudged windows do not count."""

import numpy as np
import pytest

from streams.judging.assessment import Assessment, FamilyResult, InputShift, Judgement
from streams.judging.verdict import State, VerdictChain, fold


def _assessment(lumisection, *, bad=False, pull=0.0, judgement=Judgement.JUDGED, **changes):
    family = FamilyResult(
        name="inputs",
        value=3.0 if bad else 1.0,
        threshold=2.0,
        effect=0.03,
        effect_floor=0.01,
        minimum_detectable=0.02,
        exceeded=bad,
        judged=True,
    )
    fields = {
        "model": "anomaly",
        "run": 1,
        "lumisection": lumisection,
        "package": "a" * 64,
        "contract_hash": "c" * 64,
        "judgement": judgement,
        "reason": "" if judgement is Judgement.JUDGED else "Because.",
        "reference_id": "r" * 64,
        "families": (family,),
        "worst_inputs": (
            InputShift(name="jet[0].pt", ks_distance=0.03, mean_shift_lsb=2.3, mean_shift=1.15, unit="GeV"),
        ),
        "n_events": 10_000,
        "accept_rate": 0.1,
        "expected_rate": 0.1,
        "rate_deviation": 0.0,
        "rate_pull": pull,
    }
    return Assessment(**(fields | changes))


def _states(pattern, **changes):
    """G good, B bad, N not judged, I insufficient, one letter a lumisection."""
    kinds = {"N": Judgement.NOT_JUDGED, "I": Judgement.INSUFFICIENT}
    return fold(
        _assessment(ls, bad=letter == "B", judgement=kinds.get(letter, Judgement.JUDGED), **changes)
        for ls, letter in enumerate(pattern, start=1)
    )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("GGG", "ggg"),
        ("GBG", "gwg"),
        ("GBB", "gwa"),
        ("BGB", "wga"),
        ("BGGB", "wggw"),
        ("BBGGG", "waaag"),
        ("BBGGBGGG", "waaaaaag"),
        ("BNB", "wna"),
        ("BIIB", "wiia"),
        ("BBNNNGGG", "wannnaag"),
    ],
)
def test_two_of_three_judged_windows_raise_and_three_good_end_it(pattern, expected):
    letters = {"g": "good", "w": "warning", "a": "alarm", "n": "not_judged", "i": "insufficient"}
    assert [verdict.state for verdict in _states(pattern)] == [letters[letter] for letter in expected]


def test_the_onset_is_the_first_exceeding_lumisection_of_the_episode():
    verdicts = _states("GBGBBGGGB")
    assert [verdict.onset_lumisection for verdict in verdicts] == [None, 2, None, 2, 2, 2, 2, None, 9]


def test_a_reason_is_a_sentence_for_a_shifter():
    verdict = _states("BB")[1]
    assert verdict.reason == (
        "Inputs disagree, worst jet[0].pt (mean +2.30 LSB); 2 of the last 2 judged lumisections exceed."
    )
    assert _states("N")[0].reason == "Because."


def test_an_excess_of_the_last_run_does_not_count_but_an_alarm_goes_on():
    first = [_assessment(1), _assessment(2, bad=True)]
    assert fold([*first, _assessment(1, bad=True, run=2)])[-1].state is State.WARNING
    first.append(_assessment(3, bad=True))
    assert fold([*first, _assessment(1, run=2)])[-1].state is State.ALARM


def test_an_old_firmware_does_not_count_against_a_new_one():
    old = [_assessment(1, bad=True), _assessment(2, bad=True)]
    new = [_assessment(2, package="b" * 64), _assessment(3, package="b" * 64, bad=True)]
    verdicts = fold([*old, *new])
    assert [verdict.state for verdict in verdicts] == ["warning", "alarm", "good", "warning"]


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
        _assessment(ls, bad=bool(rng.random() < 0.3), pull=float(rng.normal(0.4))) for ls in range(1, 200)
    ]
    whole = fold(assessments)
    stored = [Assessment.model_validate_json(one.model_dump_json()) for one in assessments]
    rebuilt = VerdictChain()
    for one in stored[:120]:
        rebuilt.update(one)
    assert [rebuilt.update(one) for one in stored[120:]] == whole[120:]


def test_identities_tell_windows_and_revisions_apart():
    ids = {
        _states("G")[0].id,
        fold([_assessment(1, package="b" * 64)])[0].id,
        fold([_assessment(1, revision=2)])[0].id,
        fold([_assessment(1, run=2)])[0].id,
    }
    assert len(ids) == 4
    assert _states("G")[0].id == _states("B")[0].id
