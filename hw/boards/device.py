"""The emulated board behind its wire: registers, locks and FIFOs in front of the fabric that computes.

It stands for firmware and refuses what firmware must refuse; every package is verified here, whoever sent it.
Refuses to know sockets.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from hw.boards.fabric import Configuration, Fabric
from hw.boards.flash import Flash
from hw.boards.lease import Lease
from hw.errors import HardwareError, ImageError, PackageError
from hw.package import MAXIMUM_PACKAGE_BYTES, Package, read_board_content
from hw.registers import (
    ACTIVE_BANK,
    HASH_WORDS,
    INACTIVE_BANK,
    MAGIC,
    SCRATCH_WORDS,
    TABLE_WORDS,
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


class Device:
    """One emulated board.

    Parameters
    ----------
    package
        What it boots first; with a flash, what it boots while nothing is stored there.
    trusted_keys
        Whose packages it accepts later.
    clock
        Monotonic seconds, for the leases of the locks.
    flash
        What it starts with, and where COMMIT stores; left out, it forgets everything when it ends.

    Raises
    ------
    ImageError
        When the image does not run here, or a first one fails its own golden vectors.
    FlashDamaged
        When what is stored cannot be used.
    """

    def __init__(
        self,
        package: Package,
        trusted_keys: Sequence[TrustedKey],
        *,
        clock: Callable[[], float] = time.monotonic,
        flash: Flash | None = None,
    ) -> None:
        self._trusted_keys = tuple(trusted_keys)
        counted = ("events", "accepts", "switches", "replacements", "boots", "refusals")
        self._counts = dict.fromkeys(counted, 0)
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
        self._scratch = np.zeros(SCRATCH_WORDS, dtype=np.uint32)
        self._flash = flash
        stored = None if flash is None else flash.load(self._trusted_keys)
        self._start(stored or Configuration.of(package))
        if flash is not None and stored is None:
            if not self._fabric.proves_itself():
                raise ImageError(f"package {package.short_id} fails its own golden vectors: build it again")
            flash.store(Configuration.of(package))

    def read(self, address: int, count: int) -> Words:
        """Read consecutive words.

        Raises
        ------
        BusError
            When there is nothing at one of the addresses.
        """
        memory = self._memory(address, count)
        if memory is not None:
            return memory.copy()
        if address + count > TABLE_WORDS:
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
        memory = self._memory(address, len(words))
        if memory is not None:
            if address >= ACTIVE_BANK or (address >= INACTIVE_BANK and not self._config.refresh()):
                raise BusError
            memory[:] = words
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
            limit = EVENT_CAPACITY * words_per_event(self._fabric.model.n_inputs)
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

    def flip_bit(self, choice: random.Random) -> None:
        """Flip one bit of the weight memory, behind everybody's back."""
        self._fabric.flip_bit(choice)

    def _memory(self, address: int, count: int) -> Words | None:
        """Give the part of a bank or of the scratch memory that is meant; None for any other address."""
        banks, active = self._fabric.banks, self._fabric.active
        for base, memory in (
            (int(Register.SCRATCH), self._scratch),
            (INACTIVE_BANK, banks[1 - active].view(np.uint32)),
            (ACTIVE_BANK, banks[active].view(np.uint32)),
        ):
            if base <= address < base + len(memory):
                if address - base + count > len(memory):
                    raise BusError
                return memory[address - base : address - base + count]
        return None

    def _start(self, configuration: Configuration) -> None:
        """Make a verified configuration the running firmware; on failure nothing changes."""
        self._fabric = Fabric(configuration)
        self._epoch += 1
        self._events_in = []

    def _table(self) -> Words:
        """Give the content of every register below the banks; what cannot be read is zero."""
        table = np.zeros(TABLE_WORDS, dtype=np.uint32)
        for register, value in self._plain_registers().items():
            table[register] = value
        package_id, weights_hash = self._fabric.identities[self._fabric.active]
        model = self._fabric.model
        digests = [
            (int(Register.SHELL_HASH), model.shell_hash),
            (int(Register.STRUCTURE_HASH), model.structure_hash),
            (int(Register.WEIGHTS_HASH), weights_hash),
            (int(Register.PACKAGE_ID), package_id),
        ]
        first = Register.PARTITION_HASHES
        digests += [(first + HASH_WORDS * p.index, p.structure_hash) for p in model.partitions()]
        for place, digest in digests:
            table[place : place + HASH_WORDS] = words_of_hash(digest)
        table[Register.REQUEST_STRUCTURE_HASH :][: len(self._requests)] = self._requests
        return table

    def _plain_registers(self) -> dict[Register, int]:
        model, counts = self._fabric.model, self._counts
        return {
            Register.MAGIC: MAGIC,
            Register.VERSION: VERSION,
            Register.BOARD_KIND: BoardKind.EMULATED,
            Register.N_INPUTS: model.n_inputs,
            Register.N_WORDS: model.n_words,
            Register.ACTIVE_BANK_INDEX: self._fabric.active,
            Register.EPOCH: self._epoch & 0xFFFF_FFFF,
            Register.SCORE_SIGNED: int(model.score_format.signed),
            Register.PARTITIONS: len(model.partitions()),
            Register.EVENTS_LOW: counts["events"] & 0xFFFF_FFFF,
            Register.EVENTS_HIGH: counts["events"] >> 32,
            Register.ACCEPTS_LOW: counts["accepts"] & 0xFFFF_FFFF,
            Register.ACCEPTS_HIGH: counts["accepts"] >> 32,
            Register.SWITCHES: counts["switches"],
            Register.BOOTS: counts["boots"],
            Register.REFUSALS: counts["refusals"],
            Register.REPLACEMENTS: counts["replacements"],
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
        elif word in (Command.BOOT, Command.REPLACE):
            self._result = self._configure_fabric(whole=word == Command.BOOT)
        elif word == Command.COMMIT:
            self._result = self._commit()
        else:
            self._result = Result.UNKNOWN_COMMAND
        if self._result is not Result.DONE:
            self._counts["refusals"] += 1
        _log.info("command %d: %s", word, self._result.name)

    def _switch(self) -> Result:
        structure, weights, package = (hash_of_words(part) for part in np.split(self._requests, 3))
        result = self._fabric.switch(
            structure_hash=structure, weights_hash=weights, package_id=package, crc=self._request_crc
        )
        if result is Result.DONE:
            self._epoch += 1
            self._counts["switches"] += 1
        return result

    def _commit(self) -> Result:
        """Store what runs, so that it runs again after a loss of power."""
        configuration = self._fabric.configuration()
        if configuration is None:
            return Result.BAD_CHECKSUM
        try:
            if self._flash is not None:
                self._flash.store(configuration)
        except OSError as error:
            _log.warning("flash: %s", error)
            return Result.FLASH_FAILED
        return Result.DONE

    def _configure_fabric(self, *, whole: bool) -> Result:
        """Start the package that was sent: all of it, or partitions of it beside those that run."""
        content = np.concatenate([np.empty(0, np.uint32), *self._boot_data]).astype(">u4").tobytes()
        length, self._boot_data = self._boot_length, []
        if not len(content) - 4 < length <= len(content):
            return Result.BAD_PACKAGE
        running = None if whole else self._fabric.package
        try:
            package = read_board_content(content[:length], self._trusted_keys, installed=running)
            if running is not None and package.model.shell_hash != running.model.shell_hash:
                return Result.WRONG_SHELL
            self._start(Configuration.of(package))
        except PackageError as error:
            _log.warning("%s", error)
            return Result.BAD_PACKAGE
        except HardwareError as error:
            _log.warning("%s", error)
            return Result.BAD_IMAGE
        self._counts["boots" if whole else "replacements"] += 1
        return Result.DONE

    def _process(self) -> None:
        """Score every whole event that waits, with the active bank."""
        if not self._events_in:
            return
        waiting = np.concatenate(self._events_in)
        size = words_per_event(self._fabric.model.n_inputs)
        whole = min(len(waiting) // size, EVENT_CAPACITY - len(self._answers)) * size
        self._events_in = [waiting[whole:]] if whole < len(waiting) else []
        if not whole:
            return
        inputs = unpack_events(waiting[:whole], self._fabric.model.n_inputs)
        scores, accepts = self._fabric.run(inputs)
        self._answers = np.concatenate([self._answers, pack_answers(scores, accepts)])
        self._counts["events"] += len(scores)
        self._counts["accepts"] += int(accepts.sum())
