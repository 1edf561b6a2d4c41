"""Extremes: the worst input by Kolmogorov and Smirnov, and the place of a map that is off."""

import numpy as np
import pytest
from scipy import stats

from streams.contracts.contract import parse_contract
from streams.judging.expectation import Expectation, Slice
from streams.judging.extremes import extremes, ks_distances, mean_shifts
from tests.support.summaries import padded_events, summary_of_events


@pytest.fixture(scope="module")
def small(small_text):
    return parse_contract(small_text)


def _events(contract, n_events, seed, eta=0.0):
    rng = np.random.default_rng(seed)
    events = padded_events(contract, n_events)
    events[:, 0] = np.clip(rng.exponential(30, n_events), 0, 100)
    for first in (1, 4):
        events[:, first] = np.clip(rng.exponential(40, n_events), 1, 255)
        events[:, first + 1] = np.clip(rng.normal(eta, 40, n_events), -115, 115)
        events[:, first + 2] = rng.integers(0, 144, n_events)
    return events


def _summary(contract, events):
    return summary_of_events(contract, events, np.full(len(events), 1000) + events[:, 0])


def _expected(contract, events):
    return Expectation((Slice(50.0, 8, _summary(contract, events)),)).at(50.0)


def test_distances_and_shifts_are_those_of_the_raw_values(small):
    reference, window = _events(small, 9000, 1), _events(small, 3000, 2, eta=5.0)
    summary, expected = _summary(small, window), _expected(small, reference)
    distance, size = ks_distances(summary, expected)
    for index in range(small.n_inputs):
        assert distance[index] == pytest.approx(
            stats.ks_2samp(window[:, index], reference[:, index], method="asymp").statistic, abs=1e-12
        )
    np.testing.assert_allclose(size, np.sqrt(3000 * 9000 / 12000))
    np.testing.assert_allclose(
        mean_shifts(summary, expected), window.mean(axis=0) - reference.mean(axis=0), atol=1e-9
    )


def test_the_worst_input_is_named(small):
    events = _events(small, 3000, 2)
    events[:, 4] += 10
    got = extremes(_summary(small, events), _expected(small, _events(small, 9000, 1)))[0]
    assert (got.name, got.place) == ("inputs", "jet[1].pt")
    assert got.value == pytest.approx(got.effect * got.size)


def test_the_place_of_a_hole_is_found(small):
    events, reference = _events(small, 20_000, 2), _events(small, 60_000, 1)
    for first in (1, 4):
        hole = (np.abs(events[:, first + 1] - 20) <= 8) & (np.abs(events[:, first + 2] - 70) <= 6)
        events[hole, first : first + 3] = padded_events(small, 1)[0, first : first + 3]
    got = next(
        one for one in extremes(_summary(small, events), _expected(small, reference)) if one.name == "jet map"
    )
    eta, phi = (tuple(int(code) for code in part.split()[1].split("..")) for part in got.place.split(", "))
    assert eta[0] <= 28
    assert eta[1] >= 12
    assert phi[0] <= 76
    assert phi[1] >= 64
    assert got.effect < -0.5
    assert got.value > 6


def test_the_same_events_show_nothing(small):
    events = _events(small, 3000, 2)
    got = extremes(_summary(small, events), _expected(small, events))
    assert all(one.value == pytest.approx(0.0, abs=1e-5) for one in got)
