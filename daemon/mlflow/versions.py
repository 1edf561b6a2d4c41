"""Which firmware a registry should know, and what there is to say of each package: from the site's records.

The champion is what runs and was verified; while a successor is tried, the package before it. The challenger
is a candidate that passed its bench and whose response has not ended. Refuses to know MLflow's interface.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.responses.steps import BENCH, VERIFY
from daemon.site.keys import site_trusted_keys
from daemon.site.settings import Site
from daemon.store.records import (
    FINAL_RESPONSE_STATES,
    IncidentRecord,
    ResponseRecord,
    ResponseState,
    ResponseStepRecord,
    StepState,
)
from hw.errors import HardwareError
from hw.manifest import Manifest
from hw.package import open_package
from hw.records import LOADED, BoardOperationRecord, PackageRecord, last_package, packages_of

_ODD: Final = re.compile(r"[^A-Za-z0-9_.-]+")


class Standing(StrEnum):
    """How a package stands now."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    EARLIER = "earlier"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class Firmware:
    """One package that a registry should know.

    Attributes
    ----------
    standing
        Of now. What was withdrawn is not registered, only marked where it is known.
    """

    model: str
    package: str
    standing: Standing
    path: Path
    response: str | None = None


@dataclass(frozen=True)
class Description:
    """What is said of a package once.

    Attributes
    ----------
    file
        None: it is not at hand, or not what it should be.
    """

    title: str
    tags: dict[str, str]
    metrics: dict[str, float]
    file: Path | None


def firmware(engine: Engine, site: Site) -> list[Firmware]:
    """List what a registry should know of the site's models, of each model the oldest first."""
    with Session(engine) as session:
        return [
            one
            for name, model in sorted(site.models.items())
            if model.has_firmware
            for one in _of_model(session, name)
        ]


def _of_model(session: Session, model: str) -> list[Firmware]:
    responses = session.exec(
        select(ResponseRecord)
        .where(ResponseRecord.model == model, col(ResponseRecord.candidate_package).is_not(None))
        .order_by(col(ResponseRecord.created_at), col(ResponseRecord.number))
    ).all()
    benched = set(
        session.exec(
            select(ResponseStepRecord.response_id).where(
                col(ResponseStepRecord.response_id).in_([one.id for one in responses]),
                ResponseStepRecord.name == BENCH.name,
                ResponseStepRecord.state == StepState.DONE,
            )
        ).all()
    )
    of = {str(one.candidate_package): one for one in responses if one.id in benched}
    tried = [package for package, one in of.items() if one.state not in FINAL_RESPONSE_STATES]
    loaded = select(BoardOperationRecord.to_package).where(col(BoardOperationRecord.outcome).in_(LOADED))
    ran = set(session.exec(loaded).all())
    runs = last_package(session, model)
    champion = None if runs is None else runs.id
    if champion in tried:
        champion = of[str(champion)].previous_package
    standings: dict[str, Standing] = {}
    for record in reversed(packages_of(session, model)):
        response = of.get(record.id)
        if record.id == champion:
            standings[record.id] = Standing.CHAMPION
        elif tried and record.id == tried[-1]:
            standings[record.id] = Standing.CHALLENGER
        elif response is not None and response.state != ResponseState.SUCCEEDED:
            standings[record.id] = Standing.WITHDRAWN
        elif response is not None or record.id in ran:
            standings[record.id] = Standing.EARLIER
    records = {record.id: record for record in packages_of(session, model)}
    return [
        Firmware(model, package, standing, Path(records[package].path), _id_of(of.get(package)))
        for package, standing in standings.items()
    ]


def _id_of(response: ResponseRecord | None) -> str | None:
    return None if response is None else response.id


def describe(engine: Engine, site: Site, one: Firmware) -> Description:
    """Say what is known of a package."""
    with Session(engine) as session:
        record = session.get(PackageRecord, one.package)
        response = None if one.response is None else session.get(ResponseRecord, one.response)
        incident = None if response is None else session.get(IncidentRecord, response.incident_id)
        verified = _step(session, one.response, VERIFY.name)
    manifest = _manifest(site, one)
    tags = {"site": site.name, "model": one.model, "file": "attached" if manifest else "missing"}
    metrics: dict[str, float] = {}
    if record is not None:
        tags |= {
            "version": record.version,
            "structure": record.structure_hash,
            "weights": record.weights_hash,
            "contract": record.contract_hash,
            "toolchain": f"{record.toolchain} {record.toolchain_version}",
            "bench": "passed" if record.bench_passed else "not passed",
            "parent": record.parent_id or "",
            "training": record.training_id or "",
        }
    if manifest is not None:
        tags |= {"datasets": ", ".join(manifest.lineage.datasets), "part": manifest.part}
        metrics |= _measured(manifest)
    if response is not None and incident is not None:
        tags |= {
            "response": response.id,
            "incident": incident.id,
            "run": f"{incident.run}, LS {incident.onset_lumisection}-{incident.last_lumisection}",
            "strategy": response.strategy or "",
            "decided_by": response.decided_by or "",
        }
        metrics |= {
            f"verification.{key}": float(verified[key])
            for key in ("mean_accept_rate", "expected_rate")
            if isinstance(verified.get(key), int | float)
        }
    tags = {f"lumiwatch.{key}": value for key, value in tags.items() if value}
    title = f"{one.model} {record.version if record else ''} {one.package[:12]}".replace("  ", " ")
    return Description(title, tags, metrics, one.path if manifest is not None else None)


def _manifest(site: Site, one: Firmware) -> Manifest | None:
    try:
        opened = open_package(one.path, site_trusted_keys(site))
    except (HardwareError, OSError):
        return None
    return opened.manifest if opened.id == one.package else None


def _step(session: Session, response: str | None, name: str) -> dict[str, Any]:
    row = session.exec(
        select(ResponseStepRecord).where(
            ResponseStepRecord.response_id == response,
            ResponseStepRecord.name == name,
            ResponseStepRecord.state == StepState.DONE,
        )
    ).first()
    return {} if row is None else dict(row.result)


def _measured(manifest: Manifest) -> dict[str, float]:
    """Give the numbers of the bench, and what the firmware takes, by whoever said so."""
    numbers: dict[str, float | None] = {}
    for stage in () if manifest.bench is None else manifest.bench.stages:
        numbers |= _numbers(
            f"bench.{stage.name}",
            stage,
            ("events", "mismatching_events", "mismatching_bits", "largest_error_lsb", "events_per_s",
             "latency_cycles", "interval_cycles"),
        )  # fmt: skip
    for one in manifest.resources:
        fields = ("luts", "registers", "dsps", "brams", "clock_mhz", "latency_cycles", "interval_cycles")
        numbers |= _numbers(f"resources.{one.source}", one, fields)
    return {_ODD.sub("_", key): float(value) for key, value in numbers.items() if value is not None}


def _numbers(of: str, what: object, fields: Sequence[str]) -> dict[str, float | None]:
    return {f"{of}.{field}": getattr(what, field, None) for field in fields}
