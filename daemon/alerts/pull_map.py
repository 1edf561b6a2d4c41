"""The eta-phi map of an object as pulls of a window from its expectation, in physical units.

The numbers behind every map that is shown. Refuses to know files, colours and plotting libraries.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.contracts.contract import Contract
from streams.contracts.quantity import InputSpec
from streams.counting.layout import Axis
from streams.counting.summary import Summary
from streams.explaining.causes import Place
from streams.judging.expectation import Expected
from streams.statistics.maps import residual_map

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PullMap:
    """Pulls of every cell of a map.

    Parameters
    ----------
    object
        The kind of object.
    eta, phi
        Edges of the cells in physical units, rising; float64 of shape (n + 1,).
    pulls
        Standard deviations above the expectation, negative: below; float64 of shape (n_eta, n_phi).
    unit
        Of phi.
    place
        The region that the story is about, or None.
    """

    object: str
    eta: Floats
    phi: Floats
    pulls: Floats
    unit: str
    place: Place | None = None

    def frames(self) -> list[tuple[tuple[float, float], tuple[float, float]]]:
        """Return lower and upper corners of the frames around the place; two where phi wraps around."""
        if self.place is None:
            return []
        (eta_low, eta_high), (low, high) = self.place.eta, self.place.phi
        parts = [(low, high)] if low < high else [(low, float(self.phi[-1])), (float(self.phi[0]), high)]
        return [((eta_low, start), (eta_high, end)) for start, end in parts]


def pull_map(
    window: Summary, expected: Expected, contract: Contract, name: str, place: Place | None = None
) -> PullMap | None:
    """Compare the map of one kind of object with its expectation; None where it has no map."""
    start = 0
    for entry in window.layout.maps:
        cells = slice(start, start + entry.size)
        start += entry.size
        if entry.object != name:
            continue
        shape = (entry.eta.bins, entry.phi.bins)
        density = expected.maps[cells].reshape(shape)
        entries = float(density.sum()) * expected.size
        if entries <= 0:
            return None
        pulls = residual_map(window.maps[cells].reshape(shape), density, reference_size=entries, minimum=1.0)
        specs = {spec.quantity: spec for spec in contract.inputs if spec.object == name and spec.index == 0}
        eta, phi = _edges(entry.eta, specs["eta"]), _edges(entry.phi, specs["phi"])
        turned = _half_turn(phi, specs["phi"])
        if turned:
            phi = phi - float(phi[-1] - phi[0]) / 2
            pulls = np.roll(pulls, turned, axis=1)
        return PullMap(name, eta, phi, pulls, specs["phi"].unit, place)
    return None


def _edges(axis: Axis, spec: InputSpec) -> Floats:
    half = 0.5 if spec.rounding == "nearest" else 0.0
    codes = axis.minimum + axis.width * np.arange(axis.bins + 1) - half + spec.offset / 2**spec.shift
    edges: Floats = codes * spec.lsb + spec.origin
    return edges


def _half_turn(phi: Floats, spec: InputSpec) -> int:
    """Return by how many cells to turn a full circle that begins at 0, so that it begins at minus half."""
    period = (spec.wrap or 0) * spec.lsb
    whole = bool(np.isclose(phi[-1] - phi[0], period)) and len(phi) % 2 == 1
    return (len(phi) - 1) // 2 if whole and abs(phi[0]) < period / 4 else 0
