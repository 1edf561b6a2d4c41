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

from hw.archive import npy_array, write_atomically
from hw.benchmark import BoardScorer, bench
from hw.boards.ipbus import IPbusBoard
from hw.errors import BenchNotPassed, HardwareError, JobError
from hw.fixed_point import to_float
from hw.network import FirmwareModel
from hw.package import Lineage, Package, ToolchainStamp, open_package, write_package
from hw.report import BenchReport
from hw.signing import TrustedKey, load_signing_key, load_trusted_key, load_trusted_keys
from hw.toolchain import Scorer, Toolchain, find_toolchain

DEFAULT_EVENTS = 20_000
GOLDEN_EVENTS = 512


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BuildSpec(_Spec):
    """What to build.

    Parameters
    ----------
    model
        NPZ of a `FirmwareModel`.
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
    toolchain: str = "hls4ml"
    trusted_keys: Path | None = None
    reuse: Path | None = None
    inputs: Path | None = None
    events: int = Field(default=DEFAULT_EVENTS, ge=1, le=1_000_000)
    lineage: Lineage = Lineage()
    created: AwareDatetime | None = None


class BenchSpec(_Spec):
    """What to bench: a package's image on this machine and, with an address, a board that runs it."""

    task: Literal["bench"] = "bench"
    package: Path
    trusted_keys: Path
    board: str | None = None
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
    model = _model(spec.model)
    key = load_signing_key(spec.signing_key)
    toolchain = find_toolchain(spec.toolchain)
    reused = _reusable(spec, model)
    with tempfile.TemporaryDirectory(prefix="lumiwatch-build-") as name:
        folder = Path(name)
        built = _compile(toolchain, model, folder) if reused is None else _take_over(reused, folder)
        inputs = _inputs(spec.inputs, spec.events, model)
        stages: dict[str, Scorer] = {_image_stage(built.stamp): toolchain.emulate(built.image, model)}
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
            image=built.image.read_bytes(),
            golden_inputs=_golden(inputs),
            bench=report,
            toolchain=built.stamp,
            version=spec.version,
            key=key,
            lineage=spec.lineage,
            sources=built.sources,
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
    stamp = package.manifest.toolchain
    with ExitStack() as stack:
        image = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lumiwatch-bench-"))) / "image.so"
        image.write_bytes(package.image)
        stages: dict[str, Scorer] = {
            _image_stage(stamp): find_toolchain(stamp.name).emulate(image, package.model)
        }
        if spec.board is not None:
            stages[f"board {spec.board}"] = BoardScorer(
                stack.enter_context(closing(IPbusBoard(spec.board))), package.id
            )
        inputs = _inputs(spec.inputs, spec.events, package.model)
        report = _bench(package.model, inputs, stages, 0.1, 1.0)
    return BenchResult(package_id=package.id, passed=report.passed, bench=report)


@dataclass(frozen=True, slots=True)
class _Built:
    image: Path
    sources: Mapping[str, bytes]
    stamp: ToolchainStamp
    seconds: float


def _compile(toolchain: Toolchain, model: FirmwareModel, folder: Path) -> _Built:
    status = toolchain.probe()
    tell(0.05, f"writing firmware sources with {toolchain.name} {status.version}")
    project = toolchain.generate(model, folder / "project")
    tell(0.1, "compiling the image")
    image = toolchain.build(project)
    tell(0.6, f"image built in {image.seconds:.1f} s")
    stamp = ToolchainStamp(name=toolchain.name, version=status.version or "unknown")
    return _Built(image.path, image.sources, stamp, image.seconds)


def _take_over(package: Package, folder: Path) -> _Built:
    tell(0.6, f"structure {package.manifest.structure_hash[:12]} is built already: its image is used again")
    image = folder / "image.so"
    image.write_bytes(package.image)
    return _Built(image, package.sources, package.manifest.toolchain, 0.0)


def _reusable(spec: BuildSpec, model: FirmwareModel) -> Package | None:
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
    model: FirmwareModel, inputs: npt.NDArray[np.int16], stages: dict[str, Scorer], start: float, stop: float
) -> BenchReport:
    return bench(model, inputs, stages, progress=lambda done, what: tell(start + done * (stop - start), what))


def _image_stage(stamp: ToolchainStamp) -> str:
    return f"{stamp.name} C-sim"


def _model(path: Path) -> FirmwareModel:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise JobError(f"model {path} cannot be read ({error.strerror}): check the path") from error
    return FirmwareModel.from_npz_bytes(content)


def _trusted(path: Path) -> tuple[TrustedKey, ...]:
    return load_trusted_keys(path) if path.is_dir() else (load_trusted_key(path),)


def _inputs(path: Path | None, events: int, model: FirmwareModel) -> npt.NDArray[np.int16]:
    """Give the events of the bench: recorded ones first, then corners, then reproducible random ones."""
    parts: list[npt.NDArray[np.int16]] = []
    if path is not None:
        try:
            recorded = npy_array(path.read_bytes(), str(path))
        except OSError as error:
            raise JobError(f"inputs {path} cannot be read ({error.strerror}): check the path") from error
        if recorded.ndim != 2 or recorded.shape[1] != model.n_inputs or recorded.dtype != np.int16:
            raise JobError(
                f"inputs {path} are {recorded.dtype} {recorded.shape}, model {model.name} takes int16 "
                f"(n, {model.n_inputs}): convert events with the model's contract"
            )
        parts.append(recorded[:events].astype(np.int16))
    rng = np.random.default_rng(20_260_101)
    corners = np.array([-32768, -1, 0, 1, 32767], dtype=np.int16)
    n_corners, n_random = max(1, events // 10), max(1, events - sum(map(len, parts)))
    typical = rng.normal(0.0, 2.0, (n_random, model.n_inputs)) / np.maximum(_scales(model), 1e-6) + _offsets(
        model
    )
    parts.append(rng.choice(corners, (n_corners, model.n_inputs)))
    parts.append(np.clip(np.rint(typical), -32768, 32767).astype(np.int16))
    return np.concatenate(parts)


def _scales(model: FirmwareModel) -> npt.NDArray[np.float64]:
    return np.abs(to_float(model.input_stage.scale_raw, model.input_stage.scale_format))


def _offsets(model: FirmwareModel) -> npt.NDArray[np.float64]:
    return to_float(model.input_stage.offset_raw, model.input_stage.offset_format)


def _golden(inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Choose golden vectors evenly from all kinds of events."""
    chosen = np.linspace(0, len(inputs) - 1, min(GOLDEN_EVENTS, len(inputs))).astype(np.int64)
    return inputs[chosen]


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
