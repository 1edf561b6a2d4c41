"""Chi-squared tests of two histograms: their values, and how often they are exceeded."""

import numpy as np
import pytest
from scipy import optimize, stats

from streams.statistics.chi_squared import chi_squared, chi_squared_weighted, chi_squared_weighted_reference
from streams.statistics.merging import merge_rare_bins


def test_without_weights_it_equals_scipy(many):
    merging = merge_rare_bins(many.counts[1], many.starts)
    first, second = (merging.apply(counts) for counts in many.counts)
    got = chi_squared(first, second, merging.starts)
    ends = [*merging.starts[1:], len(first)]
    for index, (begin, end) in enumerate(zip(merging.starts, ends, strict=True)):
        expected = stats.chi2_contingency([first[begin:end], second[begin:end]], correction=False)
        assert got.statistic[index] == pytest.approx(expected.statistic)
        assert got.degrees[index] == expected.dof
        assert got.probability[index] == pytest.approx(expected.pvalue, rel=1e-9)


def test_with_a_weighted_reference_the_common_probability_is_the_most_likely_one():
    first, second, squares = np.array([12.0, 30.0]), np.array([31.0, 60.0]), np.array([50.0, 81.0])
    got = chi_squared_weighted_reference(first, second, squares)
    n, weight = 42.0, 91.0
    total = 0.0
    for count, sum_, variance in zip(first, second, squares, strict=True):

        def cost(p, count=count, sum_=sum_, variance=variance):
            return n * p - count * np.log(n * p) + (sum_ - weight * p) ** 2 / (2 * variance)

        p = optimize.minimize_scalar(cost, bounds=(1e-6, 1), options={"xatol": 1e-12}).x
        # p maximises the likelihood of Poisson counts and of normal sums of weights
        total += (count - n * p) ** 2 / (n * p) + (sum_ - weight * p) ** 2 / variance
    assert got.statistic[0] == pytest.approx(total, rel=1e-6)
    assert got.degrees[0] == 1


def test_two_weighted_samples_worked_by_hand():
    got = chi_squared_weighted([1, 3], [1, 2], [3, 3], [4, 2])
    assert got.statistic[0] == pytest.approx((6 * 1 - 4 * 3) ** 2 / (36 + 64) + (6 * 3 - 12) ** 2 / (72 + 32))
    assert got.degrees[0] == 1


def test_weights_of_one_change_little(many):
    merging = merge_rare_bins(many.counts[1], many.starts, 50)
    first, second = (merging.apply(counts) for counts in many.counts)
    plain = chi_squared(first, second, merging.starts)
    weighted = chi_squared_weighted_reference(first, second, second, merging.starts)
    assert weighted.statistic == pytest.approx(plain.statistic, rel=0.05)
    assert weighted.degrees.tolist() == plain.degrees.tolist()


def test_all_three_are_exceeded_as_often_as_they_say(rng):
    shares = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    found = {"UU": [], "UW": [], "WW": []}
    for _ in range(600):
        first, second, third = rng.multinomial(1000, shares), *rng.multinomial(800, shares, size=2)
        # half of the entries of a weighted sample have weight 1, the others weight 3
        light = rng.binomial([second, third], 0.5)
        weights, squares = (
            3 * np.array([second, third]) - 2 * light,
            9 * np.array([second, third]) - 8 * light,
        )
        found["UU"].append(chi_squared(first, second).probability[0])
        found["UW"].append(chi_squared_weighted_reference(first, weights[0], squares[0]).probability[0])
        found["WW"].append(
            chi_squared_weighted(weights[0], squares[0], weights[1], squares[1]).probability[0]
        )
    for probabilities in found.values():
        assert stats.kstest(probabilities, "uniform").pvalue > 1e-3


def test_samples_without_entries_or_with_one_bin_say_nothing():
    for first, second in (([0, 0], [1, 1]), ([1, 1], [0, 0]), ([0, 0], [0, 0]), ([4, 0], [9, 0])):
        got = chi_squared(first, second)
        assert (got.statistic[0], got.degrees[0], got.probability[0]) == (0, 0, 1)


def test_weights_without_an_error_are_refused():
    with pytest.raises(ValueError, match="merge rare bins"):
        chi_squared_weighted_reference([5, 1], [9, 0], [9, 0])
    with pytest.raises(ValueError, match="squared weights of every bin"):
        chi_squared_weighted_reference([5, 1], [9, 2], [9, 0])
    with pytest.raises(ValueError, match="squared weights of every bin"):
        chi_squared_weighted([5, 1], [5], [9, 2], [9, 4])
    with pytest.raises(ValueError, match="not negative"):
        chi_squared([5, -1], [9, 2])
