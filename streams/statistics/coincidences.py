"""Correlations of marks: whether two inputs are marked together as often as chance, or a reference, has it.

A mark is one bit of an event; the counts of pairs of marks are all that is needed. Knows no input and no
threshold.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.statistics.counts import Floats

Places = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class MarkCorrelations:
    """Shares of marked events and correlations of marks.

    Attributes
    ----------
    shares
        Share of the events in which each of d marks is set, in 0..1. Shape (d,).
    correlations
        Correlation of each pair, in -1..1; 0 where either mark does not vary. Shape (pairs,).
    """

    shares: Floats
    correlations: Floats


def mark_correlations(
    pairs: npt.NDArray[np.int64], places: tuple[Places, Places], n_events: int
) -> MarkCorrelations:
    """Correlate marks (Pearson's phi coefficient, Yule 1912).

    Parameters
    ----------
    pairs
        Events in which both marks of a pair are set, shape (pairs,). Any pairs, in any order; every mark is
        paired with itself too.
    places
        The two marks of each pair, 0 to d - 1, shape (pairs,) each.
    n_events
        Number of events, at least one.
    """
    first, second = places
    alone = first == second
    shares = np.zeros(int(alone.sum()))
    shares[first[alone]] = pairs[alone] / n_events
    spread = np.sqrt(shares * (1.0 - shares))
    scale = spread[first] * spread[second]
    covariance = pairs / n_events - shares[first] * shares[second]
    found = np.divide(covariance, scale, out=np.zeros(len(pairs)), where=scale > 0)
    return MarkCorrelations(shares, np.clip(found, -1.0, 1.0))


def correlation_variances(expected: MarkCorrelations, places: tuple[Places, Places]) -> Floats:
    """Return the variance of each correlation of marks times the number of events, shape (pairs,).

    ``1 - r^2 + s t (r + r^3 / 2) - 3/4 r^2 (s^2 + t^2)``, where s and t are the skewnesses of both marks
    (Yule 1912; Bishop, Fienberg and Holland 1975, section 11.3). 0 where either mark does not vary.
    """
    first, second = places
    spread = np.sqrt(expected.shares * (1.0 - expected.shares))
    skew = np.divide(1.0 - 2.0 * expected.shares, spread, out=np.zeros(len(spread)), where=spread > 0)
    r, s, t = expected.correlations, skew[first], skew[second]
    variance = 1.0 - r**2 + s * t * (r + r**3 / 2) - 0.75 * r**2 * (s**2 + t**2)
    varies = (spread[first] > 0) & (spread[second] > 0)
    return np.where(varies, np.maximum(variance, 0.0), 0.0)


def rarest_cells(expected: MarkCorrelations, places: tuple[Places, Places]) -> Floats:
    """Return the share of events in the rarest of the four cells that two marks make, shape (pairs,)."""
    first, second = places
    spread = np.sqrt(expected.shares * (1.0 - expected.shares))
    one, other = expected.shares[first], expected.shares[second]
    both = one * other + expected.correlations * spread[first] * spread[second]
    rarest: Floats = np.minimum.reduce([both, one - both, other - both, 1.0 - one - other + both])
    return np.maximum(rarest, 0.0)


def swapped_marks(
    change: Floats, weights: Floats, expected: Floats, places: tuple[Places, Places], n_marks: int
) -> tuple[Floats, Floats]:
    """Look for two marks that were exchanged: a matched filter over all their correlations.

    An exchange of marks i and j gives i's correlation with every other k to j, and j's to i. Projecting the
    changes on that is the most powerful test of it if the changes are independent and normal (Turin, IRE
    Transactions on Information Theory 6, 311, 1960).

    Parameters
    ----------
    change
        Correlations less expected ones, shape (pairs,).
    weights
        Inverse variance of each change, 0 for those not to be used. Shape (pairs,).
    expected
        The expected correlations, shape (pairs,).
    n_marks
        Number of marks, d.

    Returns
    -------
    Of each two marks the share of the events in which they look exchanged, 0 where that cannot be seen, and
    its inverse standard deviation: shape (pairs,) each.
    """
    used = np.where(places[0] != places[1], weights, 0.0)
    w, wc, r = (np.zeros((n_marks, n_marks)) for _ in range(3))
    for matrix, values in (
        (w, used),
        (wc, used * change),
        (r, np.where(places[0] != places[1], expected, 0.0)),
    ):
        matrix[places] = values
        matrix.T[places] = values
    along = wc @ r
    along = along + along.T - np.diag(along)[:, np.newaxis] - np.diag(along) + 2 * wc * r
    square, cross, own = w @ r**2, (w * r) @ r, (w * r**2).sum(axis=1)
    norm = square + square.T - 2 * (cross + cross.T) + own[:, np.newaxis] + own - 2 * w * r**2
    norm = np.where(places[0] != places[1], np.maximum(norm[places], 0.0), 0.0)
    share = np.divide(along[places], norm, out=np.zeros(len(norm)), where=norm > 0)
    return share, np.sqrt(norm)
