"""The assessment: every statistic of one window against its reference, or why it is not judged.

Pure: window, reference, conditions and settings in, assessment out. Refuses to know what was said of
the windows before (see `streams.judging.verdict`).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from streams.conditions import Conditions
from streams.contracts.contract import Contract
from streams.counting.summary import Summary
from streams.integrity import DEFAULT_TOLERANCE, IntegrityResult, judge_integrity
from streams.judging.comparison import FAMILIES, INPUTS, RATE, Comparison, compare
from streams.judging.reference import Reference

N_WORST_INPUTS: Final = 5


class AssessmentSettings(BaseModel):
    """What a site decides about the judgement of a model.

    Attributes
    ----------
    minimum_events
        Windows with fewer are `insufficient`.
    rate_band
        Relative deviation of the accept rate that is tolerated, however significant.
    pileup_margin
        How far, in pileup, a window may lie outside the range of its reference.
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
    pileup_margin: float = Field(default=2.0, ge=0)
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
        Significance, and what an in-control window exceeds within the budget.
    effect, effect_floor
        Size of the difference, and the smallest that counts.
    minimum_detectable
        Smallest effect that this window could have shown.
    exceeded
        Both significance and effect are too large.
    judged
        Whether it counts for the verdict: the inputs do not, when the firmware is newer than the reference.
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
    worst_inputs
        The inputs that differ most significantly, the worst first.
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
    worst_inputs: tuple[InputShift, ...] = ()
    n_events: int
    accept_rate: float
    expected_rate: float | None = None
    rate_deviation: float | None = None
    rate_pull: float | None = None
    pileup: float | None = None
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
    comparison = None
    if reference is not None and reference.contract_hash == window.contract_hash and window.n_events:
        comparison = compare(window, reference.counts)
    # histograms filled elsewhere come without any rate
    rates = comparison if not window.layout.own_totals else None
    judged_families: tuple[str, ...] = FAMILIES
    if reference is not None and reference.package != window.package:
        judged_families = tuple(family for family in FAMILIES if family != INPUTS)
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
        families=_families(comparison, reference, settings, judged_families),
        worst_inputs=_worst_inputs(comparison, contract),
        n_events=window.n_events,
        accept_rate=window.n_accept / window.n_events if window.n_events else 0.0,
        expected_rate=rates.expected_rate if rates else None,
        rate_deviation=rates.rate_deviation if rates else None,
        rate_pull=rates.rate_pull if rates else None,
        pileup=conditions.pileup if conditions else None,
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
    low = reference.header.pileup_minimum - settings.pileup_margin
    high = reference.header.pileup_maximum + settings.pileup_margin
    if not low <= conditions.pileup <= high:
        return no, f"Pileup {conditions.pileup:.1f} is outside of the reference's {low:.1f} to {high:.1f}."
    if window.n_events < settings.minimum_events:
        return (
            Judgement.INSUFFICIENT,
            f"{window.n_events} events are fewer than the {settings.minimum_events} needed.",
        )
    return Judgement.JUDGED, ""


def _families(
    comparison: Comparison | None,
    reference: Reference | None,
    settings: AssessmentSettings,
    judged: tuple[str, ...],
) -> tuple[FamilyResult, ...]:
    if comparison is None or reference is None:
        return ()
    floors = _effect_floors(reference, settings)
    results = []
    for name, threshold in reference.header.thresholds.items():
        if name == INPUTS:
            value, effect = comparison.strongest_input(floors[name])
        else:
            value, effect = comparison.value(name), comparison.effect(name)
        results.append(
            FamilyResult(
                name=name,
                value=value,
                threshold=threshold,
                effect=effect,
                effect_floor=floors[name],
                minimum_detectable=max(floors[name], _effect_at(threshold, name, comparison)),
                exceeded=value > threshold and effect > floors[name],
                judged=name in judged,
            )
        )
    return tuple(results)


def _effect_floors(reference: Reference, settings: AssessmentSettings) -> Mapping[str, float]:
    floors = dict(reference.header.effect_floors)
    floors[RATE] = max(floors[RATE], settings.rate_band)
    return floors


def _effect_at(threshold: float, family: str, comparison: Comparison) -> float:
    """Effect at which the statistic of a window of this size reaches a threshold."""
    if family == INPUTS:
        size = float(comparison.input_size.max(initial=0.0))
        return min(threshold / size, 1.0) if size else 1.0
    if family != RATE:
        return min(threshold / comparison.size, 1.0)
    rate = comparison.expected_rate
    if rate <= 0:
        return 1.0
    return threshold * float(np.sqrt(rate * (1.0 - rate))) / (comparison.size * rate)


def _worst_inputs(comparison: Comparison | None, contract: Contract) -> tuple[InputShift, ...]:
    if comparison is None:
        return ()
    order = np.argsort(-comparison.input_distance * comparison.input_size, kind="stable")[:N_WORST_INPUTS]
    return tuple(
        InputShift(
            name=contract.inputs[index].name,
            ks_distance=float(comparison.input_distance[index]),
            mean_shift_lsb=float(comparison.input_mean_shift[index]),
            mean_shift=float(comparison.input_mean_shift[index]) * contract.inputs[index].lsb,
            unit=contract.inputs[index].unit,
        )
        for index in order
        if comparison.input_distance[index] > 0
    )
