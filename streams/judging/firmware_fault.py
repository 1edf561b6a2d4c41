"""The firmware fault: what a sequence of integrity results of one package says now.

A fold, as the verdict chain is. One window holds few checked events, so results are also added up over
recent windows. Refuses to know drift, references and who hears of it.
"""

from collections import deque
from typing import Final

from streams.integrity import DEFAULT_TOLERANCE, IntegrityResult, IntegrityState, judge_integrity
from streams.judging.assessment import Assessment

HISTORY: Final = 60
"""Windows with checked events that are added up: older ones never count against the firmware of now."""
CLEAN_WINDOWS: Final = 3
"""Checked windows in a row without mismatch that end a fault at the earliest ..."""
CHANCE_OF_LUCK: Final = 0.01
"""... and only when the fault, had it gone on, would have shown itself in them but for this chance."""


class FirmwareFault:
    """Follows the integrity of one firmware package.

    Attributes
    ----------
    onset
        Run and lumisection of the first mismatch of the present fault; None while there is no fault.
    """

    def __init__(self) -> None:
        self.onset: tuple[int, int] | None = None
        self._recent: deque[tuple[tuple[int, int], int, int]] = deque(maxlen=HISTORY)
        self._clean_windows = 0
        self._clean_events = 0

    def update(self, assessment: Assessment) -> None:
        """Take the next assessment of the package; one without checked events says nothing."""
        result = assessment.integrity
        if result is None or not result.n_checked:
            return
        place = (assessment.run, assessment.lumisection)
        self._recent.append((place, result.n_checked, result.n_mismatched))
        clean = not result.n_mismatched
        self._clean_windows = self._clean_windows + 1 if clean else 0
        self._clean_events = self._clean_events + result.n_checked if clean else 0
        total = self._total(result.tolerance)
        if self.onset is None:
            if IntegrityState.FAULT in {result.state, total.state}:
                self.onset = next(place for place, _, mismatched in self._recent if mismatched)
        elif self._clean_windows >= CLEAN_WINDOWS and self._luck(total) < CHANCE_OF_LUCK:
            self.onset = None
            self._recent.clear()

    @property
    def present(self) -> bool:
        """Whether there is a fault now."""
        return self.onset is not None

    def reason(self, assessment: Assessment) -> str:
        """Say what is wrong, for a shifter; while there is a fault."""
        result = assessment.integrity
        if self.onset is None:
            raise AssertionError("asked while there is no fault")
        if result is not None and result.state is IntegrityState.FAULT:
            return f"Firmware fault: {_told(result)}."
        total = self._total(result.tolerance if result is not None else DEFAULT_TOLERANCE)
        now = f"; in this lumisection {result.words}" if result is not None else ""
        return f"Firmware fault: {_told(total)}, since LS {self.onset[1]} of run {self.onset[0]}{now}."

    def _total(self, tolerance: float) -> IntegrityResult:
        checked = sum(n_checked for _, n_checked, _ in self._recent)
        mismatched = sum(n_mismatched for _, _, n_mismatched in self._recent)
        return judge_integrity(checked, mismatched, tolerance)

    def _luck(self, total: IntegrityResult) -> float:
        """Chance of a clean stretch as long as the present one if the fault before it had gone on."""
        before = total.n_checked - self._clean_events
        if before <= 0:
            return 0.0
        return float((1.0 - total.n_mismatched / before) ** self._clean_events)


def _told(result: IntegrityResult) -> str:
    return f"{result.words} ({result.ratio:.2g}, tolerated {result.tolerance:g})"
