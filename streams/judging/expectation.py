"""The expectation: what a window should hold at its pileup, interpolated between slices of a reference.

A reference's lumisections are sorted into slices of one condition (the pileup). Between the mean pileups of
two slices the density of every bin is interpolated linearly; how many events the result is worth follows
from the weights. Knows no threshold and judges nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from streams.counting.layout import Layout
from streams.counting.summary import Summary, merge_all
from streams.errors import ReferenceProblem
from streams.statistics.coincidences import MarkCorrelations, mark_correlations

MAX_SLICES: Final = 16
MINIMUM_SLICE_LUMISECTIONS: Final = 8
"""Fewer lumisections give a slice whose own noise would be taken for drift."""
MINIMUM_SLICE_WIDTH: Final = 2.0
"""Narrower slices, in pileup, describe the error of the luminosity measurement and no physics."""
COVER_GAP: Final = 3.0
"""Lumisections of a reference that lie further apart than this, in pileup, leave a gap between them."""
OUTERMOST: Final = 150
"""One in so many lumisections, at either end, is no more than an error of the measured pileup."""
GAP_MARGIN: Final = 2.0
"""How far, in pileup, a window may lie from a range of a reference within a gap of it."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Slice:
    """Lumisections of similar pileup.

    Attributes
    ----------
    pileup
        Mean over the events.
    n_lumisections
        How many are added up in `counts`.
    counts
        Merged summary; its run and lumisection are 0.
    """

    pileup: float
    n_lumisections: int
    counts: Summary

    @cached_property
    def marks(self) -> MarkCorrelations | None:
        """How inputs go together; None if no pairs were counted."""
        counts = self.counts
        if not counts.n_paired:
            return None
        return mark_correlations(counts.pairs, counts.layout.pair_places, counts.n_paired)


@dataclass(frozen=True, eq=False)
class ExpectedMarks:
    """How inputs should go together.

    Attributes
    ----------
    marks
        Shares and correlations of the marks of inputs (`streams.counting.layout.pair_threshold`).
    size
        Number of reference events they are worth.
    """

    marks: MarkCorrelations
    size: float


@dataclass(frozen=True, eq=False)
class Expected:
    """What a window of some pileup should hold, per event.

    Attributes
    ----------
    inputs
        Density of every bin of the layout; each input's sum to 1. Shape (n_input_bins,).
    score
        Density of every score bin. Shape (N_SCORE_BINS,).
    maps
        Expected entries per event of every map cell. Shape (n_map_bins,).
    rate
        Expected accept rate.
    size
        Number of reference events the densities are worth, in which the reference's own noise is said.
    input_size
        The same of each input. Shape (n_inputs,).
    marks
        How inputs should go together; None where the reference does not know.
    """

    inputs: Floats
    score: Floats
    maps: Floats
    rate: float
    size: float
    input_size: Floats
    marks: ExpectedMarks | None = None


class PileupExpectation(Protocol):
    """The expectation at any pileup, all else being as it is."""

    @property
    def layout(self) -> Layout:
        """Where each histogram lies."""
        ...

    @property
    def pileups(self) -> tuple[float, ...]:
        """Pileups between which it is linear, rising; fewer than two: it does not know how things change."""
        ...

    def at(self, pileup: float) -> Expected:
        """Return the expectation at a pileup."""
        ...


@dataclass(frozen=True, eq=False)
class Expectation:
    """The expectation of a model at any pileup that its lumisections cover.

    Attributes
    ----------
    slices
        By rising pileup, at least one.
    """

    slices: tuple[Slice, ...]

    @property
    def layout(self) -> Layout:
        """Where each histogram lies."""
        return self.slices[0].counts.layout

    @cached_property
    def pileups(self) -> tuple[float, ...]:
        """Mean pileup of each slice."""
        return tuple(one.pileup for one in self.slices)

    @cached_property
    def pooled(self) -> Summary:
        """All slices added up."""
        return merge_all(one.counts for one in self.slices)

    def at_value(self, value: float | None) -> "Expectation":  # noqa: ARG002 - as `Strata.at_value`
        """Return this expectation: it follows no second condition."""
        return self

    @property
    def _sizes(self) -> tuple[int, int, int]:
        counts = self.slices[0].counts
        return len(counts.inputs), len(counts.score), len(counts.maps)

    def at(self, pileup: float) -> Expected:
        """Return the expectation at a pileup.

        Parameters
        ----------
        pileup
            Beyond the outermost slice means the nearest two are extrapolated, by at most one of their
            distances; callers refuse what lies outside of the reference.
        """
        parts = self._weights(pileup)
        inputs, score, maps = (np.zeros(size) for size in self._sizes)
        rate, inverse_size = 0.0, 0.0
        inverse_input_size = np.zeros(self.layout.n_inputs)
        for one, weight in parts:
            counts, totals = one.counts, input_totals(one.counts)
            inputs += counts.inputs * np.repeat(_shares(weight, totals), np.diff(self.layout.starts))
            inverse_input_size += _shares(weight**2, totals)
            if not self.layout.own_totals:
                score += counts.score * (weight / counts.n_events)
                maps += counts.maps * (weight / counts.n_events)
                rate += weight * counts.n_accept / counts.n_events
            inverse_size += weight**2 / counts.n_events
        if len(parts) > 1:
            _make_whole(inputs, score, maps, self.layout.starts)
        return Expected(
            inputs=inputs,
            score=score,
            maps=maps,
            rate=min(max(rate, 0.0), 1.0),
            size=1.0 / inverse_size,
            input_size=_shares(1.0, inverse_input_size),
            marks=_slice_marks(parts),
        )

    def _weights(self, pileup: float) -> list[tuple[Slice, float]]:
        means = np.array([one.pileup for one in self.slices])
        if len(means) == 1:
            return [(self.slices[0], 1.0)]
        upper = int(np.clip(np.searchsorted(means, pileup), 1, len(means) - 1))
        share = (pileup - means[upper - 1]) / (means[upper] - means[upper - 1])
        share = float(np.clip(share, -1.0, 2.0))
        return [(self.slices[upper - 1], 1.0 - share), (self.slices[upper], share)]


def mixed(parts: Sequence[tuple[Expected, float]], starts: Sequence[int]) -> Expected:
    """Mix expectations linearly.

    Parameters
    ----------
    parts
        Of one layout, each with its weight; at least one. The weights add up to 1.
    starts
        Where the histogram of each input begins, and where the last ends.
    """
    inputs, score, maps = (
        np.sum([weight * getattr(one, name) for one, weight in parts], axis=0)
        for name in ("inputs", "score", "maps")
    )
    _make_whole(inputs, score, maps, starts)
    inverse_input_size = np.sum([_shares(weight**2, one.input_size) for one, weight in parts], axis=0)
    return Expected(
        inputs=inputs,
        score=score,
        maps=maps,
        rate=min(max(sum(weight * one.rate for one, weight in parts), 0.0), 1.0),
        size=1.0 / sum(weight**2 / one.size for one, weight in parts),
        input_size=_shares(1.0, inverse_input_size),
        marks=_mixed_marks([(one.marks, weight) for one, weight in parts]),
    )


def _make_whole(inputs: Floats, score: Floats, maps: Floats, starts: Sequence[int]) -> None:
    """Raise rare bins that an extrapolation left below zero, in place; what is left adds up to 1."""
    for array in (inputs, score, maps):
        np.maximum(array, 0.0, out=array)
    sums = np.add.reduceat(inputs, np.array(starts[:-1]))
    inputs *= np.repeat(_shares(1.0, sums), np.diff(starts))
    score *= _shares(1.0, np.array([score.sum()]))


def _slice_marks(parts: Sequence[tuple[Slice, float]]) -> ExpectedMarks | None:
    """Interpolate correlations, not counts: between slices counts would show the pileup's own correlation."""
    return _mixed_marks(
        [
            (None if one.marks is None else ExpectedMarks(one.marks, one.counts.n_paired), weight)
            for one, weight in parts
        ]
    )


def _mixed_marks(parts: Sequence[tuple[ExpectedMarks | None, float]]) -> ExpectedMarks | None:
    shares, correlations, inverse_size = np.zeros(0), np.zeros(0), 0.0
    for one, weight in parts:
        if one is None:
            return None
        shares = weight * one.marks.shares + (shares if len(shares) else 0.0)
        correlations = weight * one.marks.correlations + (correlations if len(correlations) else 0.0)
        inverse_size += weight**2 / one.size
    marks = MarkCorrelations(np.clip(shares, 0.0, 1.0), np.clip(correlations, -1.0, 1.0))
    return ExpectedMarks(marks, 1.0 / inverse_size)


def sliced(summaries: Sequence[Summary], pileups: Sequence[float]) -> Expectation:
    """Sort lumisections into slices of pileup and add each slice up.

    Parameters
    ----------
    summaries
        One complete summary per lumisection, of one model, contract and package; at least one.
    pileups
        Pileup of each, in the same order.

    Raises
    ------
    ReferenceProblem
        They are of several models, contracts or packages.
    """
    if len({(part.model, part.contract_hash, part.package) for part in summaries}) > 1:
        raise ReferenceProblem("lumisections of several models, contracts or packages: choose one of each")
    order = np.argsort(np.array(pileups), kind="stable")
    ordered = [(float(pileups[index]), summaries[index]) for index in order]
    return Expectation(tuple(_slice(group) for group in _groups(ordered)))


def covered_ranges(pileups: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Return the ranges of pileup that lumisections cover, split where `COVER_GAP` parts two of them.

    One in `OUTERMOST` at either end covers nothing: the highest of many measured values is so by its error
    rather than by its pileup, and nobody has learnt what lies there.
    """
    ranges: list[tuple[float, float]] = []
    left_out = len(pileups) // OUTERMOST
    for pileup in sorted(pileups)[left_out : len(pileups) - left_out]:
        if ranges and pileup - ranges[-1][1] <= COVER_GAP:
            ranges[-1] = (ranges[-1][0], pileup)
        else:
            ranges.append((pileup, pileup))
    return tuple(ranges)


def covers(covered: Sequence[tuple[float, float]], pileup: float, margin: float) -> bool:
    """Whether a pileup lies in one of some covered ranges, or near enough to one.

    Beyond all ranges, where the expectation is extrapolated: no further than `margin`. Between two, where it
    is interpolated: no further than `GAP_MARGIN` or `margin`.
    """
    if not covered or not covered[0][0] - margin <= pileup <= covered[-1][1] + margin:
        return False
    inside = max(margin, GAP_MARGIN)
    return any(low - inside <= pileup <= high + inside for low, high in covered)


def input_totals(summary: Summary) -> npt.NDArray[np.int64]:
    """Return the entries of each input's histogram, shape (n_inputs,)."""
    if not summary.layout.own_totals:
        return np.full(summary.layout.n_inputs, summary.n_events, dtype=np.int64)
    totals: npt.NDArray[np.int64] = np.add.reduceat(summary.inputs, np.array(summary.layout.starts[:-1]))
    return totals


def _groups(ordered: Sequence[tuple[float, Summary]]) -> list[list[tuple[float, Summary]]]:
    """Cut sorted lumisections into slices of equal width, the sparse ones joined to a neighbour."""
    low, high = ordered[0][0], ordered[-1][0]
    most = min(
        MAX_SLICES, int((high - low) / MINIMUM_SLICE_WIDTH), len(ordered) // MINIMUM_SLICE_LUMISECTIONS
    )
    edges = np.linspace(low, high, max(most, 1) + 1)[1:-1]
    groups: list[list[tuple[float, Summary]]] = [[]]
    for pileup, summary in ordered:
        beyond = int(np.searchsorted(edges, pileup, side="right"))
        if groups[-1] and beyond != int(np.searchsorted(edges, groups[-1][-1][0], side="right")):
            groups.append([])
        groups[-1].append((pileup, summary))
    return _joined(groups)


def _joined(groups: list[list[tuple[float, Summary]]]) -> list[list[tuple[float, Summary]]]:
    while len(groups) > 1:
        small = next((n for n, group in enumerate(groups) if len(group) < MINIMUM_SLICE_LUMISECTIONS), None)
        if small is None:
            break
        neighbours = [n for n in (small - 1, small + 1) if 0 <= n < len(groups)]
        into = min(neighbours, key=lambda n: abs(groups[n][0][0] - groups[small][0][0]))
        first, second = sorted((small, into))
        groups[first : second + 1] = [groups[first] + groups[second]]
    return groups


def _slice(group: Sequence[tuple[float, Summary]]) -> Slice:
    counts = merge_all(replace(part, run=0, lumisection=0, batch=None) for _, part in group)
    weights = [part.n_events for _, part in group]
    return Slice(float(np.average([pileup for pileup, _ in group], weights=weights)), len(group), counts)


def _shares(weight: float, totals: npt.NDArray[np.int64] | Floats) -> Floats:
    """Weight over each total; 0 where a total is 0."""
    values = np.asarray(totals, dtype=np.float64)
    return np.divide(weight, values, out=np.zeros(len(values)), where=values > 0)
