"""Detectors of a change in one sequence of numbers, all asked in the same way."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from river import drift


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


def _always(_value: float) -> bool:
    return True


def _never(_value: float) -> bool:
    return False


DETECTORS: Final[Mapping[str, Callable[[], Detector]]] = {
    "river ADWIN": lambda: River(drift.ADWIN()),
    "river PageHinkley": lambda: River(drift.PageHinkley()),
}
"""Name -> a new detector with its defaults."""
BASELINES: Final[Mapping[str, Callable[[], Detector]]] = {"always": lambda: _always, "never": lambda: _never}
"""What any score has to beat."""
