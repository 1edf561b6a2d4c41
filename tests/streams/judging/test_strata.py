"""Strata of a second condition: exact at their means, linear between them, and cut where lumisections lie."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.contracts.contract import parse_contract
from streams.errors import ReferenceProblem
from streams.judging.expectation import Expectation, Slice, covered_ranges, covers, sliced
from streams.judging.strata import (
    MAX_STRATA,
    Strata,
    Stratum,
    StratumHeader,
    common_ranges,
    covered_at,
    cut,
    stratified,
    value_inside,
    weights_at,
)
from tests.support.streams import OTHER_PACKAGE
from tests.support.summaries import summary_of_counts

EVENTS = 1000


@pytest.fixture(scope="module")
def small(small_text):
    return parse_contract(small_text)


def _counts(contract, share, n_events=EVENTS, **place):
    """Return events of which a share has met 10 and is accepted, and the others have met 20, in codes."""
    met = np.zeros(103, dtype=np.int64)
    met[11], met[21] = round(share * n_events), round((1 - share) * n_events)
    return summary_of_counts(
        contract, n_events, {"met[0].pt": met}, n_accept=round(share * n_events), **place
    )


def _header(value, covered=((20.0, 40.0),), spread=0.0, n_lumisections=16):
    return StratumHeader(
        value=value,
        lowest=value - spread,
        highest=value + spread,
        n_lumisections=n_lumisections,
        n_slices=2,
        covered=covered,
    )


def _stratum(contract, value, low, high, n_events=EVENTS, **changes):
    """Return a stratum in which a share is accepted that goes from `low` at pileup 20 to `high` at 40."""
    slices = (
        Slice(20.0, 8, _counts(contract, low, n_events)),
        Slice(40.0, 8, _counts(contract, high, n_events)),
    )
    return Stratum(_header(value, **changes), Expectation(slices))


@pytest.fixture(scope="module")
def strata(small):
    return Strata((_stratum(small, 1200.0, 0.2, 0.4), _stratum(small, 2400.0, 0.4, 0.8, 4000)))


@pytest.mark.parametrize(
    ("value", "pileup", "share"),
    [
        (1200.0, 20.0, 0.2),
        (2400.0, 40.0, 0.8),
        (1800.0, 30.0, 0.45),
        (1500.0, 20.0, 0.25),
        (2100.0, 40.0, 0.7),
        (1080.0, 40.0, 0.36),  # a tenth of the distance below the lowest mean
        (2520.0, 20.0, 0.42),
    ],
)
def test_everything_is_mixed_linearly_at_the_same_pileup(strata, value, pileup, share):
    got = strata.at_value(value).at(pileup)
    assert got.inputs[11] == pytest.approx(share)
    assert got.inputs[21] == pytest.approx(1 - share)
    assert got.rate == pytest.approx(share)


def test_the_size_follows_from_the_weights(strata):
    # half of each: 1 / (0.25 / 1000 + 0.25 / 4000)
    got = strata.at_value(1800.0).at(20.0)
    assert got.size == pytest.approx(3200)
    np.testing.assert_allclose(got.input_size, 3200)
    # and half of each slice: 1 / (2 * 0.25 * 0.25 * (1 / 1000 + 1 / 4000))
    assert strata.at_value(1800.0).at(30.0).size == pytest.approx(6400)


@pytest.mark.parametrize("value", [-1e15, 0.0, 1100.0, 1799.0, 2500.0, 1e15])
@pytest.mark.parametrize("pileup", [0.0, 20.0, 33.0, 60.0])
def test_every_input_stays_a_distribution(strata, value, pileup):
    got = strata.at_value(value).at(pileup)
    sums = np.add.reduceat(got.inputs, np.array(strata.layout.starts[:-1]))
    np.testing.assert_allclose(sums, 1.0)
    assert got.score.sum() == pytest.approx(1.0)
    assert min(got.inputs.min(), got.score.min(), got.maps.min()) >= 0
    assert 0 <= got.rate <= 1


def test_an_extrapolation_ends_one_distance_beyond_the_strata(strata):
    far, further = (strata.at_value(value).at(30.0).inputs for value in (3600.0, 1e15))
    np.testing.assert_array_equal(far, further)


def test_at_the_mean_of_a_stratum_its_own_expectation_is_all(strata):
    for one in strata.strata:
        assert strata.at_value(one.header.value) is one.expectation


def test_where_no_value_is_told_the_fullest_stratum_is_shown(small):
    few = _stratum(small, 1.0, 0.2, 0.4)
    many = _stratum(small, 2.0, 0.2, 0.4, n_lumisections=17)
    assert Strata((few, many)).at_value(None) is many.expectation


def test_the_mixture_is_linear_between_the_pileups_of_all_its_slices(small):
    wide = _stratum(small, 1.0, 0.2, 0.4)
    shares = (0.2, 0.6, 0.3)
    narrow = Expectation(
        tuple(
            Slice(pileup, 8, _counts(small, share))
            for pileup, share in zip((25.0, 30.0, 50.0), shares, strict=True)
        )
    )
    mixture = Strata((wide, Stratum(_header(2.0), narrow))).at_value(1.5)
    assert mixture.pileups == (25.0, 30.0, 40.0)
    for low, high in ((25.0, 30.0), (30.0, 40.0)):
        middle = (mixture.at(low).rate + mixture.at(high).rate) / 2
        assert mixture.at((low + high) / 2).rate == pytest.approx(middle)


def _many(contract, values, package=None):
    parts = [_counts(contract, 0.2, lumisection=number) for number in range(len(values))]
    if package is not None:
        parts[-1] = dataclasses.replace(parts[-1], package=package)
    pileups = np.linspace(20.0, 60.0, len(values)).tolist()
    return (parts, pileups, values)


def _stratified(parts, pileups, values):
    groups, alone = cut(values)
    return stratified(parts, pileups, values, groups), alone


def test_few_distinct_values_give_a_stratum_each_however_they_come(small):
    strata, alone = _stratified(*_many(small, [2400.0, 1200.0, 2412.0] * 16))
    assert [one.value for one in strata.headers] == [1200.0, 2400.0, 2412.0]
    assert [one.n_lumisections for one in strata.headers] == [16, 16, 16]
    assert [one.n_slices for one in strata.headers] == [2, 2, 2]
    assert len(strata.slices) == 6
    assert strata.pooled.n_events == 48 * EVENTS
    assert alone == []


def test_many_values_are_cut_into_ranges_of_equal_width(small):
    values = np.linspace(18.0, 24.0, 20 * MAX_STRATA).tolist()
    strata, _ = _stratified(*_many(small, values))
    assert [one.n_lumisections for one in strata.headers] == [20] * MAX_STRATA
    assert [one.value for one in strata.headers] == [
        pytest.approx(18.5 + number, abs=0.03) for number in range(6)
    ]
    assert strata.headers[0].lowest == 18.0
    assert strata.headers[-1].highest == 24.0


def test_a_few_lumisections_join_a_near_stratum_and_none_that_is_far(small):
    strata, alone = _stratified(*_many(small, [1200.0] * 20 + [2400.0] * 20 + [2410.0, 3600.0]))
    assert [one.n_lumisections for one in strata.headers] == [20, 21]
    assert strata.headers[1].value == pytest.approx((20 * 2400 + 2410) / 21)
    assert (strata.headers[1].lowest, strata.headers[1].highest) == (2400.0, 2410.0)
    assert alone == [41]


def test_a_lone_stratum_is_the_expectation_of_pileup_alone(small):
    parts, pileups, values = _many(small, [0.1] * 32)
    strata, _ = _stratified(parts, pileups, values)
    plain, (only,) = sliced(parts, pileups), strata.strata
    assert (only.header.lowest, only.header.value, only.header.highest) == (0.1, 0.1, 0.1)
    assert only.header.covered == covered_ranges(pileups)
    for value in (0.1, 7.0):
        got, wanted = strata.at_value(value).at(33.0), plain.at(33.0)
        assert (got.size, got.rate) == (wanted.size, wanted.rate)
        for name in ("inputs", "score", "maps", "input_size"):
            np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name))


def test_lumisections_that_do_not_belong_together_are_refused(small):
    with pytest.raises(ReferenceProblem, match="choose one of each"):
        _stratified(*_many(small, [1.0] * 16 + [2.0] * 16, OTHER_PACKAGE))


def test_between_strata_what_both_cover_is_covered(small):
    headers = [
        _header(1200.0, ((20.0, 50.0),)),
        _header(2400.0, ((30.0, 40.0), (45.0, 65.0))),
        _header(3600.0, ((70.0, 80.0),)),
    ]
    assert covered_at(headers, 1200.0) == ((20.0, 50.0),)
    assert covered_at(headers, 1800.0) == ((30.0, 40.0), (45.0, 50.0))
    assert covered_at(headers, 2400.0) == ((30.0, 40.0), (45.0, 65.0))
    assert covered_at(headers, 3000.0) == ()
    assert not covers(covered_at(headers, 3000.0), 66.0, 5.0)
    assert covered_at(headers, 1199.0) == covered_at(headers, 3601.0) == ()


def test_a_margin_goes_with_the_distance_of_the_nearest_strata():
    headers = [_header(100.0, spread=1.0), _header(200.0), _header(210.0)]
    assert value_inside(headers, 99.0)
    assert not value_inside(headers, 98.9)
    assert value_inside(headers, 89.1, 0.1)
    assert not value_inside(headers, 88.9, 0.1)
    assert value_inside(headers, 210.9, 0.1)
    assert not value_inside(headers, 211.1, 0.1)
    assert not value_inside(headers[:1], 101.1, 1.0)
    assert covered_at(headers, 89.1, 0.1) == ((20.0, 40.0),)


def test_what_two_coverages_have_in_common():
    assert common_ranges(((1.0, 3.0), (5.0, 9.0)), ((2.0, 6.0), (9.0, 10.0))) == (
        (2.0, 3.0),
        (5.0, 6.0),
        (9.0, 9.0),
    )
    assert common_ranges(((1.0, 3.0),), ((4.0, 6.0),)) == ()


LEVELS = st.lists(
    st.floats(-1e15, 1e15, allow_nan=False, allow_infinity=False), min_size=1, max_size=9, unique=True
)


@settings(max_examples=60, deadline=None)
@given(levels=LEVELS, seed=st.integers(0, 2**32 - 1), n=st.integers(1, 80), sought=LEVELS)
def test_however_values_lie_strata_rise_and_weights_add_up(small_text, levels, seed, n, sought):
    contract = parse_contract(small_text)
    values = np.random.default_rng(seed).choice(np.array(levels), n).tolist()
    strata, alone = _stratified(*_many(contract, values))
    headers = strata.headers
    assert 1 <= len(headers) <= MAX_STRATA
    assert sum(one.n_lumisections for one in headers) + len(alone) == n
    assert all(one.highest < other.lowest for one, other in pairwise(headers))
    kept = [value for index, value in enumerate(values) if index not in alone]
    assert (headers[0].lowest, headers[-1].highest) == (min(kept), max(kept))
    for value in (*sought, *kept):
        weights = weights_at(headers, value)
        assert sum(weight for _, weight in weights) == pytest.approx(1.0)
        assert all(-1.0 <= weight <= 2.0 for _, weight in weights)
    assert all(value_inside(headers, value) for value in kept)
