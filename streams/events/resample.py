"""New events from recorded ones, turned about the beam axis and mirrored. Knows integer codes only.

A proton collider does not care about the azimuth, nor about which beam comes from the left. Each drawn
event is turned by a random angle, the same for all its objects, and mirrored in eta or not. Turns are
multiples of the coarsest phi code, so every code stays an exact integer: calorimeter phi moves by k
codes of 144, muon phi by 4 k codes of 576.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.contracts.contract import INT16_MAXIMUM, Contract, InputSpec, is_full_turn
from streams.errors import ResampleError
from streams.events.dataset import Dataset, dataset_of

_BLOCK: Final = 4096


def resample(
    dataset: Dataset, contract: Contract, n_events: int, rng: np.random.Generator
) -> npt.NDArray[np.int16]:
    """Draw events with replacement, turn and mirror them.

    Parameters
    ----------
    dataset
        The recorded events.
    n_events
        How many to draw.

    Returns
    -------
    int16, shape (n_events, n_inputs).

    Raises
    ------
    DatasetError
        The dataset was made under another contract.
    ResampleError
        It is empty, or its codes cannot be turned or mirrored exactly.
    """
    dataset.check_contract(contract)
    if dataset.n_events == 0:
        raise ResampleError("cannot resample a dataset without events: convert more data")
    drawn = rng.integers(0, dataset.n_events, size=n_events)
    turns = rng.integers(0, n_turns(contract), size=n_events)
    mirrored = rng.integers(0, 2, size=n_events).astype(np.bool_)
    result = np.empty((n_events, contract.n_inputs), dtype=np.int16)
    for start in range(0, n_events, _BLOCK):
        block = slice(start, start + _BLOCK)
        result[block] = turn_and_mirror(dataset.inputs[drawn[block]], contract, turns[block], mirrored[block])
    return result


def resampled_dataset(dataset: Dataset, contract: Contract, n_events: int, seed: int) -> Dataset:
    """Return resampled events as a dataset that names its parent and seed. Raises as `resample`."""
    inputs = resample(dataset, contract, n_events, np.random.default_rng(seed))
    return dataset_of(
        contract, inputs, made_by=f"resample seed={seed} events={n_events}", parents=[dataset.id]
    )


def turn_and_mirror(
    inputs: npt.NDArray[np.int16],
    contract: Contract,
    turns: npt.NDArray[np.int64],
    mirrored: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int16]:
    """Turn each event about the beam axis and mirror it in eta. Missing objects stay as they are.

    Parameters
    ----------
    inputs
        int16, shape (n_events, n_inputs). Not changed.
    turns
        Shape (n_events,): how many coarsest phi codes to turn, 0 to ``n_turns(contract) - 1``.
    mirrored
        Shape (n_events,): whether to change the sign of eta.

    Returns
    -------
    int16, same shape.
    """
    plan = _plan(contract)
    columns = np.array(inputs.T, order="C")
    there = {pt: columns[pt] != contract.inputs[pt].padding for pt in plan.presences}
    turned = {step: (turns * step).astype(np.int16) for step in plan.steps}
    for angle in plan.phi:
        step = turned[angle.step] if angle.presence < 0 else turned[angle.step] * there[angle.presence]
        # maximum + wrap fits into 16 bits: checked when the plan was made
        moved = columns[angle.column] + step
        columns[angle.column] = moved - np.int16(angle.wrap) * (moved > angle.maximum)
    sign = np.where(mirrored, np.int16(-1), np.int16(1))
    for mirror in plan.eta:
        flips = sign if mirror.presence < 0 else np.where(there[mirror.presence], sign, np.int16(1))
        offset = np.int16(mirror.offset)
        columns[mirror.column] = (columns[mirror.column] + offset) * flips - offset
    return np.ascontiguousarray(columns.T)


def n_turns(contract: Contract) -> int:
    """Return into how many equal turns all phi codes of a contract divide exactly (1 without phi)."""
    return _plan(contract).n_turns


@dataclass(frozen=True)
class _Phi:
    column: int
    presence: int
    wrap: int
    maximum: int
    step: int


@dataclass(frozen=True)
class _Eta:
    column: int
    presence: int
    offset: int


@dataclass(frozen=True)
class _Plan:
    n_turns: int
    phi: tuple[_Phi, ...]
    eta: tuple[_Eta, ...]

    @property
    def steps(self) -> set[int]:
        return {one.step for one in self.phi}

    @property
    def presences(self) -> set[int]:
        found = {one.presence for one in self.phi} | {one.presence for one in self.eta}
        return found - {-1}


_PLANS: Final[dict[str, _Plan]] = {}


def _plan(contract: Contract) -> _Plan:
    if contract.hash not in _PLANS:
        _PLANS[contract.hash] = _make_plan(contract)
    return _PLANS[contract.hash]


def _make_plan(contract: Contract) -> _Plan:
    angles: list[tuple[int, InputSpec, int]] = []
    mirrors: list[_Eta] = []
    for column, spec in enumerate(contract.inputs):
        if spec.quantity == "phi":
            if not is_full_turn(spec) or spec.wrap is None:
                raise ResampleError(
                    f"input '{spec.name}' is no full turn: give phi unit 'rad', lsb 2 pi / N, wrap N"
                )
            if spec.maximum + spec.wrap > INT16_MAXIMUM:
                raise ResampleError(
                    f"input '{spec.name}' has too fine a phi to turn in 16 bits: choose a larger lsb"
                )
            angles.append((column, spec, spec.wrap))
        elif spec.quantity == "eta":
            if spec.shift or spec.staged or spec.minimum + spec.offset != -(spec.maximum + spec.offset):
                raise ResampleError(
                    f"input '{spec.name}' cannot be mirrored: give eta a symmetric range and no shift"
                )
            mirrors.append(_Eta(column, int(contract.presence[column]), spec.offset))
    turns = math.gcd(*(wrap for _, _, wrap in angles)) if angles else 1
    return _Plan(
        n_turns=turns,
        phi=tuple(
            _Phi(column, int(contract.presence[column]), wrap, spec.maximum, wrap // turns)
            for column, spec, wrap in angles
        ),
        eta=tuple(mirrors),
    )
