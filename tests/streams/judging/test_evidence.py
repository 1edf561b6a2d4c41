"""Evidence keeps its budget by simulation, and one overwhelming window or many slight ones raise an alarm."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from streams.judging.evidence import (
    INDIFFERENT,
    Evidence,
    Linear,
    Rare,
    detectable_z,
    linear_log_e,
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
    e_values = np.exp(linear_log_e(nodes + mean, np.ones(len(nodes))))
    means = weights @ e_values / math.sqrt(2 * math.pi)
    assert means.max() <= 1 + 1e-9


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
