"""The calibration: how much an in-control window strays, learnt from lumisections held out of the reference.

Fills (runs) are held out in turn, and each of their lumisections is measured as windows will be, against the
expectation of the other fills. Two kinds of straying are told apart: the noise of single lumisections, and
the bias that stays (wander of a gain within a fill, a reference that fits some pileup less well). Only the
first averages out, so only the second is tolerated without end. Knows no verdict.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from streams.contracts.contract import Contract
from streams.counting.layout import Layout
from streams.counting.summary import Summary
from streams.judging.channels import Design, design
from streams.judging.expectation import MINIMUM_SLICE_LUMISECTIONS, PileupExpectation
from streams.judging.extremes import extremes
from streams.judging.flows import RANGE, counting_noise
from streams.judging.pairs import CORRELATIONS
from streams.judging.pileup_fit import fit_pileup, pileup_shift
from streams.judging.spikes import SPIKES, spike_noise
from streams.judging.strata import cut, stratified
from streams.statistics.tails import MINIMUM_VALUES, gumbel_tail

MINIMUM_FILLS: Final = 3
"""With fewer fills, blocks of lumisections are held out."""
BLOCKS: Final = 4
BLOCK_LUMISECTIONS: Final = 4
MINIMUM_DOF: Final = 4
NO_SCATTER: Final = 1e-6
"""A variance of so little of what counting gives is no scatter of data, but of rounding: they are copies."""
ROUNDING: Final = 1e-3
"""Extremes, in deviations, that differ by no more are copies too."""

Floats = npt.NDArray[np.float64]


class ChannelNoise(BaseModel):
    """Straying of a linear channel in control.

    Attributes
    ----------
    spread
        Standard deviation of a lumisection over what events of independent objects would give.
    bias
        Standard deviation of what stays for a fill, in the unit of the channel's effect, beyond the noise of
        the reference.
    dof
        Degrees of freedom of `spread`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    spread: float = Field(gt=0)
    bias: float = Field(ge=0)
    dof: int = Field(ge=1)


class ExtremeNoise(BaseModel):
    """Distribution of an extreme in control: Gumbel's, its scale raised to an upper bound.

    Attributes
    ----------
    squared
        `location` and `scale` are those of the squared value. The square of a normal pull has an exponential
        tail, so that of the largest of many has Gumbel's; the largest itself is rarer than that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    family: str
    location: float
    scale: float = Field(gt=0)
    squared: bool = False

    def p_value(self, value: float) -> float:
        """Return the probability that an in-control window shows this value or more; never 0."""
        taken = value**2 if self.squared else value
        scaled = max((taken - self.location) / self.scale, -700.0)  # exp does not overflow
        return max(-math.expm1(-math.exp(-scaled)), 1e-30)

    def value_at(self, probability: float) -> float:
        """Return the value that an in-control window exceeds with this probability."""
        value = self.location - self.scale * math.log(-math.log1p(-probability))
        return float(np.sqrt(max(value, 0.0))) if self.squared else value


class Calibration(BaseModel):
    """How much windows of a model stray in control.

    Attributes
    ----------
    n_events
        Events of a typical lumisection.
    n_lumisections, n_folds
        Lumisections measured, and in how many parts they were held out.
    pileup_error
        Relative error of the measured pileup (standard deviation), as far as numbers of objects show it.
    channels, extremes
        By name. What is not here cannot be judged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    n_events: float = Field(gt=0)
    n_lumisections: int
    n_folds: int
    pileup_error: float = Field(ge=0)
    channels: dict[str, ChannelNoise]
    extremes: dict[str, ExtremeNoise]


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """A lumisection and the expectation that was made without it; `cell`: its fold, stratum and slice."""

    fold: int
    cell: tuple[int, int, int]
    window: Summary
    pileup: float
    expectation: PileupExpectation


@dataclass(frozen=True, eq=False)
class _Strays:
    """Channels of the held-out lumisections, shape (lumisections, channels); `cell`: shape (lumisections,).

    `noise` and `own` are the variances of the effect by counting: of the window, and of the reference.
    """

    effect: Floats
    noise: Floats
    own: Floats
    cell: npt.NDArray[np.intp]


def calibrate(
    summaries: Sequence[Summary],
    pileups: Sequence[float],
    contract: Contract,
    *,
    values: Sequence[float] | None = None,
) -> Calibration:
    """Hold out each part of some lumisections in turn, and sum up how much they stray.

    Parameters
    ----------
    summaries
        One complete summary per lumisection, of one model, contract and package; at least two.
    pileups
        Pileup of each, in the same order.
    contract
        The contract they were made under.
    values
        Of a second condition, in the same order; None: the expectation follows the pileup alone.
    """
    values = [0.0] * len(summaries) if values is None else values
    groups, _ = cut(values)
    made_of = stratified(summaries, pileups, values, groups)
    made = design(contract, made_of.pooled)
    held_out = list(_held_out(summaries, pileups, values, groups))
    error = _pileup_error(made, held_out)
    effects, noises, owns = [], [], []
    rare: dict[tuple[str, str], list[float]] = {}
    for one in held_out:
        fitted = fit_pileup(made, one.window, one.expectation, one.pileup, error)
        effects.append(fitted.measured.effect)
        noises.append(fitted.measured.variance / one.window.n_events)
        owns.append(fitted.measured.variance / fitted.expected.size)
        for extreme in extremes(one.window, fitted.expected):
            rare.setdefault((extreme.name, extreme.family), []).append(extreme.value)
    cells = [one.cell for one in held_out]
    numbers = {cell: number for number, cell in enumerate(dict.fromkeys(cells))}
    strays = _Strays(
        np.array(effects), np.array(noises), np.array(owns), np.array([numbers[cell] for cell in cells])
    )
    noise = {channel.name: _channel(strays, index) for index, channel in enumerate(made.channels)}
    layout = made_of.layout
    tails = {name: _tail(family, np.array(found), layout) for (name, family), found in rare.items()}
    return Calibration(
        n_events=float(np.median([part.n_events for part in summaries])),
        n_lumisections=len(held_out),
        n_folds=len({one.fold for one in held_out}),
        pileup_error=error,
        channels={name: one for name, one in noise.items() if one is not None},
        extremes={name: one for name, one in tails.items() if one is not None},
    )


def folds_of(places: Sequence[tuple[int, int]]) -> npt.NDArray[np.intp]:
    """Return the part in which each (run, lumisection) is held out: its run, or its block of lumisections."""
    runs = sorted({run for run, _ in places})
    if len(runs) >= MINIMUM_FILLS:
        return np.array([runs.index(run) for run, _ in places], dtype=np.intp)
    return _blocks(places)


def _blocks(places: Sequence[tuple[int, int]]) -> npt.NDArray[np.intp]:
    order = {place: number for number, place in enumerate(sorted(places))}
    block = max(1, min(BLOCK_LUMISECTIONS, len(places) // BLOCKS))
    return np.array([order[place] // block % BLOCKS for place in places], dtype=np.intp)


def folds_in_strata(
    places: Sequence[tuple[int, int]], groups: Sequence[Sequence[int]]
) -> npt.NDArray[np.intp]:
    """Return the part in which each (run, lumisection) is held out, so that no stratum is without any.

    With fewer fills than `MINIMUM_FILLS`, and of a stratum that holds one fill or hardly more, blocks of its
    lumisections are held out.
    """
    if len(groups) == 1:
        return folds_of(places)
    runs = sorted({run for run, _ in places})
    folds = np.zeros(len(places), dtype=np.intp)
    for group in groups:
        inside = [places[index] for index in group]
        largest = max(Counter(run for run, _ in inside).values())
        if len(runs) >= MINIMUM_FILLS and len(inside) - largest >= MINIMUM_SLICE_LUMISECTIONS:
            folds[group] = [runs.index(run) for run, _ in inside]
        else:
            folds[group] = len(runs) + _blocks(inside)
    return folds


def _held_out(
    summaries: Sequence[Summary],
    pileups: Sequence[float],
    values: Sequence[float],
    groups: Sequence[Sequence[int]],
) -> Iterator[_HeldOut]:
    folds = folds_in_strata([(part.run, part.lumisection) for part in summaries], groups)
    for fold in np.unique(folds).tolist():
        rest = [[index for index in group if folds[index] != fold] for group in groups]
        strata = stratified(summaries, pileups, values, [group for group in rest if group])
        for number, group in enumerate(groups):
            for index in (index for index in group if folds[index] == fold):
                expectation = strata.at_value(values[index])
                # neighbouring slices share a cell, so that it holds enough lumisections
                place = int(np.searchsorted(np.array(expectation.pileups), pileups[index])) // 2
                yield _HeldOut(fold, (fold, number, place), summaries[index], pileups[index], expectation)


def _pileup_error(made: Design, held_out: Sequence[_HeldOut]) -> float:
    """Return how much the pileup of the data scatters about the measured one, beyond counting."""
    squares = []
    for one in held_out:
        expected = one.expectation.at(one.pileup)
        shift = pileup_shift(made, one.window, one.expectation, one.pileup, expected)
        if np.isfinite(shift.variance):
            squares.append(shift.value**2 - shift.variance)
    return float(np.sqrt(max(float(np.mean(squares)), 0.0))) if squares else 0.0


def _channel(strays: _Strays, index: int) -> ChannelNoise | None:
    """Tell the scatter within cells (one fill at one pileup) from what is common to a cell."""
    speaking = strays.noise[:, index] > 0
    cell, n_cells = strays.cell[speaking], int(strays.cell.max()) + 1
    effect, noise, own = (part[speaking, index] for part in (strays.effect, strays.noise, strays.own))
    size = np.bincount(cell, minlength=n_cells)
    dof = len(effect) - int((size > 0).sum())
    if dof < MINIMUM_DOF:
        return None
    mean, mean_noise, mean_own = (
        np.bincount(cell, values, n_cells) / np.maximum(size, 1) for values in (effect, noise, own)
    )
    square = float(((effect - mean[cell]) ** 2 / noise).sum()) / dof
    if square < NO_SCATTER:
        return None
    several = size >= 2
    stays = mean**2 - square * (mean_noise / np.maximum(size, 1) + mean_own)
    bias = float(np.average(stays[several], weights=size[several])) if several.any() else 0.0
    return ChannelNoise(spread=float(np.sqrt(square)), bias=float(np.sqrt(max(bias, 0.0))), dof=dof)


def _tail(family: str, values: Floats, layout: Layout) -> ExtremeNoise | None:
    counting = None
    if family == SPIKES:
        counting = spike_noise(layout.n_input_bins, values)
    elif family == RANGE and values.max() <= counting_noise(layout.n_inputs)[0]:
        counting = counting_noise(layout.n_inputs)  # mostly nothing is out of range
    if counting is not None:
        return ExtremeNoise(family=family, location=counting[0], scale=counting[1])
    if len(values) < MINIMUM_VALUES or not np.ptp(values) > ROUNDING:
        return None
    squared = family == CORRELATIONS
    tail = gumbel_tail(values**2 if squared else values)
    return ExtremeNoise(family=family, location=tail.location, scale=tail.scale, squared=squared)
