"""Correlations of marks are Pearson's, and their variance is the one that samples show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.statistics.coincidences import (
    correlation_variances,
    mark_correlations,
    rarest_cells,
    swapped_marks,
)

PLACES = np.triu_indices(3)


def counted(marks):
    """Counts of pairs of marks, upper triangle with the diagonal."""
    numbers = marks.astype(np.int64)
    return (numbers.T @ numbers)[np.triu_indices(marks.shape[1])]


def correlated(rng, n_samples, n_events):
    """Marks of three inputs: the second follows the first, the third is rare and avoids both."""
    first = rng.random((n_samples, n_events)) < 0.3
    second = np.where(rng.random(first.shape) < 0.6, first, rng.random(first.shape) < 0.7)
    third = (rng.random(first.shape) < 0.06) & ~(first & second)
    return np.stack([first, second, third], axis=-1)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=2, max_size=40),
)
def test_correlations_are_those_of_numpy(events):
    marks = np.array(events)
    found = mark_correlations(counted(marks), PLACES, len(marks))
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.nan_to_num(np.atleast_2d(np.corrcoef(marks.T.astype(float))))
    varies = marks.any(axis=0) & ~marks.all(axis=0)
    expected = np.where(np.outer(varies, varies), expected, 0.0)
    np.testing.assert_allclose(found.correlations, expected[PLACES], atol=1e-9)
    np.testing.assert_allclose(found.shares, marks.mean(axis=0))


def test_the_variance_is_the_one_that_samples_show(rng):
    n_events = 2000
    samples = correlated(rng, 1500, n_events)
    whole = samples.reshape(-1, 3)
    truth = mark_correlations(counted(whole), PLACES, len(whole))
    found = np.array([mark_correlations(counted(one), PLACES, n_events).correlations for one in samples])
    pulls = (found - truth.correlations) / np.sqrt(correlation_variances(truth, PLACES) / n_events + 1e-30)
    different = PLACES[0] != PLACES[1]
    # 1500 samples know a spread to 2 %
    np.testing.assert_allclose(pulls[:, different].std(axis=0), 1.0, atol=0.08)
    np.testing.assert_allclose(pulls[:, different].mean(axis=0), 0.0, atol=0.12)


def test_marks_that_never_vary_say_nothing():
    marks = np.array([[True, False, True]] * 5 + [[True, False, False]] * 5)
    found = mark_correlations(counted(marks), PLACES, len(marks))
    assert found.correlations[PLACES[0] != PLACES[1]].tolist() == [0.0, 0.0, 0.0]
    assert correlation_variances(found, PLACES)[:2].tolist() == [0.0, 0.0]


def test_copies_have_no_variance():
    marks = np.array([[True, True, False]] * 5 + [[False, False, True]] * 7)
    found = mark_correlations(counted(marks), PLACES, len(marks))
    assert found.correlations[[1, 2]].tolist() == pytest.approx([1.0, -1.0])
    np.testing.assert_allclose(correlation_variances(found, PLACES), 0.0, atol=1e-9)


def test_the_rarest_cell_is_that_of_the_four(rng):
    marks = correlated(rng, 1, 5000)[0]
    found = mark_correlations(counted(marks), PLACES, len(marks))
    for place, (one, other) in enumerate(zip(*PLACES, strict=True)):
        cells = [
            np.count_nonzero((marks[:, one] == a) & (marks[:, other] == b))
            for a in (True, False)
            for b in (True, False)
        ]
        assert rarest_cells(found, PLACES)[place] * len(marks) == pytest.approx(min(cells), abs=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_two_exchanged_marks_are_found_with_their_share(rng, share):
    # given marks that go together in different ways, and events in part of which two are exchanged
    whole = correlated(rng, 1, 200_000)[0]
    marks = np.concatenate([whole, rng.random((len(whole), 1)) < 0.5 + 0.3 * whole[:, :1]], axis=1)
    places = np.triu_indices(4)
    expected = mark_correlations(counted(marks), places, len(marks))
    mixed = marks.copy()
    n_mixed = int(share * len(marks))
    mixed[:n_mixed, [0, 1]] = marks[:n_mixed, [1, 0]]
    # when they are looked for, with all pairs but one that knows nothing
    change = mark_correlations(counted(mixed), places, len(marks)).correlations - expected.correlations
    weights = len(marks) / np.maximum(correlation_variances(expected, places), 1e-3)
    found, inverse_error = swapped_marks(change, weights, expected.correlations, places, 4)
    # then they are the most significant two
    pulls = found * inverse_error
    best = int(np.argmax(pulls))
    assert (places[0][best], places[1][best]) == (0, 1)
    assert pulls[best] > 10
    assert found[best] == pytest.approx(share, abs=0.1)
    assert inverse_error[places[0] == places[1]].tolist() == [0.0] * 4


def test_the_filter_is_the_sum_over_all_other_marks(rng):
    d = 6
    places = np.triu_indices(d)
    change, weights, expected = rng.normal(size=(3, len(places[0])))
    weights = np.abs(weights) * (rng.random(len(weights)) > 0.2)
    full = np.zeros((3, d, d))
    for matrix, values in zip(full, (change, weights, expected), strict=True):
        matrix[places] = matrix.T[places] = values
    c, w, r = full
    share, inverse_error = swapped_marks(change, weights, expected, places, d)
    for number, (i, j) in enumerate(zip(*places, strict=True)):
        others = [k for k in range(d) if k not in (i, j)] if i != j else []
        moved = r[j, others] - r[i, others]
        norm = ((w[i, others] + w[j, others]) * moved**2).sum()
        along = ((w[i, others] * c[i, others] - w[j, others] * c[j, others]) * moved).sum()
        assert inverse_error[number] ** 2 == pytest.approx(norm, abs=1e-12)
        assert share[number] * norm == pytest.approx(along, abs=1e-12)
