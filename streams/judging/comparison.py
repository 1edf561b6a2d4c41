"""The comparison: how another reference differs from one, at the conditions that both cover.

The expectation of the other is measured as a window would be, with the noise of both. Whether a difference
matters is asked of what ten windows would notice (`streams.judging.detectable`). Proposes and approves
nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import special

from streams.contracts.contract import Contract
from streams.errors import ReferenceProblem
from streams.judging.channels import measure
from streams.judging.detectable import N_WINDOWS, describe_size, detectable_effects, expected_window
from streams.judging.expectation import Expected
from streams.judging.extremes import ks_distances, mean_shifts
from streams.judging.reference import Reference
from streams.judging.reference_header import in_words
from streams.judging.strata import common_ranges

POINTS: Final = 3
"""Pileups at which two references are compared: the ends of what both cover, and the middle; and as many
values of a second condition."""
SIGNIFICANCE: Final = 0.01
"""Probability with which references that agree are said to differ."""
SMALLEST_DISTANCE: Final = 0.01
"""Distances of inputs that are no larger are of no interest, as for windows."""

_Point = tuple[float | None, float]
"""Value of the second condition, and pileup."""


class ChannelDifference(BaseModel):
    """How a linear channel differs, at the conditions where it does most.

    Attributes
    ----------
    value
        Of the second condition; None, and not written, where neither reference follows one.
    effect, error
        Of the other reference against the first, in `unit` (a ratio where that is empty); the noise of both.
    detectable
        Effect that ten windows would show against the first, at the middle of the pileups.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    unit: str
    pileup: float
    value: float | None = Field(default=None, exclude_if=lambda value: value is None)
    effect: float
    error: float
    detectable: float

    @property
    def deviations(self) -> float:
        """The effect in units of its error."""
        return self.effect / self.error


class InputDifference(BaseModel):
    """How an input differs, at the conditions where it does most: distance, its probability, mean shift."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    unit: str
    pileup: float
    value: float | None = Field(default=None, exclude_if=lambda value: value is None)
    ks_distance: float
    p_value: float
    mean_shift: float


class Comparison(BaseModel):
    """Two references side by side.

    Attributes
    ----------
    pileups
        Where they were compared; empty where they have none in common.
    channels, inputs
        The most telling first.
    verdict
        One sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    first: str
    other: str
    pileups: tuple[float, ...]
    channels: tuple[ChannelDifference, ...]
    inputs: tuple[InputDifference, ...]
    verdict: str


def common_points(first: Reference, other: Reference) -> tuple[_Point, ...]:
    """Return values of a second condition, each with pileups, that both cover; empty: there are none.

    A reference that follows no second condition covers every value of it.
    """
    followed = [one.header for one in (first, other) if one.header.strata]
    values: list[float | None] = [None]
    if followed:
        low = max(header.strata[0].lowest for header in followed)
        high = min(header.strata[-1].highest for header in followed)
        values = sorted({*np.linspace(low, high, POINTS).tolist()}) if low <= high else []
    return tuple((value, pileup) for value in values for pileup in common_pileups(first, other, value))


def common_pileups(first: Reference, other: Reference, value: float | None = None) -> tuple[float, ...]:
    """Return up to `POINTS` pileups that both cover, from the lowest to the highest; empty: there is none."""
    common = common_ranges(first.header.covered_at(value), other.header.covered_at(value))
    if not common:
        return ()
    wanted = np.linspace(common[0][0], common[-1][1], POINTS).tolist()
    inside = (
        min((min(max(one, low), high) for low, high in common), key=lambda p: abs(p - one)) for one in wanted
    )
    return tuple(sorted(set(inside)))


def compare(first: Reference, other: Reference, contract: Contract) -> Comparison:
    """Compare two references of one contract.

    Parameters
    ----------
    first
        Whose channels and noise are used.
    other
        Its expectation is looked at as a window.
    contract
        Of both.

    Raises
    ------
    ReferenceProblem
        They are not of this contract.
    """
    for one in (first, other):
        if one.contract_hash != contract.hash:
            raise ReferenceProblem(
                f"reference {one.id[:12]} was made under contract {one.contract_hash[:12]}, not "
                f"{contract.hash[:12]}: only references of one contract can be compared"
            )
    names = {one.header.interpolated for one in (first, other)} - {""}
    points = common_points(first, other) if len(names) < 2 else ()
    channels: dict[str, ChannelDifference] = {}
    inputs: dict[str, InputDifference] = {}
    noticed = _noticed(first, contract, points[len(points) // 2]) if points else {}
    for point in points:
        for channel in _channels(first, other, contract, point, noticed):
            known = channels.get(channel.name)
            if known is None or abs(channel.deviations) > abs(known.deviations):
                channels[channel.name] = channel
        for each in _inputs(first, other, contract, point):
            if each.name not in inputs or each.p_value < inputs[each.name].p_value:
                inputs[each.name] = each
    ordered = sorted(channels.values(), key=lambda one: -abs(one.deviations))
    worst = sorted(inputs.values(), key=lambda one: (one.p_value, -one.ks_distance))
    return Comparison(
        first=first.id,
        other=other.id,
        pileups=tuple(sorted({pileup for _, pileup in points})),
        channels=tuple(ordered),
        inputs=tuple(worst),
        verdict=_verdict(len(points), ordered, worst, [in_words(name) for name in sorted(names)]),
    )


def _channels(
    first: Reference, other: Reference, contract: Contract, point: _Point, noticed: Mapping[str, float]
) -> list[ChannelDifference]:
    here, there = _expected(first, point), _expected(other, point)
    window = expected_window(other.counts, there, max(round(there.size), 1))
    made, calibration = first.design(contract), first.header.calibration
    measured = measure(made, window, here)
    found = []
    for index, channel in enumerate(made.channels):
        noise, size = calibration.channels.get(channel.name), noticed.get(channel.name)
        variance = float(measured.variance[index])
        if noise is None or size is None or variance <= 0:
            continue
        counting = noise.spread**2 * variance * (1 / here.size + 1 / there.size)
        found.append(
            ChannelDifference(
                name=channel.name,
                unit=channel.unit,
                pileup=point[1],
                value=point[0],
                effect=float(measured.effect[index]),
                error=float(np.hypot(np.sqrt(counting), noise.bias)),
                detectable=size,
            )
        )
    return found


def _noticed(first: Reference, contract: Contract, point: _Point) -> dict[str, float]:
    n_events = round(first.header.calibration.n_events)
    effects = detectable_effects(first, contract, n_events=n_events, value=point[0], pileup=point[1])
    return {one.name: one.in_ten for one in effects if one.in_ten is not None}


def _inputs(first: Reference, other: Reference, contract: Contract, point: _Point) -> list[InputDifference]:
    here, there = _expected(first, point), _expected(other, point)
    window = expected_window(other.counts, there, max(round(there.size), 1))
    distance, size = ks_distances(window, here)
    shift = mean_shifts(window, here)
    return [
        InputDifference(
            name=spec.name,
            unit=spec.unit,
            pileup=point[1],
            value=point[0],
            ks_distance=float(distance[index]),
            p_value=float(special.kolmogorov(distance[index] * size[index])),
            mean_shift=float(shift[index]) * spec.lsb,
        )
        for index, spec in enumerate(contract.inputs)
    ]


def _expected(reference: Reference, point: _Point) -> Expected:
    value, pileup = point
    return reference.expectation.at_value(value).at(pileup)


def _verdict(
    n_points: int,
    channels: Sequence[ChannelDifference],
    inputs: Sequence[InputDifference],
    followed: Sequence[str],
) -> str:
    if len(followed) > 1:
        return f"They follow different conditions, {' and '.join(followed)}, and cannot be compared."
    if not n_points:
        common = f"{followed[0]} and pileup" if followed else "pileup"
        return f"They cover no {common} in common, and cannot be compared."
    n_tests = max(n_points * (len(channels) + len(inputs)), 1)
    second = "".join(followed)
    limit = -float(special.ndtri(SIGNIFICANCE / n_tests / 2))
    differing = [one for one in channels if abs(one.deviations) > limit]
    noticed = [one for one in differing if abs(one.effect) > one.detectable]
    far = [
        one for one in inputs if one.p_value < SIGNIFICANCE / n_tests and one.ks_distance > SMALLEST_DISTANCE
    ]
    if noticed:
        leading = max(noticed, key=lambda one: abs(one.effect) / one.detectable)
        return f"They differ, and {N_WINDOWS} windows of the other would show it: {_words(leading, second)}."
    if far:
        return (
            f"They differ in the shape of {far[0].name} by {far[0].ks_distance:.3f}, and windows may show it."
        )
    if differing:
        most = _words(differing[0], second)
        return f"They differ by less than {N_WINDOWS} windows would show, most in {most}."
    return "They agree within their noise."


def _words(one: ChannelDifference, followed: str) -> str:
    sign = "+" if one.effect >= 0 else "-"
    at = f"at pileup {one.pileup:.1f}"
    if one.value is not None:
        at += f" and {followed} {one.value:.6g}"
    return f"{one.name} {sign}{describe_size(abs(one.effect), one.unit)} {at}"
