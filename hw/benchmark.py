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
from hw.emulator import Emulator
from hw.errors import HardwareError
from hw.network import FirmwareModel
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


@dataclass(frozen=True, slots=True, eq=False)
class _Oracle:
    emulator: Emulator

    def run(self, inputs: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        scores = self.emulator.scores(inputs)
        return scores, scores > self.emulator.model.score_stage.threshold_raw


def bench(
    model: FirmwareModel,
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
    scores, accepts = _Oracle(Emulator(model)).run(inputs)
    reports = [_report("emulator", scores, accepts, scores, accepts, time.perf_counter() - started)]
    for name, stage in stages.items():
        tell(len(reports) / total, f"comparing {name} with the emulator on {len(inputs)} events")
        started = time.perf_counter()
        found, decided = stage.run(inputs)
        reports.append(_report(name, found, decided, scores, accepts, time.perf_counter() - started))
    lsb = model.score_stage.result_format.lsb
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


def _report(
    name: str,
    found: npt.NDArray[np.int64],
    decided: npt.NDArray[np.bool_],
    scores: npt.NDArray[np.int64],
    accepts: npt.NDArray[np.bool_],
    seconds: float,
) -> StageReport:
    if found.shape != scores.shape or decided.shape != accepts.shape:
        raise HardwareError(f"{name} answered {found.shape} scores to {len(scores)} events: check the stage")
    bits = np.bitwise_count(found ^ scores).astype(np.int64) + (decided ^ accepts)
    return StageReport(
        name=name,
        binding=True,
        events=len(scores),
        mismatching_events=int(np.count_nonzero(bits)),
        mismatching_bits=int(bits.sum()),
        largest_error_lsb=float(np.abs(found - scores).max(initial=0)),
        events_per_s=len(scores) / max(seconds, 1e-9),
    )
