"""The pileup that the data themselves show, beside the one that was measured.

The measured pileup is known to a per cent or so, and most of what looks like noise in well-filled windows is
that error. The numbers of objects in a window say the pileup better; what is fitted is held near the
measured value by how wrong that usually is. The numbers of objects themselves are judged at the measured
pileup. Knows no threshold.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.counting.summary import Summary
from streams.judging.channels import PRESENCE, Design, Measured, measure
from streams.judging.expectation import Expected, PileupExpectation

STEP: Final = 0.02
"""Relative step of the pileup, to either side, over which slopes are taken."""
FURTHEST: Final = 4.0
"""The fit goes no further than so many times the usual error."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shift:
    """What the numbers of objects in one window say of the pileup.

    Attributes
    ----------
    value
        Relative shift of the pileup, and its `variance` by counting; infinite where nothing can be said.
    slope
        Change of each channel's effect for each unit of log pileup; 0 where unused. Shape (channels,).
    measured
        The channels at the measured pileup.
    """

    value: float
    variance: float
    slope: Floats
    measured: Measured


@dataclass(frozen=True, eq=False)
class Fitted:
    """A window and its expectation at the fitted pileup.

    Attributes
    ----------
    pileup
        The fitted one.
    measured
        The channels there; numbers of objects at the measured pileup, their variance with its error.
    expected
        What the window should hold.
    """

    pileup: float
    measured: Measured
    expected: Expected


def pileup_shift(
    made: Design, window: Summary, expectation: PileupExpectation, pileup: float, expected: Expected
) -> Shift:
    """Read the pileup off the numbers of objects; `expected` is the expectation at the measured `pileup`."""
    measured = measure(made, window, expected)
    counts = np.array([channel.family == PRESENCE for channel in made.channels], dtype=np.bool_)
    slope = np.zeros(len(counts))
    if counts.any() and len(expectation.pileups) > 1 and pileup > 0:
        above, below = (
            measure(made, window, expectation.at(pileup * step)).effect for step in (1 + STEP, 1 - STEP)
        )
        slope = np.where(counts, (below - above) / (2 * STEP), 0.0)
    variance = measured.variance / window.n_events
    used = (variance > 0) & (slope != 0)
    information = float((slope[used] ** 2 / variance[used]).sum())
    if information <= 0:
        return Shift(0.0, float("inf"), slope, measured)
    value = float((slope[used] * measured.effect[used] / variance[used]).sum()) / information
    return Shift(value, 1 / information, slope, measured)


def fit_pileup(
    made: Design, window: Summary, expectation: PileupExpectation, pileup: float, error: float
) -> Fitted:
    """Fit the pileup of a window, and measure its channels there.

    Parameters
    ----------
    made
        The channels.
    window
        At least one event.
    expectation
        Of the reference.
    pileup
        As measured.
    error
        Usual relative error of the measured pileup, found by the calibration; 0: it is exact.
    """
    expected = expectation.at(pileup)
    shift = pileup_shift(made, window, expectation, pileup, expected)
    if error <= 0 or not np.isfinite(shift.variance):
        return Fitted(pileup, shift.measured, expected)
    pull = shift.value * error**2 / (error**2 + shift.variance)
    fitted = pileup * (1 + float(np.clip(pull, -FURTHEST * error, FURTHEST * error)))
    expected = expectation.at(fitted)
    there, counts = measure(made, window, expected), shift.slope != 0
    own = shift.measured.variance + (shift.slope * error) ** 2 * window.n_events
    return Fitted(
        pileup=fitted,
        measured=replace(
            there,
            effect=np.where(counts, shift.measured.effect, there.effect),
            variance=np.where(counts, own, there.variance),
            expected_events=np.where(counts, shift.measured.expected_events, there.expected_events),
        ),
        expected=expected,
    )
