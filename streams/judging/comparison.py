"""The comparison: how another reference differs from one, at the pileups that both cover.

The expectation of the other is measured as a window would be, with the noise of both. Whether a difference
matters is asked of what ten windows would notice (`streams.judging.detectable`). Proposes and approves
nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats

from streams.contracts.contract import Contract
from streams.errors import ReferenceProblem
from streams.judging.channels import measure
from streams.judging.detectable import N_WINDOWS, describe_size, detectable_effects, expected_window
from streams.judging.extremes import ks_distances, mean_shifts
from streams.judging.reference import Reference

POINTS: Final = 3
"""Pileups at which two references are compared: the ends of what both cover, and the middle."""
SIGNIFICANCE: Final = 0.01
"""Probability with which references that agree are said to differ."""
SMALLEST_DISTANCE: Final = 0.01
"""Distances of inputs that are no larger are of no interest, as for windows."""


class ChannelDifference(BaseModel):
    """How a linear channel differs, at the pileup where it does most.

    Attributes
    ----------
    effect, error
        Of the other reference against the first, in `unit` (a ratio where that is empty); the noise of both.
    detectable
        Effect that ten windows would show against the first, at the middle of the pileups.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    unit: str
    pileup: float
    effect: float
    error: float
    detectable: float

    @property
    def deviations(self) -> float:
        """The effect in units of its error."""
        return self.effect / self.error


class InputDifference(BaseModel):
    """How an input differs, at the pileup where it does most: distance, its probability, mean shift."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    unit: str
    pileup: float
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


def common_pileups(first: Reference, other: Reference) -> tuple[float, ...]:
    """Return up to `POINTS` pileups that both cover, from the lowest to the highest; empty: there is none."""
    common = [
        (max(low, other_low), min(high, other_high))
        for low, high in first.header.covered
        for other_low, other_high in other.header.covered
        if max(low, other_low) <= min(high, other_high)
    ]
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
    pileups = common_pileups(first, other)
    channels: dict[str, ChannelDifference] = {}
    inputs: dict[str, InputDifference] = {}
    noticed = _noticed(first, contract, pileups[len(pileups) // 2]) if pileups else {}
    for pileup in pileups:
        for channel in _channels(first, other, contract, pileup, noticed):
            known = channels.get(channel.name)
            if known is None or abs(channel.deviations) > abs(known.deviations):
                channels[channel.name] = channel
        for each in _inputs(first, other, contract, pileup):
            if each.name not in inputs or each.p_value < inputs[each.name].p_value:
                inputs[each.name] = each
    ordered = sorted(channels.values(), key=lambda one: -abs(one.deviations))
    worst = sorted(inputs.values(), key=lambda one: (one.p_value, -one.ks_distance))
    return Comparison(
        first=first.id,
        other=other.id,
        pileups=pileups,
        channels=tuple(ordered),
        inputs=tuple(worst),
        verdict=_verdict(pileups, ordered, worst),
    )


def _channels(
    first: Reference, other: Reference, contract: Contract, pileup: float, noticed: Mapping[str, float]
) -> list[ChannelDifference]:
    here, there = first.expectation.at(pileup), other.expectation.at(pileup)
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
                pileup=pileup,
                effect=float(measured.effect[index]),
                error=float(np.hypot(np.sqrt(counting), noise.bias)),
                detectable=size,
            )
        )
    return found


def _noticed(first: Reference, contract: Contract, pileup: float) -> dict[str, float]:
    n_events = round(first.header.calibration.n_events)
    effects = detectable_effects(first, contract, n_events=n_events, pileup=pileup)
    return {one.name: one.in_ten for one in effects if one.in_ten is not None}


def _inputs(first: Reference, other: Reference, contract: Contract, pileup: float) -> list[InputDifference]:
    here, there = first.expectation.at(pileup), other.expectation.at(pileup)
    window = expected_window(other.counts, there, max(round(there.size), 1))
    distance, size = ks_distances(window, here)
    shift = mean_shifts(window, here)
    return [
        InputDifference(
            name=spec.name,
            unit=spec.unit,
            pileup=pileup,
            ks_distance=float(distance[index]),
            p_value=float(stats.kstwobign.sf(distance[index] * size[index])),
            mean_shift=float(shift[index]) * spec.lsb,
        )
        for index, spec in enumerate(contract.inputs)
    ]


def _verdict(
    pileups: Sequence[float], channels: Sequence[ChannelDifference], inputs: Sequence[InputDifference]
) -> str:
    if not pileups:
        return "They cover no pileup in common, and cannot be compared."
    n_tests = max(len(pileups) * (len(channels) + len(inputs)), 1)
    limit = float(stats.norm.isf(SIGNIFICANCE / n_tests / 2))
    differing = [one for one in channels if abs(one.deviations) > limit]
    noticed = [one for one in differing if abs(one.effect) > one.detectable]
    far = [
        one for one in inputs if one.p_value < SIGNIFICANCE / n_tests and one.ks_distance > SMALLEST_DISTANCE
    ]
    if noticed:
        leading = max(noticed, key=lambda one: abs(one.effect) / one.detectable)
        return f"They differ, and {N_WINDOWS} windows of the other would show it: {_words(leading)}."
    if far:
        return (
            f"They differ in the shape of {far[0].name} by {far[0].ks_distance:.3f}, and windows may show it."
        )
    if differing:
        return f"They differ by less than {N_WINDOWS} windows would show, most in {_words(differing[0])}."
    return "They agree within their noise."


def _words(one: ChannelDifference) -> str:
    sign = "+" if one.effect >= 0 else "-"
    return f"{one.name} {sign}{describe_size(abs(one.effect), one.unit)} at pileup {one.pileup:.1f}"
