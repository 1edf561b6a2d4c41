"""A fake device behind a real IPbus server: a memory, a FIFO, and a record of all that was executed."""

import numpy as np

from hw.boards.device import BusError

RAM_WORDS = 4096
FIFO = 0xF1F0


class RamDevice:
    """Remembers every access, so that a test can tell what was executed twice or out of order."""

    def __init__(self):
        self.words = np.zeros(RAM_WORDS, dtype=np.uint32)
        self.fifo = []
        self.accesses = []

    def read(self, address, count):
        self._within(address, count)
        self.accesses.append(("read", address, count))
        return self.words[address : address + count].copy()

    def write(self, address, words):
        self._within(address, len(words))
        self.accesses.append(("write", address, len(words)))
        self.words[address : address + len(words)] = words

    def read_fifo(self, address, count):
        if address != FIFO or count > len(self.fifo):
            raise BusError
        taken, self.fifo = self.fifo[:count], self.fifo[count:]
        return np.array(taken, dtype=np.uint32)

    def write_fifo(self, address, words):
        if address != FIFO:
            raise BusError
        self.fifo += words.tolist()

    def flip_bit(self, choice):
        self.words[choice.randrange(RAM_WORDS)] ^= 1 << choice.randrange(32)

    def _within(self, address, count):
        if address + count > RAM_WORDS:
            raise BusError
