"""The summary: mergeable counts of events. Knows no broker, no reference and no judgement.

Every integer input keeps one histogram at full resolution, so whatever is asked of a window later can
still be computed exactly. Merging is adding, hence associative and commutative. A summary of one batch
carries that batch's identity, by which whoever merges counts none twice. Where each histogram lies is said
by `streams.counting.layout`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import NamedTuple

import numpy as np

from streams.contracts.contract import Contract
from streams.counting.fill import Counts
from streams.counting.layout import N_SCORE_BINS, Layout, fill, layout_of
from streams.errors import SummaryError
from streams.events.batch import Batch


class BatchId(NamedTuple):
    """What names a batch within its model, run and lumisection, and what it held.

    Two messages of one source and sequence are the same batch, sent or delivered twice. `digest` (CRC-32C of
    the message, see `streams.events.batch.digest`) tells a repetition from a sequence that was used again.
    """

    source: str
    sequence: int
    digest: int


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
    n_paired
        Events whose coincidences are in `pairs`: all, but for those counted by an older lumiwatch and those
        of histograms filled elsewhere.
    pairs
        How many events reach the thresholds (`streams.counting.layout.pair_threshold`) of both inputs of a
        pair: int64, shape (layout.n_pairs,), as `Layout.pair_places`; empty if `n_paired` is 0. Read-only.
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
    n_paired: int = 0
    pairs: Counts = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        shapes = (self.inputs.shape, self.score.shape, self.maps.shape)
        if shapes != ((self.layout.n_input_bins,), (N_SCORE_BINS,), (self.layout.n_map_bins,)):
            raise SummaryError(
                f"counts of shapes {shapes} do not fit their layout: build summaries with `summarise`"
            )
        if self.pairs.shape != ((self.layout.n_pairs if self.n_paired else 0),):
            raise SummaryError(
                f"{self.pairs.size} counts of pairs for {self.n_paired} events do not fit their layout: "
                "build summaries with `summarise`"
            )
        for array in (self.inputs, self.score, self.maps, self.pairs):
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


def summarise(batch: Batch, contract: Contract, digest: int | None = None) -> Summary:
    """Count one batch.

    Parameters
    ----------
    batch
        A batch made under `contract`.
    digest
        Of its message (`streams.events.batch.digest`); None offline, where the summary gets no identity.

    Raises
    ------
    SummaryError
        The batch was made under another contract.
    """
    if batch.contract_hash != contract.hash:
        raise SummaryError(
            f"batch of contract {batch.contract_hash[:12]} under {contract.hash[:12]}: use its own"
        )
    counted = fill(batch.inputs, batch.score, contract)
    paired = len(counted.pairs) > 0 and batch.n_events > 0
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
        inputs=counted.inputs,
        score=counted.score,
        maps=counted.maps,
        n_paired=batch.n_events if paired else 0,
        pairs=counted.pairs if paired else counted.pairs[:0],
    )


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
        n_paired=first.n_paired + second.n_paired,
        pairs=_added(first.pairs, second.pairs),
    )


def _added(first: Counts, second: Counts) -> Counts:
    """Add counts of pairs, of which either may be missing."""
    if not first.size or not second.size:
        return first if first.size else second
    return first + second


def merge_all(summaries: Iterable[Summary]) -> Summary:
    """Add any number of summaries of one window, at least one. Raises as `merge`."""
    parts = list(summaries)
    if not parts:
        raise SummaryError("nothing to merge: give at least one summary")
    return reduce(merge, parts)
