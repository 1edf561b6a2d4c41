"""Comparison of two summaries, statistic by statistic. Knows no threshold and judges nothing.

Three families: ``inputs`` (largest scaled Kolmogorov-Smirnov distance over all inputs), ``score`` (the
same of the score) and ``rate`` (pull of the accept rate). Calibration of a reference and assessment of a
window both use it, so that what is calibrated is what is judged.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.counting.fill import Counts
from streams.counting.layout import Layout
from streams.counting.summary import Summary
from streams.errors import SummaryError
from streams.statistics.distances import ks_from_counts
from streams.statistics.rates import rate_pull

INPUTS: Final = "inputs"
SCORE: Final = "score"
RATE: Final = "rate"
FAMILIES: Final = (INPUTS, SCORE, RATE)
LARGEST_PRODUCT: Final = 2.0**62

Floats = npt.NDArray[np.float64]


def families_of(layout: Layout) -> tuple[str, ...]:
    """Return the families that apply: histograms that were filled elsewhere have no score and no rate."""
    return (INPUTS,) if layout.own_totals else FAMILIES


@dataclass(frozen=True, eq=False)
class Comparison:
    """A window's counts against those of a reference.

    Attributes
    ----------
    input_distance
        Kolmogorov-Smirnov distance of each input, flow bins included; shape (n_inputs,).
    input_mean_shift
        Mean of the window minus mean of the reference of each input, in codes (LSB), flow bins counting as
        one code beyond the range; shape (n_inputs,).
    input_size
        ``sqrt(n m / (n + m))`` of each input: times a distance, the scaled statistic; shape (n_inputs,).
    size
        The same of the events.
    score_distance
        Kolmogorov-Smirnov distance of the score.
    rate_pull
        Signed pull of the accept rate (two-proportion z).
    accept_rate, expected_rate
        Accepted over all events, of the window and of the reference.
    """

    input_distance: Floats
    input_mean_shift: Floats
    input_size: Floats
    size: float
    score_distance: float
    rate_pull: float
    accept_rate: float
    expected_rate: float

    @property
    def rate_deviation(self) -> float | None:
        """Relative deviation of the accept rate; None where nothing is expected."""
        return self.accept_rate / self.expected_rate - 1.0 if self.expected_rate > 0 else None

    def effect(self, family: str) -> float:
        """Size of the difference in one family, whatever the number of events.

        Distance in 0..1 for ``inputs`` and ``score``, absolute relative deviation for ``rate``. A rate
        where none is expected counts as an effect of 1.
        """
        if family == INPUTS:
            return float(self.input_distance.max(initial=0.0))
        if family == SCORE:
            return self.score_distance
        deviation = self.rate_deviation
        if deviation is None:
            return 1.0 if self.accept_rate > 0 else 0.0
        return abs(deviation)

    def strongest_input(self, floor: float) -> tuple[float, float]:
        """Return significance and effect of the input that tells most.

        That is the most significant one of those whose effect is above `floor`, else of all. Where inputs
        have their own totals, the most significant difference need not be a large one.
        """
        values = self.input_distance * self.input_size
        if not len(values):
            return 0.0, 0.0
        large = self.input_distance > floor
        index = int(np.argmax(np.where(large, values, -1.0) if large.any() else values))
        return float(values[index]), float(self.input_distance[index])

    def value(self, family: str) -> float:
        """Significance of the difference in one family: the number that thresholds are set for."""
        if family == RATE:
            return abs(self.rate_pull)
        if family == INPUTS:
            return float((self.input_distance * self.input_size).max(initial=0.0))
        return self.effect(family) * self.size


def compare(window: Summary, expected: Summary) -> Comparison:
    """Compare two summaries of one contract, of whatever run, lumisection and package.

    Raises
    ------
    SummaryError
        They were made under different contracts.
    """
    if window.contract_hash != expected.contract_hash or window.layout != expected.layout:
        raise SummaryError(
            f"summaries of contracts {window.contract_hash[:12]} and {expected.contract_hash[:12]} cannot be "
            "compared: build a reference under the contract in use"
        )
    n, m = window.n_events, expected.n_events
    distance, shift, input_size = _compare_inputs(window, expected)
    return Comparison(
        input_distance=distance,
        input_mean_shift=shift,
        input_size=input_size,
        size=float(np.sqrt(n * m / (n + m))) if n and m else 0.0,
        score_distance=ks_from_counts(window.score, expected.score).distance,
        rate_pull=rate_pull(window.n_accept, n, expected.n_accept, m),
        accept_rate=window.n_accept / n if n else 0.0,
        expected_rate=expected.n_accept / m if m else 0.0,
    )


def _compare_inputs(window: Summary, expected: Summary) -> tuple[Floats, Floats, Floats]:
    """Distances, mean shifts and sizes of all inputs at once; 0 for those that are empty in either sample.

    The difference of the two densities adds up to zero over each histogram, so one running sum over all of
    them starts anew at 0 with each input. The mean shift is minus the sum of that running sum.
    """
    layout = window.layout
    if not layout.n_inputs:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    starts = np.array(layout.starts[:-1])
    n, m = _totals(window, starts), _totals(expected, starts)
    sizes = np.diff(layout.starts)
    # integer arithmetic, so that the sum over thousands of bins is exact, as long as products fit
    type_ = np.int64 if float(n.max()) * float(m.max()) < LARGEST_PRODUCT else np.float64
    running = np.cumsum(
        window.inputs * np.repeat(m, sizes).astype(type_)
        - expected.inputs * np.repeat(n, sizes).astype(type_)
    )
    both = (n > 0) & (m > 0)
    scale = np.divide(1.0, n.astype(np.float64) * m, out=np.zeros(len(n)), where=both)
    distance = np.maximum.reduceat(np.abs(running), starts) * scale
    shift = -np.add.reduceat(running.astype(np.float64), starts) * scale
    size = np.sqrt(np.divide(n.astype(np.float64) * m, n + m, out=np.zeros(len(n)), where=both))
    return distance, shift, size


def _totals(summary: Summary, starts: npt.NDArray[np.intp]) -> Counts:
    """Entries of each input's histogram."""
    if not summary.layout.own_totals:
        return np.full(len(starts), summary.n_events, dtype=np.int64)
    totals: Counts = np.add.reduceat(summary.inputs, starts)
    return totals
