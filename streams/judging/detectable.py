"""Detectable effects: how small a change a reference lets be noticed, in units that people know.

Follows from the reference alone, before any window is judged: its calibration, its budget, and how many
events a window will hold at which pileup. Every number is for a reference that is right, and for one effect
alone; what else happens at the same time only adds evidence. Judges nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from scipy import optimize, special

from streams.contracts.contract import Contract
from streams.contracts.quantity import InputSpec
from streams.counting.layout import ObjectMap
from streams.counting.summary import Summary
from streams.errors import ReferenceProblem
from streams.judging.calibration import ExtremeNoise
from streams.judging.channels import RATE, TAIL, there_bins
from streams.judging.evidence import detectable_z, single_window_p
from streams.judging.expectation import Expected, covers, input_totals
from streams.judging.extremes import INPUTS, MAPS, SCORE
from streams.judging.findings import CALIBRATED_SIZE, ChannelFinding, Yardstick, deviations_of, find
from streams.judging.reference import Reference
from streams.judging.reference_header import in_words

N_WINDOWS: Final = 10
"""Windows in a row after which a small effect is asked for again."""
POWER: Final = 0.95
"""Probability with which an effect is found."""
MAP_SHAPES: Final = ((1, 1), (3, 3))
"""Places of a map that are told, in cells."""
MINIMUM_EXPECTED: Final = 20.0
"""A scan looks at no place that expects fewer objects."""
LARGEST_GAIN: Final = 1.0
_STEPS: Final = 16
_HALVINGS: Final = 12

Floats = npt.NDArray[np.float64]


class Detectable(BaseModel):
    """The smallest effect of one kind that is found with the probability asked for.

    Attributes
    ----------
    name
        The channel (``jet gain``), the input (``jet[0].pt``), or the places of a map
        (``jet map, 3 x 3 cells``).
    kind
        ``input``: a shift of that input alone. ``map``: the share of a place's objects that is missing, at
        the place of the median object. ``score``: a distance between distributions.
    object
        The object it is about; empty for the firmware's output.
    unit
        Of the effects; empty: they are ratios.
    at_once
        Found by one window; None: no size is.
    in_ten
        Of channels: found by `N_WINDOWS` windows in a row, at the latest.
    shift_lsb, gain
        Of inputs: the same shift in codes; and of inputs that are a pt, the relative change that is found in
        one window.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    kind: Literal["channel", "input", "map", "score"]
    object: str = ""
    unit: str = ""
    at_once: float | None
    in_ten: float | None = None
    shift_lsb: float | None = None
    gain: float | None = None


@dataclass(frozen=True, eq=False)
class _Setting:
    """The window that is imagined, and what it is held against."""

    contract: Contract
    expected: Expected
    totals: Floats
    n_events: int
    power: float
    bias_learnt: bool

    @property
    def spare(self) -> float:
        """Standard deviations that the effect must exceed its threshold by."""
        return float(special.ndtri(self.power))


def detectable_effects(
    reference: Reference,
    contract: Contract,
    *,
    n_events: int,
    pileup: float,
    value: float | None = None,
    rate_band: float = 0.0,
    power: float = POWER,
) -> tuple[Detectable, ...]:
    """Work out what windows of so many events at a pileup let be noticed.

    Parameters
    ----------
    reference
        With its budget and its calibration.
    contract
        Of the reference.
    n_events
        Events of a window; for histograms that were filled elsewhere, the entries of the fullest.
    pileup
        Covered by the reference.
    value
        Of the second condition, where the reference follows one; None: its typical value.
    rate_band
        Relative deviation of the accept rate that the site tolerates.
    power
        Probability with which an effect is found, in 0.5 up to 1.

    Returns
    -------
    Channels, inputs, maps and score, each in the order of the contract.

    Raises
    ------
    ReferenceProblem
        The contract is another one, pileup or value is not covered, there are no events, or the power is not
        a probability of 0.5 or more.
    """
    value = reference.header.typical_value if value is None else value
    _check(reference, contract, n_events, pileup, value, power)
    yardstick = reference.yardstick(contract, rate_band)
    expected = reference.expectation.at_value(value).at(pileup)
    window = expected_window(reference.counts, expected, n_events)
    found = find(window, pileup, yardstick, value)
    totals = input_totals(window).astype(np.float64)
    setting = _Setting(contract, found.expected, totals, n_events, power, reference.header.bias_learnt)
    result = [_channel(one, yardstick, setting) for one in found.channels]
    shares = yardstick.shares
    for name, noise in yardstick.calibration.extremes.items():
        value = noise.value_at(single_window_p(shares[name], yardstick.budget))
        result += _extreme(name, noise, value, yardstick.floors.get(noise.family, 0.0), reference, setting)
    return tuple(result)


def most_useful(effects: Sequence[Detectable], number: int = 10) -> tuple[Detectable, ...]:
    """Return the few effects that say most of a reference: gains, accept rate, maps, numbers of objects."""
    wanted: tuple[Callable[[Detectable], bool], ...] = (
        lambda one: one.name.endswith(" gain"),
        lambda one: one.name == "accept rate",
        lambda one: one.kind == "map" and one.name.endswith("3 x 3 cells"),
        lambda one: one.name.startswith("number of "),
        lambda one: one.kind == "channel",
        lambda one: one.kind == "input",
    )
    seen = [one for one in effects if one.at_once is not None]
    ordered = [one for test in wanted for one in seen if test(one)]
    return tuple(dict.fromkeys(ordered))[:number]


def describe_size(value: float | None, unit: str) -> str:
    """Return the size of an effect for people: ``0.62 %``, ``0.021``, ``1.5 GeV``; a dash for None."""
    if value is None:
        return "-"
    if not unit:
        return f"{100 * value:.2g} %" if value < 1 else f"{100 * value:.0f} %"
    return f"{value:.2g} {unit}".removesuffix(" 1")


def _check(
    reference: Reference,
    contract: Contract,
    n_events: int,
    pileup: float,
    value: float | None,
    power: float,
) -> None:
    if reference.contract_hash != contract.hash:
        raise ReferenceProblem(
            f"the reference was made under contract {reference.contract_hash[:12]}, "
            f"not {contract.hash[:12]}: give the contract it was made under"
        )
    header = reference.header
    if not covers(header.covered_at(value), pileup, 0.0):
        at = f" at {in_words(header.interpolated)} {value:.6g}" if header.strata else ""
        known = header.coverage_in_words if header.strata else header.coverage
        raise ReferenceProblem(
            f"pileup {pileup:.1f}{at} is outside of the reference's {known}: give one inside"
        )
    if n_events < 1:
        raise ReferenceProblem(f"a window of {n_events} events shows nothing: give 1 or more")
    if not 0.5 <= power < 1:
        raise ReferenceProblem(f"power {power} must lie in 0.5 up to 1: 0.95 is usual")


def expected_window(counts: Summary, expected: Expected, n_events: int) -> Summary:
    """Return the window of so many events that holds what is expected, but for rounding."""
    totals = input_totals(counts) * (n_events / max(int(input_totals(counts).max(initial=1)), 1))
    bins = np.diff(counts.layout.starts)
    return replace(
        counts,
        n_events=n_events,
        n_accept=round(expected.rate * n_events),
        inputs=_whole(expected.inputs * np.repeat(totals, bins)),
        score=_whole(expected.score * n_events),
        maps=_whole(expected.maps * n_events),
        n_checked=0,
        n_mismatched=0,
        n_paired=0,
        pairs=np.zeros(0, dtype=np.int64),
    )


def _whole(values: Floats) -> npt.NDArray[np.int64]:
    """Round so that running sums are right to a half: many bins of less than one would else be lost."""
    return np.diff(np.rint(np.cumsum(values)), prepend=0.0).astype(np.int64)


def _channel(one: ChannelFinding, yardstick: Yardstick, setting: _Setting) -> Detectable:
    noise = yardstick.calibration.channels[one.name]

    def size(n_windows: int) -> float:
        # what is needed beyond the tolerance once noise is averaged, then the luck of these windows
        firm = one.family == RATE or not setting.bias_learnt
        needed = detectable_z(one.share, yardstick.budget, n_windows, 0.5, 0.0 if firm else one.tolerance)
        beyond = deviations_of(needed, noise.dof) + setting.spare / float(np.sqrt(n_windows))
        deviations = one.tolerance + beyond
        if one.family != TAIL:
            return deviations * one.error
        # a tail is judged by the square root of its events (see `findings`); its relative variance by
        # counting, (1 - share) / share for each event, says how many it expects
        events = min(float(setting.n_events), CALIBRATED_SIZE * yardstick.calibration.n_events)
        foreseen = setting.n_events / (1.0 + (one.error / noise.spread) ** 2 * events)
        root = np.sqrt(foreseen + 0.375) + deviations * noise.spread / 2 * np.sqrt(setting.n_events / events)
        return float((root**2 - 0.375) / foreseen - 1.0)

    return Detectable(
        name=one.name,
        kind="channel",
        object=one.object,
        unit=one.unit,
        at_once=size(1),
        in_ten=size(N_WINDOWS),
    )


def _extreme(
    name: str, noise: ExtremeNoise, value: float, floor: float, reference: Reference, setting: _Setting
) -> list[Detectable]:
    if noise.family == INPUTS:
        specs = setting.contract.inputs
        return [_input(index, spec, value, floor, reference, setting) for index, spec in enumerate(specs)]
    if noise.family == MAPS:
        start = 0
        for entry in reference.counts.layout.maps:
            if name == f"{entry.object} map":
                density = setting.expected.maps[start : start + entry.size]
                return [_place(entry, density, shape, value, floor, setting) for shape in MAP_SHAPES]
            start += entry.size
    if noise.family == SCORE:
        n, m = setting.n_events, setting.expected.size
        size = float(np.sqrt(n * m / (n + m)))
        distance = max(value / size, floor) + setting.spare * 0.5 / size
        return [
            Detectable(
                name=name, kind="score", unit="distance", at_once=distance if distance <= 1.0 else None
            )
        ]
    return []


def _input(
    index: int, spec: InputSpec, value: float, floor: float, reference: Reference, setting: _Setting
) -> Detectable:
    starts = reference.counts.layout.starts
    density = setting.expected.inputs[starts[index] : starts[index + 1]]
    moving = np.where(there_bins(setting.contract, reference.counts, spec), density, 0.0)
    n, m = setting.totals[index], setting.expected.input_size[index]
    shift = gain = None
    if n > 0 and m > 0 and moving.any():
        size = float(np.sqrt(n * m / (n + m)))
        edges = np.arange(len(density) + 1, dtype=np.float64) + (spec.minimum - 1.0)
        edges += spec.offset / 2**spec.shift - 0.5 * (spec.rounding == "nearest")
        moved = _Moved(edges, np.concatenate([[0.0], np.cumsum(moving)]), density)

        def telling(distance: Floats, spread: Floats) -> bool:
            needed = max(value / size, floor) + setting.spare * spread / size
            return bool((distance >= needed).any())

        top = float(spec.maximum - spec.minimum)
        wrapped = spec.wrap is not None
        shift = _smallest(lambda by: telling(*moved.by(edges - by, wrapped=wrapped)), 0.01, top)
        if spec.quantity == "pt" and not spec.staged:
            gain = _smallest(lambda by: telling(*moved.by(edges / (1 + by))), 1e-4, LARGEST_GAIN)
    return Detectable(
        name=spec.name,
        kind="input",
        object=spec.object,
        unit=spec.unit or "1",
        at_once=None if shift is None else shift * spec.lsb,
        shift_lsb=shift,
        gain=gain,
    )


@dataclass(frozen=True, eq=False)
class _Moved:
    """The distribution of an input, and what becomes of it when its objects move.

    Attributes
    ----------
    edges
        Of the bins, in codes. Shape (bins + 1,).
    below
        Share of the events whose object is there and lies below each edge. Shape (bins + 1,).
    density
        Of the whole input. Shape (bins,).
    """

    edges: Floats
    below: Floats
    density: Floats

    def by(self, origin: Floats, *, wrapped: bool = False) -> tuple[Floats, Floats]:
        """Return how far the distribution moves at each edge, and by how much chance it scatters there.

        Parameters
        ----------
        origin
            Where what now lies at each edge lay before; values are flat within a code.
        wrapped
            What leaves at the top comes in at the bottom.
        """
        before = np.interp(origin, self.edges, self.below)
        if wrapped:  # neither flow bin of a wrapped input is ever filled: codes go round between them
            bottom, top = self.edges[1], self.edges[-2]
            again = np.interp(origin + (top - bottom), self.edges, self.below) - self.below[-1]
            before = np.where(origin < bottom, again, before) + self.below[-1] - before[-2]
        distance = np.abs(self.below - before)[1:-1]
        share = np.clip(np.cumsum(self.density)[:-1], 0.0, 1.0)
        return distance, np.sqrt(share * (1.0 - share))


def _smallest(telling: Callable[[float], bool], least: float, most: float) -> float | None:
    """Return the smallest size that tells, to some per mille; None where none up to the largest does."""
    if most <= 0:
        return None
    below = 0.0
    for size in np.geomspace(min(least, most), most, _STEPS).tolist():
        if telling(size):
            above = size
            for _ in range(_HALVINGS):
                middle = (below + above) / 2
                below, above = (below, middle) if telling(middle) else (middle, above)
            return float(above)
        below = size
    return None


def _place(
    entry: ObjectMap,
    density: Floats,
    shape: tuple[int, int],
    value: float,
    floor: float,
    setting: _Setting,
) -> Detectable:
    """Find the share that must be missing from the place of the median object.

    By the signed root of the deviance with which `streams.statistics.maps` scans.
    """
    cells = density.reshape(entry.eta.bins, entry.phi.bins)
    entries, known = density.sum() * setting.n_events, density.sum() * setting.expected.size
    missing = None
    if shape[0] <= entry.eta.bins and shape[1] <= entry.phi.bins:
        sums = _window_sums(cells, shape).ravel() * setting.n_events
        sums = np.sort(sums[sums >= MINIMUM_EXPECTED])
        if len(sums):
            foreseen = float(sums[np.searchsorted(np.cumsum(sums), sums.sum() / 2)])

            def beyond(share: float) -> float:
                seen, rest = foreseen * (1 - share), entries - foreseen * (1 - share)
                deviance = special.xlogy(seen, seen / foreseen)
                deviance += special.xlogy(rest, rest / max(entries - foreseen, 1e-9))
                scale = 2.0 / (1.0 + entries / known)
                return float(np.sqrt(max(deviance, 0.0) * scale)) - value - setting.spare

            if foreseen < entries and beyond(1.0) >= 0:
                missing = float(optimize.brentq(beyond, 0.0, 1.0))
                missing = max(missing, floor + setting.spare / float(np.sqrt(foreseen)))
    return Detectable(
        name=f"{entry.object} map, {shape[0]} x {shape[1]} cells",
        kind="map",
        object=entry.object,
        at_once=missing if missing is not None and missing <= 1.0 else None,
    )


def _window_sums(cells: Floats, shape: tuple[int, int]) -> Floats:
    """Add up all places of a shape, phi continued around the circle."""
    around = np.concatenate([cells, cells[:, : shape[1] - 1]], axis=1)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(around, shape).sum(axis=(-2, -1)))
