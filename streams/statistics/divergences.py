"""Divergences of two samples, bin by bin: blind to how far apart bins are.

All take counts of many histograms one behind the other, shape (bins,), and `starts`, shape (histograms,),
and return one number for each histogram, 0 where a sample is empty. They refuse, with a ValueError, counts
that are negative, not finite or over different bins. A finite sample alone makes each of them positive:
compare them with what held-out samples of the same sizes give.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import rel_entr

from streams.statistics.counts import Floats, inverse, pair_of


def jensen_shannon_divergence(
    first: npt.ArrayLike, second: npt.ArrayLike, starts: npt.ArrayLike = (0,)
) -> Floats:
    """Jensen-Shannon divergence, in nats: mean relative entropy to the mixture (Lin 1991).

    Between 0 and ln 2. Its square root is the distance that ``scipy.spatial.distance.jensenshannon`` gives.
    """
    pair = pair_of(first, second, starts)
    one, two = pair.densities
    middle = (one + two) / 2.0
    divergence = pair.total(rel_entr(one, middle) + rel_entr(two, middle)) / 2.0
    return np.where(pair.both, np.maximum(divergence, 0.0), 0.0)


def jensen_shannon_distance(
    first: npt.ArrayLike, second: npt.ArrayLike, starts: npt.ArrayLike = (0,)
) -> Floats:
    """Jensen-Shannon distance: square root of the divergence, a metric (Endres and Schindelin 2003)."""
    return np.sqrt(jensen_shannon_divergence(first, second, starts))


def population_stability(first: npt.ArrayLike, second: npt.ArrayLike, starts: npt.ArrayLike = (0,)) -> Floats:
    """Return the population stability index without its bias.

    ``sum (p - q) ln(p / q) - (B - 1)(1/n + 1/m)``.

    ``B`` counts the bins that are not empty in both samples. The bias is the expectation of the index of two
    samples of one distribution (Yurdakul and Naranjo 2020, doi:10.21314/JRMV.2020.227), so the result
    scatters around 0 when nothing has drifted and may be negative. A bin empty in one sample only counts
    half an entry there; where that matters, merge rare bins first.
    """
    pair = pair_of(first, second, starts)
    used = (pair.first > 0) | (pair.second > 0)
    one = np.where(pair.first > 0, pair.first, 0.5) * pair.spread(inverse(pair.n))
    two = np.where(pair.second > 0, pair.second, 0.5) * pair.spread(inverse(pair.m))
    known = used & (pair.spread(pair.n * pair.m) > 0)
    ratio = np.divide(one, two, out=np.ones_like(one), where=known)
    index = pair.total(np.where(known, (one - two) * np.log(ratio), 0.0))
    bias = (pair.total(used.astype(np.float64)) - 1.0) * (inverse(pair.n) + inverse(pair.m))
    return np.where(pair.both, index - bias, 0.0)


def hellinger(first: npt.ArrayLike, second: npt.ArrayLike, starts: npt.ArrayLike = (0,)) -> Floats:
    """Hellinger distance, in 0..1: ``sqrt(sum (sqrt(p) - sqrt(q))^2 / 2)`` (Hellinger 1909)."""
    pair = pair_of(first, second, starts)
    one, two = pair.densities
    return np.where(pair.both, np.sqrt(pair.total((np.sqrt(one) - np.sqrt(two)) ** 2) / 2.0), 0.0)


def total_variation(first: npt.ArrayLike, second: npt.ArrayLike, starts: npt.ArrayLike = (0,)) -> Floats:
    """Total variation distance, in 0..1: the largest difference in probability of any set of bins."""
    pair = pair_of(first, second, starts)
    one, two = pair.densities
    return np.where(pair.both, pair.total(np.abs(one - two)) / 2.0, 0.0)
