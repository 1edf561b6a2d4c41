"""The compiled loops of the effects: pt changed, objects removed, inserted, sorted. Knows arrays of codes.

All of them change their first array, a view of shape (n_events, n_slots, n_quantities) or of one quantity of
it. They are compiled at the first use and kept on disk. Who uses them imports them there and then: `lumiwatch
--help` parses no event and need not wait for numba.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Function = TypeVar("Function", bound=Callable[..., Any])
Codes = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]
Events = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


def _compiled(function: Function) -> Function:
    return cast("Function", numba.njit(nogil=True, cache=True)(function))


@_compiled
def _digitised(pt: float, half: float, numbers: Any) -> Any:
    """Return the code of a pt in raw codes, of an object that is there; inlined by the compiler."""
    shift, offset, lowest, highest, _, least = numbers
    raw = np.int64(min(max(np.floor(pt + half), lowest), highest))
    return max((raw - offset) >> shift, least)


@_compiled
def change(codes: Codes, within: Floats, factors: Floats, added: float, half: float, numbers: Any) -> None:
    """Undo codes, multiply and add in raw codes, and digitise again, for objects that are there.

    Parameters
    ----------
    codes
        int16, shape (n_events, n_slots).
    within
        Shape (n_events,): where the true value lies behind the lower edge of a code's interval, in raw codes,
        plus the offset.
    factors
        Shape (n_events,).
    half
        Half a raw code where codes are rounded to the nearest, else 0.
    numbers
        Shift, offset, smallest and largest raw code, padding, and the smallest code an object may get.
    """
    shift, padding = numbers[0], numbers[4]
    for event in range(codes.shape[0]):
        factor = factors[event]
        if factor == 1.0 and added == 0.0:
            continue
        for slot in range(codes.shape[1]):
            code = np.int64(codes[event, slot])
            if code != padding:
                pt = (np.float64(code << shift) + within[event]) * factor + added
                codes[event, slot] = _digitised(pt, half, numbers)


@_compiled
def smear(
    codes: Codes, within: Floats, factors: npt.NDArray[np.float32], half: float, numbers: Any, pts: Floats
) -> None:
    """Do as `change` with a factor for each object that is there, one after the other.

    Parameters
    ----------
    factors
        Shape (number of objects that are there,).
    pts
        Shape (n_events, n_slots); filled with pt before it is digitised, minus infinity for a missing object.
    """
    shift, padding = numbers[0], numbers[4]
    number = 0
    for event in range(codes.shape[0]):
        for slot in range(codes.shape[1]):
            code = np.int64(codes[event, slot])
            if code == padding:
                pts[event, slot] = -np.inf
                continue
            pt = (np.float64(code << shift) + within[event]) * np.float64(factors[number])
            number += 1
            pts[event, slot] = pt
            codes[event, slot] = _digitised(pt, half, numbers)


@_compiled
def remove(view: Codes, gone: Mask, padding: Codes) -> None:
    """Take objects out; what stands behind them moves up, and padding follows.

    Parameters
    ----------
    gone
        Shape (n_events, n_slots).
    padding
        int16, shape (n_quantities,): codes of a missing object.
    """
    for event in range(view.shape[0]):
        to = 0
        for slot in range(view.shape[1]):
            if gone[event, slot]:
                continue
            if to != slot:
                for quantity in range(view.shape[2]):
                    view[event, to, quantity] = view[event, slot, quantity]
            to += 1
        for slot in range(to, view.shape[1]):
            for quantity in range(view.shape[2]):
                view[event, slot, quantity] = padding[quantity]


@_compiled
def insert(
    view: Codes,
    events: Events,
    source: Codes,
    partners: Events,
    chosen: Mask,
    pt: int,
    padding: int,
    by_pt: bool,
) -> None:
    """Put objects in their place by pt, behind those of equal pt, or behind the last; the last is pushed out.

    Parameters
    ----------
    events, partners
        Shape (n,): object k of ``source[partners[i]]`` goes into event ``events[i]`` where ``chosen[i, k]``.
    source
        int16, shape (any, n_objects, n_quantities).
    chosen
        Shape (n, n_objects).
    pt
        Which quantity is pt, with `padding` where an object is missing.
    by_pt
        False: behind the last object that is there.
    """
    slots = view.shape[1]
    for number in range(len(events)):
        event, partner = events[number], partners[number]
        for other in range(chosen.shape[1]):
            if not chosen[number, other]:
                continue
            place = 0
            for slot in range(slots):
                code = view[event, slot, pt]
                if code != padding and (not by_pt or code >= source[partner, other, pt]):
                    place = slot + 1
            if place == slots:
                continue
            for slot in range(slots - 1, place, -1):
                for quantity in range(view.shape[2]):
                    view[event, slot, quantity] = view[event, slot - 1, quantity]
            for quantity in range(view.shape[2]):
                view[event, place, quantity] = source[partner, other, quantity]


@_compiled
def sort_falling(view: Codes, keys: Floats) -> None:
    """Sort the objects of each event by falling key, equal ones as they stand; the keys are sorted too.

    Parameters
    ----------
    keys
        Shape (n_events, n_slots), no NaN.
    """
    held = np.empty(view.shape[2], dtype=np.int16)
    for event in range(view.shape[0]):
        for slot in range(1, view.shape[1]):
            key = keys[event, slot]
            if keys[event, slot - 1] >= key:
                continue
            for quantity in range(view.shape[2]):
                held[quantity] = view[event, slot, quantity]
            place = slot
            while place > 0 and keys[event, place - 1] < key:
                keys[event, place] = keys[event, place - 1]
                for quantity in range(view.shape[2]):
                    view[event, place, quantity] = view[event, place - 1, quantity]
                place -= 1
            keys[event, place] = key
            for quantity in range(view.shape[2]):
                view[event, place, quantity] = held[quantity]
