"""Tails never promise more than what was held out can know."""

import numpy as np
import pytest
from scipy import stats

from streams.statistics.tails import ParetoTail, gumbel_tail, pareto_tail, student_probability


@pytest.fixture
def maxima(rng):
    return rng.gumbel(3.0, 0.4, 60)


@pytest.mark.parametrize("tail", [gumbel_tail, pareto_tail])
def test_probabilities_fall_with_the_value_and_never_vanish(tail, maxima):
    got = tail(maxima).probability(np.linspace(0, 500, 4001))
    assert np.all(np.diff(got) <= 0)
    assert np.all((got > 0) & (got <= 1))
    assert tail(maxima, floor=1e-6).probability(np.inf) == 1e-6
    assert tail(maxima).probability(-np.inf) == 1


@pytest.mark.parametrize("tail", [gumbel_tail, pareto_tail])
def test_values_of_one_in_a_thousand_are_not_taken_for_rarer_ones(tail, rng):
    value = stats.gumbel_r.isf(1e-3, 3.0, 0.4)
    got = np.array([tail(rng.gumbel(3.0, 0.4, 60)).probability(value) for _ in range(300)])
    assert np.mean(got >= 1e-3) > 0.85
    assert 1e-3 < np.median(got) < 2e-2


def test_without_confidence_gumbel_is_fitted_by_its_moments(rng):
    values = rng.gumbel(3.0, 0.4, 20_000)
    got = gumbel_tail(values, confidence=0.5)
    assert (got.location, got.scale) == pytest.approx((3.0, 0.4), rel=0.02)
    assert got.probability(5.0) == pytest.approx(stats.gumbel_r.sf(5.0, got.location, got.scale))


def test_pareto_finds_the_shape_of_a_heavy_tail(rng):
    values = stats.genpareto.rvs(0.3, size=40_000, random_state=rng)
    got = pareto_tail(values, confidence=0.5)
    assert got.shape == pytest.approx(0.3, abs=0.05)
    far = stats.genpareto.isf(1e-5, 0.3)
    assert got.probability(far) == pytest.approx(1e-5, rel=0.6)


def test_pareto_below_its_threshold_is_empirical():
    tail = ParetoTail((1.0, 2.0, 3.0), 5, 1.0, 0.0)
    assert tail.probability([0.5, 1.5, 3.0]) == pytest.approx([1.0, 5 / 6, 4 / 6])
    assert tail.probability(4.0) == pytest.approx(3 / 6 * np.exp(-1))


def test_a_spread_from_few_values_makes_tails_of_student(rng):
    held_out = rng.normal(0, 1, (20_000, 6))
    new = rng.normal(0, 1, 20_000)
    chances = [
        student_probability(value, row.mean(), row.std(ddof=1), 6)
        for value, row in zip(new[:4000], held_out, strict=False)
    ]
    assert stats.kstest(np.ravel(chances), "uniform").pvalue > 1e-3
    assert student_probability(1e30, 0, 1, 6, floor=1e-12) == 1e-12
    assert student_probability(0, 0, 1, 6) == 1


@pytest.mark.parametrize("tail", [gumbel_tail, pareto_tail])
def test_what_has_no_tail_is_refused(tail, maxima):
    for few in ([1.0, 2.0], [], [np.nan] * 20, [1.0, np.inf] * 10):
        with pytest.raises(ValueError, match="at least 8 finite"):
            tail(few)
    with pytest.raises(ValueError, match="does not vary"):
        tail(np.zeros(30))
    with pytest.raises(ValueError, match="confidence"):
        tail(maxima, confidence=1.0)
    with pytest.raises(ValueError, match="NaN has no probability"):
        tail(maxima).probability(np.nan)


def test_numbers_that_make_no_tail_are_refused(maxima):
    with pytest.raises(ValueError, match="largest"):
        pareto_tail(np.r_[0.0, np.ones(30)])
    with pytest.raises(ValueError, match="share"):
        pareto_tail(maxima, share=0)
    for spread, n in ((0.0, 5), (np.nan, 5), (1.0, 1)):
        with pytest.raises(ValueError, match="positive spread"):
            student_probability(1.0, 0.0, spread, n)
