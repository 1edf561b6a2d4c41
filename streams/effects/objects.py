"""Effects on which objects there are: dead, hole, noise, pileup. Knows integer codes, not models or streams.

An object that vanishes leaves no gap: what stands behind it moves up, as firmware sorts. What firmware had
dropped behind the last slot is not known, so nothing moves in from there and the last slot is missing.
"""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.contracts.contract import Contract, InputSpec
from streams.effects.slots import (
    Inputs,
    Mask,
    Slots,
    code_middles,
    code_of,
    movable_slots,
    raw_step,
    slots_of,
)
from streams.errors import EffectError

Pair = tuple[float, float]
Places = npt.NDArray[np.intp]
_DIGITS: Final = 6


def dead(inputs: Inputs, contract: Contract, rng: np.random.Generator, name: str, slot: int) -> Inputs:  # noqa: ARG001 - one signature for all kinds
    """Empty one slot: whatever stood there is missing, and nothing moves up. Staged codes are fine.

    Raises
    ------
    EffectError
        The contract has no such object or slot.
    """
    slots = slots_of(contract, name) if name in {group.name for group in contract.objects} else None
    if slots is None or slot >= slots.count:
        raise EffectError(f"contract '{contract.name}' has no {name}[{slot}]")
    result = inputs.copy()
    for position, spec in enumerate(contract.inputs):
        if spec.object == name and spec.index == slot:
            result[:, position] = spec.padding
    return result


def hole(
    inputs: Inputs,
    contract: Contract,
    rng: np.random.Generator,  # noqa: ARG001 - one signature for all kinds
    name: str,
    centre: Pair,
    *,
    width: Pair,
    unit: str,
) -> Inputs:
    """Lose the objects whose eta and phi lie in a rectangle: a dead region.

    Phi wraps around. The lower edges belong to the rectangle, the upper ones do not. Of a code, the middle
    of its interval decides; in codes, the number itself.

    Parameters
    ----------
    centre, width
        Eta and phi, and full widths: in the units of the inputs, or in codes.
    unit
        ``physical`` or ``codes``.

    Raises
    ------
    EffectError
        The objects lack pt, eta or phi, one of them went through firmware's scaling, or phi has no period.
    """
    slots = movable_slots(contract, name)
    eta, phi = slots.position("eta"), slots.position("phi")
    rows = _inside(slots.specs[eta], centre[0], width[0], unit)
    columns = _inside(slots.specs[phi], centre[1], width[1], unit, _turn(slots.specs[phi], unit))
    view = slots.view(inputs)
    gone = _looked_up(rows, view[:, :, eta], slots.specs[eta])
    gone &= _looked_up(columns, view[:, :, phi], slots.specs[phi])
    gone &= slots.present(view)
    if not gone.any():
        return inputs
    result = inputs.copy()
    _remove(slots.view(result), slots, gone)
    return result


def noise(
    inputs: Inputs,
    contract: Contract,
    rng: np.random.Generator,
    name: str,
    pt: float,
    *,
    at: Pair | str,
    fraction: float,
) -> Inputs:
    """Add one object in a random fraction of the events: a hot tower, or a burst of noise.

    It takes its place by pt where the group is sorted by pt, behind those of equal pt, or else behind the
    last object; the last slot is pushed out. It does not merge with an object that is there. Quantities
    other than pt, eta and phi hold their padding.

    Parameters
    ----------
    pt
        In its unit.
    at
        Eta and phi, in their units; or ``random``: flat in their codes, anew in each event.

    Raises
    ------
    EffectError
        The objects lack pt, eta or phi, a quantity went through firmware's scaling, the group is sorted by
        another quantity than pt, or so small a pt has the code of a missing object.
    """
    slots = movable_slots(contract, name)
    if slots.sort_by not in {None, "pt"}:
        raise EffectError(
            f"object '{name}' is sorted by {slots.sort_by}, which noise has none of: choose one sorted by pt"
        )
    code = _pt_code(slots, pt)
    slots.position("eta"), slots.position("phi")
    if fraction == 0.0:
        return inputs
    events = np.flatnonzero(rng.random(len(inputs)) < fraction)
    added = np.tile(slots.padding, (len(events), 1, 1))
    added[:, 0, slots.position("pt")] = code
    for number, quantity in enumerate(("eta", "phi")):
        position = slots.position(quantity)
        spec = slots.specs[position]
        if isinstance(at, str):
            added[:, 0, position] = rng.integers(spec.minimum, spec.maximum, len(events), endpoint=True)
        else:
            added[:, 0, position] = code_of(at[number], spec)
    result = inputs.copy()
    chosen = np.ones((len(events), 1), dtype=np.bool_)
    _insert(slots.view(result), slots, events, added, np.arange(len(events)), chosen)
    return result


def pileup(
    inputs: Inputs, contract: Contract, rng: np.random.Generator, name: str, factor: float, *, below: float
) -> Inputs:
    """Thin or add soft objects: a crude change of pileup.

    Below 1, each object softer than `below` stays with probability `factor`. Above 1, each soft object of
    other events of the block is overlaid with probability ``factor - 1`` (of several other events above 2),
    and the hardest of all fill the slots.

    This is no pileup: energy sums and missing energy stay, no resolution or isolation changes, overlaid
    objects do not merge, and objects softer than the last slot or the trigger's threshold are not known.

    Parameters
    ----------
    below
        In the unit of pt.

    Raises
    ------
    EffectError
        The objects lack pt or a quantity went through firmware's scaling; or, above 1, the group is sorted
        by another quantity than pt.
    """
    slots = movable_slots(contract, name)
    if factor > 1.0 and slots.sort_by not in {None, "pt"}:
        raise EffectError(
            f"object '{name}' is sorted by {slots.sort_by}: overlay objects sorted by pt, "
            "or thin with a factor below 1"
        )
    if factor == 1.0 or not len(inputs):
        return inputs
    position = slots.position("pt")
    soft = slots.present(slots.view(inputs))
    soft &= slots.view(inputs)[:, :, position] < code_of(below, slots.specs[position])
    result = inputs.copy()
    view = slots.view(result)
    if factor < 1.0:
        gone = soft.copy()
        gone[soft] = rng.random(np.count_nonzero(soft)) >= factor
        _remove(view, slots, gone)
        return result
    events = np.arange(len(inputs))
    while factor > 1.0 and len(inputs) > 1:
        partners = (events + rng.integers(1, len(inputs))) % len(inputs)
        chosen = soft[partners]
        chosen[chosen] = rng.random(np.count_nonzero(chosen)) < factor - 1.0
        _insert(view, slots, events, slots.view(inputs), partners, chosen)
        factor -= 1.0
    return result


def _remove(view: Inputs, slots: Slots, gone: Mask) -> None:
    from streams.effects.kernels import remove  # noqa: PLC0415 - numba loads when it is needed

    remove(view, gone, slots.padding)


def _insert(
    view: Inputs, slots: Slots, events: Places, source: Inputs, partners: Places, chosen: Mask
) -> None:
    from streams.effects.kernels import insert  # noqa: PLC0415 - numba loads when it is needed

    position = slots.position("pt")
    padding = slots.specs[position].padding
    insert(view, events, source, partners, chosen, position, padding, slots.falls_with_pt)


def _pt_code(slots: Slots, pt: float) -> int:
    spec = slots.specs[slots.position("pt")]
    code = code_of(pt, spec)
    if code <= spec.padding:
        raise EffectError(f"a pt of {pt:g} {spec.unit} has the code of a missing {slots.name}: give more")
    return code


def _inside(spec: InputSpec, centre: float, width: float, unit: str, turn: float | None = None) -> Mask:
    """Tell of each code, from the smallest on, whether it lies in an interval.

    Parameters
    ----------
    turn
        Period in raw codes, or in codes where the unit is ``codes``; None: the input does not wrap.
    """
    in_codes = unit == "codes"
    step = 1.0 if in_codes else raw_step(spec)
    places = np.arange(spec.minimum, spec.maximum + 1.0) if in_codes else code_middles(spec)
    # rounded, because 0.3 / 0.1 is no 3
    low, extent = round((centre - width / 2) / step, _DIGITS), round(width / step, _DIGITS)
    distance = places - low
    if turn is not None:
        distance %= turn
        extent = math.inf if extent >= turn else extent
    inside: Mask = (distance >= 0) & (distance < extent)
    return inside


def _turn(spec: InputSpec, unit: str) -> float:
    """Return after how many codes, raw or not as `unit` says, phi comes round."""
    if spec.wrap is not None:
        return spec.wrap
    if spec.unit == "rad" and unit != "codes":
        return math.tau / raw_step(spec)
    raise EffectError(f"input '{spec.name}' has no period: give phi unit 'rad' and wrap in the contract")


def _looked_up(inside: Mask, codes: Inputs, spec: InputSpec) -> Mask:
    """Look codes up that may, after a stuck bit, lie outside their range: nothing lies there."""
    places = codes.astype(np.intp) - spec.minimum
    known = (places >= 0) & (places < len(inside))
    if not known.all():
        places[~known] = 0
    found: Mask = inside[places] & known
    return found
