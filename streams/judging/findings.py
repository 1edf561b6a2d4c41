"""The findings: what each channel and each extreme says of one window, in units of its noise.

Knows a reference's expectation and calibration, and the share of the false-alarm budget that each spends.
Refuses to know the windows before, and says no verdict.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import special

from streams.counting.summary import Summary
from streams.judging.calibration import Calibration, ChannelNoise
from streams.judging.channels import MINIMUM_TAIL_EVENTS, RATE, TAIL, Channel, Design
from streams.judging.evidence import BIAS_DEVIATIONS, single_window_z
from streams.judging.expectation import Expectation, Expected
from streams.judging.extreme import Extreme
from streams.judging.extremes import InputDifferences, extremes, input_differences
from streams.judging.pileup_fit import Fitted, fit_pileup
from streams.judging.strata import Strata

CALIBRATED_SIZE: Final = 1.5
"""A window is judged no more sharply than one of so many times the events of the calibration."""
TINY: Final = 1e-30
"""No probability is smaller: beyond, it says more about the model of the noise than about the window."""


class ChannelFinding(BaseModel):
    """What a linear channel says of a window.

    Attributes
    ----------
    name, family, object, unit
        See `streams.judging.channels.Channel`.
    share
        Of the false-alarm budget, in (0, 1].
    effect, error
        The difference and its standard deviation in control, in `unit` (a ratio where it is empty).
    z
        `effect` in deviations; those beyond the tolerance are standard normal ones.
    tolerance
        How large a bias that stays may be, in deviations.
    detectable
        Effect at which one window alone raises an alarm, at most, in `unit`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    family: str
    object: str = ""
    unit: str = ""
    share: float
    effect: float
    error: float
    z: float
    tolerance: float
    detectable: float

    @property
    def p_value(self) -> float:
        """Two-sided probability of this in control, whatever bias is tolerated."""
        return math.erfc(max(abs(self.z) - self.tolerance, 0.0) / math.sqrt(2.0))


class ExtremeFinding(BaseModel):
    """What an extreme says of a window; see `streams.judging.extremes.Extreme`.

    Attributes
    ----------
    p_value
        Probability of this in control; 1 where the effect is too small to count.
    detectable
        Smallest effect, at this place, that a window within the budget does not show.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    family: str
    object: str = ""
    share: float
    value: float
    effect: float
    place: str = ""
    p_value: float
    detectable: float


class Findings(NamedTuple):
    """All that is found in one window.

    Attributes
    ----------
    pileup
        The one that the window shows, near the measured one.
    expected
        What the window should hold at that pileup.
    differences
        Of all inputs from it.
    """

    channels: tuple[ChannelFinding, ...]
    extremes: tuple[ExtremeFinding, ...]
    pileup: float
    expected: Expected
    differences: InputDifferences


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What a window is measured with.

    Attributes
    ----------
    design, expectation, calibration
        Of the reference.
    budget
        Probability of a false alarm for each window.
    floors
        Family of extremes -> smallest effect that counts.
    rate_band
        Relative deviation of the accept rate that is tolerated, however significant.
    """

    design: Design
    expectation: Expectation | Strata
    calibration: Calibration
    budget: float
    floors: Mapping[str, float]
    rate_band: float = 0.0

    @cached_property
    def shares(self) -> dict[str, float]:
        """Return every share by name: families get equal parts, and so do the members of each."""
        families = {
            one.name: one.family for one in self.design.channels if one.name in self.calibration.channels
        }
        families |= {name: noise.family for name, noise in self.calibration.extremes.items()}
        sizes = Counter(families.values())
        return {name: 1 / (len(sizes) * sizes[family]) for name, family in families.items()}


def find(window: Summary, pileup: float, yardstick: Yardstick, value: float | None = None) -> Findings:
    """Measure a window.

    Parameters
    ----------
    window
        At least one event, of the contract of the yardstick.
    pileup
        As measured; callers refuse what the reference does not cover.
    value
        Of the second condition, where the expectation follows one.
    """
    calibration, shares = yardstick.calibration, yardstick.shares
    expectation = yardstick.expectation.at_value(value)
    fitted = fit_pileup(yardstick.design, window, expectation, pileup, calibration.pileup_error)
    channels = [
        found
        for index, channel in enumerate(yardstick.design.channels)
        if (noise := calibration.channels.get(channel.name)) is not None
        and (found := _channel(channel, index, noise, fitted, window.n_events, yardstick, shares))
    ]
    differences = input_differences(window, fitted.expected)
    rare = [
        _extreme(one, yardstick, shares[one.name])
        for one in extremes(window, fitted.expected, yardstick.floors, differences)
        if one.name in calibration.extremes
    ]
    return Findings(tuple(channels), tuple(rare), fitted.pileup, fitted.expected, differences)


def family_p_value(channels: Sequence[ChannelFinding], rare: Sequence[ExtremeFinding]) -> float:
    """Probability that the most telling of some findings is as telling in control (Bonferroni)."""
    values = [one.p_value for one in channels] + [one.p_value for one in rare]
    return min(1.0, len(values) * min(values)) if values else 1.0


def _channel(
    channel: Channel,
    index: int,
    noise: ChannelNoise,
    fitted: Fitted,
    n_events: int,
    yardstick: Yardstick,
    shares: Mapping[str, float],
) -> ChannelFinding | None:
    """Standardise one channel; None where this window cannot say anything of it."""
    variance = float(fitted.measured.variance[index])
    effect, foreseen = float(fitted.measured.effect[index]), float(fitted.measured.expected_events[index])
    if variance <= 0 or (channel.family == TAIL and foreseen < MINIMUM_TAIL_EVENTS):
        return None
    size = min(float(n_events), CALIBRATED_SIZE * yardstick.calibration.n_events)
    error = noise.spread * float(np.sqrt(variance / size))
    own = noise.spread * float(np.sqrt(variance / fitted.expected.size))
    deviations = effect / error
    if channel.family == TAIL:  # few events: their square root is nearer to normal (Anscombe 1948)
        root = np.sqrt(foreseen * (1 + effect) + 0.375) - np.sqrt(foreseen + 0.375)
        deviations = 2 * float(root) * float(np.sqrt(size / n_events)) / noise.spread
    stays = BIAS_DEVIATIONS * float(np.hypot(own, noise.bias))
    if channel.family == RATE:
        stays = max(stays, yardstick.rate_band)
    tolerance = stays / error
    return ChannelFinding(
        name=channel.name,
        family=channel.family,
        object=channel.object,
        unit=channel.unit,
        share=rounded(shares[channel.name]),
        effect=rounded(effect),
        error=rounded(error),
        z=rounded(_standardised(deviations, tolerance, noise.dof)),
        tolerance=rounded(tolerance),
        detectable=rounded(stays + single_window_z(shares[channel.name], yardstick.budget) * error),
    )


def _extreme(found: Extreme, yardstick: Yardstick, share: float) -> ExtremeFinding:
    noise, floor = yardstick.calibration.extremes[found.name], yardstick.floors.get(found.family, 0.0)
    telling = noise.value_at(yardstick.budget * share)
    return ExtremeFinding(
        name=found.name,
        family=found.family,
        object=found.object,
        share=rounded(share),
        value=rounded(found.value),
        effect=rounded(found.effect),
        place=found.place,
        p_value=noise.p_value(found.value) if abs(found.effect) > floor else 1.0,
        detectable=max(floor, min(telling / found.size, 1.0)) if found.size > 0 else 1.0,
    )


def deviations_of(z: float, dof: int) -> float:
    """Return the deviations, in units of an estimated spread, that are as rare as a normal `z` from 0 on."""
    return -float(special.stdtrit(dof, special.ndtr(-z)))


def _standardised(deviations: float, tolerance: float, dof: int) -> float:
    """Standardise what lies beyond the tolerance: only that is noise, however large the tolerance is."""
    excess = abs(deviations) - tolerance
    if excess <= 0:
        return deviations
    return float(np.copysign(tolerance + _normal(excess, dof), deviations))


def _normal(deviations: float, dof: int) -> float:
    """Turn deviations in units of an estimated spread into normal ones of equal probability."""
    p_value = max(float(special.stdtr(dof, -abs(deviations))), TINY)
    return math.copysign(float(special.ndtri(p_value)), deviations)


def rounded(value: float) -> float:
    """Keep six digits: findings are stored for every lumisection, and no noise is known better."""
    return float(f"{value:.6g}")
