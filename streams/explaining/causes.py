"""The causes: what may have happened to a window, each as what it would make of the expected densities.

A cause is fitted to the window where it has a size, and says itself in one sentence. Which of them explains
most is decided in `streams.explaining.explanation`. Knows no sequence of windows.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.contracts.contract import Contract
from streams.counting.layout import ObjectMap
from streams.counting.summary import Summary
from streams.explaining.goodness import Densities, Goodness
from streams.explaining.object_shape import ObjectShape
from streams.explaining.regions import Region, find_region
from streams.judging.expectation import Expected, PileupExpectation

_OUTLIER: Final = 5.0

Floats = npt.NDArray[np.float64]


class Cause(StrEnum):
    """What may have happened."""

    GAIN = "gain"
    OFFSET = "offset"
    RESOLUTION = "resolution"
    TAIL = "tail"
    DEAD_REGION = "dead region"
    HOT_TOWER = "hot tower"
    NOISE = "noise"
    NUMBER = "number of objects"
    DEAD_CHANNEL = "dead channel"
    DEAD_SLOT = "dead slot"
    STUCK_BIT = "stuck bit"
    SWAP = "swapped inputs"
    PAIR = "inputs together"
    PILEUP = "pileup"
    OUTPUT = "output"
    INTEGRITY = "integrity"
    FAINT = "faint"
    NONE = "none"


@dataclass(frozen=True)
class Place:
    """A rectangle in eta and phi: codes, both ends included, and the edges in physical units."""

    eta_codes: tuple[int, int]
    phi_codes: tuple[int, int]
    eta: tuple[float, float]
    phi: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Candidate:
    """One cause, fitted.

    Attributes
    ----------
    densities
        What it makes of the expected ones.
    n_parameters
        How many numbers were fitted or chosen.
    sentence
        For a shifter.
    size, error, unit
        Of the effect; None where it has none. `unit` is empty for a ratio.
    """

    cause: Cause
    densities: Densities
    n_parameters: int
    sentence: str
    object: str = ""
    inputs: tuple[str, ...] = ()
    size: float | None = None
    error: float | None = None
    unit: str = ""
    place: Place | None = None


@dataclass(frozen=True, eq=False)
class Scene:
    """A window with everything its causes are fitted with.

    Attributes
    ----------
    pileup, measured_pileup
        As the window was judged at, and as the conditions said.
    """

    contract: Contract
    window: Summary
    expectation: PileupExpectation
    pileup: float
    measured_pileup: float
    expected: Expected

    @cached_property
    def base(self) -> Densities:
        """What is expected without any cause."""
        return Densities(self.expected.inputs, self.expected.maps)

    @cached_property
    def goodness(self) -> Goodness:
        """The yardstick of shapes."""
        return Goodness(self.window, self.expected)

    @cached_property
    def fine(self) -> Goodness:
        """The yardstick of single codes."""
        return Goodness(self.window, self.expected, bins=None)

    @cached_property
    def excess(self) -> Floats:
        """How far each input is off, by the yardstick of single codes; see `Goodness.excess`."""
        return self.fine.excess(self.base)

    @cached_property
    def outliers(self) -> tuple[int, ...]:
        """Inputs that do not fit the expectation, the worst first."""
        excess = self.excess
        return tuple(int(i) for i in np.argsort(-excess, kind="stable") if excess[i] > _OUTLIER)

    def cells(self, name: str) -> tuple[ObjectMap, slice] | None:
        """Return the map of an object and its cells among those of all maps; None if it has none."""
        start = 0
        for entry in self.window.layout.maps:
            if entry.object == name:
                return entry, slice(start, start + entry.size)
            start += entry.size
        return None

    def region(self, name: str) -> Region | None:
        """Find the place of an object's map that differs most."""
        found = self.cells(name)
        if found is None:
            return None
        entry, cells = found
        return find_region(
            entry, self.window.maps[cells], self.expected.maps[cells], self.expected.size, self.contract
        )

    def with_shape(self, shape: ObjectShape, maps: Floats | None = None) -> Densities:
        """Return the expectation with another shape of one object."""
        return Densities(shape.written(self.base.inputs), self.base.maps if maps is None else maps)
