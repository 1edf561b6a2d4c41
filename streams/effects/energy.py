"""Effects on pt: gain, offset, resolution, tail. Knows integer codes, not models or streams.

A code stands for an interval of pt, so the true value is drawn flat within it, changed and digitised
again. One draw serves all objects of an event: where all change alike, the order by pt stays. Missing
objects stay missing. A saturated code is taken for its own interval, because what lay above is lost.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.contracts.contract import Contract, InputSpec
from streams.effects.slots import (
    Inputs,
    Numbers,
    Slots,
    by_falling_key,
    movable_slots,
    raw_step,
    slots_with_pt,
)

_KEY_SCALE: Final = 2.0**16
"""Sorting keys are raw codes in steps of 2^-16."""


def gain(inputs: Inputs, contract: Contract, rng: np.random.Generator, name: str, factor: float) -> Inputs:
    """Multiply pt before it is digitised: a miscalibrated energy scale.

    No object vanishes: what would fall to nothing keeps the smallest code of an object.

    Raises
    ------
    EffectError
        The contract has no pt for the object, or streams it as firmware scales it.
    """
    slots = slots_with_pt(contract, name)
    if factor == 1.0:
        return inputs
    return _changed(inputs, slots, lambda pt: pt * factor, rng)


def tail(
    inputs: Inputs, contract: Contract, rng: np.random.Generator, name: str, factor: float, *, fraction: float
) -> Inputs:
    """Multiply pt in a random fraction of the events: a tail, as fake missing energy makes one.

    All objects of the group change alike in such an event. Raises as `gain`.
    """
    slots = slots_with_pt(contract, name)
    if factor == 1.0 or fraction == 0.0:
        return inputs
    events = np.flatnonzero(rng.random(len(inputs)) < fraction)
    result = inputs.copy()
    result[events] = _changed(inputs[events], slots, lambda pt: pt * factor, rng)
    return result


def offset(inputs: Inputs, contract: Contract, rng: np.random.Generator, name: str, shift: float) -> Inputs:
    """Add to the pt of every object before it is digitised: a wrong pedestal or pileup subtraction.

    An object that falls to the code of a missing one is missing. Nothing is added to missing objects, so
    a positive pedestal makes no new ones. Raises as `gain`.

    Parameters
    ----------
    shift
        In the unit of pt.
    """
    slots = slots_with_pt(contract, name)
    if shift == 0.0:
        return inputs
    step = raw_step(slots.specs[slots.position("pt")])
    return _changed(inputs, slots, lambda pt: pt + shift / step, rng, may_vanish=True)


def resolution(
    inputs: Inputs, contract: Contract, rng: np.random.Generator, name: str, width: float
) -> Inputs:
    """Smear the pt of each object by a Gaussian of a relative width, on top of the detector's own.

    Where the contract sorts the group by pt, the objects are sorted anew; elsewhere they stay where they
    are. No object vanishes.

    Raises
    ------
    EffectError
        As `gain`; or the group is sorted by pt and streams a quantity as firmware scales it, perhaps
        otherwise in every slot.
    """
    slots = slots_with_pt(contract, name)
    if slots.falls_with_pt:
        slots = movable_slots(contract, name)
    if width == 0.0:
        return inputs
    result = inputs.copy()
    view = slots.view(result)
    position = slots.position("pt")
    spec = slots.specs[position]
    present = slots.present(view)
    pt = _drawn(view[:, :, position], spec, rng)[present]
    pt *= 1.0 + width * rng.standard_normal(len(pt), dtype=np.float32)
    view[:, :, position][present] = _digitised(pt, spec)
    if slots.falls_with_pt:
        keys = np.full(present.shape, -(2.0**52), dtype=np.float64)
        keys[present] = np.clip(pt * _KEY_SCALE, 1 - 2.0**52, 2.0**52)
        events = np.flatnonzero((keys[:, 1:] > keys[:, :-1]).any(axis=1))
        view[events] = by_falling_key(view[events], keys[events].astype(np.int64))
    return result


def _changed(
    inputs: Inputs,
    slots: Slots,
    change: Callable[[Numbers], Numbers],
    rng: np.random.Generator,
    *,
    may_vanish: bool = False,
) -> Inputs:
    """Draw pt within its code, change it in raw codes and digitise it again, for objects that are there."""
    result = inputs.copy()
    view = slots.view(result)
    position = slots.position("pt")
    spec = slots.specs[position]
    codes = view[:, :, position]
    present = codes != spec.padding
    pt = change(_drawn(codes, spec, rng))
    scaled = _raw_codes(pt, spec)
    if may_vanish:
        gone = present & (scaled <= spec.padding)
        scaled[gone] = spec.padding
        if not slots.keep_without_pt:
            view[gone] = slots.padding
    else:
        _keep(scaled, spec)
    np.copyto(codes, scaled, where=present, casting="same_kind")
    return result


def _drawn(codes: Inputs, spec: InputSpec, rng: np.random.Generator) -> Numbers:
    """Draw the true pt of codes, in raw codes: int16 of shape (n_events, n) to float64."""
    half = 0.5 if spec.rounding == "nearest" else 0.0
    within = rng.random((len(codes), 1)) * (1 << spec.shift) + (spec.offset - half)
    drawn = codes.astype(np.float64)
    drawn *= 1 << spec.shift
    drawn += within
    return drawn


def _digitised(pt: Numbers, spec: InputSpec) -> Inputs:
    """Digitise pt in raw codes, of objects that stay there."""
    codes = _raw_codes(pt, spec)
    _keep(codes, spec)
    return codes.astype(np.int16)


def _raw_codes(pt: Numbers, spec: InputSpec) -> npt.NDArray[np.int64]:
    """Round, saturate, offset and shift as `streams.contracts.contract.digitise` does."""
    half = 0.5 if spec.rounding == "nearest" else 0.0
    lowest = (spec.minimum << spec.shift) + spec.offset
    highest = (spec.maximum << spec.shift) + spec.offset
    raw = np.clip(np.floor(pt + half), lowest, highest).astype(np.int64)
    raw -= spec.offset
    raw >>= spec.shift
    return raw


def _keep(codes: npt.NDArray[np.int64], spec: InputSpec) -> None:
    """Give objects that would be missing the smallest code of one that is there, in place."""
    np.maximum(codes, min(spec.padding + 1, spec.maximum), out=codes)
