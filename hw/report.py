"""What a bench found: per stage, how many bits differ from the oracle. Plain data, part of every package.

Refuses to know how the stages are run.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from hw.resources import Resources


class StageReport(BaseModel):
    """One way of computing the scores, compared with the bit-accurate emulator.

    Parameters
    ----------
    name
        E.g. `emulator`, `hls4ml C-sim`, `board 127.0.0.1:50001`, `torch float`.
    binding
        Whether a difference fails the bench; the floating-point model is for information only.
    events
        Events evaluated.
    mismatching_events, mismatching_bits
        Scores that differ, and in how many bits altogether.
    largest_error_lsb
        Largest difference of a score, in its last bit.
    events_per_s
        Measured speed.
    latency_cycles, interval_cycles
        Clock cycles from an event in to its answer, and between two events; None when the stage has no clock.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    binding: bool
    events: int
    mismatching_events: int
    mismatching_bits: int
    largest_error_lsb: float
    events_per_s: float
    latency_cycles: int | None = None
    interval_cycles: int | None = None


class BenchReport(BaseModel):
    """The result of one bench.

    Parameters
    ----------
    model_name, structure_hash, weights_hash
        What was benched.
    inputs_hash
        sha256 hex of the input codes.
    stages
        The oracle first.
    resources
        What the firmware takes of its device, by whoever knows.
    absent
        Stages that could not be compared, and why.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_name: str
    structure_hash: str
    weights_hash: str
    inputs_hash: str
    stages: tuple[StageReport, ...]
    resources: tuple[Resources, ...] = ()
    absent: dict[str, str] = {}

    @property
    def passed(self) -> bool:
        """Whether some stage beside the oracle was compared and no binding stage differs in any bit."""
        binding = [stage for stage in self.stages[1:] if stage.binding]
        return bool(binding) and all(stage.mismatching_bits == 0 and stage.events > 0 for stage in binding)
