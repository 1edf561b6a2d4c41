"""conifer: boosted trees as C++, which an image is compiled from, and as VHDL for the device.

The trees are constants of the firmware; the threshold of the decision stays in run-time memory. Refuses to
know how trees are trained; dense networks are for other toolchains.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.chain import BoundChain, ImageChain
from hw.errors import CompilerMissing, ToolchainError
from hw.layout import Layout
from hw.models import Model
from hw.resources import Resources
from hw.toolchain import Image, Project, ToolchainStatus, check_project
from hw.toolchains import conifer_cpp as cpp
from hw.toolchains import conifer_vhdl as vhdl
from hw.trees import LEAF, TreeModel
from hw.verilator import find_compiler

_PART = "xcvu13p-flga2577-2-e"
_MAXIMUM_DEPTH = 10
"""conifer's VHDL fills every tree up to 2^(depth + 1) - 1 nodes."""
_EXACT_BITS = 62
_BUILD_TIMEOUT_S = 600
_FLAGS = (
    "-std=c++17", "-O3", "-w", "-fPIC", "-shared", "-fno-gnu-unique", "-fvisibility=hidden", "-s",
    "-Wl,--build-id=none", "-Wl,-Bsymbolic", "-I.",
)  # fmt: skip

_NOTE = """\
The sources of this firmware, structure {structure}.

cpp/lumiwatch_image.cpp     entry of the image that p0.so was compiled from
cpp/lumiwatch_constants.h   the trees
cpp/conifer.h               evaluation of trees, from conifer {version} (Apache-2.0)
cpp/nlohmann/json.hpp       what conifer.h asks of the JSON library of that name, written for lumiwatch
vhdl/firmware/              the design, top entity LumiwatchTop; the other files are conifer {version}'s
vhdl/simulation/            a testbench
vhdl/synth.tcl              synthesis with Vivado: vivado -mode batch -source synth.tcl
trees.json                  the trees for conifer.model.load_model, e.g. for its other backends; whole numbers
"""


class ConiferToolchain:
    """The conifer toolchain.

    Parameters
    ----------
    compiler
        The C++ compiler; left out, `$CXX`, `g++` or `c++`.
    """

    name = "conifer"

    def __init__(self, *, compiler: str | None = None) -> None:
        self._compiler = compiler

    def probe(self) -> ToolchainStatus:
        """Say whether conifer and a compiler are here."""
        try:
            version = installed_version("conifer")
        except PackageNotFoundError:
            return ToolchainStatus(False, None, "conifer is not installed: pip install conifer")
        try:
            compiler = find_compiler(self._compiler)
        except CompilerMissing as error:
            return ToolchainStatus(False, version, str(error))
        return ToolchainStatus(True, version, f"conifer {version}, compiler {compiler}")

    def layout(self, model: Model) -> Layout:
        """Make the trees one partition.

        Raises
        ------
        ToolchainError
            When the model is a network, or conifer cannot represent it exactly; the message names the format.
        """
        trees = _trees(model)
        total = trees.sum_format
        if vhdl.number_bits(trees) > vhdl.MAXIMUM_BITS:
            raise ToolchainError(
                f"the sum of {trees.name} needs {total}, conifer's VHDL has {vhdl.MAXIMUM_BITS} bits: use "
                f"narrower values than {trees.value_format}"
            )
        if total.width + max(0, trees.score_format.fraction - total.fraction) > _EXACT_BITS:
            raise ToolchainError(
                f"the sum {total} of {trees.name} cannot become {trees.score_format} exactly: use fewer "
                "fraction bits"
            )
        if trees.depth > _MAXIMUM_DEPTH:
            raise ToolchainError(
                f"a tree of {trees.name} is {trees.depth} deep, conifer's VHDL has room for {_MAXIMUM_DEPTH}"
                ": train shallower trees"
            )
        return Layout(toolchain=self.name, part=model.layout.part)

    def generate(self, model: Model, folder: Path) -> Project:
        """Write C++ and VHDL of the trees.

        Parameters
        ----------
        model
            With this toolchain's layout.
        folder
            New or empty.

        Raises
        ------
        ToolchainError
            When the folder is not empty, the layout is another one, or conifer is not here or fails.
        """
        trees = _trees(model)
        check_project(self, trees, folder)
        ensemble = _ensemble(trees)
        version, header = _conifer()
        files = {
            "trees.json": json.dumps(ensemble, sort_keys=True) + "\n",
            "cpp/conifer.h": header,
            "cpp/nlohmann/json.hpp": cpp.STAND_IN,
            "cpp/lumiwatch_constants.h": cpp.constants(trees),
            "cpp/lumiwatch_image.cpp": cpp.image(trees, vhdl.latency(trees)),
            "README.txt": _NOTE.format(structure=trees.structure_hash, version=version),
        }
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        try:
            made = vhdl.write(trees, ensemble, folder / "vhdl", trees.layout.part or _PART)
            resources = _resources(trees, made, version)
        except Exception as error:  # conifer raises assertions and bare exceptions
            raise ToolchainError(
                f"conifer cannot write the VHDL of {trees.name} ({error!r}): simplify it"
            ) from error
        (folder / "resources.json").write_text(resources.model_dump_json() + "\n")
        return Project(folder, trees)

    def estimate(self, project: Project) -> Resources:
        """Give conifer's own estimate of the VHDL, and its exact latency.

        Raises
        ------
        ToolchainError
            When the folder holds no project.
        """
        try:
            return Resources.model_validate_json((project.folder / "resources.json").read_bytes())
        except (OSError, ValueError) as error:
            raise ToolchainError(
                f"{project.folder} is no conifer project ({error}): generate it again"
            ) from error

    def build(self, project: Project) -> Image:
        """Compile the C++.

        Raises
        ------
        CompilerMissing
            When there is no C++ compiler.
        ToolchainError
            When compiling fails or takes longer than ten minutes.
        """
        compiler = find_compiler(self._compiler)
        resources = self.estimate(project)
        command = [compiler, *_FLAGS, "lumiwatch_image.cpp", "-o", "../p0.so"]
        started = time.monotonic()
        try:
            done = subprocess.run(
                command,
                cwd=project.folder / "cpp",
                capture_output=True,
                text=True,
                timeout=_BUILD_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ToolchainError(
                f"{compiler} needs more than {_BUILD_TIMEOUT_S} s: use fewer trees"
            ) from error
        if done.returncode != 0:
            first = next((line for line in done.stderr.splitlines() if "error" in line), "no message")
            raise ToolchainError(f"{compiler} failed: {first.strip()}")
        paths = [path for pattern in ("cpp/**/*", "vhdl/**/*") for path in project.folder.glob(pattern)]
        paths += [project.folder / "README.txt", project.folder / "trees.json"]
        return Image(
            parts={"p0": project.folder / "p0.so"},
            seconds=time.monotonic() - started,
            sources={
                path.relative_to(project.folder).as_posix(): path.read_bytes()
                for path in sorted(paths)
                if path.is_file()
            },
            resources=(resources,),
        )

    def emulate(self, parts: Mapping[str, Path], model: Model) -> BoundChain:
        """Give the image running on this machine with the model's threshold in its memory."""
        return ImageChain(parts, _trees(model)).bind(model.memory())

    def simulate_vhdl(self, project: Project, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Run the VHDL in GHDL, some thousand events per second.

        Parameters
        ----------
        project
            From `generate`.
        inputs
            int16, (n, n_inputs), n at least 1.

        Returns
        -------
        numpy.ndarray
            int64, (n, 3): sum, score and decision, as an image gives them.

        Raises
        ------
        ToolchainAbsent
            When there is no GHDL.
        ToolchainError
            When it fails, or the design takes other than its stated number of clock cycles.
        """
        with tempfile.TemporaryDirectory(prefix="lumiwatch-ghdl-") as work:
            trees = _trees(project.model)
            answers, cycles = vhdl.simulate(trees, project.folder / "vhdl", inputs, Path(work))
        if cycles != vhdl.latency(trees):
            raise ToolchainError(
                f"the VHDL answers after {cycles} cycles, not {vhdl.latency(trees)}: use conifer 1.11"
            )
        return answers


def _trees(model: Model) -> TreeModel:
    if isinstance(model, TreeModel):
        return model
    raise ToolchainError(f"conifer makes boosted trees, {model.name} is a network: choose another toolchain")


def _conifer() -> tuple[str, str]:
    """Give conifer's version and the text of its C++ header, which is read without importing conifer."""
    spec = find_spec("conifer")
    if spec is None or spec.origin is None:
        raise ToolchainError("conifer is not installed: pip install conifer")
    try:
        header = Path(spec.origin).parent / "backends" / "cpp" / "include" / "conifer.h"
        return installed_version("conifer"), header.read_text()
    except (PackageNotFoundError, OSError) as error:
        raise ToolchainError(f"conifer is incomplete ({error}): pip install conifer") from error


def _ensemble(model: TreeModel) -> dict[str, Any]:
    """Describe the trees in conifer's terms, on whole numbers."""
    trees = [
        {
            "feature": [
                cpp.CONIFER_LEAF if feature == LEAF else feature for feature in tree.feature.tolist()
            ],
            "threshold": tree.threshold.tolist(),
            "children_left": tree.left.tolist(),
            "children_right": tree.right.tolist(),
            "value": tree.value.tolist(),
            "weight": [
                [int(feature == i) for i in range(model.n_inputs)] for feature in tree.feature.tolist()
            ],
        }
        for tree in model.trees
    ]
    if len(trees) == 1:  # an array of one element cannot be written down in VHDL
        empty: dict[str, Any] = {"feature": [cpp.CONIFER_LEAF], "threshold": [0], "value": [0]}
        trees.append(
            {**empty, "children_left": [-1], "children_right": [-1], "weight": [[0] * model.n_inputs]}
        )
    return {
        "n_classes": 2,
        "n_features": model.n_inputs,
        "n_trees": len(trees),
        "max_depth": max(1, model.depth),
        "init_predict": [model.initial_raw],
        "norm": 1,
        "library": "lumiwatch",
        "splitting_convention": "<=",
        "feature_map": {name: index for index, name in enumerate(model.input_names)},
        "trees": [[tree] for tree in trees],
    }


def _resources(model: TreeModel, made: Any, version: str) -> Resources:
    from conifer.utils import performance  # noqa: PLC0415 - as in conifer_vhdl

    return Resources(
        source="estimate",
        tool=f"conifer {version}",
        luts=max(0, performance.vhdlLUTEstimator.predict(made)),
        registers=max(0, performance.vhdlFFEstimator.predict(made)),
        dsps=0,
        brams=0,
        latency_cycles=vhdl.latency(model),
        interval_cycles=1,
        note="conifer's fit to syntheses of its VHDL; trees are counted as filled up to the same depth",
    )
