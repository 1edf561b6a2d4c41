"""Faults that the emulated board can be given: lost packets, slow replies, flipped bits, a death under load.

They exist to prove that whoever works with a board notices. Refuses to know any real board.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from hw.ipbus import Kind, Request
from hw.registers import ACTIVE_BANK, INACTIVE_BANK, Register

_DEATH = 9


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong; nothing by default.

    Parameters
    ----------
    drop
        Share of UDP packets that get lost, in each direction.
    slow_reply_s
        How long every reply to a control packet is held back.
    flip_every
        A bit of the weight memory flips after every so many transactions; 0: never.
    die_after_writes
        The process ends, without a word, after so many writes into the inactive bank or the
        configuration buffer; 0: never.
    seed
        Of the random numbers behind all this.
    """

    drop: float = 0.0
    slow_reply_s: float = 0.0
    flip_every: int = 0
    die_after_writes: int = 0
    seed: int = 0


class FaultInjector:
    """Makes faults happen.

    Parameters
    ----------
    faults
        Which.
    flip
        Flips one bit of the weight memory, which the given random numbers choose.
    """

    def __init__(self, faults: Faults, flip: Callable[[random.Random], None]) -> None:
        self._faults = faults
        self._flip = flip
        self._random = random.Random(faults.seed)  # noqa: S311 - faults are to be repeated, not guessed
        self._transactions = 0
        self._writes = 0

    def loses(self) -> bool:
        """Say whether the packet at hand gets lost."""
        return self._random.random() < self._faults.drop

    def hold_back(self) -> None:
        """Wait as long as a reply is late."""
        if self._faults.slow_reply_s:
            time.sleep(self._faults.slow_reply_s)

    def after(self, request: Request) -> None:
        """Do what is due after a transaction."""
        self._transactions += 1
        if self._faults.flip_every and self._transactions % self._faults.flip_every == 0:
            self._flip(self._random)
        if _loads(request):
            self._writes += 1
            if self._writes == self._faults.die_after_writes:
                os._exit(_DEATH)


def _loads(request: Request) -> bool:
    if request.kind is Kind.WRITE_FIFO:
        return request.address == Register.BOOT_DATA
    return request.kind is Kind.WRITE and INACTIVE_BANK <= request.address < ACTIVE_BANK
