"""Detectors of a change in one sequence of numbers, all asked in the same way."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import numpy as np
from river import drift
from scipy import stats

from streams.judging.evidence import Evidence, Linear


class Detector(Protocol):
    """Takes one number after another and says after each whether there was a change."""

    def __call__(self, value: float) -> bool:
        """Return True where the detector raises an alarm now. It begins anew by itself."""
        ...


class River:
    """A drift detector of river."""

    def __init__(self, detector: "drift.ADWIN | drift.PageHinkley") -> None:
        self._detector = detector

    def __call__(self, value: float) -> bool:
        self._detector.update(value)
        return bool(self._detector.drift_detected)


class Lumiwatch:
    """lumiwatch's evidence on one sequence: numbers to learn from, then numbers to watch.

    After an alarm it learns anew. No pileup, no reference, one channel with the whole budget: what is left
    of lumiwatch on a bare sequence.
    """

    BUDGET = 1e-3

    def __init__(self, learned: int = 20) -> None:
        self._learned = learned
        self._begin()

    def _begin(self) -> None:
        self._usual: list[float] = []
        self._evidence = Evidence()
        self._seen = 0

    def __call__(self, value: float) -> bool:
        if len(self._usual) < self._learned:
            self._usual.append(value)
            return False
        mean, spread = float(np.mean(self._usual)), float(np.std(self._usual, ddof=1))
        self._seen += 1
        n = self._learned
        # a flat sequence has no spread: then any change is one
        deviations = (
            (value - mean) / (spread * np.sqrt(1 + 1 / n)) if spread else np.sign(value - mean) * 99.0
        )
        log_p = max(float(stats.t.logsf(abs(deviations), n - 1)), -69.0)
        z = float(np.copysign(stats.norm.isf(np.exp(log_p)), deviations))
        # the mean of what was learnt is off by so much for good
        level, _ = self._evidence.update(
            [Linear("value", 1.0, z, 2 / np.sqrt(n), firm=True)], [], self.BUDGET, (0, self._seen)
        )
        if level < 0:
            return False
        self._begin()
        return True


def _always(_value: float) -> bool:
    return True


def _never(_value: float) -> bool:
    return False


DETECTORS: Final[Mapping[str, Callable[[], Detector]]] = {
    "river ADWIN": lambda: River(drift.ADWIN()),
    "river PageHinkley": lambda: River(drift.PageHinkley()),
    "lumiwatch": Lumiwatch,
}
"""Name -> a new detector with its defaults."""
BASELINES: Final[Mapping[str, Callable[[], Detector]]] = {"always": lambda: _always, "never": lambda: _never}
"""What any score has to beat."""
