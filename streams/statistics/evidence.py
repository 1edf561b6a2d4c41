"""Evidence: p-values to e-values, and how rare the largest of many p-values or statistics is.

An e-value is a number whose mean is at most 1 if nothing has drifted, so that products over lumisections keep
their meaning whenever one looks. All are returned as logarithms.
"""

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import logsumexp

from streams.statistics.counts import Floats


def log_e_of_probability(probability: npt.ArrayLike) -> Floats:
    """Turn p-values into e-values with the mixture calibrator ``(1 - p + p ln p) / (p (ln p)^2)``.

    Vovk and Wang (2021, doi:10.1214/20-AOS2020), equation 2: the mean of all calibrators ``k p^(k - 1)``.

    Parameters
    ----------
    probability
        p-values in (0, 1].

    Returns
    -------
    Floats
        Logarithm of the e-value: ``-ln 2`` at p = 1, rising as p falls.

    Raises
    ------
    ValueError
        A p-value is not in (0, 1]: where one may be 0, give its test a floor.
    """
    u = -np.log(_probabilities(probability))
    # (exp(u) - 1 - u) / u^2, as a series where that cancels and without overflow where it is huge
    middle = np.clip(u, 1e-2, 30.0)
    series = 0.5 + u / 6.0 + u**2 / 24.0 + u**3 / 120.0
    known = np.where(u < 1e-2, series, (np.expm1(middle) - middle) / middle**2)
    huge = np.maximum(u, 30.0)
    return np.where(
        u > 30.0, huge - 2.0 * np.log(huge) + np.log1p(-(1.0 + huge) * np.exp(-huge)), np.log(known)
    )


def gaussian_log_e(
    value: npt.ArrayLike, error: npt.ArrayLike, tolerance: npt.ArrayLike, shifts: npt.ArrayLike
) -> Floats:
    """Return e-values of normal estimates against a mean within the tolerance, to either side.

    The average, over signs ``s`` and shifts ``d``, of the likelihood ratio of a mean ``s (tolerance + d)`` to
    the mean ``s tolerance``: ``exp(d (s x - tolerance) / error^2 - d^2 / (2 error^2))``. Its expectation with
    a mean ``mu`` is ``exp(d (s mu - tolerance) / error^2) <= 1`` for every ``mu`` in the null, and so is that
    of any mixture (Wald 1945; Ramdas et al. 2023, doi:10.1214/23-STS894).

    Parameters
    ----------
    value
        Estimates ``x``, of any shape.
    error
        Standard error of each, known, positive.
    tolerance
        Largest mean that is of no concern, in the unit of `value`, not negative.
    shifts
        How far beyond the tolerance the alternatives lie, in the unit of `value`, positive, shape (shifts,).

    Returns
    -------
    Floats
        Logarithm of the e-value, in the shape of `value`. Add those of independent lumisections.

    Raises
    ------
    ValueError
        There is no shift, or a number is not finite or has the wrong sign.
    """
    x, sigma, edge = (np.asarray(number, dtype=np.float64) for number in (value, error, tolerance))
    beyond = np.atleast_1d(np.asarray(shifts, dtype=np.float64))
    if not beyond.size or not all(np.all(np.isfinite(number)) for number in (x, sigma, edge, beyond)):
        raise ValueError("estimates, errors, tolerances and at least one shift must be finite")
    if np.any(sigma <= 0) or np.any(edge < 0) or np.any(beyond <= 0):
        raise ValueError("errors and shifts must be positive, and tolerances must not be negative")
    step = beyond / sigma[..., None]
    sides = np.stack(np.broadcast_arrays((x - edge) / sigma, (-x - edge) / sigma), axis=-1)
    exponents = step[..., None, :] * sides[..., None] - step[..., None, :] ** 2 / 2.0
    return np.asarray(logsumexp(exponents, axis=(-2, -1)) - np.log(2.0 * beyond.size))


def adjusted_for_discoveries(probability: npt.ArrayLike) -> Floats:
    """Adjust p-values so that those below ``q`` hold at most a share ``q`` of false discoveries on average.

    Benjamini and Hochberg (1995), by ``scipy.stats.false_discovery_control``, for p-values of independent or
    positively dependent tests, shape (tests,).

    Raises
    ------
    ValueError
        There is no p-value, or one is not in (0, 1].
    """
    values = np.atleast_1d(_probabilities(probability))
    if values.ndim != 1 or not values.size:
        raise ValueError(f"p-values of at least one test are needed, got shape {values.shape}")
    return np.asarray(stats.false_discovery_control(values, method="bh"))


def adjusted_for_maximum(observed: npt.ArrayLike, held_out: npt.ArrayLike) -> Floats:
    """Adjust for looking at many statistics at once, whatever their dependence: step-down max-T.

    Westfall and Young (1993), algorithm 4.1: each statistic is compared with the largest, in each held-out
    window, of itself and of those that deviate less.

    Parameters
    ----------
    observed
        Statistics that are large where something is wrong, shape (tests,).
    held_out
        The same of windows in control, shape (windows, tests).

    Returns
    -------
    Floats
        p-values of each test that hold for all together, at least ``1 / (windows + 1)``, shape (tests,).

    Raises
    ------
    ValueError
        Shapes do not fit, there is no test or no window, or a statistic is not a number.
    """
    values = np.asarray(observed, dtype=np.float64)
    control = np.asarray(held_out, dtype=np.float64)
    if values.ndim != 1 or control.ndim != 2 or control.shape[1] != values.size or not control.size:
        raise ValueError(
            f"statistics (tests,) and (windows, tests) are needed, got {values.shape} and {control.shape}"
        )
    if np.any(np.isnan(values)) or np.any(np.isnan(control)):
        raise ValueError("NaN cannot be compared: give what says nothing the value of no deviation")
    order = np.argsort(values, kind="stable")
    largest = np.maximum.accumulate(control[:, order], axis=1)
    chances = (1.0 + (largest >= values[order]).sum(axis=0)) / (len(control) + 1.0)
    result = np.empty(values.size)
    result[order[::-1]] = np.maximum.accumulate(chances[::-1])
    return result


def _probabilities(probability: npt.ArrayLike) -> Floats:
    values = np.asarray(probability, dtype=np.float64)
    if not np.all((values > 0) & (values <= 1)):
        raise ValueError("p-values must lie in (0, 1]: give the test a floor where one may be 0")
    return values
