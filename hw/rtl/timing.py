"""How many clocks the engine needs; `docs/rtl.md` says where the numbers come from.

Refuses to know frequencies: these depend on the device.
"""

from __future__ import annotations

from hw.layout import Partition
from hw.network import FirmwareModel

_INPUT = 4
"""From a code to its standardised value."""

_DENSE = 7
"""What a layer takes beside reading its inputs, until its first result."""

_SCORE = 4
"""From the last value to the score."""

_TURN = 5
"""From the release of a layer's sums to the first result of the next event."""

_HELD = 3
"""Results that wait outside the sums."""


def latency_cycles(partition: Partition, reuse: int = 1) -> int:
    """Give the clocks from the first value of an event in to the begin of its answer, when nothing waits.

    The answer of an inner partition begins with its first result, that of the last one is the score: the
    latencies of all partitions add up to that of the firmware.
    """
    cycles = _INPUT if partition.first else 0
    for layer in partition.layers:
        cycles += layer.n_in * min(reuse, layer.n_out) + _DENSE
    return cycles + (partition.n_out - 1 + _SCORE if partition.last else 0)


def interval_cycles(partition: Partition, reuse: int = 1) -> int:
    """Give the clocks between two events when they follow each other without a gap."""
    layers = partition.layers
    reuses = [min(reuse, layer.n_out) for layer in layers]
    busy = [layer.n_in * clocks for layer, clocks in zip(layers, reuses, strict=True)]
    alone = [layer.n_out + _TURN for layer in layers]
    into_next = [
        (layer.n_out - _HELD) * clocks + _HELD + _TURN
        for layer, clocks in zip(layers[:-1], reuses[1:], strict=True)
    ]
    return max(partition.n_in, *busy, *alone, *into_next)


def firmware_interval_cycles(model: FirmwareModel, reuse: int = 1) -> int:
    """Give the interval of all partitions in a row, without knowing where they are cut."""
    whole = Partition(model, 0, 0, len(model.layers))
    return interval_cycles(whole, reuse)


def firmware_latency_cycles(model: FirmwareModel, reuse: int = 1) -> int:
    """Give the clocks from the first code of an event in to its score, when nothing waits."""
    return sum(latency_cycles(partition, reuse) for partition in model.partitions())
