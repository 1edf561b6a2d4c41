"""The bench: every way of computing the scores, compared bit by bit with the emulator on the same events.

Refuses to know how a stage computes them, and judges floating point for information only.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.board import Board
from hw.chain import BoundChain, ImageChain
from hw.errors import HardwareError
from hw.models import Model, emulator_of
from hw.report import BenchReport, StageReport
from hw.toolchain import Scorer

FloatScores = Callable[[npt.NDArray[np.int16]], npt.NDArray[np.float64]]
"""Gives floating-point scores (n,) of int16 inputs (n, n_inputs)."""


@dataclass(frozen=True, slots=True, eq=False)
class BoardScorer:
    """A board as a stage of the bench.

    Parameters
    ----------
    board
        It must run the benched package.
    package_id
        Which one that is; another one on the board is an error, not a mismatch.
    """

    board: Board
    package_id: str | None = None

    def run(self, inputs: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Score int16 inputs (n, n_inputs) in the board."""
        done = self.board.process(inputs)
        if self.package_id not in (None, done.package_id):
            raise HardwareError(
                f"board at {self.board.address} runs package {done.package_id[:12]}, not the benched "
                f"{(self.package_id or '')[:12]}: apply the package first"
            )
        return done.scores, done.accepts


def bench(
    model: Model,
    inputs: npt.NDArray[np.int16],
    stages: Mapping[str, Scorer],
    *,
    informational: Mapping[str, FloatScores] | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> BenchReport:
    """Compare stages with the emulator.

    Parameters
    ----------
    model
        What is benched.
    inputs
        int16, (n, n_inputs).
    stages
        By name; each must agree in every bit of score and decision.
    informational
        Floating-point models by name; their difference is reported in LSB and decides nothing.
    progress
        Told the fraction done and what is done now.

    Returns
    -------
    BenchReport
        `passed` only at zero mismatching bits.
    """
    tell = progress or _silent
    total = 1 + len(stages) + len(informational or {})
    started = time.perf_counter()
    emulator = emulator_of(model)
    scores, accepts = emulator.run(inputs)
    seconds = time.perf_counter() - started
    oracle = np.column_stack([emulator.outputs(inputs), scores, accepts])
    reports = [_report("emulator", oracle, oracle, seconds)]
    for name, stage in stages.items():
        tell(len(reports) / total, f"comparing {name} with the emulator on {len(inputs)} events")
        reports.append(_compared(name, stage, inputs, oracle))
    lsb = model.score_format.lsb
    for name, evaluate in (informational or {}).items():
        tell(len(reports) / total, f"evaluating {name} on {len(inputs)} events")
        started = time.perf_counter()
        error = np.abs(np.asarray(evaluate(inputs), dtype=np.float64) / lsb - scores)
        seconds = time.perf_counter() - started
        differs = error >= 1.0
        reports.append(
            StageReport(
                name=name,
                binding=False,
                events=len(inputs),
                mismatching_events=int(differs.sum()),
                mismatching_bits=0,
                largest_error_lsb=float(error.max(initial=0.0)),
                events_per_s=len(inputs) / max(seconds, 1e-9),
            )
        )
    tell(1.0, "bench done")
    return BenchReport(
        model_name=model.name,
        structure_hash=model.structure_hash,
        weights_hash=model.weights_hash,
        inputs_hash=hashlib.sha256(np.ascontiguousarray(inputs, dtype="<i2").tobytes()).hexdigest(),
        stages=tuple(reports),
    )


def _silent(_fraction: float, _message: str) -> None:
    """Tell nobody."""


def _compared(
    name: str, stage: Scorer, inputs: npt.NDArray[np.int16], oracle: npt.NDArray[np.int64]
) -> StageReport:
    """Run one stage and compare all it tells: the outputs of the last layer too, where it gives them."""
    started = time.perf_counter()
    if isinstance(stage, BoundChain):
        found = stage.outputs(inputs)
        images: ImageChain | None = stage.images
    else:
        found, images = np.column_stack(stage.run(inputs)), None
    report = _report(
        name, found, oracle[:, oracle.shape[1] - found.shape[1] :], time.perf_counter() - started
    )
    if images is None:
        return report
    cycles = {"latency_cycles": images.latency_cycles, "interval_cycles": images.interval_cycles}
    return report.model_copy(update=cycles)


def _report(
    name: str, found: npt.NDArray[np.int64], expected: npt.NDArray[np.int64], seconds: float
) -> StageReport:
    """Compare answers: int64 (n, m), raw outputs (perhaps), score and decision."""
    if found.shape != expected.shape:
        raise HardwareError(f"{name} answered {found.shape} values, not {expected.shape}: check the stage")
    bits = np.bitwise_count(found ^ expected).sum(axis=1, dtype=np.int64)
    return StageReport(
        name=name,
        binding=True,
        events=len(expected),
        mismatching_events=int(np.count_nonzero(bits)),
        mismatching_bits=int(bits.sum()),
        largest_error_lsb=float(np.abs(found[:, -2] - expected[:, -2]).max(initial=0)),
        events_per_s=len(expected) / max(seconds, 1e-9),
    )
