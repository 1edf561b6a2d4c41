"""Chi-squared tests of two histograms that know both are samples, with or without weights.

N. D. Gagunashvili, arXiv:physics/0605123 and arXiv:0905.4221: what ROOT's ``TH1::Chi2Test`` does under the
options UU, UW and WW. Merge rare bins first (`streams.statistics.merging`), by the reference alone.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from streams.statistics.counts import Floats, Pair, checked_counts, inverse, pair_of


@dataclass(frozen=True, eq=False)
class ChiSquared:
    """Chi-squared tests of many histograms.

    Attributes
    ----------
    statistic
        Shape (histograms,); 0 where a sample is empty.
    degrees
        Degrees of freedom: bins that are not empty in both samples, less one.
    probability
        Of a statistic as large or larger if both are samples of one distribution; 1 where `degrees` is 0.
    """

    statistic: Floats
    degrees: npt.NDArray[np.int64]
    probability: Floats


def chi_squared(first: npt.ArrayLike, second: npt.ArrayLike, starts: npt.ArrayLike = (0,)) -> ChiSquared:
    """Compare two samples without weights (UU): ``sum (M n - N m)^2 / (n + m) / (N M)``.

    Parameters
    ----------
    first, second
        Counts of all histograms one behind the other, shape (bins,).
    starts
        Where each histogram begins, shape (histograms,).

    Raises
    ------
    ValueError
        The counts do not fit each other, or one is negative or not finite.
    """
    pair = pair_of(first, second, starts)
    terms = (pair.spread(pair.m) * pair.first - pair.spread(pair.n) * pair.second) ** 2
    statistic = pair.total(terms * inverse(pair.first + pair.second)) * inverse(pair.n * pair.m)
    return _result(pair, statistic)


def chi_squared_weighted_reference(
    first: npt.ArrayLike, second: npt.ArrayLike, squares: npt.ArrayLike, starts: npt.ArrayLike = (0,)
) -> ChiSquared:
    """Compare a sample without weights with a weighted one (UW).

    The common probability of each bin is estimated from both samples.

    Parameters
    ----------
    first
        Counts, shape (bins,).
    second, squares
        Sums of weights and of squared weights, shape (bins,).
    starts
        Where each histogram begins, shape (histograms,).

    Raises
    ------
    ValueError
        Bins do not fit each other, a number is negative or not finite, or a bin that holds entries has no
        squared weights, so that its error is unknown.
    """
    pair = pair_of(first, second, starts)
    variance = _variances(squares, pair.second, "second")
    if np.any((variance == 0) & (pair.first > 0)):
        raise ValueError("entries where the weighted sample has none: merge rare bins of the reference first")
    n, weight = pair.spread(pair.n), pair.spread(pair.m)
    lead = weight * pair.second - n * variance
    root = np.sqrt(lead**2 + 4.0 * weight**2 * variance * pair.first)
    # the same root of the quadratic in two forms, of which one cancels badly
    stable = 2.0 * variance * pair.first * inverse(np.where(lead < 0, root - lead, 0.0))
    chance = np.where(lead >= 0, (lead + root) * inverse(2.0 * weight**2), stable)
    terms = (pair.first - n * chance) ** 2 * inverse(n * chance)
    terms = terms + (pair.second - weight * chance) ** 2 * inverse(variance)
    return _result(pair, pair.total(terms))


def chi_squared_weighted(
    first: npt.ArrayLike,
    first_squares: npt.ArrayLike,
    second: npt.ArrayLike,
    second_squares: npt.ArrayLike,
    starts: npt.ArrayLike = (0,),
) -> ChiSquared:
    """Compare two weighted samples (WW): ``sum (V w - W v)^2 / (V^2 s_w^2 + W^2 s_v^2)``.

    Parameters
    ----------
    first, first_squares
        Sums of weights and of squared weights of the first sample, shape (bins,).
    second, second_squares
        The same of the second.
    starts
        Where each histogram begins, shape (histograms,).

    Raises
    ------
    ValueError
        Bins do not fit each other, a number is negative or not finite, or weights have no squares.
    """
    pair = pair_of(first, second, starts)
    one = _variances(first_squares, pair.first, "first")
    two = _variances(second_squares, pair.second, "second")
    n, m = pair.spread(pair.n), pair.spread(pair.m)
    terms = (m * pair.first - n * pair.second) ** 2 * inverse(m**2 * one + n**2 * two)
    return _result(pair, pair.total(terms))


def _variances(squares: npt.ArrayLike, weights: Floats, name: str) -> Floats:
    variance = checked_counts(squares, f"squared weights of the {name} sample")
    if variance.shape != weights.shape or np.any((variance == 0) & (weights > 0)):
        raise ValueError(
            f"the {name} sample needs the sum of squared weights of every bin that holds weights"
        )
    return variance


def _result(pair: Pair, statistic: Floats) -> ChiSquared:
    used = pair.total(((pair.first > 0) | (pair.second > 0)).astype(np.float64)).astype(np.int64)
    degrees = np.where(pair.both, np.maximum(used - 1, 0), 0)
    value = np.where(pair.both & (degrees > 0), statistic, 0.0)
    probability = np.where(degrees > 0, special.chdtrc(np.maximum(degrees, 1), value), 1.0)
    return ChiSquared(value, degrees, probability)
