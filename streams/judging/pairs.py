"""Pairs of inputs: the two that go together least as they did, and the two that look swapped.

Of two inputs of one quantity, a window counts in how many events both are marked
(`streams.statistics.coincidences`): what goes on between inputs shows in no histogram of one. Knows neither
noise nor threshold.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.counting.layout import Layout
from streams.counting.summary import Summary
from streams.judging.expectation import Expected, ExpectedMarks
from streams.judging.extreme import Extreme
from streams.statistics.coincidences import (
    correlation_variances,
    mark_correlations,
    rarest_cells,
    swapped_marks,
)

CORRELATIONS: Final = "correlations"
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
_SLOT: Final = re.compile(r"\[[0-9]+\]")


def correlations(
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
