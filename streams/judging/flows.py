"""Codes out of range: how many of an input's codes lie below or above the contract's range.

Where the range was never left a single percent is a fault, and no distance of distributions shows it.
Counts of few or none have no need of a calibration: their noise is that of counting.
"""

from typing import Final

import numpy as np
from scipy import special

from streams.counting.summary import Summary
from streams.judging.expectation import Expected, input_totals
from streams.judging.extreme import Extreme
from streams.statistics.rates import poisson_deviance_residuals

RANGE: Final = "range"
OUT_OF_RANGE: Final = "codes out of range"


def out_of_range(window: Summary, expected: Expected) -> Extreme:
    """Find the input whose codes leave the range most significantly more, or less, often than expected.

    Parameters
    ----------
    window
        At least one event, and at least one input.
    expected
        What it should hold; its size stands for the noise of the reference.
    """
    layout = window.layout
    starts, ends = np.array(layout.starts[:-1]), np.array(layout.starts[1:]) - 1
    bins = np.concatenate([starts, ends])
    n, m = (np.tile(totals, 2).astype(np.float64) for totals in (input_totals(window), expected.input_size))
    seen = window.inputs[bins].astype(np.float64)
    exposure = np.divide(n, m, out=np.ones(len(n)), where=(n > 0) & (m > 0))
    pulls = poisson_deviance_residuals(seen, expected.inputs[bins] * m, exposure)
    worst = int(np.argmax(np.abs(pulls)))
    index, side = worst % layout.n_inputs, ("below", "above")[worst // layout.n_inputs]
    entries = max(float(n[worst]), 1.0)
    return Extreme(
        name=OUT_OF_RANGE,
        family=RANGE,
        object="",
        value=abs(float(pulls[worst])),
        effect=float(seen[worst] / entries - expected.inputs[bins[worst]]),
        size=float(np.sqrt(entries)),
        place=f"{layout.input_names[index]} {side}",
    )


def counting_noise(n_inputs: int) -> tuple[float, float]:
    """Return location and scale of Gumbel's distribution for the largest of all pulls.

    Of ``k`` absolute normal values (Cramer 1946, section 28.6): the value that one in k exceeds, and one over
    it. Both sides of each input count.
    """
    location = -float(special.ndtri(1 / (4 * n_inputs)))
    return location, 1 / location
