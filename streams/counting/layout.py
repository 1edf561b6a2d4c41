"""The layout: where each histogram of a contract's summaries lies, and how events are counted into it.

All counts of one kind lie in one flat array, so that summaries are added and compared in one stroke. Knows
no batch and no summary.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import isqrt
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from streams.contracts.contract import Contract
from streams.contracts.quantity import InputSpec
from streams.counting.fill import Counts, FillPlan, MapSlot, fill_columns, fill_octaves, plan_fill

SCORE_STEPS_PER_OCTAVE: Final = 128
N_SCORE_BINS: Final = 1 + 25 * SCORE_STEPS_PER_OCTAVE
MAP_ETA_BINS: Final = 32
MAP_PHI_BINS: Final = 36
MAX_PAIRED_INPUTS: Final = 128
"""Contracts of more inputs count no coincidences: their number grows with the square."""


class Axis(NamedTuple):
    """One axis of an eta-phi map: bin = ``(code - minimum) // width``."""

    minimum: int
    width: int
    bins: int


class ObjectMap(NamedTuple):
    """The eta-phi map of one kind of object, all its slots together."""

    object: str
    eta: Axis
    phi: Axis

    @property
    def size(self) -> int:
        """Number of cells."""
        return self.eta.bins * self.phi.bins


@dataclass(frozen=True)
class Layout:
    """Where each histogram lies in the flat arrays of a summary.

    The histogram of input ``i`` occupies ``[starts[i], starts[i+1])`` of the input counts: first
    underflow, then one bin for each code from ``minimums[i]`` to ``maximums[i]``, last overflow.

    ``own_totals``: the histograms were filled elsewhere, each with its own number of entries, and there is
    no score. Else every event stands once in every input's histogram and once in the score's.
    """

    input_names: tuple[str, ...]
    minimums: tuple[int, ...]
    maximums: tuple[int, ...]
    maps: tuple[ObjectMap, ...]
    own_totals: bool = False

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First bin of each input, and the total at the end; length n_inputs + 1."""
        sizes = [high - low + 3 for low, high in zip(self.minimums, self.maximums, strict=True)]
        return (0, *(int(end) for end in np.cumsum(sizes)))

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return len(self.input_names)

    @property
    def n_input_bins(self) -> int:
        """Bins of all inputs together."""
        return self.starts[-1]

    @cached_property
    def n_map_bins(self) -> int:
        """Cells of all maps together."""
        return sum(entry.size for entry in self.maps)

    @property
    def n_pairs(self) -> int:
        """Pairs of inputs whose coincidences are counted, each input with itself too."""
        return len(self.pair_places[0])

    @property
    def pair_places(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """The two inputs of every pair, which may be the same: shape (n_pairs,) each, read-only.

        Only inputs of one quantity are paired: quantity after quantity the upper triangle with the diagonal,
        row after row. Faults between two quantities show in the histograms of both.
        """
        return _pair_places(self.pair_kinds)

    @cached_property
    def pair_kinds(self) -> tuple[int, ...]:
        """Number of each input's quantity, what stands behind the last dot of its name; empty: no pairs."""
        if self.own_totals or self.n_inputs > MAX_PAIRED_INPUTS:
            return ()
        quantities = [name.rpartition(".")[2] for name in self.input_names]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(quantities))}
        return tuple(numbers[name] for name in quantities)


class Counted(NamedTuple):
    """Counts of events as a layout describes, int64, flat."""

    inputs: Counts
    score: Counts
    maps: Counts
    pairs: Counts


def layout_of(contract: Contract) -> Layout:
    """Return the layout of a contract's summaries (kept, once computed)."""
    known = _LAYOUTS.get(contract.hash)
    if known is None:
        known = _LAYOUTS[contract.hash] = Layout(
            input_names=contract.input_names,
            minimums=tuple(spec.minimum for spec in contract.inputs),
            maximums=tuple(spec.maximum for spec in contract.inputs),
            maps=tuple(_maps(contract)),
            own_totals=bool(contract.histograms),
        )
    return known


def fill(inputs: npt.NDArray[np.int16], score: npt.NDArray[np.int32], contract: Contract) -> Counted:
    """Count events into the flat arrays of a contract's layout.

    Parameters
    ----------
    inputs
        int16, shape (n_events, n_inputs); fastest when column-contiguous.
    score
        int32, shape (n_events,).
    """
    plan = _PLANS.get(contract.hash)
    if plan is None:
        plan = _PLANS[contract.hash] = _plan(contract)
    filled = fill_columns(inputs, plan)
    score_counts = fill_octaves(score, SCORE_STEPS_PER_OCTAVE, N_SCORE_BINS)
    return Counted(filled.columns, score_counts, filled.maps, filled.pairs)


def pair_threshold(spec: InputSpec, n_slots: int) -> int:
    """Return the code from which on an input is marked, when coincidences are counted.

    It depends on the contract alone, so that counts add, and one bit of an input is enough: the correlation
    of signs keeps 40 % of the information on that of two normal variables (Mosteller 1946).

    - ``pt`` of the leading quarter of an object's slots, which are seldom empty: the geometric middle of its
      range; there the falling spectra of triggers are well filled on both sides.
    - ``pt`` of the other slots: its object is there.
    - everything else, and what firmware has scaled: the middle of its range.

    Parameters
    ----------
    spec
        The input.
    n_slots
        Number of objects of its kind.
    """
    if spec.quantity != "pt" or spec.staged:
        return min((spec.minimum + spec.maximum) // 2 + 1, _MAXIMUM_CODE)
    if spec.index < max(1, n_slots // 4):
        return spec.minimum + isqrt(spec.maximum - spec.minimum) + 1
    return min(spec.padding + 1, _MAXIMUM_CODE)


def score_bins(score: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return the score bin of each raw score.

    Bin 0 holds negative scores. From there bins grow with the score: one value each up to 255, then 128
    bins per factor of two, so that a bin is never wider than 1/128 of its score. The bins do not depend
    on the data, the model or the threshold.
    """
    value = np.maximum(score, 0).astype(np.int64)
    exponent = np.frexp(value.astype(np.float64))[1].astype(np.int64)
    shift = np.maximum(exponent - 8, 0)
    bins = shift * SCORE_STEPS_PER_OCTAVE + (value >> shift) + 1
    return np.where(score < 0, 0, bins)


def score_bin_edges() -> npt.NDArray[np.int64]:
    """Return the lower edge of every bin that holds scores >= 0, and the end: shape (N_SCORE_BINS,).

    Bin ``b >= 1`` holds raw scores in ``[edges[b - 1], edges[b])``.
    """
    index = np.arange(N_SCORE_BINS, dtype=np.int64)
    shift = np.maximum(index // SCORE_STEPS_PER_OCTAVE - 1, 0)
    edges: npt.NDArray[np.int64] = (index - shift * SCORE_STEPS_PER_OCTAVE) << shift
    return edges


_MAXIMUM_CODE: Final = 2**15 - 1
_LAYOUTS: Final[dict[str, Layout]] = {}
_PLANS: Final[dict[str, FillPlan]] = {}


@lru_cache(maxsize=16)
def _pair_places(kinds: tuple[int, ...]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    numbers = np.array(kinds, dtype=np.intp)
    first, second = [np.zeros(0, dtype=np.intp)], [np.zeros(0, dtype=np.intp)]
    for kind in range(max(kinds, default=-1) + 1):
        members = np.flatnonzero(numbers == kind)
        rows, columns = np.triu_indices(len(members))
        first.append(members[rows])
        second.append(members[columns])
    places = np.concatenate(first), np.concatenate(second)
    for array in places:
        array.flags.writeable = False
    return places


def _plan(contract: Contract) -> FillPlan:
    layout = layout_of(contract)
    paddings = [spec.padding for spec in contract.inputs]
    thresholds = [
        pair_threshold(spec, contract.group(spec.object).count) for spec in contract.inputs if layout.n_pairs
    ]
    slots = list(_slots(layout, contract))
    return plan_fill(layout.minimums, layout.maximums, paddings, slots, thresholds, layout.pair_kinds)


def _slots(layout: Layout, contract: Contract) -> Iterable[MapSlot]:
    """Yield the objects of every map: those that are there are counted, all slots of one kind together."""
    start = 0
    for entry in layout.maps:
        for index in range(contract.group(entry.object).count):
            eta = contract.input_index(f"{entry.object}[{index}].eta")
            presence = int(contract.presence[eta])
            yield MapSlot(
                eta=eta,
                phi=contract.input_index(f"{entry.object}[{index}].phi"),
                presence=presence,
                padding=contract.inputs[presence].padding,
                eta_axis=entry.eta,
                phi_axis=entry.phi,
                start=start,
            )
        start += entry.size


def _maps(contract: Contract) -> Iterable[ObjectMap]:
    for group in contract.objects:
        eta, phi = group.quantity("eta"), group.quantity("phi")
        if any(quantity.stage is not None for quantity in group.quantities):
            continue  # firmware scales each slot differently: their codes make no common map
        if eta is not None and phi is not None:
            yield ObjectMap(
                group.name,
                _axis(eta.code_minimum, eta.code_maximum, MAP_ETA_BINS),
                _axis(phi.code_minimum, phi.code_maximum, MAP_PHI_BINS),
            )


def _axis(minimum: int, maximum: int, most: int) -> Axis:
    n_codes = maximum - minimum + 1
    width = -(-n_codes // most)
    return Axis(minimum, width, -(-n_codes // width))
