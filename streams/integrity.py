"""Integrity: whether the firmware answers what its bit-accurate emulator answers on the same inputs.

A prescaled sample of each batch goes through the emulator, which whoever runs the worker hands in: this room
knows no firmware. A mismatch is a firmware fault, never drift. Refuses to know windows and verdicts.
"""

import hashlib
import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from scipy import special

from streams.events.batch import Batch

logger = logging.getLogger(__name__)

DEFAULT_PRESCALE: Final = 100
DEFAULT_MINIMUM: Final = 16
DEFAULT_TOLERANCE: Final = 1e-4
"""Ratio of mismatches that the field tolerates between trigger data and emulator (CMS uGT)."""
FAULT_SIGNIFICANCE: Final = 1e-3
"""A fault is said when so many mismatches are less likely than this at the tolerated ratio."""
CONFIDENCE: Final = 0.95


@dataclass(frozen=True, eq=False)
class EmulatedOutput:
    """What the emulator answers to a block of events.

    Attributes
    ----------
    score
        Integer, shape (n_events,), raw score.
    accept
        bool, shape (n_events,).
    """

    score: npt.NDArray[np.integer]
    accept: npt.NDArray[np.bool_]


class Emulators(Protocol):
    """The bit-accurate emulators of firmware packages."""

    def outputs(self, package: str, inputs: npt.NDArray[np.int16]) -> EmulatedOutput | None:
        """Answer what a package must answer, or None while it cannot be told.

        Parameters
        ----------
        package
            Identity of the firmware package.
        inputs
            int16, shape (n_events, n_inputs), as the firmware saw them.

        Returns
        -------
        EmulatedOutput or None
            None: the package is unknown, cannot be emulated, or its emulator is still being made. Must return
            soon: the stream waits for it.
        """


class Checked(NamedTuple):
    """How many events of a batch were run through the emulator, and how many of them differed."""

    n_checked: int
    n_mismatched: int


NOT_CHECKED: Final = Checked(0, 0)


class IntegrityCheck:
    """Compares a sample of each batch with the emulator, and never stands in the way of the stream.

    Parameters
    ----------
    emulators
        Handed in by whoever knows firmware.
    prescale
        About one event in so many is checked, ...
    minimum
        ... but at least so many of a batch.

    Attributes
    ----------
    failures
        Batches whose check failed for another reason than a mismatch: contained, logged, counted as not
        checked.
    """

    def __init__(
        self, emulators: Emulators, *, prescale: int = DEFAULT_PRESCALE, minimum: int = DEFAULT_MINIMUM
    ) -> None:
        if prescale < 1 or minimum < 1:
            raise ValueError(f"prescale {prescale}, minimum {minimum}: give 1 or more")
        self._emulators = emulators
        self._prescale = prescale
        self._minimum = minimum
        self.failures = 0

    def check(self, batch: Batch) -> Checked:
        """Check a sample of a batch: events whose score or decision differs are mismatches.

        The sample is a function of the batch's identity alone, so that a batch delivered again gives the
        same numbers.
        """
        if not batch.n_events:
            return NOT_CHECKED
        chosen = sample(batch, prescale=self._prescale, minimum=self._minimum)
        try:
            expected = self._emulators.outputs(batch.package, np.ascontiguousarray(batch.inputs[chosen]))
            if expected is None:
                return NOT_CHECKED
            differs = (expected.score != batch.score[chosen]) | (expected.accept != batch.accept[chosen])
        except Exception:
            # the emulator is other people's code: whatever it does, the stream goes on
            self.failures += 1
            logger.exception("the emulator of package %s failed: its events are not checked", batch.package)
            return NOT_CHECKED
        return Checked(len(chosen), int(np.count_nonzero(differs)))


def sample(batch: Batch, *, prescale: int, minimum: int) -> npt.NDArray[np.intp]:
    """Choose the events of a batch to check: one at random of each stretch, in order.

    Parameters
    ----------
    prescale
        Length of a stretch, in events; shorter where the batch would give fewer than `minimum`.

    Returns
    -------
    numpy.ndarray
        intp, shape (max(n_events // prescale, min(minimum, n_events)),), rising. Which event of a stretch is
        taken follows from the batch's identity by SplitMix64 (Steele, Lea and Flood 2014), so it is the same
        on every machine and in every version.
    """
    n_events = batch.n_events
    n_chosen = max(n_events // prescale, min(minimum, n_events))
    name = f"{batch.model}/{batch.run}/{batch.lumisection}/{batch.source}/{batch.sequence}"
    seed = np.frombuffer(hashlib.sha256(name.encode()).digest()[:8], dtype="<u8")
    place = np.arange(n_chosen, dtype=np.uint64)
    mixed = seed + (place + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    # stretches of equal length but for rounding, so that every event has the same chance
    edges = (np.arange(n_chosen + 1, dtype=np.intp) * n_events) // n_chosen
    chosen: npt.NDArray[np.intp] = edges[:-1] + (mixed % np.diff(edges).astype(np.uint64)).astype(np.intp)
    return chosen


class IntegrityState(StrEnum):
    """What a comparison with the emulator says."""

    NOT_CHECKED = "not_checked"
    AGREES = "agrees"
    FAULT = "fault"


class IntegrityResult(BaseModel):
    """Agreement of firmware and emulator over the checked events of a window.

    Attributes
    ----------
    n_checked, n_mismatched
        Events run through the emulator, and those of them that differed.
    ratio
        Mismatched over checked events, 0 to 1; None when nothing was checked.
    low, high
        Clopper-Pearson interval of the ratio at 95 % confidence; None when nothing was checked.
    tolerance
        Ratio that is tolerated.
    state
        ``fault`` when the ratio is above the tolerance, significantly.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: IntegrityState
    n_checked: int
    n_mismatched: int
    ratio: float | None
    low: float | None
    high: float | None
    tolerance: float

    @property
    def words(self) -> str:
        """What was compared, for people: ``12 of 2,000 checked events differ from the emulator``."""
        if self.state is IntegrityState.NOT_CHECKED:
            return "no event was checked against the emulator"
        if not self.n_mismatched:
            return f"all {self.n_checked:,} checked events agree with the emulator"
        verb = "differs" if self.n_mismatched == 1 else "differ"
        return f"{self.n_mismatched:,} of {self.n_checked:,} checked events {verb} from the emulator"


def judge_integrity(
    n_checked: int, n_mismatched: int, tolerance: float = DEFAULT_TOLERANCE
) -> IntegrityResult:
    """Judge the mismatches of a window, or of several together.

    Parameters
    ----------
    n_checked, n_mismatched
        From summaries: mismatched events are a part of the checked ones.
    tolerance
        Ratio that is tolerated; 0: a single mismatch is a fault.
    """
    if not n_checked:
        return IntegrityResult(
            state=IntegrityState.NOT_CHECKED,
            n_checked=0,
            n_mismatched=0,
            ratio=None,
            low=None,
            high=None,
            tolerance=tolerance,
        )
    low, high = clopper_pearson(n_mismatched, n_checked)
    fault = n_mismatched > 0 and chance_of(n_mismatched, n_checked, tolerance) < FAULT_SIGNIFICANCE
    return IntegrityResult(
        state=IntegrityState.FAULT if fault else IntegrityState.AGREES,
        n_checked=n_checked,
        n_mismatched=n_mismatched,
        ratio=n_mismatched / n_checked,
        low=low,
        high=high,
        tolerance=tolerance,
    )


def clopper_pearson(count: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the central interval of a binomial ratio (Clopper and Pearson 1934), `total` at least 1."""
    tail = (1.0 - confidence) / 2.0
    low = float(special.betaincinv(count, total - count + 1, tail)) if count else 0.0
    high = float(special.betaincinv(count + 1, total - count, 1.0 - tail)) if count < total else 1.0
    return low, high


def chance_of(count: int, total: int, ratio: float) -> float:
    """Return the chance of at least `count` (1 or more) in `total` events at a ratio: the binomial tail."""
    return float(special.betainc(count, total - count + 1, ratio))
