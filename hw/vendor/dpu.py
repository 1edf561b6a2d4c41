"""The Vitis AI project of a firmware model: torch module, weights, quantisation and compilation for a DPU.

A DPU computes with eight bits and powers of two of its own choice, so what it gives is near the model and not
equal to it. The quantiser lives in AMD's container alone. Refuses to know how a DPU is loaded.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.archive import npy_bytes, zip_bytes
from hw.errors import ToolchainError
from hw.fixed_point import to_float
from hw.network import FirmwareModel
from hw.vendor.project import VendorProject
from hw.vendor.templates import template

IMAGE = "xilinx/vitis-ai-pytorch-cpu:latest"
"""The container with vai_q_pytorch and vai_c_xir."""

_ARCHITECTURES = "/opt/vitis_ai/compiler/arch"
_TARGET = re.compile(r"DPU[A-Z0-9]+/[A-Za-z0-9_]+")

_RUN = """\
#!/usr/bin/env bash
# Runs inside {image}, in the folder of this file.
set -euo pipefail
source /opt/vitis_ai/conda/etc/profile.d/conda.sh
conda activate vitis-ai-pytorch
{commands}
"""

_README = """\
Vitis AI for model {name}, weights {weights}.

model.py, weights.npz   the network with real numbers; standardise() and score() run on the host
quantise.py             eight bits with vai_q_pytorch, calibrated on calibration.npz
run.sh                  all steps, inside the container:

{docker}

compiled/{name}.xmodel runs on a DPU {target} with VART. A DPU rounds otherwise than the firmware
model: judge it by quantise.json (how many decisions changed), and never bit by bit.
"""


@dataclass(frozen=True, slots=True)
class DpuTarget:
    """The DPU to compile for.

    Parameters
    ----------
    name
        Architecture and board as in the container's folder of them, e.g. `DPUCZDX8G/KV260`.
    image
        The container.
    """

    name: str = "DPUCZDX8G/KV260"
    image: str = IMAGE

    def __post_init__(self) -> None:
        if not _TARGET.fullmatch(self.name):
            raise ToolchainError(f"{self.name!r} is no DPU: write e.g. DPUCZDX8G/KV260")
        if not re.fullmatch(r"[a-z0-9][\w./:-]*", self.image):
            raise ToolchainError(f"{self.image!r} is no name of a container image")

    @property
    def architecture(self) -> str:
        """Path of its description inside the container."""
        return f"{_ARCHITECTURES}/{self.name}/arch.json"


def dpu_project(model: FirmwareModel, calibration: npt.NDArray[np.int16], target: DpuTarget) -> VendorProject:
    """Give the project; its commands run inside the container.

    Parameters
    ----------
    model
        With its parameters.
    calibration
        int16, (n, n_inputs), n >= 1: events on which the quantiser chooses its scales; some hundreds.
    target
        The DPU.

    Raises
    ------
    ToolchainError
        When the events do not fit the model.
    """
    if calibration.ndim != 2 or calibration.shape[1] != model.n_inputs or not len(calibration):
        raise ToolchainError(
            f"calibration events have the shape {calibration.shape}, model {model.name} takes "
            f"(n, {model.n_inputs}): give some hundreds of its dataset"
        )
    name = re.sub(r"\W", "_", model.name)
    commands = (
        "python quantise.py calib calibration.npz",
        "python quantise.py test calibration.npz",
        "python quantise.py deploy calibration.npz",
        f"vai_c_xir -x quantize_result/Network_int.xmodel -a {target.architecture} -o compiled -n {name}",
    )
    readme = _README.format(
        name=name,
        weights=model.weights_hash,
        target=target.name,
        docker=docker_command(Path("FOLDER"), target),
    )
    return VendorProject(
        tool="Vitis AI",
        files={
            "README.txt": readme.encode(),
            "calibration.npz": zip_bytes({"inputs.npy": npy_bytes(calibration)}),
            "model.py": template("dpu_model.py.in"),
            "quantise.py": template("dpu_quantise.py.in"),
            "run.sh": _RUN.format(image=target.image, commands="\n".join(commands)).encode(),
            "weights.npz": weights_bytes(model),
        },
        commands=commands,
        needs=("vai_c_xir", "python"),
        outputs=("quantise.json", f"compiled/{name}.xmodel"),
    )


def docker_command(folder: Path, target: DpuTarget) -> str:
    """Give the command that runs a written project in the container, from anywhere."""
    where = shlex.quote(f"{folder}:/workspace")
    return f"docker run --rm --volume {where} --workdir /workspace {target.image} bash run.sh"


def weights_bytes(model: FirmwareModel) -> bytes:
    """Write the parameters as real numbers: a reproducible NPZ that `model.py` reads."""
    stage, score = model.input_stage, model.score_stage
    result = stage.result_format
    arrays: dict[str, npt.NDArray[np.float64]] = {
        "input.offset": to_float(stage.offset_raw, stage.offset_format),
        "input.scale": to_float(stage.scale_raw, stage.scale_format),
    }
    layers: list[dict[str, Any]] = []
    for layer in model.layers:
        arrays[f"{layer.name}.weight"] = to_float(layer.weight_raw, layer.weight_format)
        arrays[f"{layer.name}.bias"] = to_float(layer.bias_raw, layer.bias_format)
        layers.append(
            {"name": layer.name, "n_in": layer.n_in, "n_out": layer.n_out, "activation": layer.activation}
        )
    network = {
        "layers": layers,
        "score": score.kind,
        "output": score.output,
        "threshold": score.threshold_raw * score.result_format.lsb,
        "standardised_range": [result.raw_minimum * result.lsb, result.raw_maximum * result.lsb],
    }
    text = np.frombuffer(json.dumps(network, sort_keys=True).encode(), dtype=np.uint8)
    content = {f"{name}.npy": npy_bytes(values) for name, values in arrays.items()}
    return zip_bytes({"network.npy": npy_bytes(text), **content})
