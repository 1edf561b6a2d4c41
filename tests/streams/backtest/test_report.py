"""Reports: episodes, intervals and quantiles, worked out by hand."""

import pytest
from scipy import stats

from streams.backtest.folding import Moment
from streams.backtest.report import ControlCount, effect_report, share_interval
from streams.backtest.trial import Outcome, Trial
from streams.judging.assessment import Assessment, Judgement
from streams.judging.verdict import State

GOOD, WARNING, ALARM, FEW, OUT = (
    State.GOOD,
    State.WARNING,
    State.ALARM,
    State.INSUFFICIENT,
    State.NOT_JUDGED,
)


def assessment(lumisection, judgement=Judgement.JUDGED, reason=""):
    return Assessment(
        model="small",
        run=1,
        lumisection=lumisection,
        package="p",
        contract_hash="c",
        judgement=judgement,
        reason=reason,
        n_events=10,
        accept_rate=0.1,
    )


def counted(states, budget=1e-3):
    count = ControlCount((budget,))
    for number, state in enumerate(states, start=1):
        judgement = Judgement(state) if state in {FEW, OUT} else Judgement.JUDGED
        reason = f"Pileup {number}.5 is outside." if state is OUT else "Few." if state is FEW else ""
        count.take(assessment(number, judgement, reason), [Moment(state, None, ("jet gain",), "It is.")])
    return count


def outcome(*delays, spoiled=None, suspects=("jet gain",)):
    return Outcome(
        trial=Trial(effect=0, run=1, first=1, onset=21, last=60, effects=()),
        delays=delays,
        spoiled=spoiled or (False,) * len(delays),
        suspects=tuple(suspects if delay else () for delay in delays),
        lumisections=(20, 21),
        evidence=(-3.0, None),
        states=(GOOD, ALARM),
        unjudged=1,
    )


def test_an_episode_lasts_from_alarm_to_recovery_whatever_is_not_judged_between():
    count = counted([GOOD, WARNING, ALARM, OUT, ALARM, FEW, ALARM, GOOD, ALARM, GOOD])
    (found,) = count.false_alarms()
    assert (found.episodes, found.alarmed, found.warnings, found.warned) == (2, 4, 1, 1)
    assert found.lumisections == 8
    assert found.per_1000 == pytest.approx(250.0)
    assert [(one.lumisection, one.suspects) for one in count.alarms] == [
        (3, ("jet gain",)),
        (9, ("jet gain",)),
    ]


def test_false_alarms_have_the_interval_of_a_poisson_mean():
    (none,) = counted([GOOD] * 1000).false_alarms()
    assert none.interval == pytest.approx((0.0, 3.6889), abs=1e-4)
    assert not none.exceeds
    (three,) = counted([GOOD, ALARM] * 3 + [GOOD] * 994).false_alarms()
    assert three.interval == pytest.approx((0.6187, 8.7673), abs=1e-4)
    assert not three.exceeds
    (many,) = counted([GOOD, ALARM] * 10 + [GOOD] * 980).false_alarms()
    assert many.exceeds


def test_coverage_groups_reasons_that_differ_in_numbers_only():
    covered = counted([GOOD, OUT, OUT, FEW]).coverage()
    assert (covered.lumisections, covered.judged, covered.insufficient, covered.not_judged) == (4, 1, 1, 2)
    assert covered.reasons == (("Pileup 2.5 is outside.", 2), ("Few.", 1))


def test_delays_are_quantiles_over_all_repetitions_where_no_alarm_is_never():
    report = effect_report(
        "jet_gain=1.01", 40, [outcome(delay) for delay in (1, 2, 2, 3, 4, 5, 6, 7, None, None)], (1e-3,)
    )
    (found,) = report.detections
    assert (found.detected, found.repetitions, found.probability) == (8, 10, 0.8)
    assert found.median_delay == 4
    assert found.late_delay is None
    assert found.interval == pytest.approx((0.4439, 0.9748), abs=1e-4)  # Clopper and Pearson's of 8 of 10
    assert found.channels == (("jet gain", 8),)
    assert report.unjudged == 10


def test_spoiled_repetitions_are_left_out_of_their_budget_only():
    outcomes = [outcome(1, 1), outcome(None, 3, spoiled=(True, False))]
    loose, strict = effect_report("jet_gain=1.01", 40, outcomes, (0.1, 1e-3)).detections
    assert (loose.repetitions, loose.spoiled, loose.detected) == (1, 1, 1)
    assert (strict.repetitions, strict.spoiled, strict.detected) == (2, 0, 2)
    assert strict.late_delay == 3


def test_nothing_of_nothing_says_nothing():
    assert share_interval(0, 0) == (0.0, 1.0)
    (found,) = effect_report("none", 1, [outcome(None, spoiled=(True,))], (1e-3,)).detections
    assert (found.repetitions, found.probability, found.median_delay) == (0, 0.0, None)


@pytest.mark.parametrize(("found", "of"), [(0, 1), (1, 1), (0, 50), (1, 50), (25, 50), (49, 50), (50, 50)])
def test_the_interval_of_a_share_is_that_of_clopper_and_pearson(found, of):
    wanted = stats.binomtest(found, of).proportion_ci(0.95, method="exact")
    assert share_interval(found, of) == pytest.approx((wanted.low, wanted.high), rel=1e-9)
