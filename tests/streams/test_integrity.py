"""A prescaled sample of each batch is compared with the emulator, and mismatches are counted exactly."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from streams.integrity import (
    NOT_CHECKED,
    EmulatedOutput,
    IntegrityCheck,
    IntegrityState,
    chance_of,
    clopper_pearson,
    judge_integrity,
    sample,
)
from tests.support.streams import PACKAGE


class StandInEmulators:
    """Answers as the stand-in of the firmware does, for its one package."""

    def __init__(self, firmware):
        self._firmware = firmware

    def outputs(self, package, inputs):
        if package != PACKAGE:
            return None
        answer = self._firmware(inputs)
        return EmulatedOutput(answer.score, answer.accept)


def _splitmix64(name, size):
    """The published generator, in Python's own integers."""
    state = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    for _ in range(size):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        yield z ^ z >> 31


@pytest.fixture
def emulators(detector):
    return StandInEmulators(detector.firmware)


def test_firmware_that_agrees_has_no_mismatch(detector, emulators):
    batch = detector.batch(7, n_events=2000)
    assert IntegrityCheck(emulators, prescale=1).check(batch) == (2000, 0)
    assert IntegrityCheck(emulators, prescale=100, minimum=8).check(batch) == (20, 0)


def test_flipped_bits_are_counted_exactly(detector, emulators):
    # given firmware that flips one bit of the score of every 500th event, and the decision of two others
    batch = detector.batch(7, n_events=4000)
    score, accept = batch.score.copy(), batch.accept.copy()
    score[::500] ^= 4
    accept[[3, 1003]] ^= True
    faulty = replace(batch, score=score, accept=accept)

    # when every event is checked, then each of them is found
    assert IntegrityCheck(emulators, prescale=1).check(faulty) == (4000, 8 + 2)

    # when a sample is checked, then exactly those of it are found
    chosen = sample(faulty, prescale=10, minimum=8)
    wrong = set(range(0, 4000, 500)) | {3, 1003}
    assert IntegrityCheck(emulators, prescale=10).check(faulty) == (400, len(wrong & set(chosen.tolist())))


@pytest.mark.parametrize(
    ("n_events", "prescale", "minimum", "size"),
    [(4000, 100, 8, 40), (4000, 1, 8, 4000), (300, 100, 8, 8), (5, 100, 8, 5), (4001, 1000, 1, 4)],
)
def test_a_sample_has_the_size_that_was_asked_for(detector, n_events, prescale, minimum, size):
    chosen = sample(detector.batch(7, n_events=n_events), prescale=prescale, minimum=minimum)
    assert len(chosen) == size
    assert (np.diff(chosen) > 0).all()
    assert chosen[0] >= 0
    assert chosen[-1] < n_events


def test_the_sample_follows_from_the_identity_of_the_batch_alone(detector):
    batch = detector.batch(7, n_events=4000)
    again = replace(batch, inputs=batch.inputs.copy(), package="cc" * 32)
    other = replace(batch, sequence=batch.sequence + 1)
    chosen = sample(batch, prescale=100, minimum=8)
    assert np.array_equal(chosen, sample(again, prescale=100, minimum=8))
    assert not np.array_equal(chosen, sample(other, prescale=100, minimum=8))
    # the same in every version and on every machine: a batch may be delivered again after an upgrade
    name = f"{batch.model}/{batch.run}/{batch.lumisection}/{batch.source}/{batch.sequence}"
    assert chosen.tolist() == [100 * n + number % 100 for n, number in enumerate(_splitmix64(name, 40))]


def test_every_event_has_the_same_chance_to_be_checked(detector):
    batch = detector.batch(7, n_events=64)
    hits = np.zeros(64, dtype=int)
    for sequence in range(4000):
        hits[sample(replace(batch, sequence=sequence), prescale=16, minimum=1)] += 1
    # 4000 / 16 = 250 each, standard deviation 15
    assert hits.min() > 250 - 6 * 15
    assert hits.max() < 250 + 6 * 15


def test_a_package_without_emulator_is_not_checked(detector, emulators):
    assert IntegrityCheck(emulators).check(detector.batch(7, package="dd" * 32)) == NOT_CHECKED
    assert judge_integrity(0, 0).state is IntegrityState.NOT_CHECKED
    assert judge_integrity(0, 0).ratio is None


def test_an_emulator_that_breaks_is_contained_and_counted(detector):
    class Broken:
        def outputs(self, *_):
            raise ZeroDivisionError

    check = IntegrityCheck(Broken())
    assert check.check(detector.batch(7)) == NOT_CHECKED
    assert check.failures == 1


@pytest.mark.parametrize(
    ("n_checked", "n_mismatched", "state"),
    [
        (2000, 0, IntegrityState.AGREES),
        (200, 1, IntegrityState.AGREES),  # one in 200 happens at 1e-4 in one window of 50
        (200, 2, IntegrityState.FAULT),
        (2000, 12, IntegrityState.FAULT),
        (1_000_000, 100, IntegrityState.AGREES),
        (1_000_000, 140, IntegrityState.FAULT),
        (1, 1, IntegrityState.FAULT),
    ],
)
def test_a_fault_is_a_ratio_significantly_above_the_tolerance(n_checked, n_mismatched, state):
    result = judge_integrity(n_checked, n_mismatched, 1e-4)
    assert result.state is state
    assert result.low <= result.ratio == n_mismatched / n_checked <= result.high <= 1


def test_nothing_is_tolerated_where_the_tolerance_is_zero():
    assert judge_integrity(10_000_000, 1, 0.0).state is IntegrityState.FAULT
    assert judge_integrity(10_000_000, 0, 0.0).state is IntegrityState.AGREES


def test_intervals_are_those_of_the_books():
    # Clopper and Pearson 1934: 0 of n leaves 1 - (alpha/2)^(1/n), and 3 of 10 the table's 6.7 % to 65.2 %
    assert clopper_pearson(0, 100) == (0.0, pytest.approx(1 - 0.025 ** (1 / 100)))
    assert clopper_pearson(3, 10) == (pytest.approx(0.0667, abs=1e-4), pytest.approx(0.6525, abs=1e-4))
    assert clopper_pearson(10, 10)[1] == 1.0
    assert chance_of(1, 200, 1e-4) == pytest.approx(1 - (1 - 1e-4) ** 200)


def test_words_are_for_people():
    assert judge_integrity(2000, 12).words == "12 of 2,000 checked events differ from the emulator"
    assert judge_integrity(2000, 0).words == "all 2,000 checked events agree with the emulator"
    assert judge_integrity(0, 0).words == "no event was checked against the emulator"
