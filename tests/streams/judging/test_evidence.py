"""Evidence keeps its budget by simulation, and one overwhelming window or many slight ones raise an alarm."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from streams.judging.evidence import (
    BIAS_DEVIATIONS,
    INDIFFERENT,
    SHIFTS,
    Evidence,
    Linear,
    Rare,
    detectable_z,
    forgiveness,
    linear_log_e,
    needed_for_alarm,
    rare_log_e,
    single_window_p,
    single_window_z,
)

BUDGET = 0.01


def _level(evidence, number, linear=(), rare=(), budget=BUDGET):
    return evidence.update(linear, rare, budget, (1, number))[0]


@pytest.mark.parametrize("mean", [0.0, 0.5, -1.0, 1.0])
def test_a_bias_within_the_tolerance_has_e_values_of_one_on_average_or_less(mean):
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    e_values = np.exp(linear_log_e(nodes + mean, np.ones((len(nodes), len(SHIFTS)))))
    means = weights @ e_values / math.sqrt(2 * math.pi)
    assert means.max() <= 1 + 1e-9


def test_what_is_forgiven_is_enough_for_a_bias_that_is_as_large_as_it_usually_is():
    share, bias = np.array([0.02, 0.02, 0.02]), np.array([0.1, 0.2, 0.8])
    needed = needed_for_alarm(share, 1e-3)
    forgiven = forgiveness(BIAS_DEVIATIONS * bias, needed)
    assert forgiven.shape == (3, len(SHIFTS))
    assert (forgiven <= BIAS_DEVIATIONS * bias[:, np.newaxis]).all()
    for row, spread in zip(forgiven, bias, strict=True):
        for shift, given in zip(SHIFTS, row.tolist(), strict=True):
            if given == BIAS_DEVIATIONS * spread:  # what is tolerated without end
                continue
            # over normal biases, evidence has a mean of 1 or less in the windows in which a shift is found
            for n in range(1, int(2 * needed[0] / shift**2) + 1):
                assert (n * shift * spread) ** 2 / 2 - n * shift * given <= 1e-9
            # and only a bias that is rarer than the alarm adds up for ever
            assert given + shift / 2 >= math.sqrt(2 * needed[0]) * spread - 1e-9


def test_a_bias_that_differs_from_fill_to_fill_keeps_the_budget():
    rng, spread, fill, n_fills = np.random.default_rng(8), 0.3, 200, 40
    alarms = 0
    for _ in range(n_fills):
        evidence, bias = Evidence(), spread * rng.standard_normal()
        for number in range(fill):
            z = bias + float(rng.standard_normal())
            if _level(evidence, number, [Linear("gain", 1.0, z, BIAS_DEVIATIONS * spread)], budget=1e-3) >= 0:
                alarms += 1
                evidence = Evidence()
    assert alarms <= 1e-3 * fill * n_fills


def test_of_a_tolerance_that_was_decided_all_is_forgiven():
    loose = [Linear("rate", 0.1, 4.0, 0.5)]
    firm = [Linear("rate", 0.1, 4.0, 0.5, firm=True)]
    by_hand = np.exp(np.array(SHIFTS) * 3.5 - np.array(SHIFTS) ** 2 / 2).sum() / (2 * len(SHIFTS))
    level = _level(Evidence(), 1, firm)
    assert level == pytest.approx(math.log(0.1 * BUDGET * by_hand), abs=0.01)
    assert _level(Evidence(), 1, loose) > level


def test_e_values_of_p_values_have_a_mean_of_one_or_a_little_less():
    def weighted(log_p):
        return float(np.exp(rare_log_e(np.exp(np.array([log_p]))) + log_p)[0])

    below, _ = integrate.quad(weighted, -200.0, math.log(INDIFFERENT) - 1e-12)
    assert 0.98 < below + 0.5 * (1 - INDIFFERENT) <= 1.0


def test_it_takes_one_over_the_budget_windows_or_more_to_a_false_alarm():
    rng = np.random.default_rng(5)
    lengths = []
    for _ in range(40):
        evidence = Evidence()
        for number in range(800):
            z, p_value = rng.standard_normal(3), rng.random()
            linear = [Linear(f"c{index}", 0.25, float(one), 0.0) for index, one in enumerate(z)]
            if _level(evidence, number, linear, [Rare("map", 0.25, float(p_value))]) >= 0:
                break
        lengths.append(number + 1)
    # the runs that were cut at 800 windows make the mean smaller than it is
    assert np.mean(lengths) > 1 / BUDGET


def test_one_overwhelming_window_is_an_alarm():
    needed = single_window_z(0.1, BUDGET)
    assert _level(Evidence(), 1, [Linear("gain", 0.1, needed + 1.01, 1.0)]) >= 0
    assert _level(Evidence(), 1, [Linear("gain", 0.1, -(needed + 1.01), 1.0)]) >= 0
    assert _level(Evidence(), 1, [Linear("gain", 0.1, needed - 0.3, 0.0)]) < 0


def test_one_rare_extreme_is_an_alarm():
    needed = single_window_p(0.1, BUDGET)
    assert _level(Evidence(), 1, rare=[Rare("map", 0.1, needed * 0.99)]) >= 0
    assert _level(Evidence(), 1, rare=[Rare("map", 0.1, needed * 1.01)]) < 0


def test_many_slight_windows_are_an_alarm_and_their_onset_is_known():
    rng = np.random.default_rng(3)
    evidence = Evidence()
    for number in range(1, 200):
        shift = 2.0 if number >= 100 else 0.0
        level, weights = evidence.update(
            [Linear("gain", 0.5, float(rng.standard_normal()) + shift, 0.0)], [], 1e-3, (1, number)
        )
        if level >= 0:
            break
    assert 100 <= number <= 112
    assert abs(weights[0].since[1] - 100) <= 3


def test_windows_that_say_what_is_tolerated_never_add_up():
    evidence = Evidence()
    levels = [_level(evidence, number, [Linear("rate", 1.0, 3.0, 3.0)]) for number in range(1000)]
    assert max(levels) < 0


def test_ten_windows_find_what_is_said_of_them():
    z = detectable_z(0.1, 1e-3, 10, 0.95)
    rng = np.random.default_rng(9)
    found = 0
    for _ in range(100):
        evidence = Evidence()
        levels = [
            _level(
                evidence, number, [Linear("gain", 0.1, z + float(rng.standard_normal()), 0.0)], budget=1e-3
            )
            for number in range(10)
        ]
        found += max(levels) >= 0
    assert found >= 90
    assert z < single_window_z(0.1, 1e-3) / 2 + stats.norm.ppf(0.95)
