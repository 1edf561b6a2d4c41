"""Effects on single inputs: stuck, bit, swap. Faults of a link or a register, which knows no physics.

They act on the code as it is streamed, staged or not, whether or not the object is there, and move no
object: that is how firmware would see them.
"""

import numpy as np

from streams.contracts.contract import Contract, InputSpec
from streams.effects.slots import Inputs
from streams.errors import EffectError


def stuck(inputs: Inputs, contract: Contract, rng: np.random.Generator, name: str, code: int | str) -> Inputs:  # noqa: ARG001 - one signature for all kinds
    """Hold one input at one code in all events: a dead channel.

    Parameters
    ----------
    code
        In the range of the input; or ``padding``, its code for a missing object.

    Raises
    ------
    EffectError
        The contract has no such input, or the code is outside its range.
    """
    column = contract.input_index(name)
    spec = contract.inputs[column]
    held = spec.padding if isinstance(code, str) else code
    if not spec.minimum <= held <= spec.maximum:
        raise EffectError(f"input '{name}' has codes {spec.minimum} to {spec.maximum}: choose one of them")
    result = inputs.copy()
    result[:, column] = held
    return result


def bit(
    inputs: Inputs,
    contract: Contract,
    rng: np.random.Generator,  # noqa: ARG001 - one signature for all kinds
    name: str,
    number: int,
    *,
    at: int,
) -> Inputs:
    """Hold one bit of one input at 0 or 1 in all events.

    The input is taken for the narrowest register that holds its range: unsigned, or two's complement where
    the range goes below zero. The result may leave the contract's range (a phi of 0 to 143 has eight bits),
    as it would in the register, and is then counted as under- or overflow.

    Parameters
    ----------
    number
        Of the bit, 0 for the least significant.

    Raises
    ------
    EffectError
        The contract has no such input, or the input no such bit.
    """
    column = contract.input_index(name)
    spec = contract.inputs[column]
    width = register_bits(spec)
    if number >= width:
        raise EffectError(f"input '{name}' has {width} bits: choose 0 to {width - 1}")
    word = inputs[:, column].astype(np.int32) & ((1 << width) - 1)
    word = word | (1 << number) if at else word & ~(1 << number)
    if spec.minimum < 0:
        sign = 1 << (width - 1)
        word = (word ^ sign) - sign
    result = inputs.copy()
    result[:, column] = word.astype(np.int16)
    return result


def swap(inputs: Inputs, contract: Contract, rng: np.random.Generator, name: str, other: str) -> Inputs:  # noqa: ARG001 - one signature for all kinds
    """Exchange two inputs: swapped cables, or a mistake in an address map.

    A code that does not fit into the other input's range saturates there.

    Raises
    ------
    EffectError
        The contract has no such input, or both are the same.
    """
    first, second = contract.input_index(name), contract.input_index(other)
    if first == second:
        raise EffectError(f"'{name}' cannot be swapped with itself: choose another input")
    result = inputs.copy()
    for source, target in ((first, second), (second, first)):
        spec = contract.inputs[target]
        np.clip(inputs[:, source], spec.minimum, spec.maximum, out=result[:, target])
    return result


def register_bits(spec: InputSpec) -> int:
    """Return the width of the narrowest register that holds the range of an input."""
    if spec.minimum >= 0:
        return max(1, spec.maximum.bit_length())
    return max(spec.maximum.bit_length(), (-spec.minimum - 1).bit_length()) + 1
