"""What turns a firmware model into an image: the protocol of every toolchain, and how one is found.

Refuses to know any particular toolchain; `toolchains/` holds one module each, other distributions may add
theirs under the entry point group `lumiwatch.toolchains`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from hw.errors import ToolchainError, ToolchainUnknown
from hw.layout import Layout
from hw.models import Model, network_of
from hw.network import FirmwareModel
from hw.resources import Resources

ENTRY_POINT_GROUP = "lumiwatch.toolchains"
_BUILT_IN = {
    "lumiwatch-rtl": "hw.toolchains.rtl:RtlToolchain",
    "hls4ml": "hw.toolchains.hls4ml:Hls4mlToolchain",
    "hls4ml-vivado": "hw.toolchains.hls4ml_backends:vivado",
    "hls4ml-quartus": "hw.toolchains.hls4ml_backends:quartus",
    "hls4ml-catapult": "hw.toolchains.hls4ml_backends:catapult",
    "da4ml": "hw.toolchains.da4ml:Da4mlToolchain",
    "conifer": "hw.toolchains.conifer:ConiferToolchain",
    "finn": "hw.toolchains.finn:FinnToolchain",
    "vitis_ai": "hw.toolchains.vitis_ai:VitisAiToolchain",
}


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
    model
        What they were generated from, with the toolchain's layout. Of its parameters only the constants are
        in the sources.
    """

    folder: Path
    model: Model

    @property
    def network(self) -> FirmwareModel:
        """The model, when it is a network; raises `ModelError` when it is none."""
        return network_of(self.model)


@dataclass(frozen=True, slots=True)
class Image:
    """A built firmware.

    Parameters
    ----------
    parts
        The image file of every partition, by its name.
    seconds
        Wall time of the build.
    sources
        The sources it was built from, by path, as they go into a package.
    artefacts
        What else was made, by path, e.g. bitstreams.
    resources
        What the firmware takes of its device, by whoever knows.
    """

    parts: Mapping[str, Path]
    seconds: float
    sources: Mapping[str, bytes] = field(repr=False)
    artefacts: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    resources: tuple[Resources, ...] = ()


class Scorer(Protocol):
    """Something that computes scores and decisions bit by bit."""

    def run(self, inputs: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Score int16 inputs (n, n_inputs): raw scores int64 (n,) and decisions bool (n,)."""
        ...


class Toolchain(Protocol):
    """Turns a firmware model into an image. Writing the package is the same for all: `hw.package`."""

    @property
    def name(self) -> str:
        """Name in configuration and manifests."""
        ...

    def probe(self) -> ToolchainStatus:
        """Say whether this toolchain works here; never raises."""
        ...

    def layout(self, model: Model) -> Layout:
        """Decide how the firmware holds a model: which parameters are constants, where partitions begin.

        Raises
        ------
        ToolchainError
            When the toolchain cannot make this model; the message names layer and format.
        """
        ...

    def generate(self, model: Model, folder: Path) -> Project:
        """Write the firmware sources of a model that has this toolchain's layout into an empty or new folder.

        Raises
        ------
        ToolchainError
            When the folder is not empty or the model cannot be made.
        """
        ...

    def estimate(self, project: Project) -> Resources:
        """Say what the firmware takes of its device, without building it, and how that was found.

        Raises
        ------
        ToolchainError
            When the toolchain does not know; `ToolchainAbsent` when a tool is missing.
        """
        ...

    def build(self, project: Project) -> Image:
        """Build the image.

        Raises
        ------
        ToolchainError
            When it cannot be built; `CompilerMissing` when there is no compiler, `ToolchainAbsent` when a
            vendor's tool is not here (the project is complete, the error names the commands).
        """
        ...

    def emulate(self, parts: Mapping[str, Path], model: Model) -> Scorer:
        """Give the images running on this machine with the model's parameters in their memory."""
        ...


def laid_out(model: Model, toolchain: Toolchain) -> Model:
    """Give the model as a toolchain's firmware holds it; raises as `Toolchain.layout` does."""
    return replace(model, layout=toolchain.layout(model))


def check_project(toolchain: Toolchain, model: Model, folder: Path) -> None:
    """Make sure that a toolchain may write the sources of a model into a folder.

    Raises
    ------
    ToolchainError
        When the model has another layout than the toolchain's, or the folder is not empty.
    """
    if model.layout != toolchain.layout(model):
        raise ToolchainError(
            f"model {model.name} is laid out for {model.layout.toolchain or 'no toolchain'}: "
            f"give it the layout of {toolchain.name} first"
        )
    if folder.exists() and any(folder.iterdir()):
        raise ToolchainError(f"{folder} is not empty: give a new folder for the firmware sources")


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
