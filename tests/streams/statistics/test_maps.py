"""Scans of maps find what is dead or hot, around the circle of phi too."""

import numpy as np
import pytest
from scipy import stats

from streams.statistics.maps import WINDOWS, residual_map, scan_map

SHAPE = (32, 36)


@pytest.fixture
def density(rng):
    values = rng.gamma(4.0, 1.0, SHAPE)
    return values / values.sum()


@pytest.fixture
def observed(rng, density):
    return rng.multinomial(100_000, density.ravel()).reshape(SHAPE)


def _brute(observed, density, size, minimum, windows):
    best, total = (0.0, 0, 0, (1, 1)), observed.sum()
    for high, wide in windows:
        if wide > SHAPE[1]:
            continue
        for eta in range(SHAPE[0] - high + 1):
            for phi in range(SHAPE[1]):
                cells = np.ix_(range(eta, eta + high), [(phi + step) % SHAPE[1] for step in range(wide)])
                p = density[cells].sum()
                if total * p < minimum:
                    continue
                found = observed[cells].sum()
                likelihoods = stats.binom.logpmf(found, total, [found / total, min(p, 1)])
                z = np.sign(found - total * p) * np.sqrt(
                    2 * np.diff(likelihoods[::-1])[0] / (1 + total / size)
                )
                if abs(z) > abs(best[0]):
                    best = (z, eta, phi, (high, wide))
    return best


@pytest.mark.parametrize("windows", [WINDOWS, ((1, 5), (4, 1), (2, 3)), ((32, 1), (1, 36), (40, 1), (1, 40))])
def test_the_scan_equals_a_look_at_every_window(observed, density, windows):
    got = scan_map(observed, density * 7, reference_size=300_000, minimum=90, windows=windows)
    pull, eta, phi, shape = _brute(observed, density, 300_000, 90, windows)
    assert got.pull == pytest.approx(pull, rel=1e-6)
    assert (got.eta, got.phi, got.shape) == (eta, phi, shape)


def test_a_dead_region_across_the_seam_of_phi_is_found(observed, density):
    observed[10:13, [34, 35, 0]] = 0
    got = scan_map(observed, density, reference_size=1e6)
    assert (got.eta, got.phi, got.shape) == (10, 34, (3, 3))
    assert got.observed == 0
    assert got.pull < -10


def test_a_hot_tower_is_found(observed, density):
    observed[20, 7] += 400
    got = scan_map(observed, density, reference_size=1e6)
    assert (got.eta, got.phi, got.shape) == (20, 7, (1, 1))
    assert got.expected == pytest.approx(observed.sum() * density[20, 7])
    assert got.pull > 10


def test_cells_have_the_pull_of_a_window_of_one(observed, density):
    pulls = residual_map(observed, density, reference_size=5e5)
    got = scan_map(observed, density, reference_size=5e5, windows=((1, 1),))
    assert np.abs(pulls).max() == pytest.approx(abs(got.pull))
    assert pulls[got.eta, got.phi] == pytest.approx(got.pull)


def test_pulls_have_unit_width_although_the_reference_is_finite(rng, density):
    pulls = [
        residual_map(
            rng.multinomial(60_000, density.ravel()).reshape(SHAPE),
            rng.multinomial(90_000, density.ravel()).reshape(SHAPE),
            reference_size=90_000,
            minimum=40,
        )
        for _ in range(20)
    ]
    assert np.std(np.array(pulls)[np.array(pulls) != 0]) == pytest.approx(1, abs=0.03)


def test_many_maps_at_once_are_those_one_by_one(rng, density):
    maps = rng.multinomial(50_000, density.ravel(), size=4).reshape(4, *SHAPE)
    together = residual_map(maps, density, reference_size=1e5)
    assert together == pytest.approx(
        np.array([residual_map(one, density, reference_size=1e5) for one in maps])
    )


def test_cells_that_expect_little_are_not_judged():
    pulls = residual_map([[500, 10], [0, 500]], [[0.49, 0.01], [0.01, 0.49]], minimum=20)
    assert pulls[0, 1] == pulls[1, 0] == 0
    assert pulls[0, 0] != 0


def test_empty_maps_and_full_certainty_say_nothing():
    empty, one = np.zeros(SHAPE), np.zeros(SHAPE)
    one[3, 3] = 50
    for observed, expected in ((empty, one), (one, empty), (one, one)):
        assert scan_map(observed, expected).pull == 0
        assert not residual_map(observed, expected).any()


def test_maps_that_do_not_fit_are_refused(density):
    with pytest.raises(ValueError, match="same cells"):
        residual_map(np.ones((3, 4)), density)
    with pytest.raises(ValueError, match="same cells"):
        residual_map(np.ones(36), np.ones(36))
    with pytest.raises(ValueError, match="sizes must be positive"):
        scan_map(density, density, reference_size=0)
    with pytest.raises(ValueError, match="one map"):
        scan_map(np.ones((2, 32, 36)), density)
    with pytest.raises(ValueError, match="no window of"):
        scan_map(density, density, windows=((33, 1),))
    with pytest.raises(ValueError, match="not negative"):
        scan_map(-density, density)


def test_the_largest_pull_of_many_cells_is_as_rare_as_that_of_normal_ones_on_either_side(rng, density):
    reference = rng.multinomial(300_000, density.ravel(), size=500).reshape(-1, *SHAPE)
    windows = rng.multinomial(40_000, density.ravel(), size=500).reshape(-1, *SHAPE)
    pulls = np.array(
        [
            scan_map(one, two, reference_size=300_000, windows=((1, 1),)).pull
            for one, two in zip(windows, reference, strict=True)
        ]
    )
    n_cells = np.sum(density * 40_000 >= 20)
    either_side = (1 - (1 - 2 * stats.norm.sf(3.5)) ** n_cells) / 2
    assert np.mean(pulls > 3.5) == pytest.approx(either_side, abs=0.07)
    assert np.mean(pulls < -3.5) == pytest.approx(either_side, abs=0.07)
