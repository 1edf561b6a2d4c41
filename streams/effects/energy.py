"""Effects on pt: gain, offset, resolution, tail. Knows integer codes, not models or streams.

A code stands for an interval of pt, so the true value is drawn flat within it, changed and digitised
again. One draw serves all objects of an event: where all change alike, the order by pt stays. Missing
objects stay missing. A saturated code is taken for its own interval, because what lay above is lost.
"""

import numpy as np

from streams.contracts.contract import Contract, InputSpec
from streams.effects.slots import Inputs, Numbers, Slots, movable_slots, raw_step, slots_with_pt


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
    return _changed(inputs, slots, rng, np.full(len(inputs), factor))


def tail(
    inputs: Inputs, contract: Contract, rng: np.random.Generator, name: str, factor: float, *, fraction: float
) -> Inputs:
    """Multiply pt in a random fraction of the events: a tail, as fake missing energy makes one.

    All objects of the group change alike in such an event. Raises as `gain`.
    """
    slots = slots_with_pt(contract, name)
    if factor == 1.0 or fraction == 0.0:
        return inputs
    return _changed(inputs, slots, rng, np.where(rng.random(len(inputs)) < fraction, factor, 1.0))


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
    position = slots.position("pt")
    spec = slots.specs[position]
    result = _changed(inputs, slots, rng, np.ones(len(inputs)), shift / raw_step(spec), may_vanish=True)
    if not slots.keep_without_pt:
        view = slots.view(result)
        view[slots.present(slots.view(inputs)) & ~slots.present(view)] = slots.padding
    return result


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
    from streams.effects.kernels import smear, sort_falling  # noqa: PLC0415 - numba loads when it is needed

    slots = slots_with_pt(contract, name)
    if slots.falls_with_pt:
        slots = movable_slots(contract, name)
    if width == 0.0:
        return inputs
    result = inputs.copy()
    view = slots.view(result)
    position = slots.position("pt")
    spec = slots.specs[position]
    within = _within(len(inputs), spec, rng)
    factors = rng.standard_normal(np.count_nonzero(slots.present(view)), dtype=np.float32)
    factors *= width
    factors += 1
    pts = np.empty(view.shape[:2])
    smear(view[:, :, position], within, factors, _half(spec), _numbers(spec, spec.padding + 1), pts)
    if slots.falls_with_pt:
        sort_falling(view, pts)
    return result


def _changed(
    inputs: Inputs,
    slots: Slots,
    rng: np.random.Generator,
    factors: Numbers,
    added: float = 0.0,
    *,
    may_vanish: bool = False,
) -> Inputs:
    """Draw pt within its code, multiply it and add to it in raw codes, and digitise it again."""
    from streams.effects.kernels import change  # noqa: PLC0415 - numba loads when it is needed

    result = inputs.copy()
    position = slots.position("pt")
    spec = slots.specs[position]
    codes = slots.view(result)[:, :, position]
    numbers = _numbers(spec, spec.padding + (not may_vanish))
    change(codes, _within(len(inputs), spec, rng), factors, added, _half(spec), numbers)
    return result


def _within(n_events: int, spec: InputSpec, rng: np.random.Generator) -> Numbers:
    """Draw where in the interval of its code each event's true pt lies, and add the offset: raw codes."""
    return rng.random(n_events) * (1 << spec.shift) + (spec.offset - _half(spec))


def _half(spec: InputSpec) -> float:
    return 0.5 if spec.rounding == "nearest" else 0.0


def _numbers(spec: InputSpec, least: int) -> tuple[int, int, int, int, int, int]:
    """Return what the compiled loops know of a contract; `least` is the smallest code an object may get."""
    lowest, highest = ((code << spec.shift) + spec.offset for code in (spec.minimum, spec.maximum))
    return spec.shift, spec.offset, lowest, highest, spec.padding, min(least, spec.maximum)
