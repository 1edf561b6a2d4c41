"""FINN (finn-plus): estimates and HLS code of a model with narrow values, in an environment of FINN's own.

It makes no image that runs here: FINN's firmware needs Vivado, and what FINN gets is checked by executing the
exported QONNX bit by bit. Refuses to import FINN.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from hw.errors import ToolchainAbsent, ToolchainError
from hw.layout import Layout
from hw.models import Model, network_of
from hw.resources import Resources
from hw.toolchain import Image, Project, Scorer, ToolchainStatus, check_project
from hw.vendor import qonnx
from hw.vendor.finn import FinnTarget, finn_project, generated_code, read_estimate
from hw.vendor.project import run

ENVIRONMENT = "LUMIWATCH_FINN"
"""Environment variable with the folder of FINN's environment."""

_DEFAULT = Path("~/.local/share/lumiwatch/finn")
_VERSION = "from importlib.metadata import version; print(version('finn-plus'))"
_PROBE_TIMEOUT_S = 60
_BUILD_TIMEOUT_S = 3600.0
_MAKE = "deploy/finn-environment.sh"


class FinnToolchain:
    """The FINN toolchain.

    Parameters
    ----------
    environment
        Folder of FINN's environment; left out, `$LUMIWATCH_FINN` or `~/.local/share/lumiwatch/finn`.
    target
        Device, clock and throughput.
    """

    name = "finn"

    def __init__(self, environment: Path | None = None, target: FinnTarget | None = None) -> None:
        given = environment or Path(os.environ.get(ENVIRONMENT) or _DEFAULT)
        self._python = given.expanduser().absolute() / "bin" / "python"
        self._target = target or FinnTarget()

    def probe(self) -> ToolchainStatus:
        """Say whether FINN's environment is here; no image can be built in any case."""
        version = self._version()
        if version is None:
            return ToolchainStatus(False, None, f"{self._python} has no finn-plus: run {_MAKE}")
        return ToolchainStatus(
            False, version, f"finn-plus {version} gives estimates and HLS code; its firmware needs Vivado"
        )

    def layout(self, model: Model) -> Layout:
        """Give one partition whose layers are constants; FINN compiles them into the firmware.

        Raises
        ------
        ToolchainError
            When a value between stages is wider than FINN takes; the message names stage and format.
        """
        network = network_of(model)
        qonnx.check(network)
        constants = [f"{layer.name}.{kind}" for layer in network.layers for kind in ("weight", "bias")]
        return Layout(toolchain=self.name, part=self._target.part, constants=tuple(constants))

    def generate(self, model: Model, folder: Path) -> Project:
        """Write the project; it runs in FINN's environment, here or elsewhere."""
        check_project(self, model, folder)
        finn_project(network_of(model), self._target, str(self._python)).write(folder)
        return Project(folder, model)

    def estimate(self, project: Project) -> Resources:
        """Run FINN as far as estimates and generated code, and read its reports.

        Raises
        ------
        ToolchainAbsent
            When FINN's environment is not here.
        ToolchainError
            When FINN fails.
        """
        version = self._version()
        vendor = finn_project(project.network, self._target, str(self._python))
        if version is None:
            raise ToolchainAbsent(
                f"{self._python} has no finn-plus: run {_MAKE}, then in {project.folder} "
                f"`{vendor.commands[0]}` and `{vendor.commands[1]}`",
                (_MAKE, *vendor.commands),
            )
        run(vendor, project.folder, timeout_s=_BUILD_TIMEOUT_S)
        return read_estimate(project.folder, version, self._target)

    def code(self, project: Project) -> Mapping[str, bytes]:
        """Give the HLS and RTL code that `estimate` left, by node and file.

        Raises
        ------
        ToolchainError
            When there is none.
        """
        found = generated_code(project.folder)
        if not found:
            raise ToolchainError(f"{project.folder} holds no code of FINN: run estimate first")
        return found

    def build(self, project: Project) -> Image:
        """Refuse: FINN's firmware needs Vivado, and nothing of it runs here.

        Raises
        ------
        ToolchainAbsent
            Always; its commands make the stitched IP where FINN's environment, Vivado and Vitis HLS are.
        """
        python = shlex.quote(str(self._python))
        commands = (f"{python} finn_export.py", f"{python} finn_build.py vivado.json")
        raise ToolchainAbsent(
            f"FINN's firmware of {project.folder} needs Vivado and Vitis HLS: run there `{commands[0]}` and "
            f"`{commands[1]}`; for an image that runs here use another toolchain",
            commands,
        )

    def emulate(self, _parts: Mapping[str, Path], model: Model) -> Scorer:
        """Refuse: FINN makes no image.

        Raises
        ------
        ToolchainError
            Always.
        """
        raise ToolchainError(f"FINN made no image of model {model.name}: build it with another toolchain")

    def _version(self) -> str | None:
        if not self._python.is_file():
            return None
        try:
            done = subprocess.run(
                [str(self._python), "-I", "-c", _VERSION],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PROBE_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() or None if done.returncode == 0 else None
