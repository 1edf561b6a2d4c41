"""Long hardware work in a process of its own: `python -m hw.job SPEC.json RESULT.json`.

Tasks `build` (model -> signed package) and `bench` (package, perhaps a board -> report). Progress goes to
standard output as one JSON object a line. Exit code 0 with a result file, 2 with `{"error": ...}` in it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from hw.archive import write_atomically
from hw.benchmark import BoardScorer, FloatScores, bench
from hw.boards.ipbus import IPbusBoard
from hw.errors import BenchNotPassed, HardwareError, JobError, ToolchainError
from hw.manifest import Lineage, ToolchainStamp
from hw.models import Model, read_model
from hw.network import FirmwareModel
from hw.package import Package, open_package, write_package
from hw.report import BenchReport
from hw.resources import Resources
from hw.signing import TrustedKey, load_signing_key, load_trusted_key, load_trusted_keys
from hw.toolchain import Scorer, Toolchain, find_toolchain, laid_out
from hw.vectors import bench_inputs, golden_vectors

DEFAULT_EVENTS = 20_000

_IMAGE_KINDS = {
    "hls4ml": "C-sim",
    "hls4ml-vivado": "C-sim",
    "hls4ml-quartus": "C-sim",
    "hls4ml-catapult": "C-sim",
    "conifer": "C-sim",
    "lumiwatch-rtl": "RTL in Verilator",
    "da4ml": "RTL in Verilator",
}


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BuildSpec(_Spec):
    """What to build.

    Parameters
    ----------
    model
        NPZ of a `Model`.
    out
        The `.lwpkg` to write.
    signing_key
        Private key file.
    version
        Version of the monitored model.
    toolchain
        Name of the toolchain.
    trusted_keys
        A `.pub` file or a folder of them; needed with `reuse`.
    reuse
        A package whose image is taken over when its structure is equal: no compiler is needed then.
    inputs
        `.npy` file of int16 events for bench and golden vectors; random ones are added.
    lineage, created
        For the manifest.
    """

    task: Literal["build"] = "build"
    model: Path
    out: Path
    signing_key: Path
    version: str
    toolchain: str = "lumiwatch-rtl"
    trusted_keys: Path | None = None
    reuse: Path | None = None
    inputs: Path | None = None
    events: int = Field(default=DEFAULT_EVENTS, ge=1, le=1_000_000)
    lineage: Lineage = Lineage()
    created: AwareDatetime | None = None


class BenchSpec(_Spec):
    """What to bench: a package's image on this machine and what else can compute the same scores.

    Parameters
    ----------
    package, trusted_keys
        The package, and a `.pub` file or a folder of them.
    board
        Address of a board that runs the package.
    toolchains
        Others that build the same model, to be compared too; one that is not here is named in the report.
    torch
        Whether torch evaluates the model too: with real numbers for information, on its grid to agree.
    inputs
        `.npy` file of recorded int16 events; golden, corner and random ones are added.
    """

    task: Literal["bench"] = "bench"
    package: Path
    trusted_keys: Path
    board: str | None = None
    toolchains: tuple[str, ...] = ()
    torch: bool = False
    inputs: Path | None = None
    events: int = Field(default=DEFAULT_EVENTS, ge=1, le=1_000_000)


class BuildResult(_Spec):
    """What was built.

    Parameters
    ----------
    package, package_id
        File and id.
    reused_image
        True when no compiler ran.
    build_s, total_s
        Wall time of compiling and of everything.
    """

    task: Literal["build"] = "build"
    package: Path
    package_id: str
    structure_hash: str
    weights_hash: str
    reused_image: bool
    build_s: float
    total_s: float
    bench: BenchReport


class BenchResult(_Spec):
    """What the bench found."""

    task: Literal["bench"] = "bench"
    package_id: str
    passed: bool
    bench: BenchReport


JobSpec = Annotated[BuildSpec | BenchSpec, Field(discriminator="task")]
_SPEC: TypeAdapter[BuildSpec | BenchSpec] = TypeAdapter(JobSpec)


def tell(progress: float, message: str) -> None:
    """Print one line of progress."""
    sys.stdout.write(json.dumps({"progress": round(progress, 3), "message": message}) + "\n")
    sys.stdout.flush()


def build(spec: BuildSpec) -> BuildResult:
    """Make a signed, benched package of a model.

    Raises
    ------
    HardwareError
        One of its kinds, with the cause and the cure; `BenchNotPassed` when image and emulator differ.
    """
    started = time.monotonic()
    toolchain = find_toolchain(spec.toolchain)
    model = laid_out(_model(spec.model), toolchain)
    key = load_signing_key(spec.signing_key)
    reused = _reusable(spec, model)
    with tempfile.TemporaryDirectory(prefix="lumiwatch-build-") as name:
        folder = Path(name)
        built = _compile(toolchain, model, folder) if reused is None else _take_over(reused, folder)
        inputs = bench_inputs(spec.inputs, spec.events, model)
        stages: dict[str, Scorer] = {_image_stage(built.stamp.name): toolchain.emulate(built.parts, model)}
        report = _bench(model, inputs, stages, 0.6, 0.9)
        if not report.passed:
            raise BenchNotPassed(
                f"model {model.name}: {report.stages[1].mismatching_events} of {len(inputs)} events differ"
                " between image and emulator: this is a fault of the toolchain, do not use it"
            )
        tell(0.9, "writing and signing the package")
        package = write_package(
            spec.out,
            model=model,
            images={name: path.read_bytes() for name, path in built.parts.items()},
            golden_inputs=golden_vectors(inputs),
            bench=report,
            toolchain=built.stamp,
            version=spec.version,
            key=key,
            lineage=spec.lineage,
            sources=built.sources,
            artefacts=built.artefacts,
            resources=built.resources,
            created=spec.created,
        )
    tell(1.0, f"package {package.short_id} written")
    return BuildResult(
        package=spec.out,
        package_id=package.id,
        structure_hash=model.structure_hash,
        weights_hash=model.weights_hash,
        reused_image=reused is not None,
        build_s=built.seconds,
        total_s=time.monotonic() - started,
        bench=report,
    )


def bench_package(spec: BenchSpec) -> BenchResult:
    """Bench a package's image here and, if asked, the board that runs it.

    Raises
    ------
    HardwareError
        One of its kinds.
    """
    package = open_package(spec.package, _trusted(spec.trusted_keys))
    model, stamp = package.model, package.manifest.toolchain
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lumiwatch-bench-")))
        parts = _written(package.images, folder)
        stages: dict[str, Scorer] = {
            _image_stage(stamp.name): find_toolchain(stamp.name).emulate(parts, model)
        }
        others = _others(spec, model, folder)
        stages.update(others.stages)
        informational: dict[str, FloatScores] = {}
        if spec.torch and isinstance(model, FirmwareModel):
            _add_torch(model, stages, informational)
        if spec.board is not None:
            board = stack.enter_context(closing(IPbusBoard(spec.board)))
            stages[f"board {spec.board}"] = BoardScorer(board, package.id)
        recorded = bench_inputs(spec.inputs, spec.events, model)
        inputs = np.concatenate([package.golden_inputs, recorded])
        report = _bench(model, inputs, stages, 0.5, 1.0, informational)
    resources = (*package.manifest.resources, *others.resources)
    report = report.model_copy(update={"resources": resources, "absent": others.absent})
    return BenchResult(package_id=package.id, passed=report.passed, bench=report)


@dataclass(frozen=True, slots=True)
class _Others:
    stages: dict[str, Scorer]
    resources: tuple[Resources, ...]
    absent: dict[str, str]


def _others(spec: BenchSpec, model: Model, folder: Path) -> _Others:
    """Build the model with other toolchains; what cannot be built here is told, never invented."""
    stages: dict[str, Scorer] = {}
    resources: list[Resources] = []
    absent: dict[str, str] = {}
    for name in spec.toolchains:
        if name == model.layout.toolchain:
            continue
        toolchain = find_toolchain(name)
        tell(0.05, f"building the same model with {name}")
        try:
            other = laid_out(model, toolchain)
            image = toolchain.build(toolchain.generate(other, folder / name))
            stages[_image_stage(name)] = toolchain.emulate(image.parts, other)
            resources.extend(image.resources)
        except ToolchainError as error:
            absent[_image_stage(name)] = str(error)
    return _Others(stages, tuple(resources), absent)


def _add_torch(
    model: FirmwareModel, stages: dict[str, Scorer], informational: dict[str, FloatScores]
) -> None:
    from hw.torch_network import TorchNetwork  # noqa: PLC0415 - torch takes seconds to import

    informational["torch float"] = TorchNetwork(model, quantised=False).scores
    quantised = TorchNetwork(model, quantised=True)
    if quantised.exact:
        stages["torch quantised"] = quantised
    else:
        informational["torch quantised"] = quantised.scores


@dataclass(frozen=True, slots=True)
class _Built:
    parts: Mapping[str, Path]
    sources: Mapping[str, bytes]
    artefacts: Mapping[str, bytes]
    resources: tuple[Resources, ...]
    stamp: ToolchainStamp
    seconds: float


def _compile(toolchain: Toolchain, model: Model, folder: Path) -> _Built:
    status = toolchain.probe()
    tell(0.05, f"writing firmware sources with {toolchain.name} {status.version}")
    project = toolchain.generate(model, folder / "project")
    tell(0.1, "compiling the image")
    image = toolchain.build(project)
    tell(0.6, f"image built in {image.seconds:.1f} s")
    stamp = ToolchainStamp(name=toolchain.name, version=status.version or "unknown")
    return _Built(image.parts, image.sources, image.artefacts, image.resources, stamp, image.seconds)


def _take_over(package: Package, folder: Path) -> _Built:
    tell(0.6, f"structure {package.manifest.structure_hash[:12]} is built already: its image is used again")
    manifest = package.manifest
    return _Built(
        _written(package.images, folder),
        package.sources,
        package.artefacts,
        manifest.resources,
        manifest.toolchain,
        0.0,
    )


def _written(images: Mapping[str, bytes], folder: Path) -> dict[str, Path]:
    """Write images into a folder."""
    paths = {name: folder / f"{name}.so" for name in images}
    for name, path in paths.items():
        path.write_bytes(images[name])
    return paths


def _reusable(spec: BuildSpec, model: Model) -> Package | None:
    if spec.reuse is None:
        return None
    if spec.trusted_keys is None:
        raise JobError(
            "reuse needs trusted_keys: name the .pub files that may have signed the reused package"
        )
    package = open_package(spec.reuse, _trusted(spec.trusted_keys))
    same = package.manifest.structure_hash == model.structure_hash
    return package if same and package.manifest.toolchain.name == spec.toolchain else None


def _bench(
    model: Model,
    inputs: npt.NDArray[np.int16],
    stages: dict[str, Scorer],
    start: float,
    stop: float,
    informational: Mapping[str, FloatScores] | None = None,
) -> BenchReport:
    def progress(done: float, what: str) -> None:
        tell(start + done * (stop - start), what)

    return bench(model, inputs, stages, informational=informational, progress=progress)


def _image_stage(toolchain: str) -> str:
    return f"{toolchain} {_IMAGE_KINDS.get(toolchain, 'image')}"


def _model(path: Path) -> Model:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise JobError(f"model {path} cannot be read ({error.strerror}): check the path") from error
    return read_model(content)


def _trusted(path: Path) -> tuple[TrustedKey, ...]:
    return load_trusted_keys(path) if path.is_dir() else (load_trusted_key(path),)


def _read_spec(path: Path) -> BuildSpec | BenchSpec:
    try:
        return _SPEC.validate_json(path.read_bytes())
    except OSError as error:
        raise JobError(f"job {path} cannot be read ({error.strerror}): check the path") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "task"
        raise JobError(f"job {path}: {where}: {first['msg']}: correct the job") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hw.job", description="Build or bench firmware.")
    parser.add_argument("spec", type=Path)
    parser.add_argument("result", type=Path)
    options = parser.parse_args(arguments)
    try:
        spec = _read_spec(options.spec)
        result: BaseModel = build(spec) if isinstance(spec, BuildSpec) else bench_package(spec)
    except HardwareError as error:
        failure = {"error": str(error), "kind": type(error).__name__}
        write_atomically(options.result, json.dumps(failure).encode())
        sys.stderr.write(f"{error}\n")
        return 2
    write_atomically(options.result, result.model_dump_json(indent=1).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
