"""The place of an eta-phi map that differs most from what is expected, in codes and in physical units."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.contracts.contract import Contract, InputSpec
from streams.counting.layout import Axis, ObjectMap
from streams.explaining.object_shape import ObjectShape
from streams.statistics.maps import scan_map

SHAPES: Final = tuple((high, wide) for high in (1, 2, 3, 4, 6) for wide in (1, 2, 3, 4, 6))
"""Cells in eta and phi of the places that are tried."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Region:
    """A rectangle of cells of one map.

    Attributes
    ----------
    pull
        Signed root of the deviance: negative where objects are missing.
    observed, expected
        Entries of the window in it.
    rows, columns
        Cells in eta, and in phi around the circle.
    eta_codes, phi_codes
        First and last code, both included; phi may wrap around.
    eta, phi
        Edges in physical units; phi between -pi and pi where it is an angle.
    """

    object: str
    pull: float
    observed: float
    expected: float
    axes: tuple[Axis, Axis]
    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    eta_codes: tuple[int, int]
    phi_codes: tuple[int, int]
    eta: tuple[float, float]
    phi: tuple[float, float]

    @property
    def excess(self) -> float:
        """Entries too many; negative: missing."""
        return self.observed - self.expected

    @property
    def words(self) -> str:
        """Where it is, for people: ``eta 1.04 to 1.39, phi 0.35 to 0.70``."""
        return f"eta {self.eta[0]:.2f} to {self.eta[1]:.2f}, phi {self.phi[0]:.2f} to {self.phi[1]:.2f}"

    def inside(self) -> Floats:
        """Return 1 in the region and 0 outside, shape of the map."""
        grid = np.zeros((self.axes[0].bins, self.axes[1].bins))
        grid[np.ix_(self.rows, self.columns)] = 1.0
        return grid

    def kept(self) -> Floats:
        """Return which part of the objects stays in each cell, shape of the map."""
        there = min(max(self.observed / self.expected, 0.0), 1.0)
        return 1.0 - (1.0 - there) * self.inside()

    def angles(self, shape: ObjectShape) -> dict[str, Floats]:
        """Return the density over all bins of eta and of phi of objects that are flat in the region."""
        result = {}
        for quantity, axis, cells in zip(("eta", "phi"), self.axes, (self.rows, self.columns), strict=True):
            flat = np.zeros(axis.bins)
            flat[cells] = 1.0
            spread = over_bins(flat, axis, shape.minimums[quantity], shape.bins[quantity].shape[1])
            spread[[0, -1]] = 0.0
            result[quantity] = spread / spread.sum()
        return result

    def kept_angles(self, shape: ObjectShape, grid: Floats) -> dict[str, Floats]:
        """Return which part of the objects stays in each bin of eta and phi; `grid` is the expected map."""
        kept = grid * self.kept()
        result = {}
        for quantity, axis, across in zip(("eta", "phi"), self.axes, (1, 0), strict=True):
            total = grid.sum(axis=across)
            part = np.divide(kept.sum(axis=across), total, out=np.ones(len(total)), where=total > 0)
            result[quantity] = over_bins(part, axis, shape.minimums[quantity], shape.bins[quantity].shape[1])
        return result


def find_region(
    entry: ObjectMap, observed: npt.NDArray[np.int64], expected: Floats, size: float, contract: Contract
) -> Region | None:
    """Find the place of a map that differs most; None where nothing is expected.

    Parameters
    ----------
    entry
        Which map.
    observed, expected
        Its cells: counts of the window, and expected entries per event. Shape (cells,).
    size
        Events that the expectation is worth.
    contract
        For the units.
    """
    shape = (entry.eta.bins, entry.phi.bins)
    entries = float(expected.sum()) * size
    if entries <= 0 or not observed.sum():
        return None
    found = scan_map(observed.reshape(shape), expected.reshape(shape), reference_size=entries, windows=SHAPES)
    if found.expected <= 0:
        return None
    rows = found.eta + np.arange(found.shape[0])
    columns = (found.phi + np.arange(found.shape[1])) % entry.phi.bins
    specs = {
        spec.quantity: spec for spec in contract.inputs if spec.object == entry.object and spec.index == 0
    }
    eta_codes, phi_codes = _codes(entry.eta, rows), _codes(entry.phi, columns)
    return Region(
        object=entry.object,
        pull=found.pull,
        observed=found.observed,
        expected=found.expected,
        axes=(entry.eta, entry.phi),
        rows=rows,
        columns=columns,
        eta_codes=eta_codes,
        phi_codes=phi_codes,
        eta=_edges(specs["eta"], eta_codes),
        phi=_edges(specs["phi"], phi_codes),
    )


def over_bins(values: Floats, axis: Axis, minimum: int, n_bins: int) -> Floats:
    """Spread a value for each cell of an axis over the bins of an input's histogram, flow bins included."""
    codes = minimum - 1 + np.arange(n_bins)
    cells = np.clip((codes - axis.minimum) // axis.width, 0, axis.bins - 1)
    return np.asarray(values[cells], dtype=np.float64)


def uniform_angles(shape: ObjectShape) -> dict[str, Floats]:
    """Return densities of eta and phi that are flat in their codes, over all bins of their histograms."""
    result = {}
    for quantity in ("eta", "phi"):
        flat = np.ones(shape.bins[quantity].shape[1])
        flat[[0, -1]] = 0.0
        result[quantity] = flat / flat.sum()
    return result


def _codes(axis: Axis, cells: npt.NDArray[np.intp]) -> tuple[int, int]:
    first = axis.minimum + int(cells[0]) * axis.width
    return first, axis.minimum + (int(cells[-1]) + 1) * axis.width - 1


def _edges(spec: InputSpec, codes: tuple[int, int]) -> tuple[float, float]:
    """Return the lower edge of the first code and the upper edge of the last, in the unit of the input."""
    half = 0.5 if spec.rounding == "nearest" else 0.0
    start = spec.offset / 2**spec.shift + spec.origin / spec.lsb - half
    low, high = (codes[0] + start) * spec.lsb, (min(codes[1], spec.maximum) + 1 + start) * spec.lsb
    if spec.wrap is None:
        return low, high
    period = spec.wrap * spec.lsb
    return (low + period / 2) % period - period / 2, (high + period / 2) % period - period / 2
