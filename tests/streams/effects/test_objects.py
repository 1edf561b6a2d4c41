"""Objects vanish, appear and move as firmware would sort them; every block is worked out by hand."""

import numpy as np
import pytest

from streams.contracts.contract import digitise, parse_contract
from streams.effects.effect import parse_effect
from streams.errors import EffectError
from tests.streams.effects.conftest import FOUR_JETS

A, B, C, D = (90, 10, 20), (70, -5, 0), (50, -6, 143), (30, 4, 2)


def test_a_dead_slot_is_missing_and_nothing_moves_up(event, after):
    assert (after("jet_dead=1", event(A, B, C)) == event(A, (0, 0, 0), C)).all()


def test_a_hole_in_codes_is_as_many_codes_wide_as_it_says(four_jets, after):
    """10 by 6 codes about (0, 0): eta -5 to 4, phi 141 to 2."""
    eta, phi = (grid.ravel() for grid in np.meshgrid(np.arange(-50, 51), np.arange(144)))
    given = np.zeros((len(eta), four_jets.n_inputs), dtype=np.int16)
    given[:, 2], given[:, 3], given[:, 4] = 60, eta, phi
    lost = after("jet_hole=0,0:width=10,6:unit=codes", given)[:, 2] == 0
    assert set(eta[lost].tolist()) == set(range(-5, 5))
    assert set(phi[lost].tolist()) == {141, 142, 143, 0, 1, 2}
    assert lost.sum() == 60


def test_later_objects_move_up_into_a_hole(event, after):
    hole = "jet_hole=0,0:width=10,6:unit=codes"
    assert (after(hole, event(A, B, C, D)) == event(A, C)).all()
    assert (after(hole, event(B, D)) == event()).all()
    assert (after(hole, event(A, C)) == event(A, C)).all()


def test_a_hole_in_physical_units_takes_objects_that_digitise_into_it(four_jets, after):
    rng = np.random.default_rng(3)
    eta, phi = rng.uniform(-5, 5, 20_000), rng.uniform(-np.pi, np.pi, 20_000)
    group = four_jets.group("jet")
    given = np.zeros((len(eta), four_jets.n_inputs), dtype=np.int16)
    given[:, 2] = 60
    given[:, 3] = digitise(eta, group.quantity("eta"))
    given[:, 4] = digitise(phi, group.quantity("phi"))
    lost = after("jet_hole=1.25,3.1:width=0.5,0.8", given)[:, 2] == 0
    distance = np.abs((phi - 3.1 + np.pi) % (2 * np.pi) - np.pi)
    deep = (np.abs(eta - 1.25) < 0.25 - 0.05) & (distance < 0.4 - 0.044)
    far = (np.abs(eta - 1.25) > 0.25 + 0.05) | (distance > 0.4 + 0.044)
    assert deep.sum() > 50
    assert lost[deep].all()
    assert not lost[far].any()


@pytest.mark.parametrize(
    ("hole", "etas"),
    [
        ("0,3.2:width=0.6,0.1", [-3, -2, -1, 0, 1, 2]),  # though -3 * 0.1 is less than -0.3
        ("0,3.2:width=0.5,0.1", [-2, -1, 0, 1, 2]),
    ],
)
def test_the_lower_edge_of_a_hole_belongs_to_it_and_the_upper_does_not(event, after, hole, etas):
    """Eta is rounded to the nearest 0.1, phi is rounded down: 3.15 to 3.25 holds the middles of 72 and 73."""

    def lost(eta, phi):
        return after(f"jet_hole={hole}", event((60, eta, phi)))[0, 2] == 0

    assert [eta for eta in range(-6, 7) if lost(eta, 73)] == etas
    assert [phi for phi in range(70, 77) if lost(0, phi)] == [72, 73]


@pytest.mark.parametrize("width", ["20,6.4", "20,100"])
def test_a_hole_all_around_takes_everything(event, after, width):
    assert (after(f"jet_hole=0,0:width={width}", event(A, B, C, D)) == event()).all()


@pytest.mark.parametrize("width", ["0,6", "6,0", "0,0"])
def test_a_hole_without_extent_takes_nothing(event, after, width):
    given = event(A, B)
    assert after(f"jet_hole=0,0:width={width}", given) is given


def test_a_hole_needs_a_phi_with_a_period(event, after):
    flat = parse_contract(FOUR_JETS.replace('unit = "rad"', 'unit = "cm"').replace("wrap = 144\n", ""))
    with pytest.raises(EffectError, match="has no period: give phi unit 'rad' and wrap"):
        after("jet_hole=0,0:width=1,1", event(), flat)


def test_a_hole_leaves_the_direction_of_a_missing_object_where_the_contract_keeps_it(event, after):
    contract = parse_contract(FOUR_JETS.replace("count = 4\n", "count = 4\nkeep_without_pt = true\n"))
    given = event(A, B, (0, 1, 1))
    assert (after("jet_hole=0,0:width=10,6:unit=codes", given, contract) == event(A, (0, 1, 1))).all()


def test_noise_takes_its_place_and_pushes_the_last_out(event, after):
    at = "at=0.4,0.01:fraction=1"  # codes 4 and 0
    assert (after(f"jet_noise=30:{at}", event(A, B, C)) == event(A, B, (60, 4, 0), C)).all()
    assert (after(f"jet_noise=50:{at}", event(A, B, C, D)) == event((100, 4, 0), A, B, C)).all()
    assert (after(f"jet_noise=10:{at}", event(A, B)) == event(A, B, (20, 4, 0))).all()
    assert (after(f"jet_noise=10:{at}", event()) == event((20, 4, 0))).all()


def test_noise_softer_than_all_of_full_slots_is_lost(event, after):
    given = event(A, B, C, D)
    assert (after("jet_noise=10:at=0.4,0.01:fraction=1", given) == given).all()


def test_noise_stands_behind_objects_of_equal_pt(event, after):
    assert (after("jet_noise=35:at=0.4,0.01:fraction=1", event(A, B, C)) == event(A, B, (70, 4, 0), C)).all()


def test_noise_saturates_and_its_phi_wraps(event, after):
    assert (after("jet_noise=900:at=-9,-0.01:fraction=1", event(A)) == event((255, -50, 143), A)).all()


def test_noise_stands_behind_the_last_object_where_nothing_sorts(event, after, unsorted_jets):
    given = event(C, A)
    got = after("jet_noise=30:at=0.4,0.01:fraction=1", given, unsorted_jets)
    assert (got == event(C, A, (60, 4, 0))).all()


def test_noise_anywhere_is_flat_in_the_codes(event, after):
    got = after("jet_noise=30:fraction=0.5", np.repeat(event(), 30_000, axis=0))
    hit = got[:, 2] == 60
    assert hit.mean() == pytest.approx(0.5, abs=0.02)
    assert (got[~hit] == event()).all()
    eta, phi = got[hit, 3], got[hit, 4]
    assert (eta.min(), eta.max(), phi.min(), phi.max()) == (-50, 50, 0, 143)
    assert eta.mean() == pytest.approx(0, abs=1)
    assert phi.mean() == pytest.approx(71.5, abs=1.5)


def test_objects_sorted_by_something_else_take_no_noise_and_no_overlay(event, after):
    by_eta = parse_contract(FOUR_JETS.replace('sort_by = "pt"', 'sort_by = "eta"'))
    with pytest.raises(EffectError, match="sorted by eta, which noise has none of"):
        after("jet_noise=30:fraction=1", event(), by_eta)
    with pytest.raises(EffectError, match="thin with a factor below 1"):
        after("jet_pileup=1.5:below=30", event(), by_eta)
    assert (after("jet_pileup=0:below=30", event(A, D), by_eta) == event(A)).all()


def test_thinned_pileup_takes_soft_objects_and_closes_the_gaps(event, after):
    # 30 GeV is code 60: C and D are softer
    assert (after("jet_pileup=0:below=30", event(A, B, C, D)) == event(A, B)).all()
    assert (after("jet_pileup=0:below=25", event(A, B, C, D)) == event(A, B, C)).all()
    got = after("jet_pileup=0.7:below=30", np.repeat(event(A, B, C, D), 20_000, axis=0))
    counts = (got[:, 2::3] > 0).sum(axis=1) - 2
    np.testing.assert_allclose(np.bincount(counts) / 20_000, [0.09, 0.42, 0.49], atol=0.015)


@pytest.mark.parametrize("seed", range(8))
def test_added_pileup_comes_from_the_soft_objects_of_other_events(event, after, seed):
    given = np.concatenate([event(A, C), event(B, D)])
    got = after("jet_pileup=2:below=30", given, seed=seed)
    assert (got == np.concatenate([event(A, C, D), event(B, C, D)])).all()


def test_added_pileup_fills_the_slots_with_the_hardest(event, after):
    full = event((99, 1, 1), (98, 2, 2), (97, 3, 3), (40, 4, 4))
    got = after("jet_pileup=2:below=30", np.concatenate([full, event((45, 5, 5), (42, 6, 6), D)]))
    assert (got[0] == event((99, 1, 1), (98, 2, 2), (97, 3, 3), (45, 5, 5))[0]).all()
    assert (got[1] == event((45, 5, 5), (42, 6, 6), (40, 4, 4), D)[0]).all()


@pytest.mark.parametrize(("factor", "added"), [(1.25, 0.25), (3.5, 2.5)])
def test_added_pileup_multiplies_the_soft_objects(event, after, factor, added):
    soft = np.repeat(event((30, 1, 1)), 4_000, axis=0)
    none = np.repeat(event(), 16_000, axis=0)
    given = np.random.default_rng(1).permuted(np.concatenate([soft, none]), axis=0)
    given[:, 3:] = 0
    got = after(f"jet_pileup={factor}:below=30", given)
    before = (given[:, 2::3] > 0).sum()
    assert ((got[:, 2::3] > 0).sum() - before) / before == pytest.approx(added, rel=0.06)


def test_one_event_has_no_others_to_overlay(event, after):
    assert (after("jet_pileup=2:below=30", event(A, C)) == event(A, C)).all()


def test_a_shifted_contract_loses_and_gains_objects_at_its_own_padding():
    contract = parse_contract(FOUR_JETS.replace("maximum = 255\n", "maximum = 255\noffset = 64\nshift = 2\n"))
    none = (-16, 0, 0)
    given = np.array([[0, 0, 30, 0, 0, 5, 40, 7, *none, *none]], dtype=np.int16)
    rng = np.random.default_rng(0)
    hole = parse_effect("jet_hole=0,0:width=2,2:unit=codes").apply(given, contract, 1, rng)
    assert hole.tolist() == [[0, 0, 5, 40, 7, *none, *none, *none]]
    # 60 GeV is raw 120, code (120 - 64) >> 2 = 14
    noise = parse_effect("jet_noise=60:at=0.4,0.01:fraction=1").apply(given, contract, 1, rng)
    assert noise.tolist() == [[0, 0, 30, 0, 0, 14, 4, 0, 5, 40, 7, *none]]
