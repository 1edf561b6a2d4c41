"""hls4ml (Vitis backend): a firmware whose weights are arguments of its top function, built for C simulation.

Knows hls4ml and a C++ compiler; refuses to know parameter values: the sources depend on the structure alone.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np

from hw.chain import BoundChain, ImageChain
from hw.errors import CompilerMissing, ToolchainError
from hw.fixed_point import FixedFormat
from hw.layout import Layout
from hw.models import Model, network_of
from hw.network import FirmwareModel
from hw.resources import Resources
from hw.toolchain import Image, Project, ToolchainStatus, check_project
from hw.toolchains import sources

_log = logging.getLogger(__name__)

_PART, _CLOCK_NS = "xcvu13p-flga2577-2-e", 2.5
_BUILD_TIMEOUT_S = 600
_FLAGS = (
    "-std=c++17", "-O3", "-w", "-DNDEBUG", "-fPIC", "-shared", "-fno-gnu-unique", "-fvisibility=hidden",
    "-s", "-Wl,--build-id=none", "-Wl,-Bsymbolic", "-Ifirmware", "-Ifirmware/ap_types",
)  # fmt: skip

_VOLATILE_METHOD = re.compile(r"  INLINE void clearUnusedBits\(void\) volatile\n")
_PLAIN_METHOD = """\
  INLINE void clearUnusedBits(void) {
    enum { excess_bits = (_AP_W % 64) ? 64 - _AP_W % 64 : 0 };
    VAL = (ValType)(_AP_S ? ((((int64_t)VAL) << (excess_bits)) >> (excess_bits))
                          : (int64_t)((((uint64_t)VAL) << (excess_bits)) >> (excess_bits)));
  }
"""

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
            version = installed_version("hls4ml")
        except PackageNotFoundError:
            return ToolchainStatus(False, None, "hls4ml is not installed: pip install hls4ml")
        try:
            compiler = self._find_compiler()
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
        _write_network(network, folder)
        firmware = folder / "firmware"
        (firmware / f"{sources.TOP}.h").write_text(sources.top_header(network))
        (firmware / f"{sources.TOP}.cpp").write_text(sources.top_source(network))
        (firmware / "lumiwatch_csim.cpp").write_text(sources.csim_source(network))
        _let_compilers_optimise(firmware / "ap_types" / "etc" / "ap_private.h")
        return Project(folder, model)

    def estimate(self, project: Project) -> Resources:
        """Count multipliers: hls4ml knows more only after Vitis HLS has synthesised the project."""
        model = project.network
        products = model.n_inputs + sum(layer.n_in * layer.n_out for layer in model.layers)
        squares = model.layers[-1].n_out if model.score_stage.kind == "sum_of_squares" else 0
        return Resources(
            source="estimate",
            tool=f"hls4ml {installed_version('hls4ml')}",
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
        compiler = self._find_compiler()
        command = [
            compiler,
            *_FLAGS,
            "-MMD",
            "-MF",
            "image.d",
            "firmware/lumiwatch_csim.cpp",
            "-o",
            "image.so",
        ]
        started = time.monotonic()
        try:
            done = subprocess.run(
                command,
                cwd=project.folder,
                capture_output=True,
                text=True,
                timeout=_BUILD_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ToolchainError(
                f"{compiler} needs more than {_BUILD_TIMEOUT_S} s: use a smaller model"
            ) from error
        if done.returncode != 0:
            (project.folder / "compiler.log").write_text(done.stderr)
            first = next((line for line in done.stderr.splitlines() if "error" in line), "no message")
            raise ToolchainError(f"{compiler} failed ({first}): see {project.folder / 'compiler.log'}")
        path = project.folder / "image.so"
        return Image(
            parts={"p0": path},
            seconds=time.monotonic() - started,
            sources=_used_sources(project),
            resources=(self.estimate(project),),
        )

    def emulate(self, parts: Mapping[str, Path], model: Model) -> BoundChain:
        """Give the compiled image with the model's parameters in its memory."""
        return ImageChain(parts, model).bind(model.memory())

    def _find_compiler(self) -> str:
        for candidate in (self._compiler,) if self._compiler else (os.environ.get("CXX"), "g++", "c++"):
            if candidate and (found := shutil.which(candidate)):
                return found
        raise CompilerMissing("no C++ compiler: install g++ (e.g. apt install g++) or set CXX")


def _write_network(model: FirmwareModel, folder: Path) -> None:
    try:
        # imported here: it takes a while, and a board or a probe does not need it
        from hls4ml.model.graph import ModelGraph  # noqa: PLC0415
    except ImportError as error:
        raise ToolchainError(f"hls4ml cannot be imported ({error}): pip install hls4ml") from error
    layers, names = _layers(model)
    configuration = {
        "OutputDir": str(folder),
        "ProjectName": sources.NETWORK,
        "Backend": "Vitis",
        "Part": _PART,
        "ClockPeriod": _CLOCK_NS,
        "ClockUncertainty": "12.5%",
        "IOType": "io_parallel",
        "WriterOptions": {"WriteTar": False},
        "HLSConfig": {
            "Model": {
                "Precision": str(model.input_stage.result_format),
                "ReuseFactor": 1,
                "Strategy": "Latency",
                "BramFactor": 0,  # weights of any size become arguments of the top function
            },
            "LayerName": names,
        },
    }
    try:
        ModelGraph.from_layer_list(configuration, layers).write()
    except Exception as error:  # hls4ml raises bare exceptions of any kind
        raise ToolchainError(
            f"hls4ml cannot convert model {model.name} ({error}): simplify the model"
        ) from error


def _layers(model: FirmwareModel) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Describe the layers, and the precision of each, in hls4ml's terms."""
    layers: list[dict[str, Any]] = [
        {"name": "standardised", "class_name": "InputLayer", "input_shape": [model.n_inputs]}
    ]
    names: dict[str, Any] = {"standardised": {"Precision": {"result": str(model.input_stage.result_format)}}}
    source = model.input_stage.result_format
    for layer in model.layers:
        layers.append(
            {
                "name": layer.name,
                "class_name": "Dense",
                "n_in": layer.n_in,
                "n_out": layer.n_out,
                "use_bias": True,
                "weight_data": _placeholder((layer.n_in, layer.n_out), layer.weight_format),
                "bias_data": _placeholder((layer.n_out,), layer.bias_format),
            }
        )
        names[layer.name] = {
            "Strategy": "Latency",
            "ReuseFactor": 1,
            "Precision": {
                "weight": str(layer.weight_format),
                "bias": str(layer.bias_format),
                "accum": str(layer.accumulator_format(source)),
                "result": str(layer.result_format),
            },
        }
        if layer.activation == "relu":
            name = f"{layer.name}_relu"
            layers.append(
                {"name": name, "class_name": "Activation", "activation": "relu", "n_in": layer.n_out}
            )
            names[name] = {"ReuseFactor": 1, "Precision": {"result": str(layer.result_format)}}
        source = layer.result_format
    return layers, names


def _placeholder(shape: tuple[int, ...], fmt: FixedFormat) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Give values without a zero, so that no parameter value (such as its sparsity) enters the sources."""
    return np.full(shape, fmt.lsb)


def _let_compilers_optimise(header: Path) -> None:
    """Overload the method whose `volatile` forces every intermediate into memory: ten times faster."""
    text = header.read_text()
    changed, count = _VOLATILE_METHOD.subn(lambda match: _PLAIN_METHOD + match[0], text, count=1)
    if not count:
        _log.warning("%s has changed: the C simulation will be slow", header.name)
    header.write_text(changed)


def _used_sources(project: Project) -> dict[str, bytes]:
    """Collect the sources the compiler read from the project, without the ap_types headers."""
    firmware = (project.folder / "firmware").resolve()
    words = (project.folder / "image.d").read_text().replace("\\\n", " ").split()
    found: dict[str, bytes] = {}
    for word in words:
        path = (project.folder / word).resolve()
        if (
            path.is_file()
            and path.is_relative_to(firmware)
            and not path.is_relative_to(firmware / "ap_types")
        ):
            found[path.relative_to(firmware).as_posix()] = path.read_bytes()
    note = _NOTE.format(structure=project.model.structure_hash, version=installed_version("hls4ml"))
    return {**found, "README.txt": note.encode()}
