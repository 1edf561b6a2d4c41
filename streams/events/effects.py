"""Detector effects for replays: a miscalibration, a dead slot. Knows integer codes, not models or streams.

An effect is written ``jet_gain=1.05@LS61``: the jet energy scale is 5 % high from lumisection 61 on.
A new kind is one function in `KINDS`.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.contracts.contract import Contract, InputSpec
from streams.errors import EffectError

Inputs = npt.NDArray[np.int16]

_WRITTEN: Final = re.compile(
    r"^(?P<object>[A-Za-z][A-Za-z0-9_-]*)_(?P<kind>[A-Za-z]+)=(?P<value>[-+0-9.eE]+)(@LS(?P<first>\d{1,9}))?$"
)


@dataclass(frozen=True)
class Effect:
    """One effect on one kind of object.

    Attributes
    ----------
    kind
        A key of `KINDS`, or ``none``.
    object
        The object of the contract it acts on.
    value
        Gain: the factor on pt. Dead: the number of the dead slot, from 0.
    first_lumisection
        First lumisection it acts in.
    """

    kind: str
    object: str
    value: float
    first_lumisection: int = 0

    def check(self, contract: Contract) -> None:
        """Find out whether the effect can act under a contract, before a replay gets to it.

        Raises
        ------
        EffectError
            The contract has no such object or slot.
        """
        if self.kind != "none":
            nothing = np.zeros((0, contract.n_inputs), dtype=np.int16)
            KINDS[self.kind](self, nothing, contract, np.random.default_rng(0))

    def apply(self, inputs: Inputs, contract: Contract, lumisection: int, rng: np.random.Generator) -> Inputs:
        """Return the events as the affected detector would have sent them.

        Parameters
        ----------
        inputs
            int16, shape (n_events, n_inputs). Not changed.
        rng
            Source of the dither within a code.

        Returns
        -------
        int16, same shape; `inputs` itself where the effect does not act.

        Raises
        ------
        EffectError
            The contract has no such object or slot.
        """
        if self.kind == "none" or lumisection < self.first_lumisection:
            return inputs
        return KINDS[self.kind](self, inputs, contract, rng)

    def __str__(self) -> str:
        """Return it as it would be written."""
        if self.kind == "none":
            return "none"
        since = f"@LS{self.first_lumisection}" if self.first_lumisection else ""
        return f"{self.object}_{self.kind}={self.value:.12g}{since}"


def parse_effect(text: str) -> Effect:
    """Read an effect, for example ``jet_gain=1.05@LS61``, ``muon_dead=0`` or ``none``.

    Raises
    ------
    EffectError
        It is badly written, or its kind is unknown.
    """
    text = text.strip()
    if text == "none":
        return Effect(kind="none", object="", value=0.0)
    found = _WRITTEN.match(text)
    if found is None:
        raise EffectError(f"effect '{text}' is badly written: write for example jet_gain=1.05@LS61, or none")
    if found["kind"] not in KINDS:
        known = ", ".join(f"<object>_{kind}" for kind in sorted(KINDS))
        raise EffectError(f"effect '{text}' is of unknown kind '{found['kind']}': known are {known}")
    try:
        value = float(found["value"])
    except ValueError:
        raise EffectError(f"effect '{text}': '{found['value']}' is no number") from None
    if found["kind"] == "gain" and not (math.isfinite(value) and value > 0):
        raise EffectError(f"effect '{text}': a gain is a number above 0, for example 1.05")
    if found["kind"] == "dead" and (value < 0 or value != int(value)):
        raise EffectError(f"effect '{text}': a dead slot is a number from 0, for example jet_dead=3")
    return Effect(found["kind"], found["object"], value, int(found["first"] or 0))


def _gain(effect: Effect, inputs: Inputs, contract: Contract, rng: np.random.Generator) -> Inputs:
    """Scale pt as if before digitisation.

    A code stands for an interval of pt, so the true value is drawn flat within it, scaled and digitised
    again. One draw serves all objects of an event: the order by pt stays. Missing objects stay missing
    and no object vanishes.
    """
    specs = _pt_inputs(effect, contract)
    if effect.value == 1.0:
        return inputs
    columns = [contract.input_index(spec.name) for spec in specs]
    spec = specs[0]
    codes = inputs[:, columns].astype(np.int64)
    half = 0.5 if spec.rounding == "nearest" else 0.0
    low_edge = (codes << spec.shift) + spec.offset - half
    dither = rng.random((len(inputs), 1)) * 2**spec.shift
    raw = np.floor((low_edge + dither) * effect.value + half).astype(np.int64)
    scaled = np.clip((raw - spec.offset) >> spec.shift, spec.minimum, spec.maximum)
    scaled = np.where(scaled <= spec.padding, min(spec.padding + 1, spec.maximum), scaled)
    result = inputs.copy()
    result[:, columns] = np.where(codes == spec.padding, codes, scaled).astype(np.int16)
    return result


def _dead(effect: Effect, inputs: Inputs, contract: Contract, rng: np.random.Generator) -> Inputs:  # noqa: ARG001 - one signature for all kinds
    """Empty one slot of an object: whatever stood there is missing."""
    group = contract.group(effect.object) if effect.object in {one.name for one in contract.objects} else None
    if group is None or effect.value >= group.count:
        raise EffectError(
            f"effect '{effect}': contract '{contract.name}' has no {effect.object}[{effect.value:.0f}]"
        )
    result = inputs.copy()
    for position, spec in enumerate(contract.inputs):
        if spec.object == effect.object and spec.index == effect.value:
            result[:, position] = spec.padding
    return result


def _pt_inputs(effect: Effect, contract: Contract) -> list[InputSpec]:
    specs = [spec for spec in contract.inputs if spec.object == effect.object and spec.quantity == "pt"]
    if not specs:
        able = sorted({spec.object for spec in contract.inputs if spec.quantity == "pt"})
        raise EffectError(
            f"effect '{effect}': contract '{contract.name}' has pt for {', '.join(able) or 'nothing'}"
        )
    if any(spec.staged for spec in specs):
        raise EffectError(
            f"effect '{effect}': contract '{contract.name}' streams pt as firmware scales it, "
            "which cannot be undone: use a contract of raw codes"
        )
    return specs


KINDS: Final[Mapping[str, Callable[[Effect, Inputs, Contract, np.random.Generator], Inputs]]] = {
    "dead": _dead,
    "gain": _gain,
}
"""Kind -> function that applies it."""
