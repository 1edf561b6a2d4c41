"""Causes on single inputs: dead channel, dead slot, stuck bit, swap. See `streams.explaining.causes`."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.contracts.contract import InputSpec
from streams.explaining.causes import Candidate, Cause, Scene
from streams.explaining.goodness import Densities
from streams.explaining.object_shape import emptied, shape_of

ALL: Final = 0.9995
"""Part of the events with one code, or one value of a bit, that makes an input dead or the bit stuck ..."""
MOST: Final = 0.95
"""... where no more than this is expected."""
LOOKED_AT: Final = 8
"""Only so many inputs, the worst, are looked at."""

Floats = npt.NDArray[np.float64]


def causes_of_wires(scene: Scene) -> Iterator[Candidate]:
    """Find the faults that nothing else looks like.

    Inputs with one code, or with every second code empty; two inputs of which each looks as the other should.
    """
    dead = [index for index in scene.outliers if _held_code(scene, index) is not None]
    if dead:
        yield _dead(scene, dead)
        yield from _dead_slots(scene, dead)
    others = [index for index in scene.outliers[:LOOKED_AT] if index not in dead]
    for index in others:
        yield from (one for one in _stuck_bits(scene, index) if _accounts(scene, one, index))
    for first, second in combinations(others, 2):
        swap = _swap(scene, first, second)
        if _accounts(scene, swap, first, second):
            yield swap


def _accounts(scene: Scene, one: Candidate, *inputs: int) -> bool:
    """Tell whether a cause accounts for most of what some inputs show."""
    after = scene.fine.excess(one.densities)
    return all(after[index] < scene.excess[index] / 4 for index in inputs)


def _held_code(scene: Scene, index: int) -> int | None:
    """Return the bin that holds (nearly) all events, where not (nearly) all are expected in it."""
    counts = scene.window.histogram(index)
    top = int(np.argmax(counts))
    total = int(counts.sum())
    expected = float(_density(scene, index)[top])
    return top if total and counts[top] >= ALL * total and expected < MOST else None


def _dead(scene: Scene, dead: Sequence[int]) -> Candidate:
    inputs = scene.base.inputs.copy()
    words = []
    for index in dead:
        spec, top = scene.contract.inputs[index], _held_code(scene, index) or 0
        bins = _bins(scene, index)
        inputs[bins] = 0.0
        inputs[bins.start + top] = 1.0
        words.append(f"{spec.name} (always {spec.minimum - 1 + top})")
    names = tuple(scene.contract.inputs[index].name for index in dead)
    return Candidate(
        Cause.DEAD_CHANNEL,
        Densities(inputs, scene.base.maps),
        len(dead),
        f"Dead channel{'s' if len(dead) > 1 else ''}: {', '.join(words[:4])}",
        object=scene.contract.inputs[dead[0]].object,
        inputs=names,
    )


def _dead_slots(scene: Scene, dead: Sequence[int]) -> Iterator[Candidate]:
    """Find objects whose inputs all show them missing."""
    specs = [scene.contract.inputs[index] for index in dead]
    for name in dict.fromkeys(spec.object for spec in specs):
        shape = shape_of(scene.contract, scene.window.layout, scene.base.inputs, name)
        slots = sorted({spec.index for spec in specs if spec.object == name and spec.quantity == "pt"})
        slots = [slot for slot in slots if _always_missing(scene, name, slot)]
        if shape is None or not slots or len(shape.bins) < 2:
            continue
        names = tuple(
            spec.name for spec in scene.contract.inputs if spec.object == name and spec.index in slots
        )
        yield Candidate(
            Cause.DEAD_SLOT,
            scene.with_shape(emptied(shape, slots)),
            len(slots),
            f"{', '.join(f'{name}[{slot}]' for slot in slots)}: always missing, a dead output of the sorter",
            object=name,
            inputs=names,
        )


def _always_missing(scene: Scene, name: str, slot: int) -> bool:
    for index, spec in enumerate(scene.contract.inputs):
        if spec.object == name and spec.index == slot:
            counts = scene.window.histogram(index)
            if counts[spec.padding - spec.minimum + 1] < ALL * counts.sum():
                return False
    return True


def _stuck_bits(scene: Scene, index: int) -> Iterator[Candidate]:
    """One bit always has one value: the codes with the other are empty."""
    spec, counts = scene.contract.inputs[index], scene.window.histogram(index)
    words, width = _register(spec)
    total = int(counts[1:-1].sum())
    density = _density(scene, index)
    for bit in range(width):
        set_ = (words >> bit) & 1 == 1
        for at in (0, 1):
            holds = set_ if at else ~set_
            expected = float(density[1:-1][holds].sum())
            if counts[1:-1][holds].sum() < ALL * total or expected >= MOST:
                continue
            yield Candidate(
                Cause.STUCK_BIT,
                Densities(_folded(scene, index, bit, at), scene.base.maps),
                2,
                f"Bit {bit} of {spec.name} is stuck at {at}: every code with the other value is empty",
                object=spec.object,
                inputs=(spec.name,),
                size=float(bit),
            )


def _folded(scene: Scene, index: int, bit: int, at: int) -> Floats:
    """Return all inputs' densities when one bit of one input is held; codes beyond its range flow over."""
    spec = scene.contract.inputs[index]
    words, width = _register(spec)
    held = words | (1 << bit) if at else words & ~(1 << bit)
    if spec.minimum < 0:
        sign = 1 << (width - 1)
        held = (held ^ sign) - sign
    density = _density(scene, index)
    places = np.clip(held - spec.minimum + 1, 0, len(density) - 1)
    folded = np.bincount(places, density[1:-1], minlength=len(density)).astype(np.float64)
    folded[[0, -1]] += density[[0, -1]]
    inputs = scene.base.inputs.copy()
    inputs[_bins(scene, index)] = folded
    return inputs


def _swap(scene: Scene, first: int, second: int) -> Candidate:
    inputs = scene.base.inputs.copy()
    for source, target in ((first, second), (second, first)):
        given, taken = scene.contract.inputs[source], scene.contract.inputs[target]
        codes = given.minimum - 1 + np.arange(given.maximum - given.minimum + 3)
        places = np.clip(codes, taken.minimum, taken.maximum) - taken.minimum + 1
        size = taken.maximum - taken.minimum + 3
        inputs[_bins(scene, target)] = np.bincount(places, _density(scene, source), minlength=size)
    one, other = scene.contract.inputs[first], scene.contract.inputs[second]
    return Candidate(
        Cause.SWAP,
        Densities(inputs, scene.base.maps),
        2,
        f"{one.name} and {other.name} are swapped: the histogram of each fits the other's reference",
        object=one.object,
        inputs=tuple(sorted((one.name, other.name))),
    )


def _register(spec: InputSpec) -> tuple[npt.NDArray[np.int64], int]:
    """Return every code as the word of the narrowest register that holds the range, and its width."""
    if spec.minimum >= 0:
        width = max(1, spec.maximum.bit_length())
    else:
        width = max(spec.maximum.bit_length(), (-spec.minimum - 1).bit_length()) + 1
    return np.arange(spec.minimum, spec.maximum + 1, dtype=np.int64) & ((1 << width) - 1), width


def _bins(scene: Scene, index: int) -> slice:
    starts = scene.window.layout.starts
    return slice(starts[index], starts[index + 1])


def _density(scene: Scene, index: int) -> Floats:
    return scene.base.inputs[_bins(scene, index)]
