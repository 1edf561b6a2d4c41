"""Since when a channel is off."""

import numpy as np
import pytest

from streams.judging.onset import LARGEST, deviations_of_rare, likeliest_change


@pytest.mark.parametrize(("shift", "within"), [(35.0, 0), (-35.0, 0), (5.0, 1), (2.5, 4)])
def test_a_change_is_found_where_it_is(shift, within):
    errors = []
    for seed in range(50):
        z = np.random.default_rng(seed).standard_normal(30)
        z[18:] += shift
        errors.append(abs(likeliest_change(z.tolist()).first - 18))
    assert np.quantile(errors, 0.9) <= within


def test_it_is_the_likeliest_of_all_changes():
    # by definition: least squares about a mean within the tolerance before, and any mean after
    z, tolerance = np.random.default_rng(1).standard_normal(12) + np.repeat([0.8, 3.0], 6), 0.5

    def about(first):
        usual = np.clip(z[:first].mean(), -tolerance, tolerance) if first else 0.0
        return ((z[:first] - usual) ** 2).sum() + ((z[first:] - z[first:].mean()) ** 2).sum()

    found = likeliest_change(z.tolist(), tolerance)
    best = min(range(12), key=about)
    none = ((z - np.clip(z.mean(), -tolerance, tolerance)) ** 2).sum()
    assert found.first == best
    assert found.strength == pytest.approx((none - about(best)) / 2)


def test_a_bias_within_the_tolerance_is_no_change():
    z = [3.0] * 20 + [9.0] * 3
    assert likeliest_change(z, tolerance=3.0).first == 20
    assert likeliest_change([3.0] * 20, tolerance=3.0).strength == pytest.approx(0.0)


def test_what_was_never_right_is_wrong_from_the_first_window():
    assert likeliest_change([4.0] * 10) == (0, pytest.approx(80.0))
    assert likeliest_change([6.0]) == (0, pytest.approx(18.0))


@pytest.mark.parametrize(
    ("p_value", "deviations"), [(0.5, 0.0), (1.0, 0.0), (0.0, LARGEST), (0.02275, 2.0), (1e-300, 37.0)]
)
def test_a_p_value_is_as_rare_as_so_many_deviations(p_value, deviations):
    assert deviations_of_rare(p_value) == pytest.approx(deviations, abs=0.01)
