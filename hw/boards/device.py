"""The emulated board behind its wire: registers, two weight banks, event FIFOs and the compiled image.

It stands for firmware and refuses what firmware must refuse; every package is verified here, whoever sent it.
Refuses to know sockets.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw.boards.lease import Lease
from hw.csim import CSim
from hw.errors import HardwareError, OffGridError, PackageError
from hw.network import FirmwareModel
from hw.package import MAXIMUM_PACKAGE_BYTES, Package, read_package
from hw.registers import (
    ACTIVE_BANK,
    HASH_WORDS,
    INACTIVE_BANK,
    MAGIC,
    VERSION,
    BoardKind,
    Command,
    Register,
    Result,
    hash_of_words,
    pack_answers,
    unpack_events,
    words_of_hash,
    words_per_event,
)
from hw.signing import TrustedKey

_log = logging.getLogger(__name__)

EVENT_CAPACITY = 16_384
LEASE_S = 5.0

_CONFIGURATION = frozenset({Register.COMMAND, Register.REQUEST_CRC, Register.BOOT_LENGTH})

Words = npt.NDArray[np.uint32]


class BusError(Exception):
    """The address cannot be read or written now."""


@dataclass(frozen=True, eq=False)
class _Firmware:
    """A booted package."""

    package_id: str
    model: FirmwareModel
    image: CSim


class Device:
    """One emulated board.

    Parameters
    ----------
    package
        What it boots first.
    trusted_keys
        Whose packages it accepts later.
    clock
        Monotonic seconds, for the leases of the locks.

    Raises
    ------
    ImageError
        When the package's image does not run here.
    """

    def __init__(
        self,
        package: Package,
        trusted_keys: Sequence[TrustedKey],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trusted_keys = tuple(trusted_keys)
        self._counts = {"events": 0, "accepts": 0, "switches": 0, "boots": 0, "refusals": 0}
        self._epoch = 0
        self._result = Result.NONE
        self._requests = np.zeros(3 * HASH_WORDS, dtype=np.uint32)
        self._request_crc = 0
        self._boot_length = 0
        self._boot_data: list[Words] = []
        self._events_in: list[Words] = []
        self._answers: Words = np.empty(0, dtype=np.uint32)
        self._config = Lease(LEASE_S, clock)
        self._events = Lease(LEASE_S, clock)
        self._start(package)

    def read(self, address: int, count: int) -> Words:
        """Read consecutive words.

        Raises
        ------
        BusError
            When there is nothing at one of the addresses.
        """
        for base, bank in ((INACTIVE_BANK, 1 - self._active), (ACTIVE_BANK, self._active)):
            if base <= address < base + self._firmware.model.n_words:
                start = address - base
                if start + count > self._firmware.model.n_words:
                    raise BusError
                return self._banks[bank][start : start + count].view(np.uint32)
        if address + count > Register.EVENT_WORDS + 1:
            raise BusError
        if address <= Register.EVENT_OUT_COUNT < address + count:
            self._process()
        return self._table()[address : address + count]

    def read_fifo(self, address: int, count: int) -> Words:
        """Read `count` words from one address, taking them out of the FIFO when it is one."""
        if address != Register.EVENT_OUT:
            return np.repeat(self.read(address, 1), count)
        self._process()
        if count > len(self._answers):
            raise BusError
        self._events.refresh()
        taken, self._answers = self._answers[:count], self._answers[count:]
        return taken

    def write(self, address: int, words: Words) -> None:
        """Write consecutive words.

        Raises
        ------
        BusError
            When an address is read only, unknown, or its lock is not held.
        """
        if INACTIVE_BANK <= address < INACTIVE_BANK + self._firmware.model.n_words:
            start = address - INACTIVE_BANK
            if start + len(words) > self._firmware.model.n_words or not self._config.refresh():
                raise BusError
            self._banks[1 - self._active][start : start + len(words)] = words.view(np.int32)
            return
        first, last = Register.REQUEST_STRUCTURE_HASH, Register.REQUEST_PACKAGE_ID + HASH_WORDS
        if first <= address and address + len(words) <= last:
            if not self._config.refresh():
                raise BusError
            self._requests[address - first : address - first + len(words)] = words
            return
        for offset, word in enumerate(words):
            self._write_register(address + offset, int(word))

    def write_fifo(self, address: int, words: Words) -> None:
        """Write every word to one address."""
        if address == Register.EVENT_IN:
            limit = EVENT_CAPACITY * words_per_event(self._firmware.model.n_inputs)
            if not self._events.refresh() or sum(map(len, self._events_in)) + len(words) > limit:
                raise BusError
            self._events_in.append(words)
        elif address == Register.BOOT_DATA:
            received = sum(map(len, self._boot_data)) + len(words)
            if not self._config.refresh() or received * 4 > MAXIMUM_PACKAGE_BYTES:
                raise BusError
            self._boot_data.append(words)
        else:
            for word in words:
                self._write_register(address, int(word))

    def _start(self, package: Package) -> None:
        """Make a verified package the running firmware; on failure nothing changes."""
        model = package.model
        with tempfile.TemporaryDirectory(prefix="lumiwatch-board-") as folder:
            path = Path(folder) / "image.so"
            path.write_bytes(package.image)
            # once it is mapped the file is not needed: nothing is left behind, however the board ends
            image = CSim(path, model.n_inputs, model.n_words, model.structure_hash)
        self._firmware = _Firmware(package.id, model, image)
        self._identities = [(package.id, model.weights_hash)] * 2
        self._banks = [model.memory(), model.memory()]
        self._active = 0
        self._epoch += 1
        self._events_in = []

    def _table(self) -> Words:
        """Give the content of every register below the banks; what cannot be read is zero."""
        table = np.zeros(Register.EVENT_WORDS + 1, dtype=np.uint32)
        for register, value in self._plain_registers().items():
            table[register] = value
        package_id, weights_hash = self._identities[self._active]
        for register, digest in (
            (Register.STRUCTURE_HASH, self._firmware.model.structure_hash),
            (Register.WEIGHTS_HASH, weights_hash),
            (Register.PACKAGE_ID, package_id),
        ):
            table[register : register + HASH_WORDS] = words_of_hash(digest)
        first = Register.REQUEST_STRUCTURE_HASH
        table[first : first + len(self._requests)] = self._requests
        return table

    def _plain_registers(self) -> dict[Register, int]:
        model, counts = self._firmware.model, self._counts
        return {
            Register.MAGIC: MAGIC,
            Register.VERSION: VERSION,
            Register.BOARD_KIND: BoardKind.EMULATED,
            Register.N_INPUTS: model.n_inputs,
            Register.N_WORDS: model.n_words,
            Register.ACTIVE_BANK_INDEX: self._active,
            Register.EPOCH: self._epoch & 0xFFFF_FFFF,
            Register.EVENTS_LOW: counts["events"] & 0xFFFF_FFFF,
            Register.EVENTS_HIGH: counts["events"] >> 32,
            Register.ACCEPTS_LOW: counts["accepts"] & 0xFFFF_FFFF,
            Register.ACCEPTS_HIGH: counts["accepts"] >> 32,
            Register.SWITCHES: counts["switches"],
            Register.BOOTS: counts["boots"],
            Register.REFUSALS: counts["refusals"],
            Register.CONFIG_LOCK: self._config.holder,
            Register.RESULT: self._result,
            Register.REQUEST_CRC: self._request_crc,
            Register.BOOT_LENGTH: self._boot_length,
            Register.BOOT_RECEIVED: 4 * sum(map(len, self._boot_data)),
            Register.BOOT_MAXIMUM: MAXIMUM_PACKAGE_BYTES,
            Register.EVENT_LOCK: self._events.holder,
            Register.EVENT_OUT_COUNT: len(self._answers),
            Register.EVENT_CAPACITY: EVENT_CAPACITY,
            Register.EVENT_WORDS: words_per_event(model.n_inputs),
        }

    def _write_register(self, address: int, word: int) -> None:
        if address in (Register.CONFIG_LOCK, Register.EVENT_LOCK):
            self._take(address, word)
        elif address == Register.CONFIG_RELEASE:
            self._config.release(word)
        elif address == Register.EVENT_RELEASE:
            self._events.release(word)
        elif address in _CONFIGURATION and self._config.refresh():
            self._configure(address, word)
        else:
            raise BusError

    def _take(self, address: int, token: int) -> None:
        """Take a lock; a new holder finds the FIFOs behind it empty."""
        if address == Register.CONFIG_LOCK:
            if self._config.take(token):
                self._boot_length, self._boot_data = 0, []
        elif self._events.take(token):
            self._events_in, self._answers = [], np.empty(0, dtype=np.uint32)

    def _configure(self, address: int, word: int) -> None:
        if address == Register.COMMAND:
            self._command(word)
        elif address == Register.REQUEST_CRC:
            self._request_crc = word
        else:
            self._boot_length, self._boot_data = word, []

    def _command(self, word: int) -> None:
        self._process()  # what is queued was sent to the old firmware
        if word == Command.SWITCH:
            self._result = self._switch()
        elif word == Command.BOOT:
            self._result = self._boot()
        else:
            self._result = Result.UNKNOWN_COMMAND
        if self._result is not Result.DONE:
            self._counts["refusals"] += 1
        _log.info("command %d: %s", word, self._result.name)

    def _switch(self) -> Result:
        structure, weights, package = (hash_of_words(part) for part in np.split(self._requests, 3))
        bank = self._banks[1 - self._active]
        if structure != self._firmware.model.structure_hash:
            return Result.WRONG_STRUCTURE
        if zlib.crc32(bank.astype(">i4").tobytes()) != self._request_crc:
            return Result.BAD_CHECKSUM
        if hashlib.sha256(bank.astype("<i4").tobytes()).hexdigest() != weights:
            return Result.BAD_CHECKSUM
        try:
            self._firmware.model.with_memory(bank)
        except OffGridError as error:
            _log.warning("%s", error)
            return Result.OFF_GRID
        self._active = 1 - self._active
        self._identities[self._active] = (package, weights)
        self._epoch += 1
        self._counts["switches"] += 1
        return Result.DONE

    def _boot(self) -> Result:
        content = np.concatenate([np.empty(0, np.uint32), *self._boot_data]).astype(">u4").tobytes()
        length, self._boot_data = self._boot_length, []
        if not len(content) - 4 < length <= len(content):
            return Result.BAD_PACKAGE
        try:
            self._start(read_package(content[:length], self._trusted_keys))
        except PackageError as error:
            _log.warning("%s", error)
            return Result.BAD_PACKAGE
        except HardwareError as error:
            _log.warning("%s", error)
            return Result.BAD_IMAGE
        self._counts["boots"] += 1
        return Result.DONE

    def _process(self) -> None:
        """Score every whole event that waits, with the active bank."""
        if not self._events_in:
            return
        waiting = np.concatenate(self._events_in)
        size = words_per_event(self._firmware.model.n_inputs)
        whole = min(len(waiting) // size, EVENT_CAPACITY - len(self._answers)) * size
        self._events_in = [waiting[whole:]] if whole < len(waiting) else []
        if not whole:
            return
        inputs = unpack_events(waiting[:whole], self._firmware.model.n_inputs)
        scores, accepts = self._firmware.image.run(inputs, self._banks[self._active])
        self._answers = np.concatenate([self._answers, pack_answers(scores, accepts)])
        self._counts["events"] += len(scores)
        self._counts["accepts"] += int(accepts.sum())
