"""Whatever the counts, no statistic of two samples returns NaN or infinity, and none changes its input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.statistics import chi_squared, distances, divergences, residuals

STATISTICS = {
    "ks": distances.ks_distances,
    "wasserstein": distances.wasserstein_distances,
    "wasserstein in spreads": distances.wasserstein_in_spreads,
    "jensen shannon": divergences.jensen_shannon_distance,
    "population stability": divergences.population_stability,
    "hellinger": divergences.hellinger,
    "total variation": divergences.total_variation,
    "chi squared": lambda one, two, starts: chi_squared.chi_squared(one, two, starts).statistic,
    "mean": lambda one, two, starts: residuals.moment_residuals(one, two, starts).mean_pull,
    "spread": lambda one, two, starts: residuals.moment_residuals(one, two, starts).spread_pull,
}
SPARSE = st.lists(st.sampled_from([0, 0, 0, 1, 2, 30, 10**9]), min_size=7, max_size=7)


@pytest.mark.parametrize("name", STATISTICS)
@given(first=SPARSE, second=SPARSE)
def test_statistics_of_any_counts_are_finite(name, first, second):
    one, two = np.array(first), np.array(second)
    one.flags.writeable = two.flags.writeable = False
    got = STATISTICS[name](one, two, np.array([0, 1, 3]))
    assert got.shape == (3,)
    assert np.all(np.isfinite(got))


@pytest.mark.parametrize("name", STATISTICS)
def test_equal_samples_do_not_differ(name):
    counts = np.array([5, 40, 300, 70, 9, 0, 2])
    got = STATISTICS[name](counts, counts, np.array([0]))
    assert got <= 1e-12


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_of_many_histograms_are_those_of_each(name):
    rng = np.random.default_rng(3)
    one, two, starts = rng.poisson(40, 30), rng.poisson(90, 30), np.array([0, 11, 12])
    together = STATISTICS[name](one, two, starts)
    for index, (begin, end) in enumerate([(0, 11), (11, 12), (12, 30)]):
        assert together[index] == pytest.approx(
            STATISTICS[name](one[begin:end], two[begin:end], np.array([0]))[0], abs=1e-9
        )
