"""Spikes: codes of an input that are suddenly much too frequent: noise of one energy, a bit that sticks.

A spike of few events leaves means, distances and tails nearly as they were, while the few codes it falls on
hold many times what they should. Codes may hold a quarter more than expected before any of it counts, so
no gain and no pileup makes a spike; what is left has the noise of counting, and needs no calibration.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from streams.counting.summary import Summary
from streams.judging.expectation import Expected
from streams.judging.extreme import Extreme

SPIKES: Final = "spikes"
SPIKE: Final = "spike in an input"
WIDTHS: Final = (1, 4)
"""Neighbouring codes that are looked at together."""
TOLERATED: Final = 0.25
"""Share of what is expected of a few codes that may come on top of it."""
FEW: Final = 2.0
"""On codes that are hardly ever used, sixteen events over this are eight standard deviations."""

Floats = npt.NDArray[np.float64]


def spike(window: Summary, expected: Expected, floor: float) -> Extreme:
    """Find the few neighbouring codes of an input that are most significantly too frequent.

    Parameters
    ----------
    window
        At least one event, and at least one input; every event stands in every input.
    expected
        What it should hold; its size stands for the noise of the reference.
    floor
        Share of the events that no excess below counts as.
    """
    n = window.n_events
    usual = np.concatenate([[0.0], np.cumsum(expected.inputs)]) * (n * (1.0 + TOLERATED))
    seen = np.concatenate([[0], np.cumsum(window.inputs)])
    beyond = seen - usual
    value, first, width = 0.0, 0, 0
    for codes in WIDTHS:
        at = np.flatnonzero(beyond[codes:] - beyond[:-codes] > floor * n)
        if not len(at):
            continue
        # the roots of two counts differ by half a standard deviation for each (Anscombe 1948)
        roots = np.sqrt(seen[at + codes] - seen[at] + 0.375) - np.sqrt(usual[at + codes] - usual[at] + 0.375)
        best = int(np.argmax(roots))
        pull = 2.0 * float(roots[best]) / float(np.sqrt(1.0 + n / expected.size))
        if pull > value:
            value, first, width = pull, int(at[best]), codes
    if not width:
        return Extreme(SPIKE, SPIKES, "", 0.0, 0.0, n / FEW, "")
    layout, last = window.layout, first + width
    # neighbours of which the last ones are the next input's go by the name of the first
    index = int(np.searchsorted(np.array(layout.starts), first, side="right")) - 1
    name, code = layout.input_names[index], layout.minimums[index] - 1 + first - layout.starts[index]
    effect = float(seen[last] - seen[first]) / n - float(expected.inputs[first:last].sum())
    return Extreme(
        name=SPIKE,
        family=SPIKES,
        object=name.partition("[")[0],
        value=value,
        effect=effect,
        size=value / effect,
        place=f"{name} {code}" if width == 1 else f"{name} {code}..{code + width - 1}",
    )


def spike_noise(n_bins: int, values: Floats) -> tuple[float, float]:
    """Return location and scale of Gumbel's distribution for the spikes of windows in control.

    Of the largest of ``k`` normal values (Cramer 1946, section 28.6): the value that one in k exceeds, and
    one over it.

    Parameters
    ----------
    n_bins
        Bins of all inputs.
    values
        What held-out lumisections showed, at least one: where one was above the noise of counting, the scale
        grows until that is as rare as it was.
    """
    location = -float(special.ndtri(1.0 / (n_bins * len(WIDTHS))))
    seen = (float(values.max()) - location) / float(np.log(max(len(values), 2)))
    return location, max(1.0 / location, seen)
