"""The shape of one kind of object in an expectation, and what simple faults would make of it.

Every function takes the expected densities of an object's slots and returns those under one cause. Objects of
an event are taken for independent where a slot moves up or down; that is enough to tell causes apart, and no
threshold rests on it. Knows no window and no finding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import comb
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.contracts.contract import Contract, InputSpec
from streams.counting.layout import Layout

Floats = npt.NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_MOST_THINNED: Final = 0.999


@dataclass(frozen=True, eq=False)
class ObjectShape:
    """Densities per event of the slots of one kind of object.

    Attributes
    ----------
    name
        Of the object.
    spec
        Of its pt in the first slot: codes, LSB, padding.
    bins
        Quantity -> place of its bins in the inputs of a summary, a row for each slot. Shape (slots, bins).
    there
        Quantity -> density of the objects that are there, flow bins included. Shape (slots, bins).
    missing
        Probability that a slot is empty. Shape (slots,).
    padding, minimums
        Quantity -> bin of a missing object, and smallest code.
    """

    name: str
    spec: InputSpec
    bins: Mapping[str, npt.NDArray[np.intp]]
    there: Mapping[str, Floats]
    missing: Floats
    padding: Mapping[str, int]
    minimums: Mapping[str, int]

    @property
    def pt(self) -> Floats:
        """Density of pt of the objects that are there, shape (slots, bins)."""
        return self.there["pt"]

    def written(self, inputs: Floats) -> Floats:
        """Return a copy of all inputs' densities with those of this object in it."""
        result = inputs.copy()
        for quantity, bins in self.bins.items():
            values = self.there[quantity].copy()
            values[:, self.padding[quantity]] += self.missing
            result[bins] = values
        return result


def shape_of(contract: Contract, layout: Layout, inputs: Floats, name: str) -> ObjectShape | None:
    """Read the shape of an object from densities or counts of all inputs.

    Returns
    -------
    None where the object has no pt that could be undone: none at all, or one that firmware scales.
    """
    specs = [spec for spec in contract.inputs if spec.object == name]
    if any(spec.staged for spec in specs) or not any(spec.quantity == "pt" for spec in specs):
        return None
    bins: dict[str, npt.NDArray[np.intp]] = {}
    padding: dict[str, int] = {}
    minimums: dict[str, int] = {}
    for quantity in dict.fromkeys(spec.quantity for spec in specs):
        slots = [spec for spec in specs if spec.quantity == quantity]
        places = [contract.input_index(spec.name) for spec in slots]
        bins[quantity] = np.array([np.arange(layout.starts[i], layout.starts[i + 1]) for i in places])
        padding[quantity] = slots[0].padding - slots[0].minimum + 1
        minimums[quantity] = slots[0].minimum
    missing = inputs[bins["pt"]][:, padding["pt"]].astype(np.float64)
    there = {}
    for quantity, where in bins.items():
        values = inputs[where].astype(np.float64)
        values[:, padding[quantity]] = np.maximum(values[:, padding[quantity]] - missing, 0.0)
        there[quantity] = values
    pt = next(spec for spec in specs if spec.quantity == "pt")
    return ObjectShape(name, pt, bins, there, missing, padding, minimums)


def scaled(shape: ObjectShape, gain: float, shift: float = 0.0) -> ObjectShape:
    """Return what a gain and an offset of pt make of it: ``pt' = gain pt + shift``, digitised anew.

    Parameters
    ----------
    shift
        In codes. What it takes to the code of a missing object is missing; a gain loses nothing.
    """
    spec, first = shape.spec, shape.padding["pt"] + 1
    half = 0.5 if spec.rounding == "nearest" else 0.0
    codes = np.arange(spec.minimum, spec.maximum + 2)
    edges = codes + (spec.offset - half) / 2**spec.shift
    source = (edges - shift) / gain
    below = np.cumsum(shape.pt, axis=1)  # probability below the upper edge of each bin, from underflow on
    place = np.clip(source - edges[0], 0.0, len(edges) - 1.0)
    lower = np.minimum(place.astype(np.intp), len(edges) - 2)
    moved = below[:, lower] + (place - lower) * (below[:, lower + 1] - below[:, lower])
    moved[:, source < edges[0]] = 0.0
    moved[:, -1] = below[:, -1]
    pt = np.zeros_like(shape.pt)
    pt[:, 1:-1] = moved[:, 1:] - moved[:, :-1]
    pt[:, 1] += moved[:, 0]
    lost = pt[:, :first].sum(axis=1)
    pt[:, :first] = 0.0
    if shift == 0.0:
        pt[:, first] += lost
        return replace(shape, there={**shape.there, "pt": pt})
    total = shape.pt.sum(axis=1)
    kept = 1.0 - np.divide(lost, total, out=np.zeros(len(lost)), where=total > 0)
    there = {quantity: values * kept[:, None] for quantity, values in shape.there.items()}
    return replace(shape, there={**there, "pt": pt}, missing=shape.missing + lost)


def smeared(shape: ObjectShape, width: float) -> ObjectShape:
    """Return what a relative Gaussian smearing of pt makes of it, slot by slot (Gauss-Hermite sum)."""
    parts = [scaled(shape, max(1.0 + width * node, 0.05)).pt for node in _NODES]
    shares = _WEIGHTS / _WEIGHTS.sum()
    pt = np.sum([share * part for share, part in zip(shares, parts, strict=True)], axis=0)
    return replace(shape, there={**shape.there, "pt": pt})


def mixed(shape: ObjectShape, other: ObjectShape, share: float) -> ObjectShape:
    """Return what it is when a share of the events looks like another shape."""
    there = {
        quantity: (1 - share) * values + share * other.there[quantity]
        for quantity, values in shape.there.items()
    }
    return replace(shape, there=there, missing=(1 - share) * shape.missing + share * other.missing)


def thinned(
    shape: ObjectShape, lost: float, edge: int, kept_angles: Mapping[str, Floats] | None = None
) -> ObjectShape:
    """Return what it is when objects vanish and those behind move up; the last slots are refilled by none.

    An object in slot j lands in slot k when it stays and j - k of the soft ones before it vanish.

    Parameters
    ----------
    lost
        Probability that an object below the edge vanishes.
    edge
        First bin of pt that is never lost.
    kept_angles
        Quantity -> relative probability to stay in each of its bins; its mean is 1 - `lost`.
    """
    lost = min(lost, _MOST_THINNED)
    n_slots = len(shape.missing)
    hard = shape.pt[:, edge:].sum(axis=1)
    steps = _landing(n_slots, lost, -np.diff(np.concatenate([[1.0], hard, [0.0]])))
    soft = shape.pt.copy()
    soft[:, edge:] = 0.0
    pt = (shape.pt - soft) + steps @ soft
    present = pt.sum(axis=1)
    share = np.divide(
        soft.sum(axis=1), shape.pt.sum(axis=1), out=np.zeros(n_slots), where=shape.pt.sum(axis=1) > 0
    )
    there = {"pt": pt}
    for quantity, values in shape.there.items():
        if quantity != "pt":
            moved = steps @ (values * share[:, None])
            if kept_angles is not None and quantity in kept_angles:
                moved = moved * kept_angles[quantity] / (1.0 - lost)
            there[quantity] = values * (1 - share)[:, None] + moved
    return replace(shape, there=there, missing=1.0 - present)


def inserted(shape: ObjectShape, bin_of_pt: int, angles: Mapping[str, Floats]) -> ObjectShape:
    """Return what it is when every event has one more object, which takes its place by pt.

    Parameters
    ----------
    bin_of_pt
        Where its pt lies.
    angles
        Quantity -> density of the new object over its bins; they add up to 1.
    """
    total = shape.pt.sum(axis=1)
    above = shape.pt[:, bin_of_pt:].sum(axis=1)
    before = np.concatenate([[1.0], above[:-1]])
    lands = np.maximum(before - above, 0.0)
    pt = shape.pt.copy()
    pt[:, :bin_of_pt] = np.vstack([np.zeros(bin_of_pt), shape.pt[:-1, :bin_of_pt]])
    pt[:, bin_of_pt] += lands
    stays = np.divide(above, total, out=np.zeros(len(total)), where=total > 0)[:, None]
    there = {"pt": pt}
    for quantity, values in shape.there.items():
        if quantity != "pt":
            from_before = values * (1 - stays)
            pushed = np.vstack([np.zeros(values.shape[1]), from_before[:-1]])
            new = angles.get(quantity, np.eye(1, values.shape[1], shape.padding[quantity])[0])
            there[quantity] = values * stays + pushed + lands[:, None] * new
    return replace(shape, there=there, missing=np.maximum(1.0 - pt.sum(axis=1), 0.0))


def emptied(shape: ObjectShape, slots: Sequence[int]) -> ObjectShape:
    """Return what it is when some slots are always empty, and nothing moves up."""
    keep = np.ones(len(shape.missing))
    keep[list(slots)] = 0.0
    there = {quantity: values * keep[:, None] for quantity, values in shape.there.items()}
    return replace(shape, there=there, missing=np.where(keep > 0, shape.missing, 1.0))


def _landing(n_slots: int, lost: float, hard: Floats) -> Floats:
    """Probability that a soft object of slot j (column) stays and lands in slot k (row).

    `hard[h]` is the probability that an event has h hard objects, which come first.
    """
    steps, places = np.zeros((n_slots, n_slots)), np.arange(n_slots)
    known = np.cumsum(hard[:n_slots])
    shares = np.divide(hard[:n_slots, None], known, out=np.zeros((n_slots, n_slots)), where=known > 0)
    shares[0, known <= 0] = 1.0
    for h in range(n_slots):
        k, j = places[h:, None], places[None, h:]
        gone = np.maximum(j - k, 0)
        ways = _comb(n_slots)[j - h, gone] * lost**gone * (1 - lost) ** (k - h + 1)
        steps[h:, h:] += np.where(j >= k, shares[h, h:] * ways, 0.0)
    return steps


@cache
def _comb(n: int) -> Floats:
    """Return the binomial coefficients of all numbers below n, shape (n, n)."""
    return np.array([[comb(upper, lower) for lower in range(n)] for upper in range(n)], dtype=np.float64)
