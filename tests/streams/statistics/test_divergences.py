"""Divergences agree with scipy and with numbers worked by hand."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from streams.statistics import divergences

ALL = [
    divergences.jensen_shannon_divergence,
    divergences.jensen_shannon_distance,
    divergences.population_stability,
    divergences.hellinger,
    divergences.total_variation,
]


def test_jensen_shannon_equals_scipy(many):
    got = divergences.jensen_shannon_distance(*many.counts, many.starts)
    one, two = (counts.reshape(3, -1) for counts in many.counts)
    assert got == pytest.approx(jensenshannon(one, two, axis=1), abs=1e-12)
    assert divergences.jensen_shannon_divergence(*many.counts, many.starts) == pytest.approx(got**2)


def test_distances_worked_by_hand():
    first, second = [1, 1, 2], [2, 0, 2]
    assert divergences.total_variation(first, second) == pytest.approx(0.25)
    affinity = np.sqrt(1 / 8) + 0.5
    assert divergences.hellinger(first, second) == pytest.approx(np.sqrt(1 - affinity))
    assert divergences.jensen_shannon_divergence([1, 0], [0, 1]) == pytest.approx(np.log(2))


def test_population_stability_worked_by_hand():
    index = 0.2 * np.log(0.6 / 0.4) - 0.2 * np.log(0.4 / 0.6)
    assert divergences.population_stability([60, 40, 0], [40, 60, 0]) == pytest.approx(index - 0.02)


def test_population_stability_scatters_around_zero_when_nothing_drifts(rng):
    shares = np.full(20, 0.05)
    index = [
        divergences.population_stability(rng.multinomial(2000, shares), rng.multinomial(4000, shares))[0]
        for _ in range(400)
    ]
    error = np.std(index) / np.sqrt(len(index))
    assert abs(np.mean(index)) < 4 * error
    assert 20 * error < 19 * (1 / 2000 + 1 / 4000)


@pytest.mark.parametrize("statistic", ALL)
def test_empty_samples_diverge_by_nothing_and_disjoint_ones_by_something_finite(statistic):
    got = statistic([0, 0, 5, 0, 1, 0], [3, 3, 0, 5, 0, 0], [0, 2, 4])
    assert got[0] == 0
    assert got[2] == 0
    assert np.isfinite(got[1])
    assert got[1] > 0.5
    assert abs(statistic([4, 4], [4, 4])[0]) <= 0.5
    with pytest.raises(ValueError, match="not negative"):
        statistic([-1, 2], [1, 1])
