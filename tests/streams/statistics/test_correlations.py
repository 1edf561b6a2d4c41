"""Correlations from merged sums are those of the raw values."""

import numpy as np
import pytest

from streams.statistics.correlations import MomentSums, correlation_residuals, correlations, moment_sums


def _inputs(rng, n, correlation=0.5):
    first = rng.normal(size=n)
    second = correlation * first + np.sqrt(1 - correlation**2) * rng.normal(size=n)
    columns = [15_000 + 3000 * first, 500 * second - 20_000, np.full(n, 7), rng.normal(0, 4, n)]
    return np.rint(np.stack(columns, axis=1)).astype(np.int16)


def test_sums_of_parts_are_exactly_those_of_the_whole(rng):
    inputs = _inputs(rng, 70_000)
    whole, parts = moment_sums(inputs), moment_sums(inputs[:123]) + moment_sums(inputs[123:])
    assert whole.n_events == parts.n_events == 70_000
    assert np.array_equal(whole.inputs, parts.inputs)
    assert np.array_equal(whole.products, parts.products)
    wide = inputs.astype(np.int64)
    assert np.array_equal(whole.products, wide.T @ wide)


def test_correlations_are_those_of_numpy(rng):
    inputs = _inputs(rng, 5000)
    got = correlations(moment_sums(inputs))
    varying = [0, 1, 3]
    assert got[np.ix_(varying, varying)] == pytest.approx(np.corrcoef(inputs[:, varying].T), abs=1e-12)
    assert not got[2].any()


def test_a_residual_is_a_difference_of_fisher_z(rng):
    one, two = moment_sums(_inputs(rng, 400)), moment_sums(_inputs(rng, 3000))
    got = correlation_residuals(one, two)
    expected = np.arctanh(correlations(one)[0, 1]) - np.arctanh(correlations(two)[0, 1])
    assert got[0, 1] == got[1, 0] == pytest.approx(expected / np.sqrt(1 / 397 + 1 / 2997))
    assert not np.diag(got).any()
    assert not got[2].any()


def test_residuals_have_unit_width_and_see_a_lost_correlation(rng):
    reference = moment_sums(_inputs(rng, 40_000))
    pulls = [correlation_residuals(moment_sums(_inputs(rng, 2000)), reference)[0, 1] for _ in range(150)]
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1, abs=0.25)
    swapped = _inputs(rng, 2000)
    swapped[:, 1] = rng.permutation(swapped[:, 1])
    assert correlation_residuals(moment_sums(swapped), reference)[0, 1] < -15


def test_copies_empty_samples_and_few_events_give_finite_residuals(rng):
    inputs = _inputs(rng, 300)
    copied = inputs.copy()
    copied[:, 1] = copied[:, 0]
    got = correlation_residuals(moment_sums(copied), moment_sums(inputs))
    assert np.all(np.isfinite(got))
    assert got[0, 1] > 50
    for few in (inputs[:0], inputs[:1], inputs[:3]):
        assert not correlation_residuals(moment_sums(few), moment_sums(inputs)).any()


def test_what_does_not_fit_is_refused(rng):
    inputs = _inputs(rng, 20)
    with pytest.raises(ValueError, match="int16"):
        moment_sums(inputs.astype(np.int32))
    with pytest.raises(ValueError, match="cannot be compared"):
        correlation_residuals(moment_sums(inputs), moment_sums(inputs[:, :2].copy()))
    with pytest.raises(ValueError, match="squared products"):
        correlations(MomentSums(3, np.ones(3, dtype=np.int64), np.ones((2, 2), dtype=np.int64)))
