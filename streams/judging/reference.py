"""The reference: what a window of a model is expected to look like, and how far it may stray.

Built from approved lumisections: their counts, in slices of pileup and, where a site names one, in strata of
a second condition, are the expectation; held out in turn, they calibrate how much an in-control window
strays. Pure: knows no store, no approval and no clock.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Final

import numpy as np

from streams.conditions import Matchable
from streams.contracts.contract import Contract
from streams.counting.codec import decode_summary, encode_summary
from streams.counting.summary import Summary
from streams.errors import MalformedMessage, ReferenceProblem
from streams.judging.calibration import calibrate
from streams.judging.channels import Design, design
from streams.judging.expectation import Expectation, Slice, covered_ranges, sliced
from streams.judging.extremes import EFFECT_FLOORS
from streams.judging.findings import Yardstick
from streams.judging.flows import OUT_OF_RANGE
from streams.judging.reference_header import VERSION, ReferenceHeader, SliceHeader
from streams.judging.second_condition import SecondCondition, learnt_strata, told_strata
from streams.judging.spikes import SPIKE
from streams.judging.strata import Strata, Stratum

MINIMUM_LUMISECTIONS: Final = 16
"""Fewest lumisections of a reference: with less, a calibration says more about luck than about noise."""
MINIMUM_EVENTS: Final = 1000
"""Fewest events of a reference, all lumisections together: with less, no tail of anything is known."""
DEFAULT_BUDGET: Final = 1e-3
MAX_REFERENCE_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class Reference:
    """Expected counts of a model with a calibration.

    Attributes
    ----------
    header
        See `ReferenceHeader`.
    expectation
        The counts, in slices of pileup; in strata where a second condition is followed.
    """

    header: ReferenceHeader
    expectation: Expectation | Strata

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
    second: SecondCondition | None = None,
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
    second
        What the expectation follows besides the pileup; None: nothing.

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
    expectation = sliced(summaries, pileups) if second is None else learnt_strata(second, summaries, pileups)
    n_events = expectation.pooled.n_events
    if n_events < MINIMUM_EVENTS:
        raise ReferenceProblem(
            f"{n_events} events in all lumisections are too few for a reference: "
            f"give {MINIMUM_EVENTS} or more"
        )
    calibration = calibrate(summaries, pileups, contract, values=second.values if second else None)
    if not calibration.channels and not calibration.extremes.keys() - {OUT_OF_RANGE, SPIKE}:
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
        interpolated=second.name if second else "",
        strata=expectation.headers if isinstance(expectation, Strata) else (),
    )
    return Reference(header, expectation)


def successor_reference(
    parent: Reference,
    summaries: Sequence[Summary],
    package: str,
    *,
    built_from: str,
    pileups: Sequence[float],
    values: Sequence[float | None] | None = None,
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
    values
        Of the second condition that the parent follows, if it does, in the same order; windows of which it
        is not known, and few that are far from all others, are left out.

    Raises
    ------
    ReferenceProblem
        The windows are not of this package, not of the parent's model and contract, or of none of them the
        second condition is known.
    """
    if not summaries or any(part.package != package for part in summaries):
        raise ReferenceProblem(
            f"a successor needs windows of package {package[:12]} only: wait until some closed"
        )
    for what, given in (("pileups", pileups), ("values", summaries if values is None else values)):
        if len(given) != len(summaries):
            raise ReferenceProblem(f"{len(summaries)} windows with {len(given)} {what}: give one for each")
    if (summaries[0].model, summaries[0].contract_hash) != (parent.model, parent.contract_hash):
        raise ReferenceProblem("model or contract changed: build and approve a new reference instead")
    expectation: Expectation | Strata
    if parent.header.interpolated:
        expectation, kept = told_strata(parent.header.interpolated, summaries, pileups, values or ())
        summaries, pileups = [summaries[index] for index in kept], [pileups[index] for index in kept]
    else:
        expectation = sliced(summaries, pileups)
    header = parent.header.model_copy(
        update={
            "package": package,
            "runs": tuple(sorted({part.run for part in summaries})),
            "n_lumisections": len(summaries),
            "covered": covered_ranges(pileups),
            "slices": _slice_headers(expectation),
            "strata": expectation.headers if isinstance(expectation, Strata) else (),
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
    slices = [
        Slice(one.pileup, one.n_lumisections, summary)
        for one, summary in zip(header.slices, counts, strict=True)
    ]
    if not header.strata:
        return Reference(header, Expectation(tuple(slices)))
    rest = iter(slices)
    strata = (Stratum(one, Expectation(tuple(islice(rest, one.n_slices)))) for one in header.strata)
    return Reference(header, Strata(tuple(strata)))


def _slice_headers(expectation: Expectation | Strata) -> tuple[SliceHeader, ...]:
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
