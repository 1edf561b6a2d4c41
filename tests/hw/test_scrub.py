from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.boards.ipbus import IPbusBoard
from hw.errors import BoardError
from hw.registers import ACTIVE_BANK
from hw.scrub import ScrubOutcome, flipped_words, scrub
from tests.support.fragile import FragileBoard
from tests.support.hw import random_model

MODEL = random_model((6, 5, 4, 3))


@pytest.fixture
def fragile(packages, tmp_path):
    with FragileBoard(packages, tmp_path / "flash") as board:
        yield board


@pytest.fixture
def board(fragile):
    with closing(IPbusBoard(fragile.address)) as client:
        yield client


def flip(fragile, index, bits):
    fabric = fragile.device.device._fabric
    for bit in bits:
        fabric.banks[fabric.active].view(np.uint32)[index] ^= np.uint32(1 << bit)


@given(
    flips=st.dictionaries(
        st.integers(0, MODEL.n_words - 1), st.sets(st.integers(0, 31), min_size=1, max_size=4), max_size=5
    )
)
def test_every_flipped_bit_is_named_and_no_other(flips):
    expected = MODEL.memory()
    found = expected.copy()
    for index, bits in flips.items():
        for bit in bits:
            found.view(np.uint32)[index] ^= np.uint32(1 << bit)
    words = flipped_words(expected, found, MODEL)
    assert {word.index: set(word.bits) for word in words} == flips
    for word in words:
        segment = MODEL.segment(word.segment)
        assert segment.start + word.offset == word.index
        assert 0 <= word.offset < segment.words
        assert (word.expected, word.found) == (int(expected[word.index]), int(found[word.index]))


def test_a_sound_board_is_left_alone(board, packages):
    report = scrub(packages.first, board, packages.trusted)
    assert (report.outcome, report.flipped, report.words) == (
        ScrubOutcome.CLEAN,
        (),
        packages.first.model.n_words,
    )
    assert not report.wrong_weights
    assert board.identify().counters.switches == 0


def test_flipped_bits_are_named_and_put_right(fragile, board, packages):
    index = packages.first.model.segment("dense2.weight").start + 7
    flip(fragile, index, {0, 30})
    report = scrub(packages.first, board, packages.trusted)
    (word,) = report.flipped
    assert (word.segment, word.offset, word.bits) == ("dense2.weight", 7, (0, 30))
    assert (report.outcome, report.flipped_bits, report.wrong_weights) == (ScrubOutcome.REPAIRED, 2, True)
    assert "1 of 2635 words" in report.reason
    assert (board.read_back(active=True) == packages.first.model.memory()).all()
    assert (board.process(packages.first.golden_inputs).scores == packages.first.golden_scores).all()
    assert scrub(packages.first, board, packages.trusted).outcome is ScrubOutcome.CLEAN


def test_looking_only_changes_nothing(fragile, board, packages):
    flip(fragile, 3, {5})
    report = scrub(packages.first, board, packages.trusted, repair=False)
    assert report.outcome is ScrubOutcome.FLIPPED
    assert board.identify().counters.switches == 0
    assert scrub(packages.first, board, packages.trusted, repair=False) == report


def test_both_banks_may_be_hit(fragile, board, packages):
    flip(fragile, 3, {5})
    fabric = fragile.device.device._fabric
    fabric.banks[1 - fabric.active][4] ^= 1
    assert scrub(packages.first, board, packages.trusted).outcome is ScrubOutcome.REPAIRED
    assert (board.read_back(active=True) == packages.first.model.memory()).all()


def test_another_package_is_not_compared(board, packages):
    report = scrub(packages.second, board, packages.trusted)
    assert report.outcome is ScrubOutcome.OTHER_PACKAGE
    assert not report.wrong_weights


def test_memory_that_stays_wrong_is_said(fragile, board, packages):
    """A stuck bit: the inactive bank does not take what is written to it."""
    flip(fragile, 3, {5})
    device = fragile.device
    write = device.device.write

    def stuck(address, words):
        write(address, words)
        fabric = device.device._fabric
        fabric.banks[1 - fabric.active][9] = 77

    device.device.write = stuck
    report = scrub(packages.first, board, packages.trusted)
    assert report.outcome is ScrubOutcome.FAILED
    assert "does not hold what was loaded" in report.reason
    assert report.wrong_weights


def test_a_board_that_changes_all_the_time_is_not_judged(fragile, board, packages):
    device = fragile.device.device
    read = device.read

    def restless(address, count):
        if address == ACTIVE_BANK:
            device._epoch += 1
        return read(address, count)

    device.read = restless
    with pytest.raises(BoardError, match="in every look"):
        scrub(packages.first, board, packages.trusted)
