"""A window laid over its reference: the numbers behind every ratio plot.

Takes full-resolution integer histograms, chooses a readable binning, and scales the reference to the
number of events of the window. The same numbers feed the picture in a chat message and the plot in the
console.

Refuses to know files, colours and plotting libraries.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_TAIL = 0.001


@dataclass(frozen=True)
class Overlay:
    """Binned counts of one quantity.

    Parameters
    ----------
    edges
        Bin edges in physical units, float64 of shape (n_bins + 1,).
    window, expected
        Events per bin in the window, and in the reference scaled to the window's number of events, float64
        (n_bins,). window_error, expected_error
        Poisson uncertainties of both (square root of the counts, scaled alike), float64 (n_bins,).
    n_window, n_reference
        Events in total, overflow included.
    """

    edges: npt.NDArray[np.float64]
    window: npt.NDArray[np.float64]
    expected: npt.NDArray[np.float64]
    window_error: npt.NDArray[np.float64]
    expected_error: npt.NDArray[np.float64]
    n_window: int
    n_reference: int

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """Bin centres, float64 (n_bins,)."""
        return 0.5 * (self.edges[:-1] + self.edges[1:])

    @property
    def ratio(self) -> npt.NDArray[np.float64]:
        """Window over expectation; NaN where nothing is expected."""
        return _divide(self.window, self.expected)

    @property
    def ratio_error(self) -> npt.NDArray[np.float64]:
        """Uncertainty of the window relative to the expectation; NaN where nothing is expected."""
        return _divide(self.window_error, self.expected)

    @property
    def ratio_band(self) -> npt.NDArray[np.float64]:
        """Relative statistical uncertainty of the expectation; NaN where nothing is expected."""
        return _divide(self.expected_error, self.expected)


def overlay(
    window_counts: npt.ArrayLike,
    reference_counts: npt.ArrayLike,
    *,
    minimum: int,
    lsb: float,
    origin: float = 0.0,
    max_bins: int = 48,
) -> Overlay:
    """Bin two full-resolution histograms alike and scale the reference to the window.

    Parameters
    ----------
    window_counts, reference_counts
        Events per integer code, shape (n_codes,); the first code is `minimum`.
    minimum
        Lowest integer code.
    lsb
        Physical size of one code, in the unit of the plot.
    origin
        Where code 0 lies, in that unit.
    max_bins
        Upper bound on the number of bins.

    Raises
    ------
    ValueError
        The histograms differ in length or hold no code.
    """
    window = np.asarray(window_counts, dtype=np.float64)
    reference = np.asarray(reference_counts, dtype=np.float64)
    if window.shape != reference.shape or window.ndim != 1 or window.size == 0:
        raise ValueError(f"histograms of window {window.shape} and reference {reference.shape} do not match")
    first, last = _visible_range(window + reference)
    width = max(1, -(-(last - first + 1) // max_bins))
    n_bins = -(-(last - first + 1) // width)
    scale = window.sum() / reference.sum() if reference.sum() > 0 else 0.0
    binned_window = _rebin(window, first, width, n_bins)
    binned_reference = _rebin(reference, first, width, n_bins)
    codes = minimum + first - 0.5 + width * np.arange(n_bins + 1, dtype=np.float64)
    return Overlay(
        edges=codes * lsb + origin,
        window=binned_window,
        expected=binned_reference * scale,
        window_error=np.sqrt(binned_window),
        expected_error=np.sqrt(binned_reference) * scale,
        n_window=int(window.sum()),
        n_reference=round(float(reference.sum())),
    )


def _visible_range(counts: npt.NDArray[np.float64]) -> tuple[int, int]:
    """Return the first and last code that hold all but a thousandth of the events on either side."""
    total = counts.sum()
    if total == 0:
        return 0, counts.size - 1
    cumulative = np.cumsum(counts) / total
    first = int(np.searchsorted(cumulative, _TAIL, side="right"))
    last = int(np.searchsorted(cumulative, 1.0 - _TAIL, side="left"))
    return min(first, counts.size - 1), max(min(last, counts.size - 1), first)


def _rebin(counts: npt.NDArray[np.float64], first: int, width: int, n_bins: int) -> npt.NDArray[np.float64]:
    padded = np.zeros(width * n_bins)
    visible = counts[first : first + width * n_bins]
    padded[: visible.size] = visible
    binned: npt.NDArray[np.float64] = padded.reshape(n_bins, width).sum(axis=1)
    return binned


def _divide(
    numerator: npt.NDArray[np.float64], denominator: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    result = np.full(denominator.shape, np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result
