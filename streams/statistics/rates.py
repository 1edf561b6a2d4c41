"""Rates: how far a number of counted events is from the number expected."""

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, gammainccinv, gammaincinv, xlogy

from streams.statistics.counts import Floats, checked_counts, inverse


def rate_pull(accepted: int, events: int, accepted_expected: int, events_expected: int) -> float:
    """Pull of one rate against another: the pooled two-proportion z statistic.

    Parameters
    ----------
    accepted, events
        Accepted and all events of the window.
    accepted_expected, events_expected
        The same of the reference, whose finite size counts as noise too.

    Returns
    -------
    float
        Positive when the window accepts more than expected; 0 if a sample is empty or nothing varies.

    Raises
    ------
    ValueError
        A number is negative or not finite, or more are accepted than there are events.
    """
    return float(rate_pulls(accepted, events, accepted_expected, events_expected))


def poisson_interval(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Central interval of a Poisson mean after ``count`` observations (Garwood 1936).

    Raises
    ------
    ValueError
        The count is negative, or the confidence is not in (0, 1).
    """
    if count < 0 or not 0 < confidence < 1:
        raise ValueError(
            f"a count from 0 and a confidence in (0, 1) are needed, got {count} and {confidence}"
        )
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if count == 0 else float(gammaincinv(count, tail))
    return low, float(gammainccinv(count + 1, tail))


def rate_pulls(
    counted: npt.ArrayLike,
    events: npt.ArrayLike,
    counted_expected: npt.ArrayLike,
    events_expected: npt.ArrayLike,
) -> Floats:
    """Return pulls of many rates (NaN, under- and overflow, presence, accept): `rate_pull` of each.

    All arguments broadcast. Few entries make the pull asymmetric: use `poisson_deviance_residuals` or
    `beta_binomial_pulls` where fewer than some 20 are expected.

    Raises
    ------
    ValueError
        A number is negative or not finite, or more are counted than there are events.
    """
    k, n, r, m = _checked_rates(counted, events, counted_expected, events_expected)
    pooled = (k + r) * inverse(n + m)
    variance = pooled * (1.0 - pooled) * (inverse(n) + inverse(m))
    known = (n > 0) & (m > 0) & (variance > 0)
    return np.where(known, (k * inverse(n) - r * inverse(m)) * inverse(np.sqrt(variance)), 0.0)


def beta_binomial_pulls(
    counted: npt.ArrayLike,
    events: npt.ArrayLike,
    counted_expected: npt.ArrayLike,
    events_expected: npt.ArrayLike,
    *,
    tolerance: float = 0.0,
) -> Floats:
    """Return pulls of counts against a finite reference that is trusted to a relative tolerance.

    Given ``r`` of ``m`` in the reference and a flat prior, ``k`` of ``n`` is beta-binomial with
    ``alpha = r' + 1`` and ``beta = m' - r' + 1``. The pull is ``sign(k - mode) sqrt(2 ln(P(mode) / P(k)))``,
    the likelihood of the most likely count over that of the one found, as in AutoDQM (CMS). The tolerance
    ``t`` scales the reference down to ``r' = r / (1 + r t^2)`` of ``m' = m / (1 + r t^2)``, whose relative
    error is ``sqrt(1 / r + t^2)``: the two errors in quadrature.

    Parameters
    ----------
    counted, events
        Counts of the window and the events they are of; all arguments broadcast.
    counted_expected, events_expected
        The same of the reference.
    tolerance
        Relative deviation of a rate that is of no concern, for instance 0.01.

    Returns
    -------
    Floats
        0 where a sample is empty.

    Raises
    ------
    ValueError
        A number is negative or not finite, or more are counted than there are events.
    """
    if not 0 <= tolerance < np.inf:
        raise ValueError(f"the tolerance must be finite and not negative, got {tolerance}")
    k, n, r, m = _checked_rates(counted, events, counted_expected, events_expected)
    scale = 1.0 / (1.0 + r * tolerance**2)
    alpha, beta = r * scale + 1.0, (m - r) * scale + 1.0
    mode = np.minimum(np.floor((n + 1.0) * r * inverse(m)), n)
    ratio = _log_likelihood(mode, n, alpha, beta) - _log_likelihood(k, n, alpha, beta)
    ratio = np.maximum(ratio, 0.0)
    return np.where((n > 0) & (m > 0), np.sign(k - mode) * np.sqrt(2.0 * ratio), 0.0)


def poisson_deviance_residuals(
    observed: npt.ArrayLike, reference: npt.ArrayLike, exposure: npt.ArrayLike
) -> Floats:
    """Signed likelihood-ratio residuals of Poisson counts against a reference that is a sample too.

    Given their sum, the observed count is binomial with the chance ``exposure / (1 + exposure)``
    (Przyborowski and Wilenski 1940); the root of its deviance is the significance of Li and Ma (1983,
    doi:10.1086/161295, equation 17). Unlike a pull it stays near a standard normal at a few counts.

    Parameters
    ----------
    observed, reference
        Counts of the window and of the reference; all arguments broadcast.
    exposure
        What the window has seen over what the reference has: events, or time.

    Returns
    -------
    Floats
        Positive where more is observed than expected; 0 where both counts are 0.

    Raises
    ------
    ValueError
        A count is negative or not finite, or an exposure is not positive.
    """
    k, r = checked_counts(observed, "observed counts"), checked_counts(reference, "counts of the reference")
    ratio = checked_counts(exposure, "exposures")
    if np.any(ratio == 0):
        raise ValueError("an exposure of 0 expects nothing: leave such windows out")
    both = k + r
    expected = both * ratio / (1.0 + ratio)
    rest = both - expected
    deviance = xlogy(k, k * inverse(expected)) + xlogy(r, r * inverse(rest))
    residual: Floats = np.sign(k - expected) * np.sqrt(2.0 * np.maximum(deviance, 0.0))
    return residual


def _log_likelihood(k: Floats, n: Floats, alpha: Floats, beta: Floats) -> Floats:
    """Return the logarithm of the beta-binomial probability, less what does not depend on `k`."""
    return np.asarray(betaln(k + alpha, n - k + beta) - betaln(k + 1.0, n - k + 1.0))


def _checked_rates(*numbers: npt.ArrayLike) -> tuple[Floats, Floats, Floats, Floats]:
    """Return counted and all, of the window and of the reference, broadcast against each other."""
    k, n, r, m = np.broadcast_arrays(*(checked_counts(number, "counts and events") for number in numbers))
    if np.any(k > n) or np.any(r > m):
        raise ValueError("more are counted than there are events: the totals belong to other counts")
    return k, n, r, m
