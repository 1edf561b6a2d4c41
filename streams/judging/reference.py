"""The reference: what a window of a model is expected to look like, and how far it may stray.

Built from approved lumisections: their counts, in slices of pileup, are the expectation; held out in turn,
they calibrate how much an in-control window strays. Pure: knows no store, no approval and no clock.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from streams.conditions import Conditions, Matchable
from streams.contracts.contract import Contract
from streams.counting.codec import decode_summary, encode_summary
from streams.counting.summary import Summary
from streams.errors import MalformedMessage, ReferenceProblem
from streams.judging.calibration import Calibration, calibrate
from streams.judging.channels import Design, design
from streams.judging.expectation import Expectation, Slice, covered_ranges, sliced
from streams.judging.extremes import EFFECT_FLOORS
from streams.judging.findings import Yardstick
from streams.judging.flows import OUT_OF_RANGE

VERSION: Final = 2
MINIMUM_LUMISECTIONS: Final = 16
"""Fewest lumisections of a reference: with less, a calibration says more about luck than about noise."""
MINIMUM_EVENTS: Final = 1000
"""Fewest events of a reference, all lumisections together: with less, no tail of anything is known."""
GAP_MARGIN: Final = 2.0
"""How far, in pileup, a window may lie from a range of a reference within a gap of it."""
DEFAULT_BUDGET: Final = 1e-3
MAX_REFERENCE_BYTES: Final = 64 * 1024 * 1024
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
        By rising pileup, one for each summary.
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
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: int = VERSION
    model: str
    contract_hash: str
    package: str
    runs: tuple[int, ...]
    n_lumisections: int = Field(ge=1)
    covered: tuple[tuple[float, float], ...] = Field(min_length=1)
    slices: tuple[SliceHeader, ...] = Field(min_length=1)
    calibration: Calibration
    effect_floors: dict[str, float]
    budget: float = Field(gt=0, lt=1)
    matched: dict[Matchable, tuple[int, ...]] = Field(default_factory=dict)
    parent_id: str | None = None
    built_from: str

    @property
    def pileup_minimum(self) -> float:
        """Lowest pileup of the lumisections used."""
        return self.covered[0][0]

    @property
    def pileup_maximum(self) -> float:
        """Highest pileup of the lumisections used."""
        return self.covered[-1][1]

    @property
    def false_alarms_per_day(self) -> float:
        """Most false alarms to expect in a day of stable beams."""
        return self.budget * LUMISECTIONS_PER_DAY

    @property
    def coverage(self) -> str:
        """The covered ranges for people: ``20.0 to 34.5, 41.0``; of many, how many there are."""
        if len(self.covered) > TOLD_RANGES:
            return f"{len(self.covered)} ranges from {self.pileup_minimum:.1f} to {self.pileup_maximum:.1f}"
        return ", ".join(
            f"{low:.1f} to {high:.1f}" if low < high else f"{low:.1f}" for low, high in self.covered
        )

    @property
    def typical_pileup(self) -> float:
        """A covered pileup: as near as there is one to the mean of the slice of most lumisections."""
        mean = max(self.slices, key=lambda one: one.n_lumisections).pileup
        inside = [min(max(mean, low), high) for low, high in self.covered]
        return min(inside, key=lambda pileup: abs(pileup - mean))

    def unmatched(self, conditions: Conditions) -> str:
        """Say which condition has a value that the reference has not seen; empty where none has."""
        for name, values in self.matched.items():
            value = getattr(conditions, name)
            if value not in values:
                known = ", ".join(str(one) for one in values)
                return f"{name.replace('_', ' ').capitalize()} {value} is none of the reference's {known}."
        return ""

    def covers(self, pileup: float, margin: float) -> bool:
        """Whether a pileup lies in a covered range, or near enough to one.

        Beyond all ranges, where the expectation is extrapolated: no further than `margin`. Between two,
        where it is interpolated: no further than `GAP_MARGIN` or `margin`.
        """
        if not self.pileup_minimum - margin <= pileup <= self.pileup_maximum + margin:
            return False
        inside = max(margin, GAP_MARGIN)
        return any(low - inside <= pileup <= high + inside for low, high in self.covered)


@dataclass(frozen=True, eq=False)
class Reference:
    """Expected counts of a model with a calibration.

    Attributes
    ----------
    header
        See `ReferenceHeader`.
    expectation
        The counts, in slices of pileup.
    """

    header: ReferenceHeader
    expectation: Expectation

    @cached_property
    def id(self) -> str:
        """sha256 (hex) of the content."""
        text = json.dumps(self.header.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode())
        for one in self.expectation.slices:
            digest.update(f"{one.counts.n_events},{one.counts.n_accept},{one.counts.n_paired}".encode())
            for array in (one.counts.inputs, one.counts.score, one.counts.maps, one.counts.pairs):
                digest.update(array.astype("<i8").tobytes())
        return digest.hexdigest()

    @property
    def counts(self) -> Summary:
        """All lumisections added up, whatever their pileup."""
        return self.expectation.pooled

    @property
    def model(self) -> str:
        """Name of the monitored model."""
        return self.header.model

    @property
    def contract_hash(self) -> str:
        """Hash of the contract the counts were made under."""
        return self.header.contract_hash

    @property
    def package(self) -> str:
        """Identity of the package whose windows this describes."""
        return self.header.package

    @property
    def parent_id(self) -> str | None:
        """Reference whose calibration was inherited, if any."""
        return self.header.parent_id

    @property
    def expected_rate(self) -> float:
        """Accepted over all events."""
        return self.counts.n_accept / self.counts.n_events

    def design(self, contract: Contract) -> Design:
        """Return the channels of the model under its contract; kept, once worked out."""
        made: Design | None = self.__dict__.get("_design")
        if made is None:
            made = self.__dict__["_design"] = design(contract, self.counts)
        return made

    def yardstick(self, contract: Contract, rate_band: float) -> Yardstick:
        """Return what windows are measured with; kept for the last `rate_band`."""
        known: Yardstick | None = self.__dict__.get("_yardstick")
        if known is None or known.rate_band != rate_band:
            known = self.__dict__["_yardstick"] = Yardstick(
                design=self.design(contract),
                expectation=self.expectation,
                calibration=self.header.calibration,
                budget=self.header.budget,
                floors=self.header.effect_floors,
                rate_band=rate_band,
            )
        return known


def build_reference(
    summaries: Sequence[Summary],
    contract: Contract,
    *,
    pileups: Sequence[float],
    built_from: str,
    budget_per_lumisection: float = DEFAULT_BUDGET,
    effect_floors: Mapping[str, float] = EFFECT_FLOORS,
    matched: Mapping[Matchable, Sequence[int]] | None = None,
) -> Reference:
    """Build a reference from approved lumisections.

    Parameters
    ----------
    summaries
        One complete summary per lumisection, of one model, contract and package; at least
        `MINIMUM_LUMISECTIONS`. Three runs or more, if there are, are held out run by run.
    contract
        The contract they were made under.
    pileups
        Pileup of each, in the same order.
    built_from
        For people: which data.
    budget_per_lumisection
        Probability of an alarm in an in-control lumisection, shared by the families.
    effect_floors
        Family of extremes -> smallest effect that counts; families left out have none.
    matched
        Condition that windows must share -> the values it had in these lumisections; None: no condition.

    Raises
    ------
    ReferenceProblem
        Too few lumisections or events, they do not belong together, or nothing in them scatters.
    """
    _check_parts(summaries, contract)
    if len(pileups) != len(summaries):
        raise ReferenceProblem(
            f"{len(summaries)} lumisections with {len(pileups)} pileups: give one for each"
        )
    if not all(0 <= pileup < np.inf for pileup in pileups):
        raise ReferenceProblem("a lumisection has no pileup: leave it out, or give its conditions")
    if len(summaries) < MINIMUM_LUMISECTIONS:
        raise ReferenceProblem(
            f"{len(summaries)} lumisections are too few to calibrate a reference: "
            f"give {MINIMUM_LUMISECTIONS} or more"
        )
    expectation = sliced(summaries, pileups)
    n_events = expectation.pooled.n_events
    if n_events < MINIMUM_EVENTS:
        raise ReferenceProblem(
            f"{n_events} events in all lumisections are too few for a reference: "
            f"give {MINIMUM_EVENTS} or more"
        )
    calibration = calibrate(summaries, pileups, contract)
    if not calibration.channels and not calibration.extremes.keys() - {OUT_OF_RANGE}:
        raise ReferenceProblem(
            "nothing scatters from lumisection to lumisection, so nothing can be judged: give lumisections "
            "that are no copies of each other, with inputs that are not constant"
        )
    header = ReferenceHeader(
        model=summaries[0].model,
        contract_hash=contract.hash,
        package=summaries[0].package,
        runs=tuple(sorted({part.run for part in summaries})),
        n_lumisections=len(summaries),
        covered=covered_ranges(pileups),
        slices=_slice_headers(expectation),
        calibration=calibration,
        effect_floors={family: float(floor) for family, floor in effect_floors.items()},
        budget=budget_per_lumisection,
        matched={name: tuple(sorted(set(values))) for name, values in (matched or {}).items()},
        built_from=built_from,
    )
    return Reference(header, expectation)


def successor_reference(
    parent: Reference,
    summaries: Sequence[Summary],
    package: str,
    *,
    built_from: str,
    pileups: Sequence[float],
) -> Reference:
    """Build the reference of a new package from its verification windows, with the parent's calibration.

    Parameters
    ----------
    parent
        Reference of the package before.
    summaries
        Windows of the new package, at least one.
    package
        Identity of the new package.
    built_from
        For people: which windows, and on whose approval.
    pileups
        Pileup of each window, in the same order: the new reference covers no more.

    Raises
    ------
    ReferenceProblem
        The windows are not of this package, or not of the parent's model and contract.
    """
    if not summaries or any(part.package != package for part in summaries):
        raise ReferenceProblem(
            f"a successor needs windows of package {package[:12]} only: wait until some closed"
        )
    if len(pileups) != len(summaries):
        raise ReferenceProblem(f"{len(summaries)} windows with {len(pileups)} pileups: give one for each")
    if (summaries[0].model, summaries[0].contract_hash) != (parent.model, parent.contract_hash):
        raise ReferenceProblem("model or contract changed: build and approve a new reference instead")
    expectation = sliced(summaries, pileups)
    header = parent.header.model_copy(
        update={
            "package": package,
            "runs": tuple(sorted({part.run for part in summaries})),
            "n_lumisections": len(summaries),
            "covered": covered_ranges(pileups),
            "slices": _slice_headers(expectation),
            "parent_id": parent.id,
            "built_from": built_from,
        }
    )
    return Reference(header, expectation)


def encode_reference(reference: Reference) -> bytes:
    """Return the bytes of a reference (NPZ of header and summaries): equal bytes for equal content."""
    buffer = io.BytesIO()
    header = reference.header.model_dump_json().encode()
    parts: dict[str, Any] = {"header": np.frombuffer(header, dtype=np.uint8)}
    for number, one in enumerate(reference.expectation.slices):
        parts[f"slice_{number}"] = np.frombuffer(encode_summary(one.counts), dtype=np.uint8)
    np.savez(buffer, allow_pickle=False, **parts)
    return buffer.getvalue()


def decode_reference(payload: bytes) -> Reference:
    """Read what `encode_reference` wrote.

    Raises
    ------
    ReferenceProblem
        The bytes are no reference, or one of an earlier version of lumiwatch.
    """
    if len(payload) > MAX_REFERENCE_BYTES:
        raise ReferenceProblem(f"reference of {len(payload)} bytes exceeds {MAX_REFERENCE_BYTES}: it is none")
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as parts:
            text = parts["header"].tobytes()
            if json.loads(text).get("version") != VERSION:
                raise ReferenceProblem("made by another version of lumiwatch: build and approve it again")
            header = ReferenceHeader.model_validate_json(text)
            counts = [decode_summary(parts[f"slice_{n}"].tobytes()) for n in range(len(header.slices))]
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, MalformedMessage) as error:
        raise ReferenceProblem(f"not a reference ({type(error).__name__}): build it again") from error
    if not all(summary.n_events and summary.layout == counts[0].layout for summary in counts):
        raise ReferenceProblem("not a reference (slices that do not belong together): build it again")
    slices = (
        Slice(one.pileup, one.n_lumisections, summary)
        for one, summary in zip(header.slices, counts, strict=True)
    )
    return Reference(header, Expectation(tuple(slices)))


def _slice_headers(expectation: Expectation) -> tuple[SliceHeader, ...]:
    return tuple(
        SliceHeader(pileup=one.pileup, n_lumisections=one.n_lumisections) for one in expectation.slices
    )


def _check_parts(summaries: Sequence[Summary], contract: Contract) -> None:
    wrong = next((part for part in summaries if part.contract_hash != contract.hash), None)
    if wrong is not None:
        raise ReferenceProblem(
            f"LS {wrong.lumisection} was made under contract {wrong.contract_hash[:12]}, "
            f"not {contract.hash[:12]}: convert it again"
        )
    places = [(part.run, part.lumisection) for part in summaries]
    if len(set(places)) != len(places):
        raise ReferenceProblem("a lumisection stands twice: merge its summaries first")
    empty = next((part for part in summaries if part.n_events == 0), None)
    if empty is not None:
        raise ReferenceProblem(f"LS {empty.lumisection} has no events: leave it out")
