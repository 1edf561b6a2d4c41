"""The reference: what a window of a model is expected to look like, and how far it may stray.

Built from approved lumisections: one half gives the expected counts, the other half is held out and
calibrates the thresholds to a false-alarm budget. Pure: knows no store, no approval and no clock.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from streams.contracts.contract import Contract
from streams.counting.codec import decode_summary, encode_summary
from streams.counting.summary import Summary, merge_all
from streams.errors import MalformedMessage, ReferenceProblem
from streams.judging.comparison import FAMILIES, INPUTS, RATE, SCORE, Comparison, compare, families_of
from streams.statistics.budgets import gumbel_threshold, kolmogorov_threshold, normal_threshold, share_budget

MINIMUM_LUMISECTIONS: Final = 16
"""Fewest lumisections of a reference: with less, the thresholds say more about luck than about noise."""
DEFAULT_BUDGET: Final = 1e-3
DEFAULT_EFFECT_FLOORS: Final[Mapping[str, float]] = {INPUTS: 0.01, SCORE: 0.01, RATE: 0.0}
MAX_REFERENCE_BYTES: Final = 16 * 1024 * 1024


class ReferenceHeader(BaseModel):
    """Everything of a reference but its counts.

    Attributes
    ----------
    package
        Identity of the firmware package whose windows this reference describes.
    n_lumisections
        Lumisections that gave the counts.
    pileup_minimum, pileup_maximum
        Pileup of the lumisections used: windows outside are not judged.
    thresholds
        Family that applies -> value that an in-control window's statistic exceeds with the family's share of
        `budget`.
    effect_floors
        Family -> smallest effect that counts, however significant (see `Comparison.effect`).
    budget
        Probability that an in-control lumisection exceeds in any family.
    parent_id
        The reference whose thresholds were inherited; None if they were calibrated here.
    built_from
        For people: which datasets, or which run and lumisections.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: int = 1
    model: str
    contract_hash: str
    package: str
    n_lumisections: int = Field(ge=1)
    pileup_minimum: float
    pileup_maximum: float
    thresholds: dict[str, float]
    effect_floors: dict[str, float]
    budget: float = Field(gt=0, lt=1)
    parent_id: str | None = None
    built_from: str


@dataclass(frozen=True, eq=False)
class Reference:
    """Expected counts of a model with calibrated thresholds.

    Attributes
    ----------
    header
        See `ReferenceHeader`.
    counts
        Merged summary of the lumisections; its run and lumisection are 0.
    """

    header: ReferenceHeader
    counts: Summary

    @cached_property
    def id(self) -> str:
        """sha256 (hex) of the content."""
        text = json.dumps(self.header.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode())
        digest.update(f"{self.counts.n_events},{self.counts.n_accept}".encode())
        for array in (self.counts.inputs, self.counts.score, self.counts.maps):
            digest.update(array.astype("<i8").tobytes())
        return digest.hexdigest()

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
        """Reference whose thresholds were inherited, if any."""
        return self.header.parent_id

    @property
    def expected_rate(self) -> float:
        """Accepted over all events."""
        return self.counts.n_accept / self.counts.n_events


def build_reference(
    summaries: Sequence[Summary],
    contract: Contract,
    *,
    pileups: Sequence[float],
    built_from: str,
    budget_per_lumisection: float = DEFAULT_BUDGET,
    effect_floors: Mapping[str, float] = DEFAULT_EFFECT_FLOORS,
) -> Reference:
    """Build a reference from approved lumisections.

    Lumisections alternate, in order: one gives counts, the next is held out. The held-out ones are
    compared with the counts as windows will be, and their statistics calibrate the thresholds.

    Parameters
    ----------
    summaries
        One complete summary per lumisection, of one model, contract and package; at least
        `MINIMUM_LUMISECTIONS`.
    contract
        The contract they were made under.
    pileups
        Pileup of each, in the same order.
    built_from
        For people: which data.
    budget_per_lumisection
        Probability of an excess in an in-control lumisection, shared by the families.
    effect_floors
        Family -> smallest effect that counts; families left out have none.

    Raises
    ------
    ReferenceProblem
        Too few lumisections, or they do not belong together.
    """
    _check_parts(summaries, contract)
    if len(pileups) != len(summaries):
        raise ReferenceProblem(
            f"{len(summaries)} lumisections with {len(pileups)} pileups: give one for each"
        )
    if len(summaries) < MINIMUM_LUMISECTIONS:
        raise ReferenceProblem(
            f"{len(summaries)} lumisections are too few to calibrate a reference: "
            f"give {MINIMUM_LUMISECTIONS} or more"
        )
    ordered = sorted(summaries, key=lambda part: (part.run, part.lumisection))
    counts = _pool(ordered[0::2])
    comparisons = [compare(held_out, counts) for held_out in ordered[1::2]]
    thresholds = _calibrate(comparisons, families_of(counts.layout), budget_per_lumisection)
    header = ReferenceHeader(
        model=counts.model,
        contract_hash=counts.contract_hash,
        package=counts.package,
        n_lumisections=len(ordered[0::2]),
        pileup_minimum=min(pileups),
        pileup_maximum=max(pileups),
        thresholds=thresholds,
        effect_floors={family: float(effect_floors.get(family, 0.0)) for family in FAMILIES},
        budget=budget_per_lumisection,
        built_from=built_from,
    )
    return Reference(header, counts)


def successor_reference(
    parent: Reference,
    summaries: Sequence[Summary],
    package: str,
    *,
    built_from: str,
    pileups: Sequence[float] = (),
) -> Reference:
    """Build the reference of a new package from its verification windows, with the parent's thresholds.

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
        Pileups of the windows: they widen the range that the parent covers.

    Raises
    ------
    ReferenceProblem
        The windows are not of this package, or not of the parent's model and contract.
    """
    if not summaries or any(part.package != package for part in summaries):
        raise ReferenceProblem(
            f"a successor needs windows of package {package[:12]} only: wait until some closed"
        )
    counts = _pool(summaries)
    if (counts.model, counts.contract_hash) != (parent.model, parent.contract_hash):
        raise ReferenceProblem("model or contract changed: build and approve a new reference instead")
    header = parent.header.model_copy(
        update={
            "package": package,
            "n_lumisections": len(summaries),
            "pileup_minimum": min([parent.header.pileup_minimum, *pileups]),
            "pileup_maximum": max([parent.header.pileup_maximum, *pileups]),
            "parent_id": parent.id,
            "built_from": built_from,
        }
    )
    return Reference(header, counts)


def encode_reference(reference: Reference) -> bytes:
    """Return the bytes of a reference (NPZ of header and summary): equal bytes for equal content."""
    buffer = io.BytesIO()
    header = reference.header.model_dump_json().encode()
    parts: dict[str, Any] = {
        "header": np.frombuffer(header, dtype=np.uint8),
        "summary": np.frombuffer(encode_summary(reference.counts), dtype=np.uint8),
    }
    np.savez(buffer, allow_pickle=False, **parts)
    return buffer.getvalue()


def decode_reference(payload: bytes) -> Reference:
    """Read what `encode_reference` wrote.

    Raises
    ------
    ReferenceProblem
        The bytes are no reference.
    """
    if len(payload) > MAX_REFERENCE_BYTES:
        raise ReferenceProblem(f"reference of {len(payload)} bytes exceeds {MAX_REFERENCE_BYTES}: it is none")
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as parts:
            header = ReferenceHeader.model_validate_json(parts["header"].tobytes())
            counts = decode_summary(parts["summary"].tobytes())
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, MalformedMessage) as error:
        raise ReferenceProblem(f"not a reference ({type(error).__name__}): build it again") from error
    return Reference(header, counts)


def _calibrate(comparisons: Sequence[Comparison], families: Sequence[str], budget: float) -> dict[str, float]:
    """Threshold of each family that applies, from held-out lumisections.

    Distances: a Gumbel distribution fitted to the per-lumisection maximum. Rate: a normal one as wide as
    the pulls are, at least one standard deviation (what is wider is no counting noise but wander). Never
    below what theory gives for one continuous distribution, never below the largest value seen.
    """
    share = share_budget(budget, len(families))
    values = {name: np.array([one.value(name) for one in comparisons]) for name in families}
    thresholds = {
        name: max(gumbel_threshold(values[name], share), kolmogorov_threshold(share))
        for name in families
        if name in (INPUTS, SCORE)
    }
    if RATE in families:
        width = max(1.0, float(np.sqrt(np.mean(values[RATE] ** 2))))
        thresholds[RATE] = max(normal_threshold(share) * width, float(values[RATE].max()))
    return thresholds


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


def _pool(summaries: Sequence[Summary]) -> Summary:
    """Add lumisections up; what is pooled belongs to none of them."""
    if len({(part.model, part.contract_hash, part.package) for part in summaries}) > 1:
        raise ReferenceProblem("lumisections of several models, contracts or packages: choose one of each")
    return merge_all(replace(part, run=0, lumisection=0, batch=None) for part in summaries)
