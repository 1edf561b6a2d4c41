"""Differences of moments agree with scipy on the raw values."""

import numpy as np
import pytest

from streams.statistics import residuals


def test_moments_of_many_histograms_are_those_of_the_raw_values(many):
    got = residuals.moment_residuals(*many.counts, many.starts)
    for index, (one, two) in enumerate(many.pairs):
        assert got.mean_shift[index] == pytest.approx(one.mean() - two.mean())
        assert got.mean_pull[index] == pytest.approx(
            (one.mean() - two.mean()) / np.sqrt(one.var() / len(one) + two.var() / len(two))
        )
        assert got.spread_shift[index] == pytest.approx(np.log(one.std() / two.std()))


@pytest.mark.parametrize("tails", [0.0, 6.0])
def test_pull_of_the_spread_has_unit_width_whatever_the_tails(rng, tails):
    pulls = []
    for _ in range(400):
        one, two = (
            np.clip(np.rint(rng.normal(100, np.where(rng.random(size) < 0.1, 8 + 2 * tails, 8))), 0, 255)
            for size in (1500, 3000)
        )
        counts = [np.bincount(sample.astype(int), minlength=256) for sample in (one, two)]
        pulls.append(residuals.moment_residuals(*counts).spread_pull[0])
    assert np.std(pulls) == pytest.approx(1.0, abs=0.12)
    assert abs(np.mean(pulls)) < 0.25


def test_constant_empty_and_single_entries_give_finite_residuals():
    got = residuals.moment_residuals(
        [9, 0, 0, 0, 9, 0, 1, 0, 0, 0], [9, 0, 0, 9, 4, 5, 4, 5, 0, 0], [0, 2, 4, 6, 8]
    )
    assert got.mean_shift.tolist()[:2] == [0, 0]
    assert got.spread_pull.tolist()[:2] == [0, 0]
    assert got.mean_pull.tolist()[3:] == [0, 0]
    for values in (got.mean_shift, got.mean_pull, got.spread_shift, got.spread_pull):
        assert np.all(np.isfinite(values))
    apart = residuals.moment_residuals([0, 100], [100, 0])
    assert apart.mean_pull[0] == pytest.approx(1 / np.sqrt(2 / 100**2))
