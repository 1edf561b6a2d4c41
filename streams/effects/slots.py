"""The slots of one object group in a block of events, and what the codes in them stand for.

Knows codes and their contract, not what happens to a detector. An object is missing where its pt holds the
padding code (`Contract.presence`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.contracts.contract import Contract, InputSpec
from streams.errors import EffectError

Inputs = npt.NDArray[np.int16]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Slots:
    """Where the objects of a group stand among the inputs.

    Attributes
    ----------
    start
        First input of the group.
    count
        Number of slots.
    specs
        Inputs of the first slot, in order; those of the others differ in name and index only, unless staged.
    sort_by
        Quantity that orders the objects, largest first, or None.
    keep_without_pt
        A missing object keeps its other quantities.
    """

    name: str
    start: int
    count: int
    specs: tuple[InputSpec, ...]
    sort_by: str | None
    keep_without_pt: bool

    def view(self, inputs: Inputs) -> Inputs:
        """Return the group's codes, shape (n_events, count, n_quantities): a view, not a copy."""
        width = self.count * len(self.specs)
        group = inputs[:, self.start : self.start + width]
        return group.reshape((len(inputs), self.count, len(self.specs)), copy=False)

    def position(self, quantity: str) -> int:
        """Return which quantity of an object that is.

        Raises
        ------
        EffectError
            The objects have no such quantity.
        """
        names = [spec.quantity for spec in self.specs]
        if quantity not in names:
            raise EffectError(
                f"object '{self.name}' has no {quantity}, only {', '.join(names)}: choose another"
            )
        return names.index(quantity)

    def present(self, view: Inputs) -> Mask:
        """Tell which slots hold an object: shape (n_events, count)."""
        position = self.position("pt")
        present: Mask = view[:, :, position] != self.specs[position].padding
        return present

    @property
    def padding(self) -> Inputs:
        """Codes of a missing object: shape (n_quantities,)."""
        return np.array([spec.padding for spec in self.specs], dtype=np.int16)

    @property
    def falls_with_pt(self) -> bool:
        """Whether the objects stand in the order of falling pt."""
        return self.sort_by == "pt"


def slots_of(contract: Contract, name: str) -> Slots:
    """Find the slots of an object group.

    Raises
    ------
    EffectError
        The contract has no such object.
    """
    group = next((group for group in contract.objects if group.name == name), None)
    if group is None:
        known = ", ".join(group.name for group in contract.objects)
        raise EffectError(f"contract '{contract.name}' has no object '{name}': use one of {known}")
    start = contract.input_index(f"{name}[0].{group.quantities[0].name}")
    return Slots(
        name=name,
        start=start,
        count=group.count,
        specs=contract.inputs[start : start + len(group.quantities)],
        sort_by=group.sort_by,
        keep_without_pt=group.keep_without_pt,
    )


def slots_with_pt(contract: Contract, name: str) -> Slots:
    """Find the slots of objects whose pt can be undone and made anew.

    Raises
    ------
    EffectError
        The contract has no pt for them, or streams it as firmware scales it.
    """
    able = [group.name for group in contract.objects if any(one.name == "pt" for one in group.quantities)]
    if name not in able:
        raise EffectError(f"contract '{contract.name}' has pt for {', '.join(sorted(able)) or 'nothing'}")
    slots = slots_of(contract, name)
    refuse_staged(contract, [slots.specs[slots.position("pt")]])
    return slots


def movable_slots(contract: Contract, name: str) -> Slots:
    """Find the slots of objects that can be told present from missing and can change their slot.

    Raises
    ------
    EffectError
        The contract has no pt for them, or streams any quantity as firmware scales it: that scale may be
        another in every slot.
    """
    slots = slots_with_pt(contract, name)
    refuse_staged(contract, slots.specs)
    return slots


def refuse_staged(contract: Contract, specs: Sequence[InputSpec]) -> None:
    """Raise `EffectError` if one of the inputs went through firmware's scaling."""
    staged = next((spec.quantity for spec in specs if spec.staged), None)
    if staged is not None:
        raise EffectError(
            f"contract '{contract.name}' streams {staged} as firmware scales it, "
            "which cannot be undone: use a contract of raw codes"
        )


def code_of(value: float, spec: InputSpec) -> int:
    """Digitise one physical value as `streams.contracts.contract.digitise` does, given the input alone."""
    raw_value = value / raw_step(spec)
    raw = round(raw_value) if spec.rounding == "nearest" else int(np.floor(raw_value))
    code = (raw - spec.offset) >> spec.shift
    if spec.wrap is not None:
        return spec.minimum + (code - spec.minimum) % spec.wrap
    return min(max(code, spec.minimum), spec.maximum)


def raw_step(spec: InputSpec) -> float:
    """Return the size of one raw code, before the shift, in the unit of the input."""
    return spec.lsb / (1 << spec.shift)


def code_middles(spec: InputSpec) -> Numbers:
    """Return the middle of every code's interval, from the smallest code on: in raw codes, so exact."""
    half = 0.5 if spec.rounding == "nearest" else 0.0
    middle = (1 << spec.shift) / 2 - half
    codes = range(spec.minimum, spec.maximum + 1)
    return np.array([(code << spec.shift) + spec.offset + middle for code in codes])
