import hashlib
import zlib

import numpy as np
import pytest

from hw.boards.device import EVENT_CAPACITY, LEASE_S, BusError, Device
from hw.emulator import Emulator
from hw.package import board_content
from hw.registers import (
    ACTIVE_BANK,
    INACTIVE_BANK,
    SCRATCH_WORDS,
    TABLE_WORDS,
    Command,
    Register,
    Result,
    pack_events,
    unpack_answers,
    words_of_hash,
)
from tests.support.hw import random_inputs

ME, OTHER = 7, 8
SCRATCH_END = Register.SCRATCH + SCRATCH_WORDS


class Clock:
    """A fake clock that is set by hand."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def device(packages, clock):
    return Device(packages.first, packages.trusted, clock=clock)


def one(device, register):
    return int(device.read(register, 1)[0])


def put(device, register, *words):
    device.write(register, np.array(words, dtype=np.uint32))


def load(device, words):
    device.write(INACTIVE_BANK, words.view(np.uint32))


def ask_for(device, package, **changes):
    """Write the request registers of a switch to `package`."""
    model = package.model
    wanted = {"structure": model.structure_hash, "weights": model.weights_hash, **changes}
    put(device, Register.REQUEST_CRC, zlib.crc32(model.memory().astype(">i4").tobytes()))
    device.write(Register.REQUEST_STRUCTURE_HASH, words_of_hash(wanted["structure"]))
    device.write(Register.REQUEST_WEIGHTS_HASH, words_of_hash(wanted["weights"]))
    device.write(Register.REQUEST_PACKAGE_ID, words_of_hash(package.id))
    put(device, Register.COMMAND, Command.SWITCH)
    return Result(one(device, Register.RESULT))


def score(device, inputs):
    put(device, Register.EVENT_LOCK, ME)
    device.write_fifo(Register.EVENT_IN, pack_events(inputs))
    answers = unpack_answers(device.read_fifo(Register.EVENT_OUT, len(inputs)))[0]
    put(device, Register.EVENT_RELEASE, ME)
    return answers


def test_a_switch_changes_scores_and_identity_at_once(device, packages):
    inputs = random_inputs(50, 57)
    assert (score(device, inputs) == Emulator(packages.first.model).scores(inputs)).all()
    put(device, Register.CONFIG_LOCK, ME)
    load(device, packages.second.model.memory())
    assert (score(device, inputs) == Emulator(packages.first.model).scores(inputs)).all()
    assert ask_for(device, packages.second) is Result.DONE
    assert (score(device, inputs) == Emulator(packages.second.model).scores(inputs)).all()
    assert (device.read(Register.PACKAGE_ID, 8) == words_of_hash(packages.second.id)).all()
    assert (one(device, Register.EPOCH), one(device, Register.ACTIVE_BANK_INDEX)) == (2, 1)
    assert (device.read(INACTIVE_BANK, 255).view(np.int32) == packages.first.model.memory()[:255]).all()
    assert (device.read(ACTIVE_BANK, 255).view(np.int32) == packages.second.model.memory()[:255]).all()


def test_events_sent_before_a_switch_are_scored_by_the_old_weights(device, packages):
    inputs = random_inputs(30, 57)
    put(device, Register.EVENT_LOCK, OTHER)
    device.write_fifo(Register.EVENT_IN, pack_events(inputs))
    put(device, Register.CONFIG_LOCK, ME)
    load(device, packages.second.model.memory())
    assert ask_for(device, packages.second) is Result.DONE
    answers, _ = unpack_answers(device.read_fifo(Register.EVENT_OUT, 30))
    assert (answers == Emulator(packages.first.model).scores(inputs)).all()


@pytest.mark.parametrize(
    ("change", "words", "expected"),
    [
        ({"structure": "0" * 64}, lambda words: words, Result.WRONG_STRUCTURE),
        ({"weights": "0" * 64}, lambda words: words, Result.BAD_CHECKSUM),
        ({}, lambda words: np.roll(words, 1), Result.BAD_CHECKSUM),
    ],
    ids=["structure", "hash", "content"],
)
def test_the_board_itself_refuses_a_wrong_switch(change, words, expected, device, packages):
    inputs = random_inputs(20, 57)
    put(device, Register.CONFIG_LOCK, ME)
    load(device, words(packages.second.model.memory()))
    assert ask_for(device, packages.second, **change) is expected
    assert (score(device, inputs) == Emulator(packages.first.model).scores(inputs)).all()
    assert (one(device, Register.REFUSALS), one(device, Register.EPOCH)) == (1, 1)


def test_words_off_the_grid_are_refused(device, packages):
    words = packages.second.model.memory()
    words[-1] = -5  # the threshold is unsigned
    put(device, Register.CONFIG_LOCK, ME)
    load(device, words)
    put(device, Register.REQUEST_CRC, zlib.crc32(words.astype(">i4").tobytes()))
    device.write(Register.REQUEST_STRUCTURE_HASH, words_of_hash(packages.first.model.structure_hash))
    digest = hashlib.sha256(words.astype("<i4").tobytes()).hexdigest()
    device.write(Register.REQUEST_WEIGHTS_HASH, words_of_hash(digest))
    put(device, Register.COMMAND, Command.SWITCH)
    assert one(device, Register.RESULT) == Result.OFF_GRID


def test_nothing_can_be_configured_without_the_lock(device, packages):
    before = device.read(INACTIVE_BANK, 10)
    for address in (
        INACTIVE_BANK,
        Register.COMMAND,
        Register.REQUEST_CRC,
        Register.BOOT_LENGTH,
        Register.REQUEST_PACKAGE_ID,
    ):
        with pytest.raises(BusError):
            put(device, address, 1)
    for fifo in (Register.BOOT_DATA, Register.EVENT_IN):
        with pytest.raises(BusError):
            device.write_fifo(fifo, np.ones(1, np.uint32))
    assert (device.read(INACTIVE_BANK, 10) == before).all()


@pytest.mark.parametrize(
    "address", [Register.MAGIC, Register.PACKAGE_ID, Register.EVENT_WORDS, 0x3F, 0x1000, ACTIVE_BANK]
)
def test_what_is_read_only_or_unknown_cannot_be_written(address, device):
    put(device, Register.CONFIG_LOCK, ME)
    with pytest.raises(BusError):
        put(device, address, 1)


@pytest.mark.parametrize(
    ("address", "count"), [(0x1000, 1), (TABLE_WORDS - 1, 2), (SCRATCH_END - 1, 2), (0xFFFF_FFFF, 1)]
)
def test_what_is_not_there_cannot_be_read(address, count, device):
    with pytest.raises(BusError):
        device.read(address, count)


def test_a_bank_ends_where_its_words_end(device, packages):
    put(device, Register.CONFIG_LOCK, ME)
    last = INACTIVE_BANK + packages.first.model.n_words - 1
    put(device, last, 3)
    assert one(device, last) == 3
    with pytest.raises(BusError):
        put(device, last, 3, 4)
    with pytest.raises(BusError):
        device.read(last, 2)


def test_a_holder_that_vanishes_loses_the_lock_and_leaves_no_events(device, clock, packages):
    inputs = random_inputs(3, 57)
    put(device, Register.EVENT_LOCK, OTHER)
    device.write_fifo(Register.EVENT_IN, pack_events(inputs)[:-5])
    put(device, Register.EVENT_LOCK, ME)
    assert one(device, Register.EVENT_LOCK) == OTHER
    clock.now += LEASE_S
    assert (score(device, inputs) == Emulator(packages.first.model).scores(inputs)).all()


def test_a_full_buffer_is_a_bus_error_and_loses_nothing(device):
    put(device, Register.EVENT_LOCK, ME)
    device.write_fifo(Register.EVENT_IN, np.zeros(29 * EVENT_CAPACITY, np.uint32))
    with pytest.raises(BusError):
        device.write_fifo(Register.EVENT_IN, np.zeros(1, np.uint32))
    assert one(device, Register.EVENT_OUT_COUNT) == EVENT_CAPACITY
    with pytest.raises(BusError):
        device.read_fifo(Register.EVENT_OUT, EVENT_CAPACITY + 1)


def boot(device, content, length=None):
    put(device, Register.CONFIG_LOCK, ME)
    put(device, Register.BOOT_LENGTH, len(content) if length is None else length)
    padded = content + bytes(-len(content) % 4)
    device.write_fifo(Register.BOOT_DATA, np.frombuffer(padded, ">u4").astype(np.uint32))
    put(device, Register.COMMAND, Command.BOOT)
    return Result(one(device, Register.RESULT))


def test_a_boot_brings_another_structure(device, packages):
    assert boot(device, packages.other.content) is Result.DONE
    inputs = random_inputs(20, 57)
    assert (score(device, inputs) == Emulator(packages.other.model).scores(inputs)).all()
    assert one(device, Register.N_WORDS) == packages.other.model.n_words
    assert (one(device, Register.BOOTS), one(device, Register.EPOCH)) == (1, 2)


def test_the_board_itself_refuses_to_boot_what_it_cannot_trust(device, packages, tmp_path):
    content = packages.other.content
    place = content.index(b"images/p0.so") + 5000
    broken = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    for refused in (content[:-400], broken, b"", b"no package at all"):
        assert boot(device, refused) is Result.BAD_PACKAGE
    assert boot(device, content, length=len(content) + 40) is Result.BAD_PACKAGE
    stranger = Device(packages.first, (), clock=Clock())
    assert boot(stranger, content) is Result.BAD_PACKAGE
    inputs = random_inputs(20, 57)
    assert (score(device, inputs) == Emulator(packages.first.model).scores(inputs)).all()


def replace_partitions(device, content):
    put(device, Register.CONFIG_LOCK, ME)
    put(device, Register.BOOT_LENGTH, len(content))
    padded = content + bytes(-len(content) % 4)
    device.write_fifo(Register.BOOT_DATA, np.frombuffer(padded, ">u4").astype(np.uint32))
    put(device, Register.COMMAND, Command.REPLACE)
    return Result(one(device, Register.RESULT))


def test_a_changed_partition_alone_is_enough(partitioned):
    device = Device(partitioned.first, partitioned.trusted)
    inputs = random_inputs(50, partitioned.first.model.n_inputs)
    hashes = device.read(Register.PARTITION_HASHES, 16).reshape(2, 8)
    assert replace_partitions(device, board_content(partitioned.other, {"p1"})) is Result.DONE
    assert (score(device, inputs) == Emulator(partitioned.other.model).scores(inputs)).all()
    after = device.read(Register.PARTITION_HASHES, 16).reshape(2, 8)
    assert (after[0] == hashes[0]).all()
    assert (after[1] != hashes[1]).any()
    assert (one(device, Register.REPLACEMENTS), one(device, Register.BOOTS)) == (1, 0)


def test_partitions_that_do_not_belong_are_refused(partitioned, packages):
    device = Device(partitioned.first, (*partitioned.trusted, *packages.trusted))
    inputs = random_inputs(50, partitioned.first.model.n_inputs)
    assert replace_partitions(device, board_content(packages.first)) is Result.WRONG_SHELL
    assert replace_partitions(device, board_content(partitioned.other, {"p0"})) is Result.BAD_PACKAGE
    assert (score(device, inputs) == Emulator(partitioned.first.model).scores(inputs)).all()


def test_the_scratch_memory_keeps_what_is_written_without_a_lock(device):
    words = np.arange(SCRATCH_WORDS, dtype=np.uint32) * 77
    device.write(Register.SCRATCH, words)
    assert (device.read(Register.SCRATCH, SCRATCH_WORDS) == words).all()


def test_an_unknown_command_is_refused(device):
    put(device, Register.CONFIG_LOCK, ME)
    put(device, Register.COMMAND, 99)
    assert one(device, Register.RESULT) == Result.UNKNOWN_COMMAND


def test_counters_count(device):
    inputs = random_inputs(40, 57)
    scores = score(device, inputs)
    assert one(device, Register.EVENTS_LOW) == 40
    assert 0 < one(device, Register.ACCEPTS_LOW) <= 40
    assert len(scores) == 40
