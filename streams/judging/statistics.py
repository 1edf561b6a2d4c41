"""Statistics of binned counts: how far two samples are apart, and how rare that is.

Works on full-resolution counts of integer codes, for which the Kolmogorov-Smirnov distance and the
Wasserstein distance equal those of the raw values. Refuses to know what an input, a window or a
reference is: counts and numbers in, numbers out.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Counts = npt.NDArray[np.integer] | npt.NDArray[np.floating]

EULER_GAMMA = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class KolmogorovSmirnov:
    """Two-sample Kolmogorov-Smirnov statistic.

    Attributes
    ----------
    distance
        Largest distance of the two empirical distribution functions, in 0..1.
    scaled
        ``distance * sqrt(n m / (n + m))``, comparable between samples of different sizes; 0 if one is empty.
    """

    distance: float
    scaled: float


@dataclass(frozen=True, slots=True)
class MeanResidual:
    """Difference of two means of integer codes.

    Attributes
    ----------
    shift
        Mean of the first sample minus mean of the second, in codes (LSB).
    pull
        ``shift`` over its standard error. 0 where the standard error vanishes and the means agree,
        infinite where it vanishes and they do not.
    """

    shift: float
    pull: float


def _checked_pair(first: Counts, second: Counts) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    one = np.asarray(first, dtype=np.float64)
    two = np.asarray(second, dtype=np.float64)
    if one.ndim != 1 or one.shape != two.shape:
        message = f"counts need one dimension and equal bins, got shapes {one.shape} and {two.shape}"
        raise ValueError(message)
    return one, two


def ks_from_counts(first: Counts, second: Counts) -> KolmogorovSmirnov:
    """Kolmogorov-Smirnov statistic of two samples given as counts over the same ordered bins.

    Parameters
    ----------
    first, second
        Counts, shape (bins,); one bin per integer code makes the result exact.

    Returns
    -------
    KolmogorovSmirnov
        Equal to ``scipy.stats.ks_2samp(...).statistic`` of the raw codes. Zero if a sample is empty.

    Notes
    -----
    Ties make the asymptotic distribution conservative: compare ``scaled`` with calibrated thresholds,
    not with the table (Noether 1963).
    """
    one, two = _checked_pair(first, second)
    n, m = float(one.sum()), float(two.sum())
    if n <= 0 or m <= 0:
        return KolmogorovSmirnov(0.0, 0.0)
    distance = float(np.max(np.abs(np.cumsum(one) / n - np.cumsum(two) / m)))
    return KolmogorovSmirnov(distance, distance * float(np.sqrt(n * m / (n + m))))


def wasserstein_from_counts(first: Counts, second: Counts, *, bin_width: float = 1.0) -> float:
    """First Wasserstein distance (earth mover's) of two samples given as counts over equidistant bins.

    Parameters
    ----------
    first, second
        Counts, shape (bins,).
    bin_width
        Distance of neighbouring bins in the unit wanted, for instance the LSB in GeV.

    Returns
    -------
    float
        Equal to ``scipy.stats.wasserstein_distance`` of the raw values. Zero if a sample is empty.
    """
    one, two = _checked_pair(first, second)
    n, m = float(one.sum()), float(two.sum())
    if n <= 0 or m <= 0:
        return 0.0
    return float(np.abs(np.cumsum(one) / n - np.cumsum(two) / m).sum()) * bin_width


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


def mean_residual(first: Counts, second: Counts) -> MeanResidual:
    """Difference of the means of two samples given as counts over consecutive integer codes.

    Parameters
    ----------
    first, second
        Counts, shape (bins,).

    Returns
    -------
    MeanResidual
        In codes, with Welch's standard error. Zero if a sample is empty.
    """
    one, two = _checked_pair(first, second)
    n, m = float(one.sum()), float(two.sum())
    if n <= 0 or m <= 0:
        return MeanResidual(0.0, 0.0)
    codes = np.arange(one.size, dtype=np.float64)
    mean_one, mean_two = float(codes @ one) / n, float(codes @ two) / m
    variance_one = float(((codes - mean_one) ** 2) @ one) / n
    variance_two = float(((codes - mean_two) ** 2) @ two) / m
    shift = mean_one - mean_two
    error = float(np.sqrt(variance_one / n + variance_two / m))
    if error > 0:
        return MeanResidual(shift, shift / error)
    return MeanResidual(shift, 0.0 if shift == 0 else float(np.copysign(np.inf, shift)))


def share_budget(budget: float, families: int) -> float:
    """False-alarm probability each of several OR-ed families may spend (Sidak).

    Raises
    ------
    ValueError
        If the budget is not a probability in (0, 1) or there is no family.
    """
    if not 0 < budget < 1 or families < 1:
        message = f"a budget in (0, 1) and at least one family are needed, got {budget} and {families}"
        raise ValueError(message)
    return float(-np.expm1(np.log1p(-budget) / families))


def gumbel_threshold(maxima: npt.NDArray[np.float64], probability: float) -> float:
    """Value that a maximum like those observed exceeds with the given probability.

    Fits a Gumbel distribution by its moments. Extremes of bounded or Gaussian tails fall faster than
    Gumbel's, so the extrapolation errs to the side of fewer false alarms.

    Parameters
    ----------
    maxima
        In-control statistics, one per lumisection, shape (lumisections,), at least two.
    probability
        Tail probability in (0, 1).

    Returns
    -------
    float
        The threshold; never below the largest value observed.

    Raises
    ------
    ValueError
        If fewer than two finite maxima are given.
    """
    values = np.asarray(maxima, dtype=np.float64)
    if values.size < 2 or not np.all(np.isfinite(values)):
        message = f"at least two finite maxima are needed to fit their distribution, got {values.size}"
        raise ValueError(message)
    scale = float(np.std(values, ddof=1)) * float(np.sqrt(6.0)) / float(np.pi)
    location = float(np.mean(values)) - EULER_GAMMA * scale
    quantile = location - scale * float(np.log(-np.log1p(-probability)))
    return max(quantile, float(values.max()))


def normal_threshold(probability: float) -> float:
    """Absolute pull that a standard normal variable exceeds with the given two-sided probability."""
    return float(stats.norm.isf(probability / 2.0))


def poisson_interval(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Central (Garwood) interval of a Poisson mean after ``count`` observations."""
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if count == 0 else float(stats.chi2.ppf(tail, 2 * count) / 2.0)
    return low, float(stats.chi2.isf(tail, 2 * (count + 1)) / 2.0)


def kolmogorov_threshold(probability: float) -> float:
    """Scaled distance that two large samples of one continuous distribution exceed with this probability.

    Asymptotic (Kolmogorov 1933); conservative where codes tie.
    """
    return float(stats.kstwobign.isf(probability))
