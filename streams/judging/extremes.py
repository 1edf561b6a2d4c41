"""The extremes: the largest of many differences of a window from its expectation.

Where linear channels (`streams.judging.channels`) know what to look for, these do not: the largest
Kolmogorov-Smirnov distance over all inputs, the place of an eta-phi map that is hottest or coldest, the
distance of the score's distribution, the two inputs that go together least as they did, and the two that
look swapped. Knows neither noise nor threshold.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.counting.layout import Layout, ObjectMap
from streams.counting.summary import Summary
from streams.judging.expectation import Expected, ExpectedMarks, input_totals
from streams.statistics.coincidences import (
    correlation_variances,
    mark_correlations,
    rarest_cells,
    swapped_marks,
)
from streams.statistics.maps import scan_map

INPUTS: Final = "inputs"
MAPS: Final = "maps"
SCORE: Final = "score"
SCORE_SHAPE: Final = "score shape"
CORRELATIONS: Final = "correlations"

EFFECT_FLOORS: Final[Mapping[str, float]] = {INPUTS: 0.01, MAPS: 0.05, SCORE: 0.01, CORRELATIONS: 0.02}
"""Family -> smallest effect that counts, however significant: a distance of distributions, the share of a
place's objects that is missing or too much, the change of a correlation, or the share of swapped events."""
SWAPPED: Final = "swapped inputs"
MINIMUM_CELL: Final = 20.0
"""Two inputs are compared where each of the four cells of their marks expects so many events of a window."""
VISIBLE_SWAP: Final = 5.0
"""Swaps are looked for where a whole one is so many standard deviations."""
SMALLEST_SWAP: Final = 0.15
"""Inputs that look swapped in a smaller share of the events are not: their correlations changed a little."""
HIDDEN_SWAP: Final = 0.03
"""Swaps of inputs whose distributions are further apart (Kolmogorov-Smirnov) are left to the histograms."""

Floats = npt.NDArray[np.float64]
_ROUNDING: Final = 1e-12
_SLOT: Final = re.compile(r"\[[0-9]+\]")


@dataclass(frozen=True)
class Extreme:
    """The largest of many differences.

    Attributes
    ----------
    name
        For people and for the store, for example ``jet map``.
    family
        Which share of the false-alarm budget it spends.
    object
        The object it is about; empty for inputs and score.
    value
        Significance: a scaled distance, or an absolute pull.
    effect
        Size, whatever the number of events: a distance in 0..1, the share of a place's objects that is too
        much (negative: missing), the change of a correlation, or the share of events with two inputs swapped.
    size
        Significance of an effect of 1 at this place.
    place
        Where: the name of the input, or the codes of the corner of the place that are lowest, and how
        many codes it is wide: ``eta 12..15, phi 40..47``; or two inputs: ``jet[0].eta, jet[1].eta``. Empty
        for the score.
    """

    name: str
    family: str
    object: str
    value: float
    effect: float
    size: float
    place: str


def extremes(
    window: Summary, expected: Expected, floors: Mapping[str, float] = EFFECT_FLOORS
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
    """
    found = [_inputs(window, expected, floors.get(INPUTS, 0.0))]
    if window.layout.own_totals:
        return tuple(found)
    start = 0
    for entry in window.layout.maps:
        cells = slice(start, start + entry.size)
        found.append(_place(entry, window.maps[cells], expected.maps[cells], expected.size))
        start += entry.size
    found.append(_score(window, expected))
    if window.n_paired and expected.marks is not None:
        found += _correlations(window, expected, expected.marks, floors.get(CORRELATIONS, 0.0))
    return tuple(found)


def ks_distances(window: Summary, expected: Expected) -> tuple[Floats, Floats]:
    """Kolmogorov-Smirnov distance and size of every input.

    Returns
    -------
    Distances in 0..1, flow bins included, and ``sqrt(n m / (n + m))``, by which they are scaled; shape
    (n_inputs,) each, 0 where either sample is empty.
    """
    distance, _, size = _differences(window, expected)
    return distance, size


def mean_shifts(window: Summary, expected: Expected) -> Floats:
    """Mean of the window minus the expected mean of every input, in codes (LSB); shape (n_inputs,).

    Flow bins count as one code beyond the range.
    """
    return _differences(window, expected)[1]


def _differences(window: Summary, expected: Expected) -> tuple[Floats, Floats, Floats]:
    layout = window.layout
    if not layout.n_inputs:
        return np.zeros(0), np.zeros(0), np.zeros(0)
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
    return np.where(differs, distance, 0.0), np.where(differs, shift, 0.0), size


def _inputs(window: Summary, expected: Expected, floor: float) -> Extreme:
    """Take the most significant input of those whose effect is above the floor, else of all.

    Where inputs have their own totals, the most significant difference need not be a large one.
    """
    distance, size = ks_distances(window, expected)
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


def _correlations(
    window: Summary, expected: Expected, together: ExpectedMarks, floor: float
) -> Iterator[Extreme]:
    """Take the pair whose correlation changed most significantly, and the one that looks exchanged."""
    layout, marks = window.layout, together.marks
    places = layout.pair_places
    found = mark_correlations(window.pairs, places, window.n_paired)
    change = found.correlations - marks.correlations
    variance = correlation_variances(marks, places) * (1 / window.n_paired + 1 / together.size)
    speaks = (places[0] != places[1]) & (variance > 0)
    speaks &= rarest_cells(marks, places) * window.n_paired >= MINIMUM_CELL
    weights = np.divide(1.0, variance, out=np.zeros(len(variance)), where=speaks)
    yield _pair(CORRELATIONS, layout, change, np.sqrt(weights), floor)
    share, sizes = swapped_marks(change, weights, marks.correlations, places, layout.n_inputs)
    visible = sizes >= VISIBLE_SWAP
    visible &= np.abs(marks.shares[places[0]] - marks.shares[places[1]]) <= HIDDEN_SWAP
    share = np.maximum(share, 0.0)
    alike = _first_alike(layout, expected, np.where(visible, share * sizes, 0.0), share > SMALLEST_SWAP)
    swap = _pair(SWAPPED, layout, share, np.where(alike, sizes, 0.0), SMALLEST_SWAP)
    yield swap if swap.effect > SMALLEST_SWAP else replace(swap, effect=0.0)


def _first_alike(
    layout: Layout, expected: Expected, significance: Floats, preferred: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Mark the most significant pair that is one quantity of two slots, distributed alike; at most one.

    Preferred pairs come before all others. Shape (n_pairs,).
    """
    first, second = layout.pair_places
    kinds, starts = _kinds(layout.input_names), layout.starts
    found = np.zeros(len(first), dtype=np.bool_)
    candidates = np.flatnonzero((significance > 0) & (kinds[first] == kinds[second]))
    for place in candidates[np.lexsort((-significance[candidates], ~preferred[candidates]))]:
        one, other = (
            expected.inputs[starts[index] : starts[index + 1]] for index in (first[place], second[place])
        )
        if len(one) == len(other) and float(np.abs(np.cumsum(one - other)).max()) <= HIDDEN_SWAP:
            found[place] = True
            break
    return found


@lru_cache(maxsize=16)
def _kinds(input_names: tuple[str, ...]) -> npt.NDArray[np.intp]:
    """Return one number for all slots of a quantity, ``jet[0].eta, jet[1].eta, ...``; shape (n_inputs,)."""
    names = [_SLOT.sub("", name) for name in input_names]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.intp)


def _pair(name: str, layout: Layout, effects: Floats, sizes: Floats, floor: float) -> Extreme:
    """Take the most significant pair of those whose effect is above the floor, else of all."""
    scaled = np.abs(effects) * sizes
    large = (sizes > 0) & (np.abs(effects) > floor)
    worst = int(np.argmax(np.where(large, scaled, -1.0) if large.any() else scaled))
    names = [layout.input_names[place[worst]] for place in layout.pair_places]
    return Extreme(
        name=name,
        family=CORRELATIONS,
        object="",
        value=float(scaled[worst]),
        effect=float(effects[worst]),
        size=float(sizes[worst]),
        place=", ".join(names) if sizes[worst] > 0 else "",
    )
