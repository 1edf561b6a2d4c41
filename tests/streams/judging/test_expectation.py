"""The expectation at a pileup: exact at the slices, linear between them, and a distribution everywhere."""

import numpy as np
import pytest

from streams.contracts.contract import parse_contract
from streams.judging.expectation import Expectation, Slice, covered_ranges, sliced
from tests.support.summaries import summary_of_counts

EVENTS = 1000


@pytest.fixture(scope="module")
def small(small_text):
    return parse_contract(small_text)


def _counts(contract, share, n_events=EVENTS, **place):
    """Return events of which a share has met 10 and the others 20, in codes."""
    met = np.zeros(103, dtype=np.int64)
    met[11], met[21] = round(share * n_events), round((1 - share) * n_events)
    accepted = round(share * n_events)
    return summary_of_counts(contract, n_events, {"met[0].pt": met}, n_accept=accepted, **place)


@pytest.fixture(scope="module")
def expectation(small):
    return Expectation((Slice(20.0, 8, _counts(small, 0.2)), Slice(40.0, 8, _counts(small, 0.6, 4000))))


@pytest.mark.parametrize(
    ("pileup", "share"), [(20.0, 0.2), (40.0, 0.6), (30.0, 0.4), (25.0, 0.3), (18.0, 0.16), (42.0, 0.64)]
)
def test_densities_and_rate_are_interpolated_linearly(expectation, pileup, share):
    got = expectation.at(pileup)
    assert got.inputs[11] == pytest.approx(share)
    assert got.inputs[21] == pytest.approx(1 - share)
    assert got.rate == pytest.approx(share)


def test_the_size_follows_from_the_weights(expectation):
    assert expectation.at(20.0).size == pytest.approx(1000)
    assert expectation.at(40.0).size == pytest.approx(4000)
    # half of each: 1 / (0.25 / 1000 + 0.25 / 4000)
    assert expectation.at(30.0).size == pytest.approx(3200)
    np.testing.assert_allclose(expectation.at(30.0).input_size, 3200)
    # 1.5 and -0.5: 1 / (2.25 / 1000 + 0.25 / 4000)
    assert expectation.at(10.0).size == pytest.approx(1 / (2.25 / 1000 + 0.25 / 4000))


@pytest.mark.parametrize("pileup", [0.0, 5.0, 20.0, 33.3, 60.0, 1000.0])
def test_every_input_stays_a_distribution(expectation, pileup):
    got = expectation.at(pileup)
    sums = np.add.reduceat(got.inputs, np.array(expectation.layout.starts[:-1]))
    np.testing.assert_allclose(sums, 1.0)
    assert got.score.sum() == pytest.approx(1.0)
    assert min(got.inputs.min(), got.score.min(), got.maps.min()) >= 0
    assert 0 <= got.rate <= 1


def test_an_extrapolation_ends_one_distance_beyond_the_slices(expectation):
    np.testing.assert_array_equal(expectation.at(60.0).inputs, expectation.at(1000.0).inputs)


def test_one_slice_is_expected_at_any_pileup(small):
    single = Expectation((Slice(30.0, 8, _counts(small, 0.2)),))
    np.testing.assert_array_equal(single.at(10.0).inputs, single.at(50.0).inputs)


def test_slices_hold_lumisections_of_similar_pileup_however_they_come(small):
    pileups = [20.0, 21.0, 40.0, 41.0] * 8
    parts = [_counts(small, 0.2, lumisection=number) for number in range(32)]
    slices = sliced(parts, pileups).slices
    assert [one.n_lumisections for one in slices] == [16, 16]
    assert [one.pileup for one in slices] == [pytest.approx(20.5), pytest.approx(40.5)]
    assert all(one.counts.n_events == 16 * EVENTS for one in slices)


def test_the_pileup_of_a_slice_is_that_of_its_events(small):
    parts = [_counts(small, 0.2, 1000, lumisection=1), _counts(small, 0.2, 3000, lumisection=2)]
    (only,) = sliced(parts, [20.0, 21.0]).slices
    assert only.pileup == pytest.approx(20.75)


def test_a_gap_parts_the_covered_ranges():
    assert covered_ranges([50.0, 20.0, 22.9, 25.8, 53.0]) == ((20.0, 25.8), (50.0, 53.0))
    assert covered_ranges([20.0]) == ((20.0, 20.0),)


def test_the_outermost_of_many_lumisections_cover_nothing():
    pileups = [float(pileup) for pileup in range(20, 60)] * 15
    assert covered_ranges([*pileups[:100], 61.0]) == ((20.0, 61.0),)
    # of 604, four at either end are left out: 63, 62, 61 and 60 above, and four of the fifteen at 20 below
    assert covered_ranges([*pileups, 60.0, 61.0, 62.0, 63.0]) == ((20.0, 59.0),)
