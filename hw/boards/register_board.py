"""A board that implements lumiwatch's register map, behind whatever bus: identity, banks, events, locks.

Refuses to know the bus, whether the board is hardware or emulated, and which package is good for it.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from hw.board import BoardCounters, BoardIdentity, ProcessedEvents
from hw.boards.bus import NO_WORDS, Access, Bus, read, read_fifo, write, write_fifo
from hw.errors import BoardBusy, BoardError, BoardRefused, BoardUnreachable
from hw.registers import (
    ACTIVE_BANK,
    HASH_WORDS,
    INACTIVE_BANK,
    MAGIC,
    MAXIMUM_PARTITIONS,
    RESULT_CURES,
    VERSION,
    BoardKind,
    Command,
    Register,
    Result,
    hash_of_words,
    pack_events,
    unpack_answers,
    words_of_hash,
    words_per_event,
)

_log = logging.getLogger(__name__)

_LOCK_TIMEOUT_S = 15.0
_POLL_S = 0.002
_REPEATS = 3
_IDENTITY_WORDS = Register.REPLACEMENTS + 1


class _Disturbed(Exception):  # noqa: N818 - no error: the exchange is done again
    """Packets of an exchange that was cut short arrived late and took or brought events."""


class RegisterBoard:
    """A board behind a bus.

    Parameters
    ----------
    bus
        The way to its registers.
    timeout_s
        Longest time to wait for answers to events.
    """

    def __init__(self, bus: Bus, *, timeout_s: float = 5.0) -> None:
        self._bus = bus
        self._timeout_s = timeout_s
        self._token = secrets.randbelow(0xFFFF_FFFF) + 1
        self._depth = 0
        self._configuring = threading.RLock()
        self._processing = threading.Lock()

    @property
    def address(self) -> str:
        """Where the board is."""
        return self._bus.address

    def close(self) -> None:
        """End the connection; the next call connects again."""
        self._bus.close()

    def identify(self) -> BoardIdentity:
        """Ask what runs on the board.

        Raises
        ------
        BoardError
            When what answers has another register map.
        """
        return self._identify()[0]

    def _identify(self) -> tuple[BoardIdentity, bool]:
        """Give the identity, and whether scores have a sign."""
        words, partitions = self._bus.run(
            read(Register.MAGIC, _IDENTITY_WORDS),
            read(Register.PARTITION_HASHES, MAXIMUM_PARTITIONS * HASH_WORDS),
        )
        if words[Register.MAGIC] != MAGIC or words[Register.VERSION] != VERSION:
            raise BoardError(
                f"{self.address} is no lumiwatch board with register map {VERSION}: check the address"
            )
        count = min(int(words[Register.PARTITIONS]), MAXIMUM_PARTITIONS)
        identity = BoardIdentity(
            address=self.address,
            simulated=bool(words[Register.BOARD_KIND] == BoardKind.EMULATED),
            shell_hash=_hash_at(words, Register.SHELL_HASH),
            partition_hashes=tuple(_hash_at(partitions, HASH_WORDS * index) for index in range(count)),
            structure_hash=_hash_at(words, Register.STRUCTURE_HASH),
            weights_hash=_hash_at(words, Register.WEIGHTS_HASH),
            package_id=_hash_at(words, Register.PACKAGE_ID),
            active_bank=int(words[Register.ACTIVE_BANK_INDEX]),
            epoch=int(words[Register.EPOCH]),
            n_inputs=int(words[Register.N_INPUTS]),
            n_words=int(words[Register.N_WORDS]),
            counters=BoardCounters(
                events=int(words[Register.EVENTS_LOW]) | int(words[Register.EVENTS_HIGH]) << 32,
                accepts=int(words[Register.ACCEPTS_LOW]) | int(words[Register.ACCEPTS_HIGH]) << 32,
                switches=int(words[Register.SWITCHES]),
                replacements=int(words[Register.REPLACEMENTS]),
                boots=int(words[Register.BOOTS]),
                refusals=int(words[Register.REFUSALS]),
            ),
        )
        return identity, bool(words[Register.SCORE_SIGNED])

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the board's configuration lock; may be nested.

        Raises
        ------
        BoardBusy
            When another client holds it for longer than 15 s.
        """
        with self._configuring:
            if self._depth == 0:
                self._take(Register.CONFIG_LOCK)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._release(Register.CONFIG_RELEASE)

    def load_inactive(self, words: npt.NDArray[np.int32], start: int = 0) -> None:
        """Write int32 words into the inactive bank from index `start`."""
        with self.exclusive():
            data = np.ascontiguousarray(words, dtype=np.int32).view(np.uint32)
            self._configure([write(INACTIVE_BANK + start, data)])

    def read_back(self, *, active: bool = False) -> npt.NDArray[np.int32]:
        """Read the inactive (or the active) bank: int32, (n_words,)."""
        count = int(self._read(Register.N_WORDS)[0])
        return self._read(ACTIVE_BANK if active else INACTIVE_BANK, count).view(np.int32)

    def switch(self, *, structure_hash: str, weights_hash: str, package_id: str) -> BoardIdentity:
        """Make the inactive bank the active one between two events.

        Raises
        ------
        BoardRefused
            When the board runs another structure, or the bank does not hold these weights.
        """
        with self.exclusive():
            bank = self.read_back()
            if hashlib.sha256(bank.astype("<i4").tobytes()).hexdigest() != weights_hash:
                raise BoardRefused(
                    f"the inactive bank of board at {self.address} does not hold the weights "
                    f"{weights_hash[:12]}: load them again"
                )
            self._configure(
                [
                    write(Register.REQUEST_CRC, zlib.crc32(bank.astype(">i4").tobytes())),
                    write(Register.REQUEST_STRUCTURE_HASH, words_of_hash(structure_hash)),
                    write(Register.REQUEST_WEIGHTS_HASH, words_of_hash(weights_hash)),
                    write(Register.REQUEST_PACKAGE_ID, words_of_hash(package_id)),
                ]
            )
            self._command(Command.SWITCH)
            return self.identify()

    def replace(self, package: bytes) -> BoardIdentity:
        """Replace partitions by those of a package, beside the ones that stay.

        Parameters
        ----------
        package
            What `hw.package.board_content` gives for the partitions.

        Raises
        ------
        BoardRefused
            When the board does not accept them; the old ones run on.
        """
        return self._stream(package, Command.REPLACE)

    def boot(self, package: bytes) -> BoardIdentity:
        """Replace the whole firmware by a package.

        Parameters
        ----------
        package
            What `hw.package.board_content` gives for the package.

        Raises
        ------
        BoardRefused
            When the board does not accept it; the old firmware runs on.
        """
        return self._stream(package, Command.BOOT)

    def _stream(self, package: bytes, command: Command) -> BoardIdentity:
        """Send a package into the configuration buffer and let the board start it."""
        with self.exclusive():
            maximum = int(self._read(Register.BOOT_MAXIMUM)[0])
            if len(package) > maximum:
                raise BoardRefused(
                    f"board at {self.address} takes packages up to {maximum} bytes, not {len(package)}"
                    ": build a smaller one"
                )
            padded = package + bytes(-len(package) % 4)
            words = np.frombuffer(padded, dtype=">u4").astype(np.uint32)
            self._configure(
                [write(Register.BOOT_LENGTH, len(package)), write_fifo(Register.BOOT_DATA, words)]
            )
            self._command(command)
            return self.identify()

    def commit(self) -> None:
        """Let the board start with what it runs now after a loss of power.

        Raises
        ------
        BoardRefused
            When the active bank does not hold what was switched to, or its flash cannot be written.
        """
        with self.exclusive():
            self._take(Register.CONFIG_LOCK)
            self._command(Command.COMMIT)

    def process(self, inputs: npt.NDArray[np.int16]) -> ProcessedEvents:
        """Score events in the board, all with the same firmware.

        Parameters
        ----------
        inputs
            int16, (n, n_inputs).

        Raises
        ------
        BoardError
            When the number of inputs is wrong, events get lost, or the firmware changes again and again.
        """
        with self._processing:
            for _ in range(_REPEATS):
                if (answers := self._process_once(inputs)) is not None:
                    return answers
        raise BoardError(
            f"board at {self.address} is disturbed or reconfigured in every batch: stop the other clients"
        )

    def _process_once(self, inputs: npt.NDArray[np.int16]) -> ProcessedEvents | None:
        """Score events, or give nothing when something came between: other firmware, or late packets."""
        self._take(Register.EVENT_LOCK)
        try:
            before, signed = self._identify()
            if inputs.ndim != 2 or inputs.shape[1] != before.n_inputs or inputs.dtype != np.int16:
                raise BoardError(
                    f"board at {self.address} takes int16 (n, {before.n_inputs}), not {inputs.dtype} "
                    f"{inputs.shape}: use the contract of package {before.package_id[:12]}"
                )
            capacity = int(self._read(Register.EVENT_CAPACITY)[0])
            starts = range(0, len(inputs), capacity)
            parts = [self._process_part(inputs[start : start + capacity]) for start in starts]
            after = self.identify()
        except _Disturbed:
            return None
        finally:
            self._release(Register.EVENT_RELEASE)
        if before.epoch != after.epoch:
            return None
        words = np.concatenate([NO_WORDS, *parts])
        if len(words) != len(inputs):
            raise BoardError(
                f"board at {self.address} answered {len(words)} of {len(inputs)} events: "
                f"check that it takes {words_per_event(inputs.shape[1])} words an event"
            )
        return ProcessedEvents(*unpack_answers(words, signed=signed), after.package_id)

    def _process_part(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.uint32]:
        """Send events and collect the answers that come in time."""
        count = len(inputs)
        sent = write_fifo(Register.EVENT_IN, pack_events(inputs))
        deadline = time.monotonic() + self._timeout_s
        answered = int(self._bus.run(sent, read(Register.EVENT_OUT_COUNT))[-1][0])
        while answered < count and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            answered = int(self._read(Register.EVENT_OUT_COUNT)[0])
        if answered > count:
            raise _Disturbed
        try:
            return self._bus.run(read_fifo(Register.EVENT_OUT, answered))[0]
        except BoardUnreachable:
            raise
        except BoardError as error:
            raise _Disturbed from error

    def _take(self, lock: Register) -> None:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            holder = int(self._bus.run(write(lock, self._token), read(lock))[-1][0])
            if holder == self._token:
                return
            if time.monotonic() > deadline:
                what = "event buffer" if lock is Register.EVENT_LOCK else "configuration"
                raise BoardBusy(
                    f"board at {self.address}: another client holds the {what} for {_LOCK_TIMEOUT_S:.0f} s: "
                    "wait for it or end it"
                )
            time.sleep(_POLL_S)

    def _release(self, register: Register) -> None:
        """Give a lock back; when the board is gone its lease ends by itself."""
        try:
            self._bus.run(write(register, self._token))
        except (BoardUnreachable, BoardBusy) as error:
            _log.info("lock not released: %s", error)

    def _read(self, address: int, count: int = 1) -> npt.NDArray[np.uint32]:
        return self._bus.run(read(address, count))[0]

    def _configure(self, accesses: list[Access]) -> None:
        """Send configuration writes; the lock is taken again first, in case the board's lease ran out."""
        self._take(Register.CONFIG_LOCK)
        self._bus.run(*accesses)

    def _command(self, command: Command) -> None:
        code = int(self._bus.run(write(Register.COMMAND, command), read(Register.RESULT))[-1][0])
        result = Result(code) if code in set(Result) else Result.UNKNOWN_COMMAND
        if result is not Result.DONE:
            raise BoardRefused(
                f"board at {self.address} refused {command.name} ({result.name}): {RESULT_CURES[result]}"
            )


def _hash_at(words: npt.NDArray[np.uint32], place: int) -> str:
    return hash_of_words(words[place : place + HASH_WORDS])
