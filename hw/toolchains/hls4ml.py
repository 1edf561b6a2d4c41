"""hls4ml (Vitis backend): a firmware whose weights are arguments of its top function, built for C simulation.

Knows hls4ml and a C++ compiler; refuses to know parameter values: the sources depend on the structure alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from hw.chain import BoundChain, ImageChain
from hw.errors import CompilerMissing
from hw.layout import Layout
from hw.models import Model, network_of
from hw.resources import Resources
from hw.toolchain import Image, Project, ToolchainStatus, check_project
from hw.toolchains import hls4ml_project, sources
from hw.verilator import find_compiler

_PART, _CLOCK_NS = "xcvu13p-flga2577-2-e", 2.5
_NUMBER_TYPES = "ap_types"

_NOTE = """\
The sources of this firmware, structure {structure}.

lumiwatch_top.cpp   input stage, network and score stage; synthesise this function
lumiwatch_network.* written by hls4ml {version} (Vitis backend, io_parallel, weights as arguments)
lumiwatch_csim.cpp  entry of the C simulation that image.so was compiled from
nnet_utils/         headers of hls4ml {version} (Apache-2.0) that these files include

ap_fixed.h and ap_int.h come with Vitis HLS; for the C simulation they are the ap_types of hls4ml {version}
(Apache-2.0), with one non-volatile overload of ap_private::clearUnusedBits so that compilers can optimise.
"""


class Hls4mlToolchain:
    """The hls4ml toolchain.

    Parameters
    ----------
    compiler
        The C++ compiler; left out, `$CXX`, `g++` or `c++`.
    """

    name = "hls4ml"

    def __init__(self, compiler: str | None = None) -> None:
        self._compiler = compiler

    def probe(self) -> ToolchainStatus:
        """Say whether hls4ml and a compiler are here."""
        try:
            version = hls4ml_project.version()
        except PackageNotFoundError:
            return ToolchainStatus(False, None, "hls4ml is not installed: pip install hls4ml")
        try:
            compiler = find_compiler(self._compiler)
        except CompilerMissing as error:
            return ToolchainStatus(False, version, str(error))
        return ToolchainStatus(True, version, f"hls4ml {version}, compiler {compiler}")

    def layout(self, model: Model) -> Layout:
        """Give one partition and no constants: every parameter is an argument of the top function.

        Raises
        ------
        ModelError
            When it is no network.
        """
        network_of(model)
        return Layout(toolchain=self.name, part=_PART)

    def generate(self, model: Model, folder: Path) -> Project:
        """Write the firmware sources of a model's structure.

        Parameters
        ----------
        model
            With this toolchain's layout; its parameter values are not used.
        folder
            New or empty.

        Raises
        ------
        ToolchainError
            When the folder is not empty or hls4ml fails.
        """
        check_project(self, model, folder)
        network = network_of(model)
        settings = {
            "OutputDir": str(folder),
            "ProjectName": sources.NETWORK,
            "Backend": "Vitis",
            "Part": _PART,
            "ClockPeriod": _CLOCK_NS,
            "ClockUncertainty": "12.5%",
            "WriterOptions": {"WriteTar": False},
            # weights of any size become arguments of the top function
            "HLSConfig": {"Model": {"BramFactor": 0}},
        }
        hls4ml_project.write_network(network, settings, constants=False)
        firmware = folder / "firmware"
        (firmware / f"{sources.TOP}.h").write_text(sources.top_header(network))
        (firmware / f"{sources.TOP}.cpp").write_text(sources.top_source(network))
        (firmware / "lumiwatch_csim.cpp").write_text(sources.csim_source(network))
        hls4ml_project.let_compilers_optimise(firmware / _NUMBER_TYPES / "etc" / "ap_private.h")
        return Project(folder, model)

    def estimate(self, project: Project) -> Resources:
        """Count multipliers: hls4ml knows more only after Vitis HLS has synthesised the project."""
        model = project.network
        products = model.n_inputs + sum(layer.n_in * layer.n_out for layer in model.layers)
        squares = model.layers[-1].n_out if model.score_stage.kind == "sum_of_squares" else 0
        return Resources(
            source="estimate",
            tool=f"hls4ml {hls4ml_project.version()}",
            dsps=products + squares,
            clock_mhz=1e3 / _CLOCK_NS,
            interval_cycles=1,
            note="one multiplier per product at reuse factor 1; Vitis HLS may put narrow ones into LUTs",
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
        flags = (*hls4ml_project.FLAGS, f"-Ifirmware/{_NUMBER_TYPES}")
        path = hls4ml_project.compile_csim(compiler, project.folder, flags)
        note = _NOTE.format(structure=project.model.structure_hash, version=hls4ml_project.version())
        used = hls4ml_project.used_sources(project.folder, (_NUMBER_TYPES,))
        return Image(
            parts={"p0": path},
            seconds=time.monotonic() - started,
            sources={**used, "README.txt": note.encode()},
            resources=(self.estimate(project),),
        )

    def emulate(self, parts: Mapping[str, Path], model: Model) -> BoundChain:
        """Give the compiled image with the model's parameters in its memory."""
        return ImageChain(parts, model).bind(model.memory())
