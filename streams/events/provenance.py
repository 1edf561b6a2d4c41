"""Where the events of a dataset come from, as it stands inside the file. Knows no event."""

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from streams.contracts.contract import Contract
from streams.events.dataset_file import Member

FORMAT: Final = 1


class SourceFile(BaseModel):
    """One file that events were read from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str
    entries: int = Field(ge=0)


class Provenance(BaseModel):
    """Where a dataset comes from.

    Attributes
    ----------
    sources
        The files read, by name (no folder), content and entries.
    events_in, events_kept
        Events read and events written.
    dropped
        Reason -> number of events dropped for it.
    made_by
        What made it, with its parameters, for example ``resample seed=7``.
    parents
        Identities of the datasets it was made from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool_version: str
    contract_name: str
    contract_version: int
    contract_hash: str
    sources: list[SourceFile] = Field(default_factory=list)
    events_in: int = Field(ge=0)
    events_kept: int = Field(ge=0)
    dropped: dict[str, int] = Field(default_factory=dict)
    made_by: str
    parents: list[str] = Field(default_factory=list)


class Header(BaseModel):
    """The first member of a dataset file."""

    model_config = ConfigDict(extra="forbid")

    format: int
    contract_name: str
    contract_version: int
    contract_hash: str
    input_names: list[str]
    provenance: Provenance


def header_member(input_names: Sequence[str], provenance: Provenance) -> Member:
    """Make the first member of a file: what the events are and where they come from, as JSON."""
    header = Header(
        format=FORMAT,
        contract_name=provenance.contract_name,
        contract_version=provenance.contract_version,
        contract_hash=provenance.contract_hash,
        input_names=list(input_names),
        provenance=provenance,
    )
    return Member.of_array("header", np.frombuffer(header.model_dump_json().encode(), dtype=np.uint8))


def provenance_of(
    contract: Contract, sources: Sequence[SourceFile], kept: int, dropped: Mapping[str, int]
) -> Provenance:
    """Say where the events of a conversion come from."""
    return Provenance(
        tool_version=tool_version(),
        contract_name=contract.name,
        contract_version=contract.version,
        contract_hash=contract.hash,
        sources=list(sources),
        events_in=sum(source.entries for source in sources),
        events_kept=kept,
        dropped=dict(sorted(dropped.items())),
        made_by="convert",
    )


def tool_version() -> str:
    """Return the installed version of lumiwatch."""
    try:
        return metadata.version("lumiwatch")
    except metadata.PackageNotFoundError:
        return "not installed"
