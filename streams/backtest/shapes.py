"""The shapes of a generated detector: quantile tables of eta and phi, and counts of objects. Knows no event.

The densities are drawn by hand after the regions of a barrel-and-endcap detector; none is fitted to data.
They are written as densities on a fine grid and turned into quantile tables, so that an event needs one
uniform number and one linear interpolation for each angle.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]

CELLS: Final = 1024
"""Cells of a quantile table, each of equal probability."""
MAX_INTERACTIONS: Final = 256
MAX_OBJECTS: Final = 48
"""Most objects of one source in an event."""

NORMAL, ETA_HARD, ETA_PILEUP, ETA_EGAMMA, ETA_MUON, PHI, PHI_MUON, COSINE, SINE = range(9)
"""Rows of `quantiles`. `COSINE` and `SINE` are those of the angle in row `PHI`."""

CALORIMETER_END: Final = 4.7
EGAMMA_END: Final = 2.5
MUON_END: Final = 2.4


@cache
def quantiles() -> Floats:
    """Return the quantile tables, shape (9, CELLS + 1)."""
    phi = _quantile(_phi_calorimeter, math.pi)
    table = np.array(
        [
            # ends at 3.6 standard deviations: only resolutions are drawn from it
            special.ndtri(np.linspace(0.5 / CELLS / 3, 1 - 0.5 / CELLS / 3, CELLS + 1)),
            _quantile(_eta_hard, CALORIMETER_END),
            _quantile(_eta_pileup, CALORIMETER_END),
            _quantile(_eta_egamma, EGAMMA_END),
            _quantile(_eta_muon, MUON_END),
            phi,
            _quantile(_phi_muon, math.pi),
            np.cos(phi),
            np.sin(phi),
        ]
    )
    table.flags.writeable = False
    return table


@cache
def object_counts() -> Floats:
    """Return cumulative Poisson distributions of numbers of objects given the number of interactions.

    Returns
    -------
    Shape (3, MAX_INTERACTIONS, MAX_OBJECTS): pileup jets, e/gamma, muons. The means are straight lines in the
    number of interactions; the last entry of every row is 1.
    """
    interactions = np.arange(MAX_INTERACTIONS)
    means = np.array([0.12 * interactions, 0.55 + 0.02 * interactions, 0.12 + 0.003 * interactions])
    table: Floats = special.pdtr(np.arange(MAX_OBJECTS), means[:, :, None])
    table[:, :, -1] = 1.0
    table.flags.writeable = False
    return table


def _quantile(density: Callable[[Floats], Floats], end: float) -> Floats:
    """Return the values at CELLS + 1 equal steps of probability, of a density on ``[-end, end]``."""
    edges = np.linspace(-end, end, 20_001)
    middles = 0.5 * (edges[1:] + edges[:-1])
    cumulative = np.concatenate([[0.0], np.cumsum(density(middles))])
    return np.interp(np.linspace(0, 1, CELLS + 1), cumulative / cumulative[-1], edges)


def _bump(x: Floats, centre: float, width: float) -> Floats:
    return np.asarray(np.exp(-0.5 * ((np.abs(x) - centre) / width) ** 2))


def _eta_hard(eta: Floats) -> Floats:
    """Central, with the crack between barrel and endcap and a step where the forward calorimeter begins."""
    central = np.exp(-0.5 * (eta / 2.1) ** 2)
    return central * (1 - 0.35 * _bump(eta, 1.48, 0.12)) * (1 - 0.30 * _bump(eta, 3.0, 0.15))


def _eta_pileup(eta: Floats) -> Floats:
    """Nearly flat, with the horns where the tracker ends and endcap meets forward calorimeter."""
    return 0.7 + 0.9 * _bump(eta, 2.85, 0.28) + 0.15 * (np.abs(eta) < 1.4) - 0.12 * _bump(eta, 1.48, 0.1)


def _eta_egamma(eta: Floats) -> Floats:
    """Growing with the material in front, with the crack of the electromagnetic calorimeter."""
    return (1 + 0.10 * eta**2) * (1 - 0.75 * _bump(eta, 1.5, 0.06)) * (1 - 0.3 * _bump(eta, 0.0, 0.02))


def _eta_muon(eta: Floats) -> Floats:
    """Barrel wheels with a gap at 0.25, an overlap region that is less efficient, and endcaps."""
    endcap = np.where(np.abs(eta) > 1.24, 1.25, 1.0)
    return endcap * (1 - 0.4 * _bump(eta, 0.25, 0.04)) * (1 - 0.25 * _bump(eta, 0.95, 0.12))


def _phi_calorimeter(phi: Floats) -> Floats:
    """Flat but for 2 % of a beam spot off the axis and 1 % of sectors."""
    return 1 + 0.02 * np.cos(phi - 0.6) + 0.01 * np.cos(8 * phi)


def _phi_muon(phi: Floats) -> Floats:
    """Twelve sectors with 8 % of loss at their edges."""
    return 1 + 0.04 * np.cos(12 * phi) + 0.01 * np.cos(phi + 1.0)
