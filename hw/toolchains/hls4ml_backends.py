"""hls4ml's backends for other vendors' compilers: weights as constants of the C++, built for C simulation.

Weights and biases are constants, so a changed layer needs a new image; the input stage and the threshold stay
in run-time memory. Knows what each backend calls things; refuses to know the C++ around the network.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np

from hw.chain import BoundChain, ImageChain
from hw.errors import CompilerMissing, ToolchainError
from hw.layout import Layout
from hw.models import Model, network_of
from hw.network import FirmwareModel
from hw.resources import Resources
from hw.toolchain import Image, Project, ToolchainStatus, check_project
from hw.toolchains import hls4ml_project, sources
from hw.toolchains.hls4ml_harness import Dialect, harness
from hw.verilator import find_compiler

_MAXIMUM_PRODUCTS = 1 << 16
"""hls4ml's C simulation holds all products of a layer on the stack at once."""

_NUMBER_TYPES = ("ap_types", "ac_types", "ac_math", "ac_simutils")
_NOT_FIRMWARE = shutil.ignore_patterns("pdfdocs", "tests", "lutgen", "gdb", "*.txt", "*.tar.gz")
_INCLUDE = re.compile(r'^#include ("nnet_utils/\w+\.h")', re.MULTILINE)

_NOTE = """\
The sources of this firmware, structure {structure}.

lumiwatch_network.* written by hls4ml {version} ({backend} backend, io_parallel): the network
weights/            the network's weights and biases, constants
lumiwatch_csim.cpp  input stage, score stage and entry of the C simulation that image.so was compiled from
nnet_utils/         headers of hls4ml {version} (Apache-2.0) that these files include

The headers of the number types come with the vendor's compiler; for the C simulation they are those of hls4ml
{version} (Apache-2.0): {types}.
"""


@dataclass(frozen=True, slots=True)
class _Backend:
    """What one backend of hls4ml calls things."""

    name: str
    part: str
    clock_ns: float
    includes: tuple[str, ...]
    """Where the number types are, in the firmware's folder."""
    dialect: Dialect
    settings: Mapping[str, Any]


_WRITER = {"Namespace": None, "WriteWeightsTxt": False, "WriteTar": False, "TBOutputStream": "stdout"}
_BACKENDS = {
    backend.name: backend
    for backend in (
        _Backend(
            "Vivado",
            "xcvu13p-flga2577-2-e",
            2.5,
            ("ap_types",),
            Dialect(ac=False),
            {"ClockUncertainty": "12.5%", "WriterConfig": _WRITER},
        ),
        _Backend(
            "Quartus",
            "Arria10",
            5.0,
            ("ac_types",),
            Dialect(ac=True, structs=True),
            {"WriterConfig": _WRITER},
        ),
        _Backend(
            "Catapult",
            "xcku115-flvb2104-2-i",
            5.0,
            ("ac_types/include", "ac_math/include", "ac_simutils/include", "nnet_utils"),
            Dialect(ac=True, text_weights=True),
            {"Technology": "fpga", "FIFO": None},
        ),
    )
}


class Hls4mlBackendToolchain:
    """One backend of hls4ml.

    Parameters
    ----------
    backend
        `Vivado`, `Quartus` or `Catapult`.
    compiler
        The C++ compiler; left out, `$CXX`, `g++` or `c++`.

    Raises
    ------
    ToolchainError
        When there is no such backend.
    """

    def __init__(self, backend: str, compiler: str | None = None) -> None:
        if backend not in _BACKENDS:
            raise ToolchainError(f"no backend {backend!r}: choose one of {', '.join(_BACKENDS)}")
        self._backend = _BACKENDS[backend]
        self._compiler = compiler
        self.name = f"hls4ml-{backend.lower()}"

    def probe(self) -> ToolchainStatus:
        """Say whether hls4ml and a compiler are here; the vendor's tool is not needed for an image."""
        try:
            version = hls4ml_project.version()
        except PackageNotFoundError:
            return ToolchainStatus(False, None, "hls4ml is not installed: pip install hls4ml")
        try:
            compiler = find_compiler(self._compiler)
        except CompilerMissing as error:
            return ToolchainStatus(False, version, str(error))
        found = f"hls4ml {version}, {self._backend.name} backend, compiler {compiler}"
        return ToolchainStatus(True, version, found)

    def layout(self, model: Model) -> Layout:
        """Make every weight and bias a constant, in one partition.

        Raises
        ------
        ModelError
            When it is no network.
        ToolchainError
            When the backend cannot represent the model exactly; the message names layer and format.
        """
        network = network_of(model)
        _check(network, self._backend)
        constants = tuple(f"{layer.name}.{kind}" for layer in network.layers for kind in ("weight", "bias"))
        return Layout(toolchain=self.name, part=self._backend.part, constants=constants)

    def generate(self, model: Model, folder: Path) -> Project:
        """Write the firmware sources of a model, weights included.

        Parameters
        ----------
        model
            With this toolchain's layout.
        folder
            New or empty.

        Raises
        ------
        ToolchainError
            When the folder is not empty, the layout is another one, or hls4ml fails.
        """
        check_project(self, model, folder)
        network = network_of(model)
        firmware = folder / "firmware"
        with tempfile.TemporaryDirectory(prefix="lumiwatch-hls4ml-") as name:
            # hls4ml also writes what nobody needs here: scripts with stamps, copies of weights, archives
            written = Path(name) / "project"
            written.with_suffix(".tar.gz").touch()  # Catapult's writer packs no archive where one is
            settings = {
                "OutputDir": str(written),
                "ProjectName": sources.NETWORK,
                "Backend": self._backend.name,
                "Part": self._backend.part,
                "ClockPeriod": self._backend.clock_ns,
                **self._backend.settings,
            }
            hls4ml_project.write_network(network, settings, constants=True)
            shutil.copytree(written / "firmware", firmware, ignore=_NOT_FIRMWARE)
        dialect = self._backend.dialect
        headers = tuple(_INCLUDE.findall((firmware / "parameters.h").read_text()))
        (folder / hls4ml_project.CSIM).write_text(harness(network, dialect, headers))
        if not dialect.ac:
            hls4ml_project.let_compilers_optimise(firmware / "ap_types" / "etc" / "ap_private.h")
        return Project(folder, model)

    def estimate(self, project: Project) -> Resources:
        """Count multipliers: hls4ml knows more only after the vendor's compiler has seen the project."""
        model = project.network
        products = model.n_inputs + sum(np.count_nonzero(layer.weight_raw) for layer in model.layers)
        squares = model.layers[-1].n_out if model.score_stage.kind == "sum_of_squares" else 0
        return Resources(
            source="estimate",
            tool=f"hls4ml {hls4ml_project.version()}",
            dsps=int(products + squares),
            clock_mhz=1e3 / self._backend.clock_ns,
            interval_cycles=1,
            note="one multiplier per weight that is not zero; by a constant, many become adders in LUTs",
        )

    def build(self, project: Project) -> Image:
        """Compile the C simulation.

        Raises
        ------
        CompilerMissing
            When there is no C++ compiler.
        ToolchainError
            When compiling fails or takes longer than ten minutes.
        """
        compiler = find_compiler(self._compiler)
        started = time.monotonic()
        flags = (*hls4ml_project.FLAGS, *(f"-Ifirmware/{place}" for place in self._backend.includes))
        path = hls4ml_project.compile_csim(compiler, project.folder, flags)
        note = _NOTE.format(
            structure=project.model.structure_hash,
            version=hls4ml_project.version(),
            backend=self._backend.name,
            types=", ".join(t for t in _NUMBER_TYPES if (project.folder / "firmware" / t).is_dir()),
        )
        used = hls4ml_project.used_sources(project.folder, _NUMBER_TYPES)
        return Image(
            parts={"p0": path},
            seconds=time.monotonic() - started,
            sources={**used, "README.txt": note.encode()},
            resources=(self.estimate(project),),
        )

    def emulate(self, parts: Mapping[str, Path], model: Model) -> BoundChain:
        """Give the compiled image with the model's parameters in its memory."""
        return ImageChain(parts, model).bind(model.memory())


def vivado() -> Hls4mlBackendToolchain:
    """Give the toolchain `hls4ml-vivado`: C++ for Vivado HLS."""
    return Hls4mlBackendToolchain("Vivado")


def quartus() -> Hls4mlBackendToolchain:
    """Give the toolchain `hls4ml-quartus`: C++ for the Intel HLS compiler."""
    return Hls4mlBackendToolchain("Quartus")


def catapult() -> Hls4mlBackendToolchain:
    """Give the toolchain `hls4ml-catapult`: C++ for Siemens Catapult."""
    return Hls4mlBackendToolchain("Catapult")


def _check(model: FirmwareModel, backend: _Backend) -> None:
    """Refuse what the backend's C++ would not compute exactly."""
    formats = [("the input stage", "result", model.input_stage.result_format)]
    for layer in model.layers:
        if layer.n_in * layer.n_out > _MAXIMUM_PRODUCTS:
            raise ToolchainError(
                f"layer {layer.name} has {layer.n_in} x {layer.n_out} weights, the C simulation takes "
                f"at most {_MAXIMUM_PRODUCTS}: use lumiwatch-rtl"
            )
        place = f"layer {layer.name}"
        formats += [
            (place, "weight", layer.weight_format),
            (place, "bias", layer.bias_format),
            (place, "result", layer.result_format),
        ]
    for place, what, fmt in formats:
        if backend.dialect.ac and fmt.width < 2:
            raise ToolchainError(
                f"{place}: {what} {fmt} has one bit, which hls4ml widens for {backend.name}: use two or more"
            )
