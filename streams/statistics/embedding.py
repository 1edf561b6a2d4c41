"""Mean embeddings: all inputs at once, in a few dozen sums that merge by addition.

Two samples of one distribution have the same mean of random Fourier features (Rahimi and Recht 2007); the
squared distance of the means is the maximum mean discrepancy of a Gaussian kernel (Gretton et al. 2012, JMLR
13, 723), which sees changes of correlation that no histogram of one input shows.

Features are small integers: phases are exact integer sums, and cosines come from a table. So sums are the
same whatever the order of events and however they were cut into batches.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, ndtri

from streams.statistics.counts import Floats
from streams.statistics.embedding_kernels import SUM_BITS, TABLE_BITS, find_places, sum_features

AMPLITUDE: Final = 127
"""A feature of 1 as an integer."""
TURN: Final = 2.0**32

_ANGLES: Final = (np.arange(2**TABLE_BITS) + 0.5) * (2.0 * np.pi / 2**TABLE_BITS)
_COSINES: Final = np.rint(AMPLITUDE * np.cos(_ANGLES)).astype(np.int64)
_SINES: Final = np.rint(AMPLITUDE * np.sin(_ANGLES)).astype(np.int64)
_PACKED: Final = (
    (_COSINES + AMPLITUDE)
    + ((_SINES + AMPLITUDE) << SUM_BITS)
    + ((_COSINES**2 + _SINES**2) << (2 * SUM_BITS))
)


@dataclass(frozen=True, eq=False)
class FeatureSums:
    """Sums of the features of some events; those of two samples add up to those of both.

    Attributes
    ----------
    features_of
        Fingerprint of the `FeatureMap`: sums of different features cannot be added or compared.
    n_events
        Number of events.
    sums
        Sum of each feature, int64, shape (n_features,).
    squares
        Sum of all squared features.
    products
        Sum of each product of two features, int64, shape (n_features, n_features); None where it was not
        asked for.
    """

    features_of: str
    n_events: int
    sums: npt.NDArray[np.int64]
    squares: int
    products: npt.NDArray[np.int64] | None = None

    def __add__(self, other: "FeatureSums") -> "FeatureSums":
        """Merge with the sums of other events; products are kept where both have them."""
        _check_features(self, other)
        both = self.products is not None and other.products is not None
        return FeatureSums(
            self.features_of,
            self.n_events + other.n_events,
            self.sums + other.sums,
            self.squares + other.squares,
            self.products + other.products if both else None,  # type: ignore[operator] # both have them
        )


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Random Fourier features of a Gaussian kernel on scaled integer inputs.

    The kernel of two events is ``exp(-|(x - y) / scale|^2 / (2 bandwidth^2))``.

    Attributes
    ----------
    seed
        Of the frequencies, from 0.
    n_features
        Even: a cosine and a sine of each frequency.
    scale
        Spread of each input in codes (LSB), shape (n_inputs,); an input with scale 0 takes no part.
    offset
        Code of each input that features are measured from, shape (n_inputs,). Changes no discrepancy.
    bandwidth
        Width of the kernel in scales; None for ``sqrt(n_inputs)``, about the median distance of two events
        with independent inputs over ``sqrt(2)``.

    Raises
    ------
    ValueError
        `n_features` is odd or not positive, shapes do not fit, or a scale or the bandwidth is not a width.
    """

    seed: int
    n_features: int
    scale: Floats
    offset: npt.NDArray[np.integer]
    bandwidth: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        scale, offset = np.asarray(self.scale), np.asarray(self.offset)
        width = self.bandwidth if self.bandwidth is not None else 1.0
        if self.n_features < 2 or self.n_features % 2:
            raise ValueError(f"features come in pairs of cosine and sine, got {self.n_features}")
        if scale.ndim != 1 or not scale.size or scale.shape != offset.shape:
            raise ValueError(
                f"each input needs a scale and an offset, got shapes {scale.shape} and {offset.shape}"
            )
        if not np.all(np.isfinite(scale) & (scale >= 0)) or not np.any(scale) or not 0 < width < np.inf:
            raise ValueError("scales must be finite, not negative and not all 0, and the bandwidth positive")
        if not np.issubdtype(offset.dtype, np.integer):
            raise ValueError(f"offsets are integer codes, got {offset.dtype}")

    @cached_property
    def weights(self) -> npt.NDArray[np.uint32]:
        """Frequencies in turns per code, times 2^32 and modulo it, shape (n_features / 2, n_inputs)."""
        scale = np.asarray(self.scale, dtype=np.float64)
        width = scale * (self.bandwidth if self.bandwidth is not None else np.sqrt(scale.size))
        # raw bits of a generator are the same in every version of numpy, its normal variates need not be
        raw = np.random.PCG64(self.seed).random_raw(self.n_features // 2 * scale.size)
        normal = ndtri(((raw >> np.uint64(11)) + 0.5) / 2.0**53).reshape(-1, scale.size)
        turns = np.divide(
            normal,
            2.0 * np.pi * width,
            out=np.zeros_like(normal),
            where=np.broadcast_to(width > 0, normal.shape),
        )
        return np.asarray(np.mod(np.rint(turns * TURN), TURN).astype(np.uint32))

    @cached_property
    def phases(self) -> npt.NDArray[np.uint32]:
        """Phase of each frequency at code 0, shape (n_features / 2,)."""
        offset = np.asarray(self.offset).astype(np.uint32)
        total: npt.NDArray[np.uint32] = (self.weights * offset).sum(axis=1, dtype=np.uint32)
        return np.negative(total)

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the features: sums of maps that differ in the least have different ones."""
        digest = hashlib.sha256()
        for array in (self.weights, self.phases, _PACKED):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def sums(self, inputs: npt.NDArray[np.int16], *, products: bool = False) -> FeatureSums:
        """Add up the features of events.

        Parameters
        ----------
        inputs
            Codes, int16, shape (n_events, n_inputs); fastest when column-contiguous.
        products
            Also add up products of features, as a reference needs: some five times slower.

        Raises
        ------
        ValueError
            The inputs are not int16, or not as many as there are scales.
        """
        columns = self._columns(inputs)
        sums = np.zeros((self.n_features // 2, 3), dtype=np.int64)
        sum_features(columns, self.weights, self.phases, _PACKED, sums)
        n_events = columns.shape[1]
        return FeatureSums(
            self.fingerprint,
            n_events,
            sums[:, :2].ravel() - AMPLITUDE * n_events,
            int(sums[:, 2].sum()),
            self._products(columns) if products else None,
        )

    def features(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Return the features of each event, in -127..127, cosine and sine in turn; shape (events, features).

        Raises
        ------
        ValueError
            As `sums`.
        """
        return self._features(self._columns(inputs)).T

    def _columns(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        if inputs.dtype != np.int16 or inputs.ndim != 2 or inputs.shape[1] != np.size(self.scale):
            raise ValueError(
                f"inputs must be int16 (events, {np.size(self.scale)}), got {inputs.dtype} {inputs.shape}"
            )
        return np.ascontiguousarray(inputs.T)

    def _features(self, columns: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        places = np.empty((self.n_features // 2, columns.shape[1]), dtype=np.int16)
        find_places(columns, self.weights, self.phases, places)
        values = np.stack([_COSINES.astype(np.int16)[places], _SINES.astype(np.int16)[places]], axis=1)
        return values.reshape(self.n_features, columns.shape[1])

    def _products(self, columns: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        total = np.zeros((self.n_features, self.n_features), dtype=np.int64)
        for start in range(0, columns.shape[1], 2**14):
            block = np.ascontiguousarray(columns[:, start : start + 2**14])
            # sums of integers below 2^53 are exact in any order
            values = self._features(block).astype(np.float64)
            total += (values @ values.T).astype(np.int64)
        return total


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Maximum mean discrepancy of two samples.

    Attributes
    ----------
    squared
        Unbiased estimate of its square, 0 on average where both are of one distribution; kernel of an event
        with itself is 1.
    pull
        The same over its standard deviation under that null: skewed to large values.
    probability
        Of a discrepancy as large or larger under the null.
    """

    squared: float
    pull: float
    probability: float


def discrepancy(window: FeatureSums, reference: FeatureSums) -> Discrepancy:
    """Compare two samples by the means of their features.

    ``|d|^2 - tr(S1) / n - tr(S2) / m`` for the difference ``d`` of the means is unbiased (Gretton et al.
    2012, lemma 6). Under the null ``|d|^2`` is a sum of chi-squared variables, weighted with eigenvalues of
    the reference's covariance ``S``: its variance is ``2 tr(S^2) (1/n + 1/m)^2``, its probability about that
    of a scaled chi-squared variable with the same mean and variance (Box 1954).

    Parameters
    ----------
    window, reference
        Sums of features of one `FeatureMap`; the reference's with products.

    Returns
    -------
    Discrepancy
        0, 0 and 1 if a sample has fewer than two events. A constant reference counts as if one of its events
        were another.

    Raises
    ------
    ValueError
        The features are different ones, or the reference has no products.
    """
    _check_features(window, reference)
    if reference.products is None:
        raise ValueError("a reference needs the products of its features: add them up with products=True")
    n, m = window.n_events, reference.n_events
    if n < 2 or m < 2:
        return Discrepancy(0.0, 0.0, 1.0)
    norm = AMPLITUDE**2 * window.sums.size / 2.0
    mean_one, mean_two = (side.sums / (side.n_events * np.sqrt(norm)) for side in (window, reference))
    trace_one, trace_two = (
        max(side.squares / (norm * side.n_events) - float(mean @ mean), 0.0)
        * side.n_events
        / (side.n_events - 1)
        for side, mean in ((window, mean_one), (reference, mean_two))
    )
    distance = float(((mean_one - mean_two) ** 2).sum())
    squared = distance - trace_one / n - trace_two / m
    covariance = reference.products / (norm * m) - np.outer(mean_two, mean_two)
    trace = max(trace_two, 1.0 / m)
    # the estimate of tr(S^2) is too large by the noise of S, and never below what its trace alone implies
    square = max(float((covariance**2).sum()) - trace**2 / m, trace**2 / window.sums.size)
    noise = 1.0 / n + 1.0 / m
    degrees = trace**2 / square
    probability = float(chdtrc(degrees, degrees * distance / (trace * noise)))
    return Discrepancy(squared, squared / (noise * float(np.sqrt(2.0 * square))), probability)


def _check_features(one: FeatureSums, two: FeatureSums) -> None:
    if one.features_of != two.features_of:
        raise ValueError(
            f"sums of features {one.features_of[:12]} and {two.features_of[:12]} are of different maps: "
            "make the reference anew with the map in use"
        )
