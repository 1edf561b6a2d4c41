"""Maps of counts over eta and phi: where a region has died or glows.

A local fault vanishes in the histogram of either coordinate; a scan over small windows of the map finds it.
Every map is an array whose last two axes are eta and phi; phi closes in a circle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.statistics.counts import Floats, checked_counts, inverse

WINDOWS: Final = ((1, 1), (2, 2), (3, 3))
TINY: Final = 1e-300


@dataclass(frozen=True, slots=True)
class Hotspot:
    """The window of a map that deviates most.

    Attributes
    ----------
    pull
        Signed root of the deviance, in standard deviations: negative where entries are missing. 0 where no
        window expects enough.
    eta, phi
        First cell of the window; it goes on to larger numbers, in phi around the circle.
    shape
        Cells of the window, in eta and in phi.
    observed, expected
        Entries of the window.
    """

    pull: float
    eta: int
    phi: int
    shape: tuple[int, int]
    observed: float
    expected: float


def residual_map(
    observed: npt.ArrayLike,
    expected: npt.ArrayLike,
    *,
    reference_size: float = np.inf,
    minimum: float = 20.0,
) -> Floats:
    """Pull of each cell of one or of many maps.

    ``sign(O - N p) sqrt(2 (O ln(O / N p) + (N - O) ln((N - O) / (N - N p))) / (1 + N / m))``: the signed root
    of the binomial deviance, whose tails are nearer to normal ones than those of ``(O - N p) / sqrt(N p)``
    where few entries are expected (Pierce and Schafer 1986), with the variance of ``p`` from ``m`` entries.

    Parameters
    ----------
    observed
        Counts, shape (..., n_eta, n_phi).
    expected
        Counts or density of the reference, same shape or (n_eta, n_phi); only its shares matter.
    reference_size
        Effective number of entries ``m`` that `expected` was made of; infinite if it is exact.
    minimum
        Cells that expect fewer entries have the pull 0.

    Returns
    -------
    Floats
        Shape of `observed`. All 0 if nothing is observed or nothing expected.

    Raises
    ------
    ValueError
        Shapes do not fit, a count is negative or not finite, or a size is not positive.
    """
    counts, density = _checked_maps(observed, expected, reference_size, minimum)
    return _pulls(counts, density, _entries(counts), reference_size, minimum)


def scan_map(
    observed: npt.ArrayLike,
    expected: npt.ArrayLike,
    *,
    reference_size: float = np.inf,
    minimum: float = 20.0,
    windows: Sequence[tuple[int, int]] = WINDOWS,
) -> Hotspot:
    """Find the window of a map that deviates most, among all places of all shapes of windows.

    Sums over windows come from summed-area tables (Crow 1984). Of equal deviations the first is taken: in
    order of `windows`, eta and phi.

    Parameters
    ----------
    observed, expected, reference_size, minimum
        As for `residual_map`, for one map of shape (n_eta, n_phi).
    windows
        Shapes to try, cells in eta and in phi; ``(n_eta, 1)`` and ``(1, n_phi)`` are whole strips. Those that
        do not fit into the map are left out.

    Raises
    ------
    ValueError
        As `residual_map`; or there is more than one map, or no window that fits into it.
    """
    counts, density = _checked_maps(observed, expected, reference_size, minimum)
    if counts.ndim != 2:
        raise ValueError(f"one map of (n_eta, n_phi) cells is scanned at a time, got shape {counts.shape}")
    n_eta, n_phi = counts.shape
    fitting = [(high, wide) for high, wide in windows if 1 <= high <= n_eta and 1 <= wide <= n_phi]
    if not fitting:
        raise ValueError(f"no window of {list(windows)} fits into a map of {n_eta} by {n_phi} cells")
    entries = float(counts.sum())
    best = Hotspot(0.0, 0, 0, (1, 1), 0.0, 0.0)
    count_table, density_table = (_summed_area(values, fitting) for values in (counts, density))
    for shape in fitting:
        found = _window_sums(count_table, shape, n_phi)
        share = np.clip(_window_sums(density_table, shape, n_phi), 0.0, 1.0)
        pulls = _pulls(found, share, np.float64(entries), reference_size, minimum)
        place = int(np.argmax(np.abs(pulls)))
        if abs(pulls.flat[place]) > abs(best.pull):
            eta, phi = divmod(place, n_phi)
            seen, foreseen = float(found.flat[place]), float(share.flat[place]) * entries
            best = Hotspot(float(pulls.flat[place]), eta, phi, shape, seen, foreseen)
    return best


def _checked_maps(
    observed: npt.ArrayLike, expected: npt.ArrayLike, reference_size: float, minimum: float
) -> tuple[Floats, Floats]:
    """Return counts, and the share of each cell in what is expected."""
    counts, density = checked_counts(observed, "observed maps"), checked_counts(expected, "expected maps")
    if counts.ndim < 2 or counts.shape[-2:] != density.shape[-2:] or counts.shape[-1] == 0:
        raise ValueError(f"maps must have the same cells, got shapes {counts.shape} and {density.shape}")
    if not reference_size > 0 or not minimum > 0:
        raise ValueError(
            f"sizes must be positive, got a reference of {reference_size}, a minimum of {minimum}"
        )
    return counts, density * inverse(_entries(density))


def _entries(values: Floats) -> Floats:
    return np.asarray(values.sum(axis=(-2, -1), keepdims=True))


def _pulls(
    counts: Floats, density: Floats, entries: Floats | np.float64, reference_size: float, minimum: float
) -> Floats:
    expected = entries * density
    rest = np.maximum(entries - counts, 0.0)
    # a window of everything leaves nothing to compare with, but for the rounding of its share
    judged = (expected >= minimum) & (density < 1.0 - 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        # a count of 0 adds nothing; where nothing is expected nothing is judged
        deviance = counts * np.log(np.maximum(counts, TINY) / expected)
        deviance += rest * np.log(np.maximum(rest, TINY) / (entries - expected))
    size = np.sqrt(np.maximum(deviance, 0.0) * (2.0 / (1.0 + entries / reference_size)))
    return np.where(judged, np.copysign(size, counts - expected), 0.0)


def _summed_area(values: Floats, windows: Sequence[tuple[int, int]]) -> Floats:
    """Add up all cells before each corner, with phi continued around the circle."""
    n_eta, n_phi = values.shape
    wrap = max(wide for _, wide in windows) - 1
    table = np.zeros((n_eta + 1, n_phi + wrap + 1))
    table[1:, 1 : n_phi + 1] = values
    table[1:, n_phi + 1 :] = values[:, :wrap]
    np.cumsum(table, axis=0, out=table)
    np.cumsum(table, axis=1, out=table)
    return table


def _window_sums(table: Floats, shape: tuple[int, int], n_phi: int) -> Floats:
    high, wide = shape
    upper, lower = table[high:], table[:-high]
    begin, end = slice(0, n_phi), slice(wide, wide + n_phi)
    return np.ascontiguousarray(upper[:, end] - upper[:, begin] - lower[:, end] + lower[:, begin])
