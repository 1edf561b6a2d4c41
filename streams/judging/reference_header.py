"""The header of a reference: everything of it but its counts, and which conditions it covers.

Says for a lumisection's conditions whether the reference can judge it, and why not. Knows no counts.
"""

from itertools import pairwise
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from streams.conditions import ConditionName, Conditions, Matchable
from streams.judging.calibration import MINIMUM_FILLS, Calibration
from streams.judging.expectation import OUTERMOST, covers
from streams.judging.strata import Ranges, StratumHeader, covered_at, value_inside

VERSION: Final = 2
LUMISECTIONS_PER_DAY: Final = 86400 / 23.3104
TOLD_RANGES: Final = 4


class SliceHeader(BaseModel):
    """What is known of a slice besides its counts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pileup: float
    n_lumisections: int = Field(ge=1)


class ReferenceHeader(BaseModel):
    """Everything of a reference but its counts.

    Attributes
    ----------
    package
        Identity of the firmware package whose windows this reference describes.
    runs
        Runs (fills) the lumisections are of.
    n_lumisections
        Lumisections that gave the counts.
    covered
        Ranges of pileup of the lumisections used: windows outside of all are not judged.
    slices
        By rising pileup, one for each summary; stratum after stratum, where there are any.
    calibration
        How much an in-control window strays.
    effect_floors
        Family of extremes -> smallest effect that counts, however significant.
    budget
        Probability that an in-control lumisection raises an alarm.
    matched
        Condition -> the values it had in the lumisections used: windows of others are not judged.
    parent_id
        The reference whose calibration was inherited; None if it was made here.
    built_from
        For people: which datasets, or which run and lumisections.
    interpolated
        Name of the second condition that the expectation follows; empty, and not written: none.
    strata
        Of that condition, by rising value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: int = VERSION
    model: str
    contract_hash: str
    package: str
    runs: tuple[int, ...]
    n_lumisections: int = Field(ge=1)
    covered: Ranges = Field(min_length=1)
    slices: tuple[SliceHeader, ...] = Field(min_length=1)
    calibration: Calibration
    effect_floors: dict[str, float]
    budget: float = Field(gt=0, lt=1)
    matched: dict[Matchable, tuple[int, ...]] = Field(default_factory=dict)
    parent_id: str | None = None
    built_from: str
    interpolated: ConditionName | Literal[""] = Field(default="", exclude_if=lambda name: not name)
    strata: tuple[StratumHeader, ...] = Field(default=(), exclude_if=lambda strata: not strata)

    @model_validator(mode="after")
    def _strata_belong_together(self) -> "ReferenceHeader":
        if bool(self.strata) != bool(self.interpolated):
            raise ValueError("a second condition has a name and strata: give both or none")
        if any(one.highest >= other.lowest for one, other in pairwise(self.strata)):
            raise ValueError("strata follow each other by rising value")
        if self.strata and sum(one.n_slices for one in self.strata) != len(self.slices):
            raise ValueError("every slice belongs to a stratum")
        return self

    @property
    def pileup_minimum(self) -> float:
        """Lowest pileup of the lumisections used."""
        return self.covered[0][0]

    @property
    def pileup_maximum(self) -> float:
        """Highest pileup of the lumisections used."""
        return self.covered[-1][1]

    @property
    def bias_learnt(self) -> bool:
        """Whether there were fills enough to learn how large a bias is that stays for one."""
        return len(self.runs) >= MINIMUM_FILLS

    @property
    def false_alarms_per_day(self) -> float:
        """Most false alarms to expect in a day of stable beams."""
        return self.budget * LUMISECTIONS_PER_DAY

    @property
    def coverage(self) -> str:
        """The covered ranges of pileup for people: ``20.0 to 34.5, 41.0``; of many, how many there are."""
        return _told(self.covered)

    @property
    def value_coverage(self) -> str:
        """The values of the second condition for people: ``1200 to 2400``; empty where there is none."""
        if not self.strata:
            return ""
        low, high = self.strata[0].lowest, self.strata[-1].highest
        return f"{low:.6g} to {high:.6g}" if low < high else f"{low:.6g}"

    @property
    def coverage_in_words(self) -> str:
        """All that is covered, for people: ``bunches 1200 to 2400, pileup 20.0 to 65.0``."""
        second = f"{in_words(self.interpolated)} {self.value_coverage}, " if self.strata else ""
        return f"{second}pileup {self.coverage}"

    @property
    def typical_value(self) -> float | None:
        """Mean value of the stratum of most lumisections; None where no second condition is followed."""
        return max(self.strata, key=lambda one: one.n_lumisections).value if self.strata else None

    @property
    def typical_pileup(self) -> float:
        """A pileup covered at the typical value, as near as may be to the mean of the fullest slice there."""
        first, slices = 0, self.slices
        for stratum in self.strata:
            if stratum.value == self.typical_value:
                slices = self.slices[first : first + stratum.n_slices]
            first += stratum.n_slices
        mean = max(slices, key=lambda one: one.n_lumisections).pileup
        inside = [min(max(mean, low), high) for low, high in self.covered_at(self.typical_value)]
        return min(inside, key=lambda pileup: abs(pileup - mean))

    def covered_at(self, value: float | None, margin: float = 0.0) -> Ranges:
        """Return the ranges of pileup covered at a value of the second condition; none where it is outside.

        Parameters
        ----------
        value
            Ignored where no second condition is followed; else None is covered nowhere.
        margin
            How far the value may lie outside; see `streams.judging.strata.covered_at`.
        """
        if not self.strata:
            return self.covered
        return () if value is None else covered_at(self.strata, value, margin)

    def value_in(self, conditions: Conditions) -> float | None:
        """Return the second condition's value; None where it is not named, or none is followed."""
        return conditions.values.get(self.interpolated) if self.interpolated else None

    def uncovered(self, conditions: Conditions, pileup_margin: float, value_margin: float = 0.0) -> str:
        """Say what lies outside of this reference; empty where nothing does.

        Parameters
        ----------
        pileup_margin, value_margin
            See `streams.judging.assessment.AssessmentSettings`.
        """
        pileup = conditions.pileup
        # of many lumisections the outermost say where pileup ends; of few, that it ends near them
        pileup_margin *= max(1 - self.n_lumisections / OUTERMOST, 0.0)
        if not covers(self.covered, pileup, pileup_margin):
            return f"Pileup {pileup:.1f} is outside of the reference's {self.coverage}."
        if not self.strata:
            return ""
        name, value = in_words(self.interpolated), self.value_in(conditions)
        if value is None:
            return f"The conditions name no {name}, which the reference follows."
        if not value_inside(self.strata, value, value_margin):
            return f"{name.capitalize()} {value:.6g} is outside of the reference's {self.value_coverage}."
        ranges = self.covered_at(value, value_margin)
        if covers(ranges, pileup, pileup_margin):
            return ""
        if not ranges:
            return f"At {name} {value:.6g} the reference covers no pileup."
        return f"Pileup {pileup:.1f} is outside of the reference's {_told(ranges)} at {name} {value:.6g}."

    def unmatched(self, conditions: Conditions) -> str:
        """Say which condition has a value that the reference has not seen; empty where none has."""
        for name, values in self.matched.items():
            value = getattr(conditions, name)
            if value not in values:
                known = ", ".join(str(one) for one in values)
                return f"{in_words(name).capitalize()} {value} is none of the reference's {known}."
        return ""


def _told(covered: Ranges) -> str:
    if len(covered) > TOLD_RANGES:
        return f"{len(covered)} ranges from {covered[0][0]:.1f} to {covered[-1][1]:.1f}"
    return ", ".join(f"{low:.1f} to {high:.1f}" if low < high else f"{low:.1f}" for low, high in covered)


def in_words(name: str) -> str:
    """Return the name of a condition for people: ``crossing angle``."""
    return name.replace("_", " ")
