"""Onset: since which window a channel is off, once there is an alarm.

Evidence says that something is wrong, not since when: it adds up, so that a chance excess some windows ago
may be part of it. Here the likeliest change is sought, by the deviations of the last windows. Judges nothing.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from scipy import special

MOST_WINDOWS: Final = 60
"""Windows to look back; of a change before them, the first of them is named."""
LARGEST: Final = 37.0
"""Deviations of a probability of 6e-300: a float holds hardly smaller ones."""


class Change(NamedTuple):
    """The likeliest change of a channel.

    Attributes
    ----------
    first
        Index of the first window after it.
    strength
        Logarithm of how much likelier it is than no change.
    """

    first: int
    strength: float


def deviations_of_rare(p_value: float) -> float:
    """Return the standard deviations that are as rare as a p-value, between 0 and `LARGEST`."""
    return float(np.clip(-special.ndtri(p_value), 0.0, LARGEST))


def likeliest_change(deviations: Sequence[float], tolerance: float = 0.0) -> Change:
    """Find the change of the mean that makes the last windows likeliest (Hinkley, Biometrika 57 (1970) 1).

    Parameters
    ----------
    deviations
        Of consecutive windows, in standard deviations; at least one. The change is before the last of them.
    tolerance
        Before the change, the mean is any within it; afterwards it is any.
    """
    values = np.asarray(deviations, dtype=np.float64)
    n = np.arange(1, len(values) + 1)
    sums, squares = np.cumsum(values), np.cumsum(values**2)
    usual = np.clip(sums / n, -tolerance, tolerance)
    # sums of squares about the mean before the change, for 0, 1, ... windows there, and about that after it
    before = np.concatenate([[0.0], squares - 2 * usual * sums + n * usual**2])
    later, left = sums[-1] - np.concatenate([[0.0], sums[:-1]]), n[::-1]
    after = squares[-1] - np.concatenate([[0.0], squares[:-1]]) - later**2 / left
    about = before[:-1] + after
    first = int(np.argmin(about))
    return Change(first, float(before[-1] - about[first]) / 2)
