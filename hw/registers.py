"""The register map of a board that runs lumiwatch firmware: addresses, commands, results, event words.

`docs/registers.md` explains every field for those who implement it.
Refuses to know how registers are reached.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

MAGIC = 0x4C4D5742
"""The letters LMWB."""

VERSION = 2
"""Version of this map."""

HASH_WORDS = 8
"""A sha256 in 32-bit words, most significant first."""

SCORE_BITS = 31
ACCEPT_BIT = 1 << SCORE_BITS
INACTIVE_BANK = 0x0010_0000
ACTIVE_BANK = 0x0020_0000


class Register(IntEnum):
    """Word addresses. R: read only, W: write only, RW: both."""

    MAGIC = 0x00  # R
    VERSION = 0x01  # R
    BOARD_KIND = 0x02  # R
    N_INPUTS = 0x03  # R
    N_WORDS = 0x04  # R
    ACTIVE_BANK_INDEX = 0x05  # R
    EPOCH = 0x06  # R
    SCORE_SIGNED = 0x07  # R
    PARTITIONS = 0x08  # R
    STRUCTURE_HASH = 0x10  # R, 8 words
    WEIGHTS_HASH = 0x18  # R, 8 words
    PACKAGE_ID = 0x20  # R, 8 words
    SHELL_HASH = 0x28  # R, 8 words
    EVENTS_LOW = 0x30  # R
    EVENTS_HIGH = 0x31  # R
    ACCEPTS_LOW = 0x32  # R
    ACCEPTS_HIGH = 0x33  # R
    SWITCHES = 0x34  # R
    BOOTS = 0x35  # R
    REFUSALS = 0x36  # R
    REPLACEMENTS = 0x37  # R
    CONFIG_LOCK = 0x40  # RW
    CONFIG_RELEASE = 0x41  # W
    COMMAND = 0x42  # W
    RESULT = 0x43  # R
    REQUEST_CRC = 0x44  # RW
    REQUEST_STRUCTURE_HASH = 0x50  # RW, 8 words
    REQUEST_WEIGHTS_HASH = 0x58  # RW, 8 words
    REQUEST_PACKAGE_ID = 0x60  # RW, 8 words
    BOOT_LENGTH = 0x70  # RW
    BOOT_DATA = 0x71  # W, FIFO
    BOOT_RECEIVED = 0x72  # R
    BOOT_MAXIMUM = 0x73  # R
    EVENT_LOCK = 0x80  # RW
    EVENT_RELEASE = 0x81  # W
    EVENT_IN = 0x82  # W, FIFO
    EVENT_OUT = 0x83  # R, FIFO
    EVENT_OUT_COUNT = 0x84  # R
    EVENT_CAPACITY = 0x85  # R
    EVENT_WORDS = 0x86  # R
    PARTITION_HASHES = 0x100  # R, 8 words for each of 16 partitions
    SCRATCH = 0x200  # RW, 256 words


TABLE_WORDS = Register.PARTITION_HASHES + 16 * HASH_WORDS
"""Registers end here."""

MAXIMUM_PARTITIONS = 16

SCRATCH_WORDS = 256
"""Memory without any effect, to try a connection with."""


class BoardKind(IntEnum):
    """What answers."""

    HARDWARE = 0
    EMULATED = 1


class Command(IntEnum):
    """What can be written to COMMAND."""

    SWITCH = 1
    BOOT = 2
    REPLACE = 3
    COMMIT = 4


class Result(IntEnum):
    """What RESULT says of the last command."""

    NONE = 0
    DONE = 1
    UNKNOWN_COMMAND = 2
    WRONG_STRUCTURE = 3
    BAD_CHECKSUM = 4
    OFF_GRID = 5
    BAD_PACKAGE = 6
    BAD_IMAGE = 7
    WRONG_SHELL = 8
    FLASH_FAILED = 9


RESULT_CURES = {
    Result.NONE: "the board has not executed a command: try again",
    Result.UNKNOWN_COMMAND: "the board does not know the command: update its firmware",
    Result.WRONG_STRUCTURE: "the weights are for another structure: replace the whole firmware instead",
    Result.BAD_CHECKSUM: "the bank does not hold what was sent: load it again",
    Result.OFF_GRID: "a word is outside its format: build the weights for this firmware's formats",
    Result.BAD_PACKAGE: "the package is damaged or not signed by a key the board trusts: check the package",
    Result.WRONG_SHELL: "the partitions are for another static part: replace the whole firmware instead",
    Result.FLASH_FAILED: "the flash cannot be written and a loss of power brings the old firmware: check it",
    Result.BAD_IMAGE: "the image does not run on the board: build it for this board",
}
"""What each refusal means and what to do."""


def words_of_hash(digest: str) -> npt.NDArray[np.uint32]:
    """Give a sha256 in hex as registers hold it: uint32, (8,)."""
    return np.frombuffer(bytes.fromhex(digest), dtype=">u4").astype(np.uint32)


def hash_of_words(words: npt.NDArray[np.uint32]) -> str:
    """Give the sha256 that eight register words hold, in hex."""
    return words.astype(">u4").tobytes().hex()


def words_per_event(n_inputs: int) -> int:
    """Words one event takes: two inputs a word."""
    return (n_inputs + 1) // 2


def pack_events(inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.uint32]:
    """Pack events for EVENT_IN: input 2k in the low half of word k, 2k+1 in the high half, zero padded.

    Parameters
    ----------
    inputs
        int16, (n, n_inputs).

    Returns
    -------
    numpy.ndarray
        uint32, (n * words_per_event,).
    """
    n_events, n_inputs = inputs.shape
    padded = np.zeros((n_events, 2 * words_per_event(n_inputs)), dtype="<i2")
    padded[:, :n_inputs] = inputs
    return padded.view("<u4").astype(np.uint32).ravel()


def unpack_events(words: npt.NDArray[np.uint32], n_inputs: int) -> npt.NDArray[np.int16]:
    """Undo `pack_events`: int16, (n, n_inputs)."""
    halves = words.astype("<u4").view("<i2").reshape(-1, 2 * words_per_event(n_inputs))
    return np.ascontiguousarray(halves[:, :n_inputs], dtype=np.int16)


def pack_answers(scores: npt.NDArray[np.int64], accepts: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    """Pack answers for EVENT_OUT: the raw score in bits 0-30, the decision in bit 31."""
    return (scores & (ACCEPT_BIT - 1)).astype(np.uint32) | (
        accepts.astype(np.uint32) << np.uint32(SCORE_BITS)
    )


def unpack_answers(
    words: npt.NDArray[np.uint32], *, signed: bool = False
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Undo `pack_answers`: int64 scores, with the sign in bit 30 if they have one, and bool decisions."""
    scores = (words & np.uint32(ACCEPT_BIT - 1)).astype(np.int64)
    if signed:
        sign = 1 << (SCORE_BITS - 1)
        scores = (scores ^ sign) - sign
    return scores, words >= np.uint32(ACCEPT_BIT)
