"""lumiwatch's own engine: SystemVerilog with every parameter in run-time memory, simulated with Verilator.

The default toolchain: new parameters never need a new image. Knows Verilator, Yosys and a C++ compiler;
refuses to know parameter values.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hw.chain import BoundChain, ImageChain
from hw.errors import HardwareError, ToolchainError
from hw.layout import Layout, Partition
from hw.models import Model, network_of
from hw.network import FirmwareModel
from hw.resources import Resources
from hw.rtl import parameters, sources, timing
from hw.rtl.partition import module_name
from hw.rtl.shell import SHELL
from hw.toolchain import Image, Project, ToolchainStatus, check_project
from hw.verilator import compile_verilog, find_compiler, find_verilator
from hw.yosys import synthesise

_NOTE = """\
The sources of this firmware, structure {structure}.

rtl/lumiwatch_shell.sv  the static part; synthesise this module
rtl/lumiwatch_pN.sv     one partition, between edges of the declared formats
rtl/*.sv                the stages that they instantiate
simulation/pN.cpp       what drives partition N in the simulation that its image was compiled from
memory_map.json         where every parameter is on the shell's bus

Clock cycles: {latency} from the first code of an event to its score, {interval} between events. The ports and
the bus are described in docs/rtl.md.
"""


class RtlToolchain:
    """The toolchain of lumiwatch's own engine.

    Parameters
    ----------
    reuse
        Clocks that a layer spends on one input: a layer of n outputs has n / `reuse` multipliers, rounded up.
    compiler
        The C++ compiler; left out, `$CXX`, `g++` or `c++`.

    Raises
    ------
    ToolchainError
        When `reuse` is below 1.
    """

    name = "lumiwatch-rtl"

    def __init__(self, reuse: int = 1, compiler: str | None = None) -> None:
        if reuse < 1:
            raise ToolchainError(f"a reuse of {reuse} is impossible: 1 means a multiplier per output")
        self._reuse = reuse
        self._compiler = compiler

    def probe(self) -> ToolchainStatus:
        """Say whether Verilator and a compiler are here."""
        try:
            verilator = find_verilator()
        except HardwareError as error:
            return ToolchainStatus(False, None, str(error))
        try:
            compiler = find_compiler(self._compiler)
        except HardwareError as error:
            return ToolchainStatus(False, verilator.version, str(error))
        return ToolchainStatus(True, verilator.version, f"Verilator {verilator.version}, compiler {compiler}")

    def layout(self, model: Model) -> Layout:
        """Hold all parameters in memory, in two partitions of about as many layers.

        A model that already has a layout of this toolchain keeps its partitions.

        Raises
        ------
        ModelError
            When it is no network.
        ToolchainError
            When a result is too far from what it is rounded from; the message names the stage.
        """
        network = network_of(model)
        _check(network)
        half = len(network.layers) // 2
        cuts: tuple[int, ...] = (half,) if half else ()
        if network.layout.toolchain == self.name:
            cuts = network.layout.cuts
        return Layout(toolchain=self.name, part=network.layout.part, cuts=cuts)

    def generate(self, model: Model, folder: Path) -> Project:
        """Write the Verilog of a model's structure.

        Parameters
        ----------
        model
            With this toolchain's layout. Its parameter values are not used.
        folder
            New or empty.

        Raises
        ------
        ToolchainError
            When the folder is not empty, the layout is another one or a partition is too large.
        """
        check_project(self, model, folder)
        network = network_of(model)
        note = _NOTE.format(
            structure=network.structure_hash,
            latency=timing.firmware_latency_cycles(network, self._reuse),
            interval=timing.firmware_interval_cycles(network, self._reuse),
        )
        for name, text in {**sources.project_files(network, self._reuse), "README.txt": note}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return Project(folder, network)

    def build(self, project: Project) -> Image:
        """Compile the simulation of every partition.

        Raises
        ------
        CompilerMissing, ToolchainAbsent
            When there is no C++ compiler or no Verilator.
        ToolchainError
            When compiling fails or takes longer than ten minutes.
        """
        started = time.monotonic()
        partitions = project.network.partitions()
        with ThreadPoolExecutor(2) as pool:
            paths = list(pool.map(lambda partition: self._compile(project, partition), partitions))
        return Image(
            parts={p.name: path for p, path in zip(partitions, paths, strict=True)},
            seconds=time.monotonic() - started,
            sources=_files(project),
            resources=(_counted(project.network, _reuse(project)),),
        )

    def estimate(self, project: Project) -> Resources:
        """Synthesise the firmware with Yosys and count what it takes; the clocks are exact.

        Raises
        ------
        ToolchainAbsent
            When there is no Yosys.
        ToolchainError
            When synthesis fails or takes longer than ten minutes.
        """
        model, reuse = project.network, _reuse(project)
        verilog = {path: text for path, text in _files(project).items() if path.endswith(".sv")}
        return synthesise(verilog, SHELL, model.layout.part).model_copy(
            update={
                "latency_cycles": timing.firmware_latency_cycles(model, reuse),
                "interval_cycles": timing.firmware_interval_cycles(model, reuse),
            }
        )

    def emulate(self, parts: Mapping[str, Path], model: Model) -> BoundChain:
        """Give the images with the model's parameters in their memories."""
        return ImageChain(parts, model).bind(model.memory())

    def _compile(self, project: Project, partition: Partition) -> Path:
        files = _files(project)
        others = {
            f"rtl/{module_name(p)}.sv" for p in project.network.partitions() if p.name != partition.name
        }
        others.add(f"rtl/{SHELL}.sv")
        verilog = {path: text for path, text in files.items() if path.endswith(".sv") and path not in others}
        return compile_verilog(
            verilog,
            files[f"simulation/{partition.name}.cpp"].decode(),
            module_name(partition),
            project.folder / "image" / f"{partition.name}.so",
            compiler=self._compiler,
        )


def _counted(model: FirmwareModel, reuse: int) -> Resources:
    """Give what is known without synthesis."""
    lanes = [-(-layer.n_out // min(reuse, layer.n_out)) for layer in model.layers]
    square = int(model.score_stage.kind == "sum_of_squares")
    return Resources(
        source="estimate",
        tool="lumiwatch-rtl",
        dsps=1 + sum(lanes) + square,
        latency_cycles=timing.firmware_latency_cycles(model, reuse),
        interval_cycles=timing.firmware_interval_cycles(model, reuse),
        note="multipliers of any width; the cycles are exact",
    )


def _check(model: FirmwareModel) -> None:
    for partition in model.partitions():
        parameters.check(partition)


def _files(project: Project) -> dict[str, bytes]:
    """Read the sources, in the order of their paths."""
    found = sorted(path for path in project.folder.rglob("*") if path.is_file() and path.suffix != ".so")
    if not found:
        raise ToolchainError(f"{project.folder} holds no firmware sources: generate them")
    return {path.relative_to(project.folder).as_posix(): path.read_bytes() for path in found}


def _reuse(project: Project) -> int:
    path = project.folder / sources.MEMORY_MAP
    try:
        return int(json.loads(path.read_text())["reuse"])
    except (OSError, ValueError, KeyError) as error:
        raise ToolchainError(
            f"{path} does not say the reuse ({error}): generate the sources again"
        ) from error
