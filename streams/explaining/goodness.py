"""How well a window fits densities: the deviance over merged bins of all inputs and all cells of the maps.

It ranks the causes of `streams.explaining.causes` and decides no alarm. Only the shapes of maps count: how
many objects there are stands in the histograms of their inputs.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from streams.counting.summary import Summary
from streams.judging.expectation import Expected, input_totals

MERGED: Final = 20.0
"""Bins of an input are merged until each expects about so many entries."""
COARSE_BINS: Final = 40
"""Merged bins of an input where shapes count and single codes do not."""
LIKELY: Final = 2.0
"""Deviations that the deviance of an input may lie above its mean before it shows anything."""
LEAST: Final = 0.5
"""Nothing is expected more rarely than this."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Densities:
    """What some cause would make of a window: inputs (n_input_bins,) and maps (n_map_bins,), per event."""

    inputs: Floats
    maps: Floats


def between(one: Densities, other: Densities, share: float) -> Densities:
    """Return what lies a share of the way from one to the other, or beyond; never below 0."""
    return Densities(
        np.maximum(one.inputs + share * (other.inputs - one.inputs), 0.0),
        np.maximum(one.maps + share * (other.maps - one.maps), 0.0),
    )


class Goodness:
    """The deviance of one window from any densities.

    Parameters
    ----------
    window
        At least one event.
    expected
        Decides the merging, and its size how exact the densities are.
    bins
        Most merged bins of an input; None: as many as `MERGED` allows.
    """

    def __init__(self, window: Summary, expected: Expected, bins: int | None = COARSE_BINS) -> None:
        layout = window.layout
        self.starts = np.array(layout.starts[:-1])
        self._sizes = np.diff(layout.starts)
        totals = input_totals(window).astype(np.float64)
        self._totals = np.repeat(totals, self._sizes)
        least = np.maximum(MERGED, totals / bins) if bins else np.full(len(totals), MERGED)
        self._first = _merge(expected.inputs * self._totals, self.starts, self._sizes, least)
        self.n_groups = len(self._first)
        self._seen = self._binned(window.inputs.astype(np.float64))
        self.input_of = np.searchsorted(self.starts, self._first, side="right") - 1
        exact = 1.0 + np.divide(
            totals, expected.input_size, out=np.zeros(len(totals)), where=expected.input_size > 0
        )
        self._exact = exact[self.input_of]
        self._cells = [entry.size for entry in layout.maps]
        self._map_starts = np.concatenate([[0], np.cumsum(self._cells)[:-1]]).astype(np.intp)
        self._maps = window.maps.astype(np.float64)
        self._map_exact = 1.0 + window.n_events / expected.size
        self._map_totals = np.add.reduceat(self._maps, self._map_starts) if self._cells else np.zeros(0)

    def per_input(self, densities: Densities) -> Floats:
        """Return the deviance of every input, shape (n_inputs,)."""
        terms = _deviance(self._seen, self._expected(densities.inputs)) / self._exact
        return np.bincount(self.input_of, terms, minlength=len(self.starts)).astype(np.float64)

    def per_map(self, densities: Densities) -> Floats:
        """Return the deviance of every map's shape, shape (n_maps,)."""
        if not self._cells:
            return np.zeros(0)
        terms = _deviance(self._maps, self._expected_maps(densities.maps)) / self._map_exact
        return np.add.reduceat(terms, self._map_starts)

    def deviance(self, densities: Densities) -> float:
        """Return the deviance of everything."""
        return float(self.per_input(densities).sum() + self.per_map(densities).sum())

    def excess(self, densities: Densities) -> Floats:
        """Return each input's deviance beyond that in control, in standard deviations; shape (n_inputs,)."""
        seen, mean, spread = self._inputs(densities)
        return (seen - mean) / np.maximum(spread, 1.0)

    def unexplained(self, densities: Densities) -> float:
        """Return the deviance beyond what windows in control show, summed over inputs and maps."""
        total = 0.0
        for seen, mean, spread in (self._inputs(densities), self._in_maps(densities)):
            total += float(np.maximum(seen - mean - LIKELY * spread, 0.0).sum())
        return total

    def _inputs(self, densities: Densities) -> tuple[Floats, Floats, Floats]:
        """Return the deviance of every input, its mean in control and its spread."""
        both = _poisson_deviance(self._expected(densities.inputs))
        mean, variance = (
            np.bincount(self.input_of, each, minlength=len(self.starts)).astype(np.float64) for each in both
        )
        return self.per_input(densities), mean, np.sqrt(variance)

    def _in_maps(self, densities: Densities) -> tuple[Floats, Floats, Floats]:
        """Return the same of every map."""
        if not self._cells:
            return np.zeros(0), np.zeros(0), np.zeros(0)
        both = _poisson_deviance(self._expected_maps(densities.maps))
        mean, variance = (np.asarray(np.add.reduceat(each, self._map_starts)) for each in both)
        return self.per_map(densities), mean, np.sqrt(variance)

    def amplitude(self, densities: Densities, other: Densities) -> tuple[float, float]:
        """Return how far the window lies from some densities towards others, and the error of that.

        Least squares in what lies between them: 0 at `densities`, 1 at `other`.
        """
        base, base_maps = self._expected(densities.inputs), self._expected_maps(densities.maps)
        step, step_maps = (
            self._expected(other.inputs) - base,
            self._expected_maps(other.maps) - base_maps,
        )
        variance, map_variance = base * self._exact, base_maps * self._map_exact
        information = float((step**2 / variance).sum() + (step_maps**2 / map_variance).sum())
        if information <= 0:
            return 0.0, np.inf
        pull = float(
            (step * (self._seen - base) / variance).sum()
            + (step_maps * (self._maps - base_maps) / map_variance).sum()
        )
        return pull / information, float(np.sqrt(1 / information))

    def _binned(self, values: Floats) -> Floats:
        return np.asarray(np.add.reduceat(values, self._first)) if self.n_groups else np.zeros(0)

    def _expected(self, density: Floats) -> Floats:
        return np.maximum(self._binned(density * self._totals), LEAST)

    def _expected_maps(self, maps: Floats) -> Floats:
        if not self._cells:
            return np.zeros(0)
        totals = np.add.reduceat(maps, self._map_starts)
        factor = np.divide(self._map_totals, totals, out=np.zeros(len(totals)), where=totals > 0)
        cells: Floats = np.maximum(maps * np.repeat(factor, self._cells), LEAST)
        return cells


def _deviance(seen: Floats, expected: Floats) -> Floats:
    logs = np.log(np.divide(seen, expected, out=np.ones(len(seen)), where=seen > 0))
    terms: Floats = 2.0 * (seen * logs - (seen - expected))
    return np.maximum(terms, 0.0)


def _poisson_deviance(expected: Floats) -> tuple[Floats, Floats]:
    """Return mean and variance of the deviance of Poisson counts: 1 and 2 where much is expected."""
    logs = np.log(expected)
    grid, mean, variance = _deviance_table()
    return np.interp(logs, grid, mean), np.interp(logs, grid, variance)


@cache
def _deviance_table() -> tuple[Floats, Floats, Floats]:
    counts, expected = np.arange(200.0), np.geomspace(LEAST, 50.0, 40)
    shares = np.exp(
        special.xlogy(counts, expected[:, None]) - expected[:, None] - special.gammaln(counts + 1)
    )
    terms = np.array([_deviance(counts, np.full(len(counts), each)) for each in expected])
    mean = (shares * terms).sum(axis=1)
    variance = (shares * terms**2).sum(axis=1) - mean**2
    return np.log(expected), mean, variance


def _merge(
    expected: Floats, starts: npt.NDArray[np.intp], sizes: npt.NDArray[np.intp], least: Floats
) -> npt.NDArray[np.intp]:
    """Return the first bin of each merged one, which begins where the one before expects enough.

    The upper end is cut more finely, each bin by a third of what is left, because tails are there.
    """
    running = np.cumsum(expected)
    before = np.concatenate([[0.0], running])
    below = running - np.repeat(before[starts], sizes)
    total, least = np.repeat(before[starts + sizes] - before[starts], sizes), np.repeat(least, sizes)
    left = np.maximum(total - below, MERGED)
    steps = below / least
    tail = left < 3 * least
    steps[tail] = (total / least - 3 + 3 * np.log(3 * least / left))[tail]
    steps = np.floor(steps)
    full = np.concatenate([[0.0], steps[:-1]])
    begins = np.diff(full, prepend=0.0) > 0
    begins[starts] = True
    return np.flatnonzero(begins)
