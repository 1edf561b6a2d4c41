"""Tails never promise more than what was held out can know."""

import numpy as np
import pytest
from scipy import stats

from streams.statistics.tails import gumbel_tail


@pytest.fixture
def maxima(rng):
    return rng.gumbel(3.0, 0.4, 60)


def test_probabilities_fall_with_the_value_and_never_vanish(maxima):
    got = gumbel_tail(maxima).probability(np.linspace(0, 500, 4001))
    assert np.all(np.diff(got) <= 0)
    assert np.all((got > 0) & (got <= 1))
    assert gumbel_tail(maxima, floor=1e-6).probability(np.inf) == 1e-6
    assert gumbel_tail(maxima).probability(-np.inf) == 1


def test_values_of_one_in_a_thousand_are_not_taken_for_rarer_ones(rng):
    value = stats.gumbel_r.isf(1e-3, 3.0, 0.4)
    got = np.array([gumbel_tail(rng.gumbel(3.0, 0.4, 60)).probability(value) for _ in range(300)])
    assert np.mean(got >= 1e-3) > 0.85
    assert 1e-3 < np.median(got) < 2e-2


def test_without_confidence_gumbel_is_fitted_by_its_moments(rng):
    values = rng.gumbel(3.0, 0.4, 20_000)
    got = gumbel_tail(values, confidence=0.5)
    assert (got.location, got.scale) == pytest.approx((3.0, 0.4), rel=0.02)
    assert got.probability(5.0) == pytest.approx(stats.gumbel_r.sf(5.0, got.location, got.scale))


def test_what_has_no_tail_is_refused(maxima):
    for few in ([1.0, 2.0], [], [np.nan] * 20, [1.0, np.inf] * 10):
        with pytest.raises(ValueError, match="at least 8 finite"):
            gumbel_tail(few)
    with pytest.raises(ValueError, match="does not vary"):
        gumbel_tail(np.zeros(30))
    with pytest.raises(ValueError, match="confidence"):
        gumbel_tail(maxima, confidence=1.0)
    with pytest.raises(ValueError, match="NaN has no probability"):
        gumbel_tail(maxima).probability(np.nan)
