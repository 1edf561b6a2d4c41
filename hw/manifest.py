"""The manifest of a package: what the signature covers, field by field.

`docs/package-format.md` explains every field, `docs/package-manifest.schema.json` is the JSON schema.
Refuses to know files and keys.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from hw.models import Model
from hw.report import BenchReport
from hw.resources import Resources

IMAGES = "images/"
"""Folder of the partitions' images in a package."""


class ToolchainStamp(BaseModel):
    """Which toolchain made the firmware."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str


class SegmentEntry(BaseModel):
    """One named stretch of the weight memory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    start: int
    words: int
    format: str


class PartitionEntry(BaseModel):
    """One independently replaceable part of the firmware.

    Parameters
    ----------
    name
        p0, p1, ... in the order of the data.
    structure_hash
        Of all it computes except loadable parameters.
    interface_hash
        Of what is pinned at its edges.
    layers
        The dense layers inside.
    start, words
        Its slice of the weight memory.
    image
        The file of its compiled image in the package.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    structure_hash: str
    interface_hash: str
    layers: tuple[str, ...]
    start: int
    words: int
    image: str


class Lineage(BaseModel):
    """What the firmware was made from.

    Parameters
    ----------
    datasets
        Ids of the datasets it was trained on.
    parent_package
        Id of the package it replaces.
    training
        Id of the training that made it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    datasets: tuple[str, ...] = ()
    parent_package: str | None = None
    training: str | None = None


class Manifest(BaseModel):
    """What the signature covers; `docs/package-format.md` has all fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["lumiwatch-package"] = "lumiwatch-package"
    format: Literal[2] = 2
    name: str
    version: str
    toolchain: ToolchainStamp
    part: str
    shell_hash: str
    structure_hash: str
    weights_hash: str
    contract_hash: str
    input_names: tuple[str, ...]
    precision: dict[str, str]
    segments: tuple[SegmentEntry, ...]
    constants: tuple[str, ...]
    partitions: tuple[PartitionEntry, ...]
    golden_count: int
    bench: BenchReport | None
    resources: tuple[Resources, ...]
    lineage: Lineage
    rollback_to: str | None
    created: AwareDatetime | None = None
    files: dict[str, str]


def manifest_schema() -> dict[str, Any]:
    """Give the JSON schema of the manifest."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Manifest.model_json_schema()}


def image_path(partition: str) -> str:
    """Give the place of a partition's image in a package."""
    return f"{IMAGES}{partition}.so"


def segments_of(model: Model) -> tuple[SegmentEntry, ...]:
    """Describe the stretches of a model's weight memory."""
    return tuple(
        SegmentEntry(name=s.name, start=s.start, words=s.words, format=str(s.format))
        for s in model.segments()
    )


def partitions_of(model: Model) -> tuple[PartitionEntry, ...]:
    """Describe a model's partitions."""
    return tuple(
        PartitionEntry(
            name=p.name,
            structure_hash=p.structure_hash,
            interface_hash=p.interface_hash,
            layers=p.layer_names,
            start=p.start,
            words=p.words,
            image=image_path(p.name),
        )
        for p in model.partitions()
    )
