"""The extremes: the largest of many differences of a window from its expectation.

Where linear channels (`streams.judging.channels`) know what to look for, these do not: the largest
Kolmogorov-Smirnov distance over all inputs, the place of an eta-phi map that is hottest or coldest, the
distance of the score's distribution; beside them pairs of inputs (`streams.judging.pairs`), codes out of
range (`streams.judging.flows`) and spikes (`streams.judging.spikes`). Knows neither noise nor threshold.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from streams.counting.layout import ObjectMap
from streams.counting.summary import Summary
from streams.judging.expectation import Expected, input_totals
from streams.judging.extreme import Extreme
from streams.judging.flows import RANGE, out_of_range
from streams.judging.pairs import CORRELATIONS, correlations
from streams.judging.spikes import SPIKES, spike
from streams.statistics.maps import scan_map

INPUTS: Final = "inputs"
MAPS: Final = "maps"
SCORE: Final = "score"
SCORE_SHAPE: Final = "score shape"

EFFECT_FLOORS: Final[Mapping[str, float]] = {
    INPUTS: 0.01, MAPS: 0.05, SCORE: 0.01, CORRELATIONS: 0.02, RANGE: 1e-4, SPIKES: 0.002,
}  # fmt: skip
"""Family -> smallest effect that counts, however significant: a distance of distributions, the share of a
place's objects that is missing or too much, the change of a correlation, the share of swapped events, that of
codes out of range, or that of a spike."""

Floats = npt.NDArray[np.float64]
_ROUNDING: Final = 1e-12


class InputDifferences(NamedTuple):
    """How all inputs differ, shape (n_inputs,) each: see `ks_distances` and `mean_shifts`."""

    distance: Floats
    shift: Floats
    size: Floats


def extremes(
    window: Summary,
    expected: Expected,
    floors: Mapping[str, float] = EFFECT_FLOORS,
    differences: InputDifferences | None = None,
) -> tuple[Extreme, ...]:
    """Find all extremes of a window with at least one event.

    Parameters
    ----------
    window
        The window.
    expected
        What it should hold.
    floors
        Family -> smallest effect that counts: of inputs and pairs, one with a larger effect is preferred.
    differences
        Of all inputs, if they are known already.
    """
    found = [_inputs(window, differences or input_differences(window, expected), floors.get(INPUTS, 0.0))]
    if window.layout.own_totals:
        return tuple(found)
    start = 0
    for entry in window.layout.maps:
        cells = slice(start, start + entry.size)
        found.append(_place(entry, window.maps[cells], expected.maps[cells], expected.size))
        start += entry.size
    found += [
        _score(window, expected),
        out_of_range(window, expected),
        spike(window, expected, floors.get(SPIKES, 0.0)),
    ]
    if window.n_paired and expected.marks is not None:
        found += correlations(window, expected, expected.marks, floors.get(CORRELATIONS, 0.0))
    return tuple(found)


def ks_distances(window: Summary, expected: Expected) -> tuple[Floats, Floats]:
    """Kolmogorov-Smirnov distance and size of every input.

    Returns
    -------
    Distances in 0..1, flow bins included, and ``sqrt(n m / (n + m))``, by which they are scaled; shape
    (n_inputs,) each, 0 where either sample is empty.
    """
    found = input_differences(window, expected)
    return found.distance, found.size


def mean_shifts(window: Summary, expected: Expected) -> Floats:
    """Mean of the window minus the expected mean of every input, in codes (LSB); shape (n_inputs,).

    Flow bins count as one code beyond the range.
    """
    return input_differences(window, expected).shift


def input_differences(window: Summary, expected: Expected) -> InputDifferences:
    """Return distances, shifts of means and sizes of all inputs at once; see the functions above."""
    layout = window.layout
    if not layout.n_inputs:
        return InputDifferences(np.zeros(0), np.zeros(0), np.zeros(0))
    starts, bins = np.array(layout.starts[:-1]), np.diff(layout.starts)
    n, m = input_totals(window).astype(np.float64), expected.input_size
    both = (n > 0) & (m > 0)
    inverse = np.divide(1.0, n, out=np.zeros(len(n)), where=both)
    # every input's difference adds up to zero, so one running sum over all of them starts anew with each,
    # and the shift of the mean is minus the sum of that running sum
    running = np.cumsum(window.inputs * np.repeat(inverse, bins) - expected.inputs * np.repeat(both, bins))
    distance = np.maximum.reduceat(np.abs(running), starts)
    shift = -np.add.reduceat(running, starts)
    size = np.sqrt(np.divide(n * m, n + m, out=np.zeros(len(n)), where=both))
    differs = both & (distance > _ROUNDING)
    return InputDifferences(np.where(differs, distance, 0.0), np.where(differs, shift, 0.0), size)


def _inputs(window: Summary, differences: InputDifferences, floor: float) -> Extreme:
    """Take the most significant input of those whose effect is above the floor, else of all.

    Where inputs have their own totals, the most significant difference need not be a large one.
    """
    distance, _, size = differences
    scaled = distance * size
    large = distance > floor
    worst = int(np.argmax(np.where(large, scaled, -1.0) if large.any() else scaled))
    name = window.layout.input_names[worst]
    return Extreme(
        "inputs", INPUTS, "", float(scaled[worst]), float(distance[worst]), float(size[worst]), name
    )


def _place(entry: ObjectMap, observed: npt.NDArray[np.int64], expected: Floats, size: float) -> Extreme:
    shape = (entry.eta.bins, entry.phi.bins)
    entries = float(expected.sum()) * size
    name = f"{entry.object} map"
    if entries <= 0:
        return Extreme(name, MAPS, entry.object, 0.0, 0.0, 0.0, "")
    found = scan_map(observed.reshape(shape), expected.reshape(shape), reference_size=entries)
    if found.expected <= 0:
        return Extreme(name, MAPS, entry.object, 0.0, 0.0, 0.0, "")
    eta = entry.eta.minimum + found.eta * entry.eta.width
    phi = entry.phi.minimum + found.phi * entry.phi.width
    eta_end, phi_end = eta + found.shape[0] * entry.eta.width - 1, phi + found.shape[1] * entry.phi.width - 1
    return Extreme(
        name=name,
        family=MAPS,
        object=entry.object,
        value=abs(found.pull),
        effect=found.observed / found.expected - 1.0,
        size=float(np.sqrt(found.expected)),
        place=f"eta {eta}..{eta_end}, phi {phi}..{phi_end}",
    )


def _score(window: Summary, expected: Expected) -> Extreme:
    n, m = window.n_events, expected.size
    distance = float(np.abs(np.cumsum(window.score / n - expected.score)).max())
    size = float(np.sqrt(n * m / (n + m)))
    return Extreme(SCORE_SHAPE, SCORE, "", distance * size, distance, size, "")
