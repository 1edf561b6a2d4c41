"""Correlations of inputs, from sums that merge by addition: faults that no histogram of one input shows."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.statistics.counts import Floats

LARGEST: Final = 1.0 - 1e-9
"""Correlations beyond count as this: two inputs that are copies have no finite Fisher z."""
MINIMUM_EVENTS: Final = 4


@dataclass(frozen=True, eq=False)
class MomentSums:
    """Sums over events of inputs and of their products; those of two samples add up to those of both.

    Attributes
    ----------
    n_events
        Number of events.
    inputs
        Sum of each input, shape (d,).
    products
        Sum of each product of two inputs, shape (d, d), symmetric. Of integers, the sums are exact.
    """

    n_events: int
    inputs: npt.NDArray[np.int64]
    products: npt.NDArray[np.int64]

    def __add__(self, other: "MomentSums") -> "MomentSums":
        """Merge with the sums of other events."""
        return MomentSums(
            self.n_events + other.n_events, self.inputs + other.inputs, self.products + other.products
        )


def moment_sums(inputs: npt.NDArray[np.int16]) -> MomentSums:
    """Add up inputs and their products over events, exactly.

    Parameters
    ----------
    inputs
        Codes, int16, shape (n_events, d).

    Raises
    ------
    ValueError
        The inputs are not int16 of two dimensions.
    """
    if inputs.ndim != 2 or inputs.dtype != np.int16:
        raise ValueError(f"inputs must be int16 (events, inputs), got {inputs.dtype} {inputs.shape}")
    d = inputs.shape[1]
    products = np.zeros((d, d), dtype=np.int64)
    # products of int16 are below 2^30, so sums of 2^22 of them are exact in float64 whatever their order
    for start in range(0, len(inputs), 2**16):
        block = inputs[start : start + 2**16].astype(np.float64)
        products += (block.T @ block).astype(np.int64)
    return MomentSums(len(inputs), inputs.sum(axis=0, dtype=np.int64), products)


def correlations(sums: MomentSums) -> Floats:
    """Pearson correlations of all pairs of inputs, shape (d, d); 0 of an input that does not vary.

    Raises
    ------
    ValueError
        The sums do not fit each other.
    """
    if sums.products.shape != (sums.inputs.size, sums.inputs.size):
        raise ValueError(f"sums of {sums.inputs.size} inputs need as many squared products")
    # 64 bits of mantissa where the machine has them: squares of sums are beyond int64
    total = sums.inputs.astype(np.longdouble)
    covariance = sums.products.astype(np.longdouble) * sums.n_events - np.outer(total, total)
    variance = np.diag(covariance)
    varies = np.outer(variance > 0, variance > 0)
    scale = np.sqrt(np.outer(np.maximum(variance, 0), np.maximum(variance, 0)))
    result = np.divide(covariance, scale, out=np.zeros(covariance.shape, dtype=np.longdouble), where=varies)
    return np.asarray(np.clip(result.astype(np.float64), -1.0, 1.0))


def correlation_residuals(first: MomentSums, second: MomentSums) -> Floats:
    """Return pulls of the correlations of two samples: differences of Fisher's z over their error.

    ``(atanh r1 - atanh r2) / sqrt(1 / (n1 - 3) + 1 / (n2 - 3))`` (Fisher 1921). The error is that of normal
    inputs; of others the pull has another width, to be calibrated on held-out samples.

    Parameters
    ----------
    first, second
        Sums of the window and of the reference over the same inputs.

    Returns
    -------
    Floats
        Shape (d, d), 0 on the diagonal, where an input does not vary in either sample, and everywhere if a
        sample has fewer than four events.

    Raises
    ------
    ValueError
        The sums are of different numbers of inputs.
    """
    if first.inputs.shape != second.inputs.shape:
        raise ValueError(f"sums of {first.inputs.size} and {second.inputs.size} inputs cannot be compared")
    one, two = correlations(first), correlations(second)
    if min(first.n_events, second.n_events) < MINIMUM_EVENTS:
        return np.zeros_like(one)
    error = np.sqrt(1.0 / (first.n_events - 3) + 1.0 / (second.n_events - 3))
    known = _both_vary(one, two)
    difference = np.arctanh(np.clip(one, -LARGEST, LARGEST)) - np.arctanh(np.clip(two, -LARGEST, LARGEST))
    return np.where(known, difference / error, 0.0)


def _both_vary(one: Floats, two: Floats) -> npt.NDArray[np.bool_]:
    """Return which pairs of different inputs vary in both samples: there the diagonal is 1."""
    varies = (np.diag(one) > 0) & (np.diag(two) > 0)
    result: npt.NDArray[np.bool_] = np.outer(varies, varies)
    np.fill_diagonal(result, val=False)
    return result
