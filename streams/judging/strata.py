"""Strata: the expectation of a reference at any value of a second condition, beside the pileup.

Pileup is not all that a trigger sees: the number of colliding bunches, a crossing angle, a high voltage or a
temperature may change what a window holds. Lumisections of similar value of such a condition are a stratum
with slices of pileup of its own. Between the mean values of two strata, everything that is expected is mixed
linearly at the same pileup. Knows no name of a condition, and judges nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from streams.counting.layout import Layout
from streams.counting.summary import Summary, merge_all
from streams.errors import ReferenceProblem
from streams.judging.expectation import (
    MINIMUM_SLICE_LUMISECTIONS,
    Expectation,
    Expected,
    PileupExpectation,
    Slice,
    covered_ranges,
    mixed,
    sliced,
)

MAX_STRATA: Final = 6
MINIMUM_STRATUM_LUMISECTIONS: Final = 2 * MINIMUM_SLICE_LUMISECTIONS
"""Fewer lumisections cannot be sliced in pileup."""

Ranges = tuple[tuple[float, float], ...]


class StratumHeader(BaseModel):
    """What is known of a stratum besides its counts.

    Attributes
    ----------
    value
        Of the second condition: mean over the events.
    lowest, highest
        Of its lumisections.
    n_lumisections
        How many there are.
    n_slices
        How many slices of pileup it has.
    covered
        Ranges of pileup that its lumisections cover.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float
    lowest: float
    highest: float
    n_lumisections: int = Field(ge=1)
    n_slices: int = Field(ge=1)
    covered: Ranges = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> "StratumHeader":
        if not self.lowest <= self.value <= self.highest:
            raise ValueError("the mean value of a stratum lies between its lowest and its highest")
        return self


@dataclass(frozen=True, eq=False)
class Stratum:
    """Lumisections of similar value of the second condition, and what they make one expect."""

    header: StratumHeader
    expectation: Expectation


@dataclass(frozen=True, eq=False)
class Mixture:
    """The expectation between two strata, at any pileup.

    Attributes
    ----------
    parts
        Expectation and weight of each; the weights add up to 1.
    """

    parts: tuple[tuple[Expectation, float], ...]

    @property
    def layout(self) -> Layout:
        """Where each histogram lies."""
        return self.parts[0][0].layout

    @cached_property
    def pileups(self) -> tuple[float, ...]:
        """Mean pileups of all slices that lie where every part has one to either side, rising."""
        known = [one.pileups for one, _ in self.parts]
        low, high = max(each[0] for each in known), min(each[-1] for each in known)
        return tuple(sorted({pileup for each in known for pileup in each if low <= pileup <= high}))

    def at(self, pileup: float) -> Expected:
        """Return the mixture at a pileup; see `Expectation.at`."""
        return mixed([(one.at(pileup), weight) for one, weight in self.parts], self.layout.starts)


@dataclass(frozen=True, eq=False)
class Strata:
    """The expectation of a model at any value of a second condition, and any pileup.

    Attributes
    ----------
    strata
        By rising value, at least one.
    """

    strata: tuple[Stratum, ...]

    @property
    def headers(self) -> tuple[StratumHeader, ...]:
        """Return what is known of each stratum besides its counts."""
        return tuple(one.header for one in self.strata)

    @property
    def layout(self) -> Layout:
        """Where each histogram lies."""
        return self.strata[0].expectation.layout

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        """All slices of pileup, stratum after stratum."""
        return tuple(one for stratum in self.strata for one in stratum.expectation.slices)

    @cached_property
    def pooled(self) -> Summary:
        """All lumisections added up, whatever their conditions."""
        return merge_all(one.counts for one in self.slices)

    def at_value(self, value: float | None) -> PileupExpectation:
        """Return the expectation at a value of the second condition.

        Parameters
        ----------
        value
            Beyond the outermost mean value the nearest two strata are extrapolated, by at most one of their
            distances; callers refuse what lies outside of the reference. None: that of the stratum of most
            lumisections, for whoever shows a window that is not judged.
        """
        if value is None:
            return max(self.strata, key=lambda one: one.header.n_lumisections).expectation
        parts = tuple(
            (self.strata[index].expectation, weight) for index, weight in weights_at(self.headers, value)
        )
        return parts[0][0] if len(parts) == 1 else Mixture(parts)


def weights_at(headers: Sequence[StratumHeader], value: float) -> list[tuple[int, float]]:
    """Return which strata are mixed at a value, with their weights: one where the value is its mean."""
    if len(headers) == 1:
        return [(0, 1.0)]
    means = [one.value for one in headers]
    upper = int(np.clip(np.searchsorted(means, value), 1, len(means) - 1))
    share = (value - means[upper - 1]) / (means[upper] - means[upper - 1])
    share = min(max(share, -1.0), 2.0)
    return [(index, weight) for index, weight in ((upper - 1, 1.0 - share), (upper, share)) if weight]


def value_inside(headers: Sequence[StratumHeader], value: float, margin: float = 0.0) -> bool:
    """Whether a value lies between the lowest and the highest of all lumisections, or near enough.

    Parameters
    ----------
    margin
        How far it may lie outside, in units of the distance of the nearest two strata; of a single stratum
        nothing is known beyond.
    """
    below = above = 0.0
    if len(headers) > 1:
        below = margin * (headers[1].value - headers[0].value)
        above = margin * (headers[-1].value - headers[-2].value)
    return headers[0].lowest - below <= value <= headers[-1].highest + above


def covered_at(headers: Sequence[StratumHeader], value: float, margin: float = 0.0) -> Ranges:
    """Return the ranges of pileup that every stratum mixed at a value covers; none outside of all values."""
    if not value_inside(headers, value, margin):
        return ()
    first, *others = (headers[index].covered for index, _ in weights_at(headers, value))
    for other in others:
        first = common_ranges(first, other)
    return first


def common_ranges(one: Ranges, other: Ranges) -> Ranges:
    """Return what two coverages have in common, by rising pileup."""
    both = ((max(a[0], b[0]), min(a[1], b[1])) for a in one for b in other)
    return tuple(sorted((low, high) for low, high in both if low <= high))


def cut(values: Sequence[float]) -> tuple[list[list[int]], list[int]]:
    """Cut lumisections into strata by the value of a second condition.

    A few distinct values give a stratum each, many are cut into ranges of equal width. A stratum of fewer
    lumisections than `MINIMUM_STRATUM_LUMISECTIONS` joins its neighbour if that is near.

    Returns
    -------
    The positions of the lumisections of each stratum, by rising value; and those that are in none, because
    they are too few, and far from all others.
    """
    known = np.array(values)
    low, high = float(known.min()), float(known.max())
    width = (high - low) / MAX_STRATA
    distinct = np.unique(known)
    edges = distinct[1:] if len(distinct) <= MAX_STRATA else low + width * np.arange(1, MAX_STRATA)
    place: npt.NDArray[np.intp] = np.searchsorted(edges, known, side="right")
    groups = [np.flatnonzero(place == one).tolist() for one in np.unique(place)]
    alone: list[int] = []
    while len(groups) > 1:
        small = min(range(len(groups)), key=lambda one: len(groups[one]))
        if len(groups[small]) >= MINIMUM_STRATUM_LUMISECTIONS:
            break
        near = min(
            (one for one in (small - 1, small + 1) if 0 <= one < len(groups)),
            key=lambda one: _gap(known, groups[small], groups[one]),
        )
        if _gap(known, groups[small], groups[near]) > width:
            alone += groups.pop(small)
        else:
            first, second = sorted((small, near))
            groups[first : second + 1] = [groups[first] + groups[second]]
    return groups, sorted(alone)


def stratified(
    summaries: Sequence[Summary],
    pileups: Sequence[float],
    values: Sequence[float],
    groups: Sequence[Sequence[int]],
) -> Strata:
    """Sort the lumisections of each stratum into slices of pileup.

    Parameters
    ----------
    summaries, pileups
        See `streams.judging.expectation.sliced`.
    values
        Of the second condition, in the same order.
    groups
        Positions of the lumisections of each stratum, by rising value; see `cut`.

    Raises
    ------
    ReferenceProblem
        The lumisections are of several models, contracts or packages.
    """
    if len({(part.model, part.contract_hash, part.package) for part in summaries}) > 1:
        raise ReferenceProblem("lumisections of several models, contracts or packages: choose one of each")
    strata = []
    for group in groups:
        here = [values[index] for index in group]
        inside = [pileups[index] for index in group]
        expectation = sliced([summaries[index] for index in group], inside)
        mean = float(np.average(here, weights=[summaries[index].n_events for index in group]))
        header = StratumHeader(
            value=min(max(mean, min(here)), max(here)),  # the mean of equal numbers may be rounded
            lowest=min(here),
            highest=max(here),
            n_lumisections=len(group),
            n_slices=len(expectation.slices),
            covered=covered_ranges(inside),
        )
        strata.append(Stratum(header, expectation))
    return Strata(tuple(strata))


def _gap(known: npt.NDArray[np.float64], one: Sequence[int], other: Sequence[int]) -> float:
    """Return the distance of two groups, between those of their members that are nearest."""
    lower, upper = sorted((known[one], known[other]), key=lambda values: float(values.min()))
    return float(upper.min() - lower.max())
