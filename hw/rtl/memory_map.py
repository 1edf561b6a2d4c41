"""Where the words of a partition's memory are on its bus.

The addresses are padded to powers of two, so that the engine decodes them without arithmetic. Refuses to know
what drives the bus.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw.errors import ToolchainError
from hw.layout import Partition
from hw.rtl import parameters

WINDOW_BITS = 20
"""Address bits of one bank of one partition; the bank is the bit above, the partition the bits above that."""

BUS_BITS = WINDOW_BITS + 1
"""Address bits of a partition's bus port. The same for all partitions, so that one can replace another."""


@dataclass(frozen=True, slots=True)
class MappedSegment:
    """A segment of the weight memory on the bus.

    Word `k` of the segment, at `row, column = divmod(k, columns)`, has the address
    `base + (row << row_shift) + (column // lanes << lane_bits) + column % lanes`.

    Parameters
    ----------
    name
        E.g. `dense1.weight`.
    start
        Its first word in the partition's memory.
    rows, columns
        Its shape; vectors have one row.
    base
        Bus address of its first word in bank 0.
    bits
        Address bits it occupies, from bit 0.
    row_shift, lane_bits, lanes
        How row and column make an address.
    """

    name: str
    start: int
    rows: int
    columns: int
    base: int
    bits: int
    row_shift: int
    lane_bits: int
    lanes: int

    def address(self, word: int) -> int:
        """Give the bus address of a word of this segment in bank 0."""
        row, column = divmod(word, self.columns)
        group, lane = divmod(column, self.lanes)
        return self.base + (row << self.row_shift) + (group << self.lane_bits) + lane


def memory_map(partition: Partition, reuse: int) -> tuple[MappedSegment, ...]:
    """Place the segments of a partition.

    Raises
    ------
    ToolchainError
        When they do not fit into the window.
    """
    shapes = {
        f"{layer.name}.weight": parameters.dense(partition, number, reuse)
        for number, layer in enumerate(partition.layers)
    }
    placed: list[MappedSegment] = []
    start = base = 0
    for segment in partition.segments():
        if (shape := shapes.get(segment.name)) is not None:
            rows, columns, lanes = shape["N_IN"], shape["N_OUT"], shape["LANES"]
            lane_bits, group_bits = parameters.weight_address_bits(shape)
            row_shift = group_bits + lane_bits
            bits = shape["ROW"] + row_shift
        else:
            rows, columns, lanes = 1, segment.words, segment.words
            bits = lane_bits = row_shift = parameters.index_bits(segment.words)
        base = -(-base >> bits) << bits
        placed.append(
            MappedSegment(segment.name, start, rows, columns, base, bits, row_shift, lane_bits, lanes)
        )
        base += 1 << bits
        start += segment.words
    if base > 1 << WINDOW_BITS:
        raise ToolchainError(
            f"partition {partition.name} needs {base} bus addresses, there are {1 << WINDOW_BITS}: "
            "cut the model into more partitions"
        )
    return tuple(placed)
