"""The summary: mergeable counts of events. Knows no broker, no reference and no judgement.

Every integer input keeps one histogram at full resolution, so whatever is asked of a window later can
still be computed exactly. All counts of one kind lie in one flat array; a `Layout` says where each
histogram begins. Merging is adding, hence associative and commutative. A summary of one batch carries
that batch's identity, by which whoever merges counts none twice.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from streams.batch import Batch
from streams.contract import Contract
from streams.errors import SummaryError

Counts = npt.NDArray[np.int64]

SCORE_STEPS_PER_OCTAVE: Final = 128
N_SCORE_BINS: Final = 1 + 25 * SCORE_STEPS_PER_OCTAVE
MAP_ETA_BINS: Final = 32
MAP_PHI_BINS: Final = 36


class BatchId(NamedTuple):
    """What names a batch within its model, run and lumisection, and what it held.

    Two messages of one source and sequence are the same batch, sent or delivered twice. `digest` (CRC-32C of
    the message, see `streams.batch.digest`) tells a repetition from a sequence that was used again.
    """

    source: str
    sequence: int
    digest: int


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


@dataclass(frozen=True, eq=False)
class Summary:
    """Counts of one model in one lumisection under one firmware package.

    Attributes
    ----------
    package
        Identity of the firmware package that scored the events.
    batch
        Identity of the one batch counted here; None for merged windows and for counts made offline.
    simulated
        At least one event comes from a replay or a simulation.
    n_events, n_accept
        Events, and how many of them the firmware accepted.
    n_checked, n_mismatched
        Events that were run through the bit-accurate emulator too, and those whose outputs differed.
    inputs, score, maps
        int64 counts, flat, as `layout` and `score_bins` describe. Read-only.
    """

    model: str
    contract_hash: str
    run: int
    lumisection: int
    package: str
    batch: BatchId | None
    simulated: bool
    n_events: int
    n_accept: int
    layout: Layout
    inputs: Counts
    score: Counts
    maps: Counts
    n_checked: int = 0
    n_mismatched: int = 0

    def __post_init__(self) -> None:
        shapes = (self.inputs.shape, self.score.shape, self.maps.shape)
        if shapes != ((self.layout.n_input_bins,), (N_SCORE_BINS,), (self.layout.n_map_bins,)):
            raise SummaryError(
                f"counts of shapes {shapes} do not fit their layout: build summaries with `summarise`"
            )
        for array in (self.inputs, self.score, self.maps):
            array.flags.writeable = False

    @property
    def key(self) -> tuple[str, str, int, int, str]:
        """What must agree before two summaries may be added: model, contract, run, lumisection, package."""
        return (self.model, self.contract_hash, self.run, self.lumisection, self.package)

    def histogram(self, index: int) -> Counts:
        """Return the full histogram of an input: underflow, one bin per code, overflow."""
        return self.inputs[self.layout.starts[index] : self.layout.starts[index + 1]]

    def codes(self, index: int) -> Counts:
        """Return the histogram of an input without the flow bins: shape (maximum - minimum + 1,)."""
        return self.histogram(index)[1:-1]

    def underflow(self, index: int) -> int:
        """Return how many codes lay below the contract's range."""
        return int(self.histogram(index)[0])

    def overflow(self, index: int) -> int:
        """Return how many codes lay above the contract's range."""
        return int(self.histogram(index)[-1])

    def map(self, name: str) -> Counts:
        """Return the eta-phi map of an object: shape (eta bins, phi bins).

        Raises
        ------
        SummaryError
            There is no map of that object.
        """
        start = 0
        for entry in self.layout.maps:
            if entry.object == name:
                return self.maps[start : start + entry.size].reshape(entry.eta.bins, entry.phi.bins)
            start += entry.size
        known = ", ".join(entry.object for entry in self.layout.maps) or "none"
        raise SummaryError(f"no eta-phi map of '{name}': there are {known}")


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


def summarise(batch: Batch, contract: Contract, digest: int | None = None) -> Summary:
    """Count one batch.

    Parameters
    ----------
    batch
        A batch made under `contract`.
    digest
        Of its message (`streams.batch.digest`); None offline, where the summary gets no identity.

    Raises
    ------
    SummaryError
        The batch was made under another contract.
    """
    if batch.contract_hash != contract.hash:
        raise SummaryError(
            f"batch of contract {batch.contract_hash[:12]} under {contract.hash[:12]}: use its own"
        )
    inputs, score, maps = fill(batch.inputs, batch.score, contract)
    return Summary(
        model=batch.model,
        contract_hash=batch.contract_hash,
        run=batch.run,
        lumisection=batch.lumisection,
        package=batch.package,
        batch=None if digest is None else BatchId(batch.source, batch.sequence, digest),
        simulated=batch.simulated,
        n_events=batch.n_events,
        n_accept=int(np.count_nonzero(batch.accept)),
        layout=layout_of(contract),
        inputs=inputs,
        score=score,
        maps=maps,
    )


def fill(
    inputs: npt.NDArray[np.int16], score: npt.NDArray[np.int32], contract: Contract
) -> tuple[Counts, Counts, Counts]:
    """Count events into the flat arrays of a contract's layout.

    Parameters
    ----------
    inputs
        int16, shape (n_events, n_inputs); fastest when column-contiguous.
    score
        int32, shape (n_events,).

    Returns
    -------
    Counts of inputs, score and maps, int64 each.
    """
    layout = layout_of(contract)
    columns = np.ascontiguousarray(inputs.T).astype(np.int32)
    low = np.array(layout.minimums, dtype=np.int32)[:, None]
    high = np.array(layout.maximums, dtype=np.int32)[:, None]
    start = np.array(layout.starts[:-1], dtype=np.int32)[:, None]
    bins = np.clip(columns, low - 1, high + 1) + (start - low + 1)
    input_counts = np.bincount(bins.ravel(), minlength=layout.n_input_bins)
    score_counts = np.bincount(score_bins(score), minlength=N_SCORE_BINS)
    maps = [_fill_map(columns, entry, contract) for entry in layout.maps]
    map_counts = np.concatenate(maps) if maps else np.zeros(0, dtype=np.int64)
    return input_counts.astype(np.int64), score_counts.astype(np.int64), map_counts


def merge(first: Summary, second: Summary) -> Summary:
    """Add two summaries of the same window.

    Raises
    ------
    SummaryError
        Model, contract, run, lumisection or package differ, or both count the same batch.
    """
    if first.key != second.key or first.layout != second.layout:
        names = ("model", "contract", "run", "lumisection", "package")
        differing = [name for name, a, b in zip(names, first.key, second.key, strict=True) if a != b]
        raise SummaryError(
            f"summaries differ in {', '.join(differing) or 'layout'}: merge within one window only"
        )
    if first.batch is not None and second.batch is not None and first.batch[:2] == second.batch[:2]:
        raise SummaryError(
            f"batch {first.batch.sequence} of '{first.batch.source}' is in both summaries: merge it once"
        )
    return replace(
        first,
        batch=None,
        simulated=first.simulated or second.simulated,
        n_events=first.n_events + second.n_events,
        n_accept=first.n_accept + second.n_accept,
        n_checked=first.n_checked + second.n_checked,
        n_mismatched=first.n_mismatched + second.n_mismatched,
        inputs=first.inputs + second.inputs,
        score=first.score + second.score,
        maps=first.maps + second.maps,
    )


def merge_all(summaries: Iterable[Summary]) -> Summary:
    """Add any number of summaries of one window, at least one. Raises as `merge`."""
    parts = list(summaries)
    if not parts:
        raise SummaryError("nothing to merge: give at least one summary")
    return reduce(merge, parts)


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


_LAYOUTS: Final[dict[str, Layout]] = {}


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


def _fill_map(columns: npt.NDArray[np.int32], entry: ObjectMap, contract: Contract) -> Counts:
    """Count the objects that are there, all slots of one kind together."""
    slots = [f"{entry.object}[{index}]" for index in range(contract.group(entry.object).count)]
    eta_inputs = [contract.input_index(f"{slot}.eta") for slot in slots]
    eta = columns[eta_inputs]
    phi = columns[[contract.input_index(f"{slot}.phi") for slot in slots]]
    pt_inputs = contract.presence[eta_inputs]
    if pt_inputs[0] >= 0:
        there = columns[pt_inputs] != contract.inputs[pt_inputs[0]].padding
        eta, phi = eta[there], phi[there]
    row = np.clip((eta - entry.eta.minimum) // entry.eta.width, 0, entry.eta.bins - 1)
    column = np.clip((phi - entry.phi.minimum) // entry.phi.width, 0, entry.phi.bins - 1)
    cells = np.bincount((row * entry.phi.bins + column).ravel(), minlength=entry.size)
    return cells.astype(np.int64)
