"""What a register board needs of a bus: accesses to word addresses, executed in order.

Refuses to know which bus, and what the registers mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]

NO_WORDS: Words = np.empty(0, dtype=np.uint32)


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """One access to the bus: a read when `count` says how many words, else a write.

    Parameters
    ----------
    address
        32-bit word address.
    words
        What is written; uint32.
    count
        Words to read.
    fifo
        True when every word goes to, or comes from, the same address.
    """

    address: int
    words: Words = field(default_factory=lambda: NO_WORDS, repr=False)
    count: int = 0
    fifo: bool = False


def read(address: int, count: int = 1) -> Access:
    """Read consecutive words."""
    return Access(address, count=count)


def read_fifo(address: int, count: int) -> Access:
    """Read words from one address."""
    return Access(address, count=count, fifo=True)


def write(address: int, words: Words | int) -> Access:
    """Write consecutive words, or one."""
    return Access(address, np.atleast_1d(np.asarray(words, dtype=np.uint32)))


def write_fifo(address: int, words: Words) -> Access:
    """Write words to one address."""
    return Access(address, words, fifo=True)


class Bus(Protocol):
    """The way to a board's registers.

    Its methods raise `BoardUnreachable` when nothing answers and `BoardError` when an access fails.
    """

    @property
    def address(self) -> str:
        """Where the board is, for people."""
        ...

    def run(self, *accesses: Access) -> list[Words]:
        """Do accesses in order and give what each of them read; a write gives no words."""
        ...

    def close(self) -> None:
        """End the connection; the next call connects again."""
        ...
