"""What the hls4ml toolchains share: a model in hls4ml's terms, its writer, and the C simulation's compiler.

Refuses to know which backend writes, and what lumiwatch puts around the network.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import subprocess
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.errors import ToolchainError
from hw.fixed_point import FixedFormat, to_float
from hw.network import FirmwareModel

_log = logging.getLogger(__name__)

FLAGS = (
    "-std=c++17", "-O3", "-w", "-DNDEBUG", "-fPIC", "-shared", "-fno-gnu-unique", "-fvisibility=hidden",
    "-s", "-Wl,--build-id=none", "-Wl,-Bsymbolic", "-Ifirmware",
)  # fmt: skip
"""Of every C simulation; a backend adds where its number types are."""

CSIM = "firmware/lumiwatch_csim.cpp"
"""The one file that is compiled; it includes all others."""

_BUILD_TIMEOUT_S = 600

_VOLATILE_METHOD = re.compile(r"  INLINE void clearUnusedBits\(void\) volatile\n")
_PLAIN_METHOD = """\
  INLINE void clearUnusedBits(void) {
    enum { excess_bits = (_AP_W % 64) ? 64 - _AP_W % 64 : 0 };
    VAL = (ValType)(_AP_S ? ((((int64_t)VAL) << (excess_bits)) >> (excess_bits))
                          : (int64_t)((((uint64_t)VAL) << (excess_bits)) >> (excess_bits)));
  }
"""


def version() -> str:
    """Give hls4ml's version; raises `PackageNotFoundError` without it."""
    return installed_version("hls4ml")


def write_network(model: FirmwareModel, settings: dict[str, Any], *, constants: bool) -> None:
    """Let hls4ml write a model's layers as C++.

    Parameters
    ----------
    model
        The model.
    settings
        hls4ml's configuration, with backend and folder, without the layers; `HLSConfig.Model` may be there.
    constants
        Whether the parameter values are in the sources; otherwise placeholders are.

    Raises
    ------
    ToolchainError
        When hls4ml is not here or fails.
    """
    try:
        # imported here: it takes a while, and a board or a probe does not need it
        from hls4ml.model.graph import ModelGraph  # noqa: PLC0415
    except ImportError as error:
        raise ToolchainError(f"hls4ml cannot be imported ({error}): pip install hls4ml") from error
    layers, names = _layers(model, constants)
    defaults = {
        "Precision": str(model.input_stage.result_format),
        "ReuseFactor": 1,
        "Strategy": "Latency",
        **settings.get("HLSConfig", {}).get("Model", {}),
    }
    configuration = {
        "IOType": "io_parallel",
        **settings,
        "HLSConfig": {"Model": defaults, "LayerName": names},
    }
    try:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            ModelGraph.from_layer_list(configuration, layers).write()
    except Exception as error:  # hls4ml raises bare exceptions of any kind
        raise ToolchainError(
            f"hls4ml cannot convert model {model.name} ({error}): simplify the model"
        ) from error
    _log.debug("hls4ml: %s", said.getvalue())


def _layers(model: FirmwareModel, constants: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Describe the layers, and the precision of each, in hls4ml's terms."""

    def values(raw: npt.NDArray[np.int64], fmt: FixedFormat) -> npt.NDArray[np.float64]:
        # placeholders have no zero, so that no parameter value (such as its sparsity) enters the sources
        return to_float(raw, fmt) if constants else np.full(raw.shape, fmt.lsb)

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
                "weight_data": values(layer.weight_raw, layer.weight_format),
                "bias_data": values(layer.bias_raw, layer.bias_format),
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


def let_compilers_optimise(header: Path) -> None:
    """Overload the method whose `volatile` forces every intermediate into memory: ten times faster.

    Parameters
    ----------
    header
        `ap_private.h` of hls4ml's `ap_types`.
    """
    text = header.read_text()
    changed, count = _VOLATILE_METHOD.subn(lambda match: _PLAIN_METHOD + match[0], text, count=1)
    if not count:
        _log.warning("%s has changed: the C simulation will be slow", header.name)
    header.write_text(changed)


def compile_csim(compiler: str, folder: Path, flags: tuple[str, ...]) -> Path:
    """Compile `CSIM` into `image.so`, and list what it read in `image.d`.

    Parameters
    ----------
    compiler
        The C++ compiler.
    folder
        The project's; all paths in the command are relative to it.
    flags
        The compiler's.

    Raises
    ------
    ToolchainError
        When compiling fails or takes longer than ten minutes.
    """
    command = [compiler, *flags, "-MMD", "-MF", "image.d", CSIM, "-o", "image.so"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
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
        (folder / "compiler.log").write_text(done.stderr)
        first = next((line for line in done.stderr.splitlines() if "error" in line), "no message")
        raise ToolchainError(f"{compiler} failed ({first}): see {folder / 'compiler.log'}")
    return folder / "image.so"


def used_sources(folder: Path, number_types: tuple[str, ...]) -> dict[str, bytes]:
    """Collect the sources the compiler read from a project, by path.

    Parameters
    ----------
    folder
        The project's, with an `image.d`.
    number_types
        Folders to leave out: headers that come with the vendor's tool.
    """
    firmware = (folder / "firmware").resolve()
    without = [firmware / name for name in number_types]
    words = (folder / "image.d").read_text().replace("\\\n", " ").split()
    found: dict[str, bytes] = {}
    for word in words:
        path = (folder / word).resolve()
        if (
            path.is_file()
            and path.is_relative_to(firmware)
            and not any(path.is_relative_to(place) for place in without)
        ):
            found[path.relative_to(firmware).as_posix()] = path.read_bytes()
    return found
