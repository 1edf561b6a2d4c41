"""da4ml: multiplications by constant weights as graphs of adders, in clocked Verilog.

Weights and biases are constants of the firmware, so a changed layer needs a new image of its partition; the
input stage and the threshold stay in run-time memory. Every edge between partitions has the declared format,
so that a new partition always fits. Knows da4ml's Verilog; refuses to know devices.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hw.chain import BoundChain, ImageChain
from hw.errors import HardwareError, ToolchainError
from hw.layout import Layout, Partition
from hw.models import Model, network_of
from hw.resources import Resources
from hw.rtl.sources import stage_sources
from hw.toolchain import Image, Project, ToolchainStatus, check_project
from hw.toolchains import da4ml_verilog as verilog
from hw.toolchains.da4ml_logic import Logic, check, trace
from hw.verilator import compile_verilog, find_compiler, find_verilator

_SUMMARY = "summary.json"
_CONVERSION = "rtl/lumiwatch_requantise.sv"
_NOTE = """\
The sources of this firmware, structure {structure}.

lumiwatch_top.v        all partitions, one behind the other
pN/lumiwatch_pN.v      one partition between edges of the declared formats
pN/pN_network*.v       its layers, written by da4ml {version}: one module per register stage
pN/harness.cpp         entry of the simulation that pN's image was compiled from, with Verilator
da4ml/                 modules of da4ml {version} (LGPL-3.0) that these files instantiate
rtl/                   conversion between formats, as in lumiwatch's own engine

memory: 32 bits per word, {words} words: input offsets, input scales, threshold. At most {adders} adders
between two registers; one event per clock cycle.
"""


class Da4mlToolchain:
    """The da4ml toolchain.

    Parameters
    ----------
    adders_per_stage
        Most adders between two registers: fewer reach a higher clock and take more registers.
    layers_per_partition
        How many consecutive layers form a partition.
    compiler
        The C++ compiler; left out, `$CXX`, `g++` or `c++`.
    """

    name = "da4ml"

    def __init__(
        self, *, adders_per_stage: int = 5, layers_per_partition: int = 1, compiler: str | None = None
    ) -> None:
        if adders_per_stage < 1 or layers_per_partition < 1:
            raise ToolchainError("adders per stage and layers per partition start at 1")
        self._adders = adders_per_stage
        self._layers = layers_per_partition
        self._compiler = compiler

    def probe(self) -> ToolchainStatus:
        """Say whether da4ml, Verilator and a compiler are here."""
        try:
            version = installed_version("da4ml")
        except PackageNotFoundError:
            return ToolchainStatus(False, None, "da4ml is not installed: pip install da4ml")
        try:
            simulator, compiler = find_verilator(), find_compiler(self._compiler)
        except HardwareError as error:
            return ToolchainStatus(False, version, str(error))
        return ToolchainStatus(
            True, version, f"da4ml {version}, Verilator {simulator.version}, compiler {compiler}"
        )

    def layout(self, model: Model) -> Layout:
        """Make every weight and bias a constant, and a partition of every layer.

        Raises
        ------
        ToolchainError
            When da4ml cannot represent a layer exactly; the message names layer and format.
        """
        network = network_of(model)
        source = network.input_stage.result_format
        for layer in network.layers:
            check(layer, source)
            source = layer.result_format
        return Layout(
            toolchain=self.name,
            part=network.layout.part,
            constants=tuple(
                f"{layer.name}.{kind}" for layer in network.layers for kind in ("weight", "bias")
            ),
            cuts=tuple(range(self._layers, len(network.layers), self._layers)),
        )

    def generate(self, model: Model, folder: Path) -> Project:
        """Write the Verilog of every partition.

        Parameters
        ----------
        model
            With this toolchain's layout.
        folder
            New or empty.

        Raises
        ------
        ToolchainError
            When the folder is not empty, the layout is another one, da4ml is not here or cannot represent a
            layer.
        """
        check_project(self, model, folder)
        network = network_of(model)
        partitions = network.partitions()
        files: dict[str, str] = {}
        summary: dict[str, Any] = {"version": _version(), "partitions": {}}
        for partition in partitions:
            inner = network.input_stage.result_format if partition.first else partition.source_format
            logic = trace(partition.layers, inner, self._adders)
            files |= _partition_files(partition, logic)
            summary["partitions"][partition.name] = {
                "luts": round(logic.pipeline.cost),
                "registers": int(logic.pipeline.reg_bits),
                "latency_cycles": verilog.latency(partition, logic),
            }
        files["lumiwatch_top.v"] = verilog.top_source(partitions)
        files["README.txt"] = _NOTE.format(
            structure=model.structure_hash, version=_version(), words=model.n_words, adders=self._adders
        )
        files[_SUMMARY] = json.dumps(summary, indent=2, sort_keys=True) + "\n"
        files[_CONVERSION] = stage_sources()[_CONVERSION]
        for name, text in {**_modules(), **files}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return Project(folder, model)

    def estimate(self, project: Project) -> Resources:
        """Give da4ml's own estimate of the layers, and the exact latency.

        Raises
        ------
        ToolchainError
            When the folder holds no project.
        """
        try:
            summary = json.loads((project.folder / _SUMMARY).read_text())
            parts = list(summary["partitions"].values())
            return Resources(
                source="estimate",
                tool=f"da4ml {summary['version']}",
                luts=sum(part["luts"] for part in parts),
                registers=sum(part["registers"] for part in parts),
                latency_cycles=sum(part["latency_cycles"] for part in parts),
                interval_cycles=1,
                note="the layers alone; input and score stage, with their multipliers, come on top",
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ToolchainError(
                f"{project.folder} is no da4ml project ({error}): generate it again"
            ) from error

    def build(self, project: Project) -> Image:
        """Compile the Verilog of every partition with Verilator.

        Raises
        ------
        CompilerMissing, ToolchainAbsent
            When there is no C++ compiler or no Verilator.
        ToolchainError
            When compiling fails or takes too long.
        """
        started = time.monotonic()
        resources = self.estimate(project)
        shared = _read(project.folder, "da4ml/*.v") | _read(project.folder, _CONVERSION)
        parts: dict[str, Path] = {}
        for partition in project.model.partitions():
            name = partition.name
            parts[name] = compile_verilog(
                shared | _read(project.folder, f"{name}/*.v"),
                (project.folder / name / "harness.cpp").read_text(),
                f"lumiwatch_{name}",
                project.folder / name / f"{name}.so",
                compiler=self._compiler,
                optimisation=1,
            )
        sources = {
            **_read(project.folder, "**/*.v"),
            **_read(project.folder, _CONVERSION),
            **_read(project.folder, "p*/harness.cpp"),
            **_read(project.folder, "README.txt"),
        }
        return Image(parts=parts, seconds=time.monotonic() - started, sources=sources, resources=(resources,))

    def emulate(self, parts: Mapping[str, Path], model: Model) -> BoundChain:
        """Give the clocked Verilog running on this machine with the model's parameters in its memory."""
        return ImageChain(parts, model).bind(model.memory())


def _version() -> str:
    try:
        return installed_version("da4ml")
    except PackageNotFoundError as error:
        raise ToolchainError("da4ml is not installed: pip install da4ml") from error


def _partition_files(partition: Partition, logic: Logic) -> dict[str, str]:
    from da4ml.codegen.rtl.verilog.pipeline import pipeline_logic_gen  # noqa: PLC0415 - as in da4ml_logic

    modules = pipeline_logic_gen(logic.pipeline, verilog.network_name(partition))
    return {
        f"{partition.name}/lumiwatch_{partition.name}.v": verilog.partition_source(partition, logic),
        **{f"{partition.name}/{module}.v": text for module, text in modules.items()},
        f"{partition.name}/harness.cpp": verilog.harness(partition, logic),
    }


def _modules() -> dict[str, str]:
    """Read the modules that da4ml's generated Verilog instantiates, from the package."""
    spec = find_spec("da4ml.codegen.rtl")
    if spec is None or spec.origin is None:
        raise ToolchainError("da4ml is not installed: pip install da4ml")
    found = sorted((Path(spec.origin).parent / "verilog" / "source").glob("*.v"))
    return {f"da4ml/{path.name}": path.read_text() for path in found}


def _read(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.glob(pattern))}
