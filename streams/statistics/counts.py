"""Counts that two samples have over the same bins: what every statistic of them asks for first."""

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.integer] | npt.NDArray[np.floating]


def checked_pair(first: Counts, second: Counts) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return two counts as real numbers.

    Raises
    ------
    ValueError
        They do not have one dimension and the same bins.
    """
    one = np.asarray(first, dtype=np.float64)
    two = np.asarray(second, dtype=np.float64)
    if one.ndim != 1 or one.shape != two.shape:
        message = f"counts need one dimension and equal bins, got shapes {one.shape} and {two.shape}"
        raise ValueError(message)
    return one, two
