"""What turns a firmware model into an image: the protocol of every toolchain, and how one is found.

Refuses to know any particular toolchain; `toolchains/` holds one module each, other distributions may add
theirs under the entry point group `lumiwatch.toolchains`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from hw.errors import ToolchainUnknown
from hw.network import FirmwareModel

ENTRY_POINT_GROUP = "lumiwatch.toolchains"
_BUILT_IN = {"hls4ml": "hw.toolchains.hls4ml:Hls4mlToolchain"}


@dataclass(frozen=True, slots=True)
class ToolchainStatus:
    """Whether a toolchain can work on this machine.

    Parameters
    ----------
    available
        True when `build` can succeed.
    version
        Of the toolchain, if installed.
    reason
        What is missing and the cure, or what was found.
    """

    available: bool
    version: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Project:
    """Generated firmware sources.

    Parameters
    ----------
    folder
        Where they are.
    structure_hash
        Of the model they were generated from; parameter values do not enter them.
    """

    folder: Path
    structure_hash: str


@dataclass(frozen=True, slots=True)
class Image:
    """A built image.

    Parameters
    ----------
    path
        The image file.
    sha256
        Of its content.
    structure_hash
        The structure it computes.
    seconds
        Wall time of the build.
    sources
        The sources it was built from, by path, as they go into a package.
    """

    path: Path
    sha256: str
    structure_hash: str
    seconds: float
    sources: Mapping[str, bytes] = field(repr=False)


class Scorer(Protocol):
    """Something that computes scores and decisions bit by bit."""

    def run(self, inputs: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Score int16 inputs (n, n_inputs): raw scores int64 (n,) and decisions bool (n,)."""
        ...


class Toolchain(Protocol):
    """Turns a firmware model into an image whose parameters live in run-time memory."""

    @property
    def name(self) -> str:
        """Name in configuration and manifests."""
        ...

    def probe(self) -> ToolchainStatus:
        """Say whether this toolchain works here; never raises."""
        ...

    def generate(self, model: FirmwareModel, folder: Path) -> Project:
        """Write the firmware sources of a model's structure into an empty or new folder."""
        ...

    def build(self, project: Project) -> Image:
        """Build the image.

        Raises
        ------
        ToolchainError
            When it cannot be built; `CompilerMissing` when there is no compiler.
        """
        ...

    def emulate(self, image: Path, model: FirmwareModel) -> Scorer:
        """Give the image running on this machine with the model's parameters in its memory."""
        ...


def toolchain_names() -> tuple[str, ...]:
    """List the names of all registered toolchains."""
    return tuple(sorted({*_BUILT_IN, *entry_points(group=ENTRY_POINT_GROUP).names}))


def find_toolchain(name: str) -> Toolchain:
    """Give the toolchain registered under a name.

    Raises
    ------
    ToolchainUnknown
        When there is none.
    """
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name].split(":")
        return cast("Toolchain", getattr(import_module(module), attribute)())
    for entry in entry_points(group=ENTRY_POINT_GROUP, name=name):
        return cast("Toolchain", entry.load()())
    raise ToolchainUnknown(f"no toolchain {name!r}: choose one of {', '.join(toolchain_names())}")
