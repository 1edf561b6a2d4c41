"""The FINN project of a firmware model: its layers, scripts for FINN's environment, and what its reports say.

FINN lives in an environment of its own (gigabytes, and its brevitas needs another torch), which
`deploy/finn-environment.sh` makes. Refuses to import FINN.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.errors import ToolchainError
from hw.network import FirmwareModel
from hw.resources import Resources
from hw.vendor.project import VendorProject
from hw.vendor.qonnx import network_bytes
from hw.vendor.templates import template

REPORTS = "build/report"
_CODE = "build/code"
_REPORT_FILES = ("estimate_network_performance.json", "estimate_layer_resources.json")
_CODE_SUFFIXES = (".cpp", ".h", ".hpp", ".tcl", ".v", ".sv", ".dat")
_RANDOM = re.compile(r"^code_gen_(?:ipgen|cppsim)_(?P<node>\w+)_[a-z0-9_]{8}$")
_PACKAGES = re.compile(rb"/[^\s\"]*/site-packages/finn")
_ESTIMATE_STEPS = (
    "step_qonnx_to_finn", "step_tidy_up", "step_streamline", "step_convert_to_hw",
    "step_minimize_bit_width_initial", "step_create_dataflow_partition", "step_specialize_layers",
    "step_target_fps_parallelization", "step_apply_folding_config", "step_minimize_bit_width",
    "step_generate_estimate_reports",
)  # fmt: skip
_VIVADO_STEPS = (
    "step_transpose_decomposition", "step_generate_hardware", "step_create_stitched_ip",
    "step_measure_rtlsim_performance", "step_out_of_context_synthesis",
)  # fmt: skip

_README = """\
The layers of structure {structure} for FINN
(finn-plus). They take the results of the input stage, raw integers in {source}, and give the raw
results of the last layer; input and score stage stay outside.

PYTHON finn_export.py               writes model.onnx
PYTHON finn_build.py build.json     estimates and generated code, without a vendor's tool
PYTHON finn_build.py vivado.json    stitched IP, simulation and synthesis; needs Vivado and Vitis HLS

PYTHON is the interpreter of FINN's environment: deploy/finn-environment.sh makes it.
"""


@dataclass(frozen=True, slots=True)
class FinnTarget:
    """What FINN builds for.

    Parameters
    ----------
    part
        The device.
    clock_ns
        Clock period.
    events_per_s
        Throughput at which FINN stops to make layers parallel.
    """

    part: str = "xcvu13p-flga2577-2-e"
    clock_ns: float = 5.0
    events_per_s: int = 1_000_000


def finn_project(model: FirmwareModel, target: FinnTarget, python: str = "python") -> VendorProject:
    """Give the project.

    Parameters
    ----------
    model
        With values of at most eight bits between its stages.
    target
        Device, clock and throughput.
    python
        Interpreter of FINN's environment.

    Raises
    ------
    ToolchainError
        When FINN cannot hold the model; the message names stage and format.
    """
    common = {
        "synth_clk_period_ns": target.clock_ns,
        "fpga_part": target.part,
        "target_fps": target.events_per_s,
    }
    estimate = {
        **common,
        "output_dir": "build",
        "generate_outputs": ["estimate_reports"],
        "steps": [*_ESTIMATE_STEPS, "step_hw_codegen"],
    }
    vivado = {
        **common,
        "output_dir": "vivado",
        "generate_outputs": ["estimate_reports", "stitched_ip", "rtlsim_performance", "out_of_context_synth"],
        "steps": [*_ESTIMATE_STEPS, *_VIVADO_STEPS],
    }
    command = shlex.quote(python)
    readme = _README.format(structure=model.structure_hash, source=model.input_stage.result_format)
    return VendorProject(
        tool="FINN",
        files={
            "README.txt": readme.encode(),
            "build.json": _json(estimate),
            "finn_build.py": template("finn_build.py.in"),
            "finn_export.py": template("finn_export.py.in"),
            "network.npz": network_bytes(model),
            "vivado.json": _json(vivado),
        },
        commands=(f"{command} finn_export.py", f"{command} finn_build.py build.json"),
        needs=(python,),
        outputs=("model.onnx", *(f"{REPORTS}/{name}" for name in _REPORT_FILES)),
    )


def read_estimate(folder: Path, version: str, target: FinnTarget) -> Resources:
    """Read what FINN estimated.

    Parameters
    ----------
    folder
        A project that has been run.
    version
        Of finn-plus.
    target
        What it was run for.

    Raises
    ------
    ToolchainError
        When the reports are missing or say something else than expected.
    """
    performance, resources = (_report(folder / REPORTS / name) for name in _REPORT_FILES)
    try:
        total = resources["total"]
        return Resources(
            source="estimate",
            tool=f"finn-plus {version}",
            luts=round(total["LUT"]),
            dsps=round(total["DSP"]),
            brams=round(total["BRAM_18K"]),
            clock_mhz=1e3 / target.clock_ns,
            latency_cycles=round(performance["critical_path_cycles"]),
            interval_cycles=round(performance["max_cycles"]),
            note=f"layers alone, for {target.part}; block RAMs of 18 Kb; the clock is the one asked for",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ToolchainError(f"{folder / REPORTS} is not FINN's ({error!r}): use finn-plus 1.6") from error


def generated_code(folder: Path) -> dict[str, bytes]:
    """Collect the HLS and RTL code of every node, by node and file, without the paths of this machine.

    Where FINN wrote a path, `NODE` stands for the node's folder and `FINN` for the environment's packages.
    """
    found: dict[str, bytes] = {}
    for path in sorted((folder / _CODE).glob("code_gen_*/*")):
        match = _RANDOM.match(path.parent.name)
        if match and path.suffix in _CODE_SUFFIXES:
            content = path.read_bytes().replace(str(path.parent).encode(), b"NODE")
            found[f"{match['node']}/{path.name}"] = _PACKAGES.sub(b"FINN", content)
    return found


def _report(path: Path) -> Mapping[str, Any]:
    try:
        content: Mapping[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ToolchainError(
            f"FINN's report {path} cannot be read ({error}): run the project again"
        ) from error
    return content


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
