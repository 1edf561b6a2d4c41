"""Effects on how many events there are: prescale. The one kind that changes their number."""

import numpy as np

from streams.contracts.contract import Contract
from streams.effects.slots import Inputs


def prescale(
    inputs: Inputs,
    contract: Contract,  # noqa: ARG001 - one signature for all kinds
    rng: np.random.Generator,
    name: str,  # noqa: ARG001 - likewise
    fraction: float,
) -> Inputs:
    """Keep each event with a probability, in order: another prescale before the model.

    A prescale counter of the hardware keeps every n-th event exactly; here the number fluctuates as a
    binomial. Nothing tells an empty result from a trigger that is switched off.
    """
    if fraction == 1.0:
        return inputs
    return inputs[rng.random(len(inputs)) < fraction]
