"""Effects on pt do to codes what the detector would have done to values, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.contracts.contract import digitise, parse_contract
from streams.effects.effect import Effect
from tests.streams.effects.conftest import FOUR_JETS


def columns_of(contract, name, quantity="pt"):
    return [i for i, spec in enumerate(contract.inputs) if spec.object == name and spec.quantity == quantity]


@pytest.mark.parametrize("gain", [0.5, 0.95, 1.0, 1.01, 1.05, 2.0])
def test_a_gain_scales_the_mean_and_touches_only_pt_of_objects_that_are_there(dataset, contract, gain):
    before = np.repeat(dataset.inputs, 20, axis=0)
    kept = before.copy()
    after = Effect("gain", "jet", gain).apply(before, contract, 1, np.random.default_rng(5))
    np.testing.assert_array_equal(before, kept)
    jets = columns_of(contract, "jet")
    others = [i for i in range(contract.n_inputs) if i not in jets]
    np.testing.assert_array_equal(after[:, others], before[:, others])
    there = before[:, jets] > 0
    np.testing.assert_array_equal(after[:, jets] > 0, there)
    # a code is the lower edge of its interval: add half a code for the mean pt
    ratio = (after[:, jets][there].mean() + 0.5) / (before[:, jets][there].mean() + 0.5)
    assert ratio == pytest.approx(gain, rel=1e-3)
    assert (np.diff(after[:, jets], axis=1) <= 0).all()


def test_a_gain_agrees_with_digitising_scaled_values(contract):
    """The same distribution of codes as scaling the values first, for values flat within a code."""
    rng = np.random.default_rng(11)
    spec = contract.group("jet").quantity("pt")
    values = rng.uniform(30, 100, 400_000)
    inputs = np.zeros((len(values), contract.n_inputs), dtype=np.int16)
    jet = contract.input_index("jet[0].pt")
    inputs[:, jet] = digitise(values, spec)
    after = Effect("gain", "jet", 1.05).apply(inputs, contract, 1, rng)[:, jet]
    independent = rng.uniform(30, 100, 400_000)
    wanted = np.bincount(digitise(independent * 1.05, spec), minlength=300)
    got = np.bincount(after, minlength=300)
    filled = wanted + got > 0
    pull = (wanted - got)[filled] / np.sqrt((wanted + got)[filled])
    assert np.mean(pull**2) == pytest.approx(1.0, abs=0.4)


@settings(deadline=None)  # the first one compiles
@given(
    st.lists(st.integers(0, 255), min_size=1, max_size=20), st.floats(0.01, 100), st.integers(0, 2**32 - 1)
)
def test_a_gain_stays_in_range(
    codes,
    gain,
    seed,
):
    contract = parse_contract(PT_ONLY)
    inputs = np.array(codes, dtype=np.int16)[:, None]
    after = Effect("gain", "jet", gain).apply(inputs, contract, 1, np.random.default_rng(seed))
    assert after.min() >= 0
    assert after.max() <= 255
    np.testing.assert_array_equal(after == 0, inputs == 0)
    exact = inputs[:, 0] * gain
    inside = (inputs[:, 0] > 0) & (exact >= 1) & (exact + gain < 255)
    assert (after[inside, 0] >= np.floor(exact[inside])).all()
    assert (after[inside, 0] <= np.ceil(exact[inside] + gain)).all()


PT_ONLY = """
name = "one"
version = 1
tree = "events"
[[objects]]
name = "jet"
count = 1
[[objects.quantities]]
name = "pt"
expression = "pt"
lsb = 0.5
minimum = 0
maximum = 255
"""


def test_a_shifted_contract_scales_pt_and_not_its_code():
    contract = parse_contract(PT_ONLY + "offset = 64\nshift = 2\n")
    raw = np.array([0, 100, 200], dtype=np.int64)
    inputs = ((raw - 64) >> 2).astype(np.int16)[:, None].repeat(5000, axis=0)
    after = (
        Effect("gain", "jet", 1.2).apply(inputs, contract, 1, np.random.default_rng(0))[:, 0].reshape(3, 5000)
    )
    assert (after[0] == -16).all()
    np.testing.assert_allclose(after[1:].mean(axis=1), (np.array([102, 202]) * 1.2 - 64) / 4 - 0.5, atol=0.1)


def test_a_gain_saturates_and_never_makes_an_object_vanish(event, after):
    up = after("jet_gain=3", event((200, 1, 2), (84, 3, 4), (85, 5, 6)))
    assert up[0, [2, 5]].tolist() == [255, 252 + (up[0, 5] - 252)]
    assert 252 <= up[0, 5] <= 254
    assert up[0, 8] == 255
    down = after("jet_gain=0.001", event((200, 1, 2), (1, 3, 4)))
    assert down[0].tolist() == [20, 5, 1, 1, 2, 1, 3, 4, *[0] * 6]


def test_an_offset_of_whole_codes_is_exact(event, after):
    given = event((250, 1, 2), (40, 3, 4), (7, 5, 6))
    assert after("jet_offset=5", given)[0].tolist() == [20, 5, 255, 1, 2, 50, 3, 4, 17, 5, 6, 0, 0, 0]
    assert after("jet_offset=-3", given)[0].tolist() == [20, 5, 244, 1, 2, 34, 3, 4, 1, 5, 6, 0, 0, 0]


def test_an_offset_takes_an_object_below_its_first_code_away_whole(event, after):
    given = event((40, 3, 4), (7, 5, 6))
    assert after("jet_offset=-3.5", given)[0].tolist() == [20, 5, 33, 3, 4, *[0] * 9]
    assert after("met_offset=-10", given)[0, :2].tolist() == [0, 0]


def test_an_offset_makes_no_object(event, after):
    given = event(met=(0, 0))
    assert (after("met_offset=10", given) == given).all()


def test_an_object_without_pt_keeps_its_direction_where_the_contract_keeps_it(event, after):
    contract = parse_contract(FOUR_JETS.replace("count = 1\n", "count = 1\nkeep_without_pt = true\n"))
    assert after("met_offset=-10", event(), contract)[0, :2].tolist() == [0, 5]


def test_half_a_code_of_offset_moves_half_of_the_events(event, after):
    moved = after("jet_offset=0.25", np.repeat(event((40, 3, 4)), 20_000, axis=0))[:, 2]
    assert set(moved.tolist()) == {40, 41}
    assert moved.mean() == pytest.approx(40.5, abs=0.02)


def test_an_offset_counts_in_pt_where_codes_are_shifted():
    contract = parse_contract(PT_ONLY + "offset = 64\nshift = 2\n")
    # raw 100 is code (100 - 64) >> 2 = 9; 4 GeV are 8 raw codes, two codes
    inputs = np.array([[9], [-16]], dtype=np.int16)
    after = Effect("offset", "jet", 4.0).apply(inputs, contract, 1, np.random.default_rng(0))
    assert after.tolist() == [[11], [-16]]


def test_a_tail_reaches_a_fraction_of_the_events_and_leaves_the_others(event, after):
    given = np.repeat(event((40, 3, 4)), 40_000, axis=0)
    got = after("met_tail=3:fraction=0.02", given)
    hit = got[:, 0] != 20
    assert hit.mean() == pytest.approx(0.02, abs=0.003)
    assert set(got[hit, 0].tolist()) == {60, 61, 62}
    np.testing.assert_array_equal(got[:, 1:], given[:, 1:])


def test_a_resolution_smears_by_a_relative_width_and_sorts_whole_objects_anew(event, after):
    given = np.repeat(event((100, 11, 12), (98, 21, 22), (60, 31, 32)), 20_000, axis=0)
    got = after("jet_resolution=0.05", given)
    jets = got[:, 2:].reshape(-1, 4, 3)
    assert (np.diff(jets[:, :, 0].astype(int), axis=1) <= 0).all()
    assert (jets[:, 3] == 0).all()
    # every object keeps its own eta and phi
    assert set(map(tuple, jets[:, :3, 1:].reshape(-1, 2).tolist())) == {(11, 12), (21, 22), (31, 32)}
    assert (np.sort(jets[:, :3, 1], axis=1) == [11, 21, 31]).all()
    for eta, code in ((11, 100), (21, 98), (31, 60)):
        pt = jets[:, :, 0][jets[:, :, 1] == eta] + 0.5
        assert pt.mean() == pytest.approx(code + 0.5, rel=0.003)
        assert pt.std() == pytest.approx(0.05 * (code + 0.5), rel=0.05)
    assert 0.3 < (jets[:, 0, 1] == 21).mean() < 0.5


def test_a_resolution_leaves_objects_in_place_where_nothing_sorts_them(event, after, unsorted_jets):
    given = np.repeat(event((60, 11, 12), (100, 21, 22)), 500, axis=0)
    got = after("jet_resolution=0.3", given, unsorted_jets)
    np.testing.assert_array_equal(got[:, [3, 4, 6, 7]], given[:, [3, 4, 6, 7]])
    assert (got[:, 2] > got[:, 5]).any()


def test_a_wide_resolution_makes_no_object_vanish(event, after):
    got = after("jet_resolution=5", np.repeat(event((60, 11, 12), (50, 21, 22)), 500, axis=0))
    assert ((got[:, [2, 5]] > 0) & (got[:, [2, 5]] <= 255)).all()


def test_a_shifted_code_is_drawn_over_all_its_raw_codes():
    """Code 9 is raw 100 to 104; 1.3 times that is 130 to 135.2, of which 130 to 132 is code 16."""
    contract = parse_contract(PT_ONLY + "offset = 64\nshift = 2\n")
    inputs = np.full((20_000, 1), 9, dtype=np.int16)
    after = Effect("gain", "jet", 1.3).apply(inputs, contract, 1, np.random.default_rng(0))
    assert set(after[:, 0].tolist()) == {16, 17}
    assert (after == 16).mean() == pytest.approx(2 / 5.2, abs=0.015)


def test_a_code_rounded_to_the_nearest_is_drawn_around_its_middle():
    """Code 10 is 9.5 to 10.5; 1.5 times that is 14.25 to 15.75, of which 14.25 to 14.5 is code 14."""
    contract = parse_contract(PT_ONLY + 'rounding = "nearest"\n')
    inputs = np.full((20_000, 1), 10, dtype=np.int16)
    after = Effect("gain", "jet", 1.5).apply(inputs, contract, 1, np.random.default_rng(0))[:, 0]
    np.testing.assert_allclose(
        np.bincount(after, minlength=17)[14:] / 20_000, [1 / 6, 4 / 6, 1 / 6], atol=0.015
    )
