"""Rates: how far a number of counted events is from the number expected."""

import numpy as np
from scipy import stats


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
    """
    if events <= 0 or events_expected <= 0:
        return 0.0
    pooled = (accepted + accepted_expected) / (events + events_expected)
    variance = pooled * (1.0 - pooled) * (1.0 / events + 1.0 / events_expected)
    if variance <= 0:
        return 0.0
    return (accepted / events - accepted_expected / events_expected) / float(np.sqrt(variance))


def poisson_interval(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Central (Garwood) interval of a Poisson mean after ``count`` observations."""
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if count == 0 else float(stats.chi2.ppf(tail, 2 * count) / 2.0)
    return low, float(stats.chi2.isf(tail, 2 * (count + 1)) / 2.0)
