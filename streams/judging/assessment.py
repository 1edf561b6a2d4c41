"""The assessment: every statistic of one window against its reference, or why it is not judged.

Pure: window, reference, conditions and settings in, assessment out. Refuses to know what was said of
the windows before (see `streams.judging.verdict`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import special

from streams.conditions import Conditions
from streams.contracts.contract import Contract
from streams.counting.summary import Summary
from streams.integrity import DEFAULT_TOLERANCE, IntegrityResult, judge_integrity
from streams.judging.channels import RATE
from streams.judging.expectation import Expected
from streams.judging.extremes import SCORE_SHAPE, InputDifferences
from streams.judging.findings import (
    ChannelFinding,
    ExtremeFinding,
    Findings,
    family_p_value,
    find,
    rounded,
)
from streams.judging.reference import Reference
from streams.statistics.budgets import share_budget
from streams.statistics.rates import rate_pull

N_WORST_INPUTS: Final = 5
FEWEST_EVENTS: Final = 100
"""Means of fewer events are not nearly normal, whatever a site asks for."""


class AssessmentSettings(BaseModel):
    """What a site decides about the judgement of a model.

    Attributes
    ----------
    minimum_events
        Windows with fewer are `insufficient`, and those with fewer than `FEWEST_EVENTS` always.
    rate_band
        Relative deviation of the accept rate that is tolerated, however significant.
    pileup_margin
        How far, in pileup, a window may lie below or above all of a reference of few lumisections. The more
        there are, the less lies just beyond what they show: of 150 on, none of this is given.
    value_margin
        How far a second condition may lie outside of its reference, in units of the distance of the nearest
        two strata.
    required_subsystems
        Detector parts that must be in the run.
    integrity_tolerance
        Ratio of checked events that may differ from the emulator: above it, significantly, the firmware is
        at fault. 0 where a single mismatch is one.
    late_after_s
        An assessment made later than this after the end of its lumisection is late.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    minimum_events: int = Field(default=1000, ge=1)
    rate_band: float = Field(default=0.10, ge=0)
    pileup_margin: float = Field(default=0.5, ge=0)
    value_margin: float = Field(default=0.0, ge=0, le=1)
    required_subsystems: tuple[str, ...] = ()
    integrity_tolerance: float = Field(default=DEFAULT_TOLERANCE, ge=0, lt=1)
    late_after_s: float = Field(default=120.0, gt=0)


class Judgement(StrEnum):
    """Whether a window can be judged at all."""

    JUDGED = "judged"
    INSUFFICIENT = "insufficient"
    NOT_JUDGED = "not_judged"


class FamilyResult(BaseModel):
    """One family of statistics of a window.

    Attributes
    ----------
    value, threshold
        Significance in standard deviations, and what an in-control window exceeds within the budget.
    effect, effect_floor
        Size of the most telling difference, and the smallest that counts.
    minimum_detectable
        Smallest effect of its kind that this window could have shown.
    exceeded
        The difference is too significant, and large enough to count.
    judged
        Whether it counts for the verdict: only what firmware is meant to keep does, when it is newer than
        the reference.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: float
    threshold: float
    effect: float
    effect_floor: float
    minimum_detectable: float
    exceeded: bool
    judged: bool


class InputShift(BaseModel):
    """How one input differs from the reference."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    ks_distance: float
    mean_shift_lsb: float
    mean_shift: float
    unit: str = ""


class Assessment(BaseModel):
    """Every statistic of one window against its reference.

    Attributes
    ----------
    revision
        1 for the first assessment of a window, more after late data.
    reason
        Why the window is not judged; empty if it is.
    rate_deviation
        Accept rate over expected rate, minus 1.
    channels, extremes
        What each of them says, if it counts for the verdict.
    budget
        Probability of a false alarm for each window, of the reference.
    bias_learnt
        Whether the reference is of fills enough to know how large a bias is that stays for one.
    worst_inputs
        The inputs that differ most significantly, the worst first.
    pileup, pileup_fitted
        As measured, and as the numbers of objects show it.
    second_value
        Of the second condition that the reference follows; None if it follows none, or nobody told.
    rate_error
        Standard deviation of `rate_deviation` in control; None where no rate is expected.
    complete
        Whether every expected batch had arrived when the window closed.
    late_events
        Events that arrived after the window had closed first.
    integrity
        Agreement with the emulator, judged whatever the reference; None in assessments of before it was.
    stable_beams
        Whether the conditions said so; a firmware fault raises an alarm in stable beams only.
    delay_s
        Time from the announced end of the lumisection to this assessment; None where no end was announced.
    late
        Whether that took longer than the site's bound.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    run: int
    lumisection: int
    package: str
    contract_hash: str
    revision: int = 1
    judgement: Judgement
    reason: str = ""
    reference_id: str | None = None
    reference_package: str | None = None
    families: tuple[FamilyResult, ...] = ()
    channels: tuple[ChannelFinding, ...] = ()
    extremes: tuple[ExtremeFinding, ...] = ()
    budget: float | None = None
    bias_learnt: bool = False
    worst_inputs: tuple[InputShift, ...] = ()
    n_events: int
    accept_rate: float
    expected_rate: float | None = None
    rate_deviation: float | None = None
    rate_pull: float | None = None
    rate_error: float | None = None
    pileup: float | None = None
    pileup_fitted: float | None = None
    second_value: float | None = None
    simulated: bool = False
    complete: bool = True
    late_events: int = 0
    integrity: IntegrityResult | None = None
    stable_beams: bool = False
    delay_s: float | None = None
    late: bool = False

    @property
    def judged(self) -> bool:
        """Whether the window was judged."""
        return self.judgement is Judgement.JUDGED

    @property
    def exceeded_families(self) -> tuple[str, ...]:
        """Families that exceed and count; none if the window is not judged."""
        if not self.judged:
            return ()
        return tuple(family.name for family in self.families if family.exceeded and family.judged)

    def family(self, name: str) -> FamilyResult:
        """Return the result of the family of that name; `KeyError` if it was not computed."""
        return {family.name: family for family in self.families}[name]


def assess(
    window: Summary,
    reference: Reference | None,
    conditions: Conditions | None,
    contract: Contract,
    settings: AssessmentSettings,
    *,
    revision: int = 1,
    complete: bool = True,
    late_events: int = 0,
    delay_s: float | None = None,
) -> Assessment:
    """Assess one window.

    Parameters
    ----------
    window
        All events of a model, lumisection and package.
    reference
        The approved reference of the window's package, else of another package of the model, else None.
    conditions
        Conditions of the lumisection; None if nobody sent them.
    contract
        The model's contract.
    settings
        The site's decisions.
    revision, complete, late_events, delay_s
        Handed through to the `Assessment`.
    """
    judgement, reason = _judgeable(window, reference, conditions, settings)
    found = None
    if reference is not None and conditions is not None and judgement is not Judgement.NOT_JUDGED:
        found = _find(window, reference, conditions, contract, settings)
    rate = _rate(window, found)
    return Assessment(
        model=window.model,
        run=window.run,
        lumisection=window.lumisection,
        package=window.package,
        contract_hash=window.contract_hash,
        revision=revision,
        judgement=judgement,
        reason=reason,
        reference_id=reference.id if reference else None,
        reference_package=reference.package if reference else None,
        families=found.families if found else (),
        channels=found.channels if found else (),
        extremes=found.extremes if found else (),
        budget=reference.header.budget if reference else None,
        bias_learnt=reference is not None and reference.header.bias_learnt,
        worst_inputs=_worst_inputs(found.differences, contract) if found else (),
        n_events=window.n_events,
        accept_rate=window.n_accept / window.n_events if window.n_events else 0.0,
        expected_rate=rate.expected,
        rate_deviation=rate.deviation,
        rate_pull=rate.pull,
        rate_error=rate.error,
        pileup=conditions.pileup if conditions else None,
        pileup_fitted=found.pileup if found else None,
        second_value=reference.header.value_in(conditions) if reference and conditions else None,
        simulated=window.simulated or (conditions is not None and conditions.simulated),
        complete=complete,
        late_events=late_events,
        integrity=judge_integrity(window.n_checked, window.n_mismatched, settings.integrity_tolerance),
        stable_beams=conditions is not None and conditions.stable_beams,
        delay_s=delay_s,
        late=delay_s is not None and delay_s > settings.late_after_s,
    )


def _judgeable(
    window: Summary, reference: Reference | None, conditions: Conditions | None, settings: AssessmentSettings
) -> tuple[Judgement, str]:
    no = Judgement.NOT_JUDGED
    if reference is None:
        return no, "No approved reference: build one and approve it."
    if reference.contract_hash != window.contract_hash:
        return no, "The reference was made under another contract: build a new one."
    if conditions is None:
        return no, "The conditions of this lumisection never arrived."
    if not conditions.stable_beams:
        return no, f"Beam mode is {conditions.beam_mode}, not stable beams."
    missing = [part for part in settings.required_subsystems if part not in conditions.subsystems]
    if missing:
        return no, f"Out of the run: {', '.join(missing)}."
    outside = _outside(reference, conditions, settings)
    if outside:
        return no, outside
    needed = max(settings.minimum_events, FEWEST_EVENTS)
    if window.n_events < needed:
        return Judgement.INSUFFICIENT, f"{window.n_events} events are fewer than the {needed} needed."
    return Judgement.JUDGED, ""


def _outside(reference: Reference, conditions: Conditions, settings: AssessmentSettings) -> str:
    header = reference.header
    uncovered = header.uncovered(conditions, settings.pileup_margin, settings.value_margin)
    return uncovered or header.unmatched(conditions)


@dataclass(frozen=True, eq=False)
class _Found:
    families: tuple[FamilyResult, ...]
    channels: tuple[ChannelFinding, ...]
    extremes: tuple[ExtremeFinding, ...]
    rate: ChannelFinding | None
    pileup: float
    expected: Expected
    differences: InputDifferences


@dataclass(frozen=True)
class _Rate:
    expected: float | None = None
    deviation: float | None = None
    pull: float | None = None
    error: float | None = None


def _find(
    window: Summary,
    reference: Reference,
    conditions: Conditions,
    contract: Contract,
    settings: AssessmentSettings,
) -> _Found | None:
    if not window.n_events:
        return None
    yardstick = reference.yardstick(contract, settings.rate_band)
    found = find(window, conditions.pileup, yardstick, reference.header.value_in(conditions))
    newer = reference.package != window.package
    channels = tuple(one for one in found.channels if not newer or one.family == RATE)
    rare = tuple(one for one in found.extremes if not newer or one.name == SCORE_SHAPE)
    return _Found(
        families=_families(found, channels, rare, reference.header.budget),
        channels=channels,
        extremes=rare,
        rate=next((one for one in found.channels if one.family == RATE), None),
        pileup=found.pileup,
        expected=found.expected,
        differences=found.differences,
    )


def _families(
    found: Findings,
    judged_channels: Sequence[ChannelFinding],
    judged_extremes: Sequence[ExtremeFinding],
    budget: float,
) -> tuple[FamilyResult, ...]:
    names = list(
        dict.fromkeys([one.family for one in found.channels] + [one.family for one in found.extremes])
    )
    judged = {one.family for one in judged_channels} | {one.family for one in judged_extremes}
    threshold = family_threshold(budget, len(names)) if names else 0.0
    results = []
    for name in names:
        kept = name in judged
        channels = [one for one in (judged_channels if kept else found.channels) if one.family == name]
        rare = [one for one in (judged_extremes if kept else found.extremes) if one.family == name]
        members: list[ChannelFinding | ExtremeFinding] = [*channels, *rare]
        leading = min(members, key=lambda one: one.p_value)
        value = _deviations(family_p_value(channels, rare))
        floor = leading.tolerance * leading.error if isinstance(leading, ChannelFinding) else 0.0
        results.append(
            FamilyResult(
                name=name,
                value=rounded(value),
                threshold=threshold,
                effect=abs(leading.effect),
                effect_floor=rounded(floor),
                minimum_detectable=rounded(leading.detectable),
                exceeded=value > threshold,
                judged=kept,
            )
        )
    return tuple(results)


def family_threshold(budget: float, n_families: int) -> float:
    """Return the significance, in standard deviations, that a family exceeds with its part of the budget."""
    return rounded(_deviations(share_budget(budget, n_families)))


def _deviations(p_value: float) -> float:
    """Return how many standard deviations away a normal variable is as rarely, to either side."""
    return abs(float(special.ndtri(p_value / 2)))


def _rate(window: Summary, found: _Found | None) -> _Rate:
    """Compare the accept rate; histograms filled elsewhere come without any."""
    if found is None or window.layout.own_totals:
        return _Rate()
    expected = found.expected
    seen = window.n_accept / window.n_events
    foreseen, size = expected.rate * expected.size, round(expected.size)
    return _Rate(
        expected=expected.rate,
        deviation=seen / expected.rate - 1.0 if expected.rate > 0 else None,
        pull=rate_pull(window.n_accept, window.n_events, min(round(foreseen), size), size),
        error=found.rate.error if found.rate is not None else None,
    )


def _worst_inputs(differences: InputDifferences, contract: Contract) -> tuple[InputShift, ...]:
    distance, shift, size = differences
    order = np.argsort(-distance * size, kind="stable")[:N_WORST_INPUTS]
    return tuple(
        InputShift(
            name=contract.inputs[index].name,
            ks_distance=float(distance[index]),
            mean_shift_lsb=float(shift[index]),
            mean_shift=float(shift[index]) * contract.inputs[index].lsb,
            unit=contract.inputs[index].unit,
        )
        for index in order
        if distance[index] > 0
    )
