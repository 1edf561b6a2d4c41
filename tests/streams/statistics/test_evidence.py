"""E-values have a mean of at most 1 where nothing drifts, and grow where something does."""

import numpy as np
import pytest
from scipy import integrate, stats

from streams.statistics.evidence import (
    adjusted_for_discoveries,
    adjusted_for_maximum,
    gaussian_log_e,
    log_e_of_probability,
)


def test_calibrator_is_the_formula():
    p = np.array([1e-12, 1e-3, 0.05, 0.5])
    assert np.exp(log_e_of_probability(p)) == pytest.approx((1 - p + p * np.log(p)) / (p * np.log(p) ** 2))
    assert log_e_of_probability(1.0) == pytest.approx(np.log(0.5))


def test_calibrator_joins_its_pieces_and_rises_as_p_falls():
    p = np.exp(-np.r_[np.linspace(0, 0.03, 301), np.linspace(0.04, 690, 20_000)])
    got = log_e_of_probability(p)
    assert np.all(np.isfinite(got))
    assert np.all(np.diff(got) > 0)


def test_mean_of_calibrated_uniform_p_values_is_one():
    # with p = exp(-u) the mean over uniform p is the integral of e(u) exp(-u); its tail beyond U is 1 / U
    mean = integrate.quad(lambda u: np.exp(log_e_of_probability(np.exp(-u)) - u), 0, 600, limit=500)[0]
    assert mean + 1 / 600 == pytest.approx(1, abs=1e-4)


def test_gaussian_e_value_worked_by_hand():
    ratios = [np.exp(d * (s * 3 - 1) / 4 - d**2 / 8) for d in (1, 2) for s in (1, -1)]
    assert gaussian_log_e(3.0, 2.0, 1.0, [1.0, 2.0]) == pytest.approx(np.log(np.mean(ratios)))


@pytest.mark.parametrize("mean", [-0.5, 0.0, 0.3, 0.5])
def test_gaussian_e_value_has_a_mean_of_at_most_one_within_the_tolerance(mean):
    expectation = integrate.quad(
        lambda x: np.exp(gaussian_log_e(x, 1.0, 0.5, [0.5, 1, 2])) * stats.norm.pdf(x, mean), -12, 12
    )[0]
    assert expectation <= 1 + 1e-9


def test_gaussian_e_value_grows_beyond_the_tolerance_on_either_side():
    values = gaussian_log_e([-6.0, 0.0, 6.0], 1.0, 0.5, [0.5, 1, 2])
    assert values[0] == pytest.approx(values[2])
    assert values[0] > np.log(1000)
    assert values[1] < 0
    assert np.isfinite(gaussian_log_e(1e6, 1.0, 0.0, [1.0]))
    assert gaussian_log_e(np.zeros((2, 3)), np.ones(3), [0.1, 0.2, 0.3], [1, 2]).shape == (2, 3)


def test_discoveries_are_adjusted_as_by_hand():
    assert adjusted_for_discoveries([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])


def test_maximum_is_adjusted_as_by_hand():
    held_out = [[1.0, 5.0], [2.0, 1.0], [0.5, 2.5]]
    assert adjusted_for_maximum([1.5, 3.0], held_out).tolist() == [0.5, 0.5]
    assert adjusted_for_maximum([9.0, 9.5], held_out).tolist() == [0.25, 0.25]
    assert adjusted_for_maximum([0.0, 9.5], held_out).tolist() == [1.0, 0.25]


def test_maximum_keeps_the_rate_of_any_false_alarm(rng):
    control = rng.normal(size=(199, 30)) + rng.normal(size=(199, 1))
    alarms = [
        adjusted_for_maximum(rng.normal(size=30) + rng.normal(), control).min() <= 0.1 for _ in range(600)
    ]
    assert np.mean(alarms) < 0.16


def test_what_is_no_probability_and_no_number_is_refused():
    for bad in (0.0, 1.1, np.nan, -0.1):
        with pytest.raises(ValueError, match="p-values must lie"):
            log_e_of_probability(bad)
        with pytest.raises(ValueError, match="p-values must lie"):
            adjusted_for_discoveries([0.5, bad])
    with pytest.raises(ValueError, match="at least one test"):
        adjusted_for_discoveries([])
    with pytest.raises(ValueError, match="finite"):
        gaussian_log_e(np.nan, 1, 0, [1])
    with pytest.raises(ValueError, match="finite"):
        gaussian_log_e(1, 1, 0, [])
    with pytest.raises(ValueError, match="positive"):
        gaussian_log_e(1, 0, 0, [1])
    with pytest.raises(ValueError, match="windows, tests"):
        adjusted_for_maximum([1, 2], np.ones((0, 2)))
    with pytest.raises(ValueError, match="NaN"):
        adjusted_for_maximum([1, np.nan], np.ones((3, 2)))
