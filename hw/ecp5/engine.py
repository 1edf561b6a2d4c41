"""What the memories of the engine in `hw.rtl` hold for a model. Refuses to know tools and block RAMs.

Each parameter memory of the engine has two banks. Both get the same words: whichever is read after the device
has been configured, it computes with these weights, and the bus can load others into the idle one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hw.ecp5.netlist import Bits
from hw.network import FirmwareModel
from hw.rtl.memory_map import MappedSegment, memory_map
from hw.rtl.parameters import stored_bits
from hw.rtl.shell import SHELL
from hw.rtl.sources import shell_sources
from hw.stages import Raw

TOP = SHELL
"""The engine's top module."""

_BANKS = 2
_INSTANCES = {
    "input.offset": "input_stage.offsets.words",
    "input.scale": "input_stage.scales.words",
    "score.threshold": "score_stage.thresholds.words",
}


def sources(model: FirmwareModel, reuse: int) -> Mapping[str, str]:
    """Give the engine's SystemVerilog by path, as `Ecp5Flow.full` takes it."""
    return shell_sources(model, reuse)


def contents(model: FirmwareModel, reuse: int) -> dict[str, Bits]:
    """Give what the engine's memories hold, by their names, as `Ecp5Flow` takes it.

    Parameters
    ----------
    model
        Its loadable memory counts.
    reuse
        As the sources were written with.
    """
    words = model.memory().astype(np.int64)
    found: dict[str, Bits] = {}
    for partition in model.partitions():
        mapped = {segment.name: segment for segment in memory_map(partition, reuse)}
        for segment in partition.segments():
            part = words[segment.start : segment.stop]
            name = f"{partition.name}.{_instance(segment.name)}"
            found[name] = _rows(mapped[segment.name], part, stored_bits(segment.format))
    return found


def words(model: FirmwareModel, reuse: int, memories: Mapping[str, Bits], bank: int) -> Raw:
    """Give the words of the weight memory that a bank of the engine's memories holds: int64, (n_words,)."""
    found = np.zeros(model.n_words, np.int64)
    for partition in model.partitions():
        mapped = {segment.name: segment for segment in memory_map(partition, reuse)}
        for segment in partition.segments():
            place = mapped[segment.name]
            bits = memories[f"{partition.name}.{_instance(segment.name)}"]
            width = stored_bits(segment.format)
            row, lane = _places(place, bank)
            values = bits.reshape(len(bits), -1, width)[row, lane] @ (1 << np.arange(width))
            signs = values >> (width - 1) if segment.format.signed else 0
            found[segment.start : segment.stop] = values - (signs << width)
    return found


def _rows(place: MappedSegment, words: Raw, width: int) -> Bits:
    """Lay words out in rows of lanes, both banks."""
    lanes = place.lanes if _in_lanes(place) else 1
    rows = np.zeros((_bank_rows(place) * _BANKS, lanes, width), np.bool_)
    bits = (words[:, None] >> np.arange(width) & 1).astype(np.bool_)
    for bank in range(_BANKS):
        rows[_places(place, bank)] = bits
    return rows.reshape(len(rows), lanes * width)


def _places(place: MappedSegment, bank: int) -> tuple[Raw, Raw]:
    """Give row and lane of every word of a segment in a bank."""
    addresses = np.array([place.address(k) for k in range(place.rows * place.columns)]) - place.base
    if not _in_lanes(place):
        return addresses + bank * _bank_rows(place), np.zeros_like(addresses)
    return (addresses >> place.lane_bits) + bank * _bank_rows(place), addresses & ((1 << place.lane_bits) - 1)


def _in_lanes(place: MappedSegment) -> bool:
    return place.name.endswith(".weight")


def _bank_rows(place: MappedSegment) -> int:
    if place.name == "score.threshold":
        return 1  # its only address is the bank
    return 1 << (place.bits - place.lane_bits if _in_lanes(place) else place.bits)


def _instance(segment: str) -> str:
    stage, parameter = segment.split(".")
    if segment in _INSTANCES:
        return _INSTANCES[segment]
    return f"layer_{stage}.weights.rows" if parameter == "weight" else f"layer_{stage}.biases.words"
