"""Vitis AI: a model for AMD's DPU, quantised and compiled in the vendor's container.

A DPU rounds in its own way, so there is no bit-accurate image of it and none is made up. Vitis AI is found by
its program `vai_c_xir`, or by Docker with its container, and never by Python packages: PyPI's `xir` is
another one. Refuses to know boards.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw.errors import ToolchainAbsent, ToolchainError
from hw.layout import Layout
from hw.models import Model, network_of
from hw.network import FirmwareModel
from hw.resources import Resources
from hw.stages import INPUT_FORMAT
from hw.toolchain import Image, Project, Scorer, ToolchainStatus, check_project
from hw.vendor import tools
from hw.vendor.dpu import DpuTarget, docker_command, dpu_project
from hw.vendor.project import VendorProject, VendorRun, run

_PROBE_TIMEOUT_S = 60
_BUILD_TIMEOUT_S = 7200.0
_SPREAD = 2.0
_EVENTS = 512


class VitisAiToolchain:
    """The Vitis AI toolchain.

    Parameters
    ----------
    target
        The DPU; left out, that of the KV260.
    calibration
        int16, (n, n_inputs): events on which the quantiser chooses its scales. Left out, events are drawn
        around the offsets of the input stage: good enough to try the flow, not for a trigger.
    """

    name = "vitis_ai"

    def __init__(
        self, target: DpuTarget | None = None, calibration: npt.NDArray[np.int16] | None = None
    ) -> None:
        self._target = target or DpuTarget()
        self._calibration = calibration

    def probe(self) -> ToolchainStatus:
        """Say whether the compiler or its container is here, and what to do if not."""
        compiler = tools.find("vai_c_xir")
        if compiler.path is not None:
            return ToolchainStatus(True, compiler.version, compiler.reason)
        docker = tools.find("docker")
        if docker.path is None:
            return ToolchainStatus(False, None, f"{compiler.reason}; {docker.reason}")
        if not self._has_image(docker.path):
            image = self._target.image
            reason = f"{compiler.reason}; {docker.reason} has no {image}: docker pull {image}"
            return ToolchainStatus(False, None, reason)
        return ToolchainStatus(True, "unknown", f"{self._target.image} in {docker.reason}")

    def layout(self, model: Model) -> Layout:
        """Give one partition whose layers are constants of the compiled xmodel; the rest runs on the host."""
        constants = [
            f"{layer.name}.{kind}" for layer in network_of(model).layers for kind in ("weight", "bias")
        ]
        return Layout(toolchain=self.name, part=self._target.name, constants=tuple(constants))

    def generate(self, model: Model, folder: Path) -> Project:
        """Write the project: torch module, weights, quantisation and compilation scripts."""
        check_project(self, model, folder)
        self._project(network_of(model)).write(folder)
        return Project(folder, model)

    def estimate(self, project: Project) -> Resources:
        """Refuse: a DPU is as large as it is, and its latency is measured on the board.

        Raises
        ------
        ToolchainError
            Always.
        """
        raise ToolchainError(
            f"Vitis AI estimates nothing for model {project.model.name}: a DPU takes what it takes, "
            "measure its latency on the board (xdputil benchmark)"
        )

    def compile(self, project: Project) -> VendorRun:
        """Quantise and compile, in this environment or in the container.

        Returns
        -------
        VendorRun
            Its outputs are `quantise.json`, which says how many decisions changed, and the compiled xmodel.

        Raises
        ------
        ToolchainAbsent
            When neither is here; the project is complete, the error names the commands.
        ToolchainError
            When a step fails.
        """
        status = self.probe()
        vendor = self._project(project.network)
        command = docker_command(project.folder.resolve(), self._target)
        if not status.available:
            raise ToolchainAbsent(
                f"{status.reason}. The project is in {project.folder}: run `{command}`",
                (command, *vendor.commands),
            )
        if tools.find("vai_c_xir").path is None:
            vendor = replace(vendor, commands=(command,), needs=("docker",))
        return run(vendor, project.folder, timeout_s=_BUILD_TIMEOUT_S)

    def build(self, project: Project) -> Image:
        """Compile, and refuse to call the result an image.

        Raises
        ------
        ToolchainAbsent
            When Vitis AI is not here.
        ToolchainError
            Otherwise, naming the compiled file.
        """
        done = self.compile(project)
        raise ToolchainError(
            f"{', '.join(map(str, done.outputs.values()))} are made, but a DPU rounds otherwise than the "
            "model: there is no bit-accurate image, judge it by quantise.json"
        )

    def emulate(self, _parts: Mapping[str, Path], model: Model) -> Scorer:
        """Refuse: no image of a DPU runs here.

        Raises
        ------
        ToolchainError
            Always.
        """
        raise ToolchainError(f"Vitis AI made no image of model {model.name}: build it with another toolchain")

    def _project(self, model: FirmwareModel) -> VendorProject:
        events = self._calibration if self._calibration is not None else _drawn_events(model)
        return dpu_project(model, events, self._target)

    def _has_image(self, docker: str) -> bool:
        try:
            done = subprocess.run(
                [docker, "image", "inspect", self._target.image],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0


def _drawn_events(model: FirmwareModel) -> npt.NDArray[np.int16]:
    """Draw the same events every time: whole codes whose standardised values spread over a few units."""
    stage = model.input_stage
    drawn = np.random.default_rng(0).normal(0.0, _SPREAD, (_EVENTS, model.n_inputs))
    scale = np.abs(stage.scale_raw) * stage.scale_format.lsb
    codes = stage.offset_raw * stage.offset_format.lsb + drawn / np.maximum(scale, stage.scale_format.lsb)
    limited = np.clip(np.rint(codes), INPUT_FORMAT.raw_minimum, INPUT_FORMAT.raw_maximum)
    return np.asarray(limited.astype(np.int16))
