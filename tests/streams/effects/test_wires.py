"""Faults of links and registers act on codes as they are, on objects that are there and that are not."""

import numpy as np
import pytest

from streams.contracts.contract import parse_contract
from streams.effects.effect import parse_effect
from tests.streams.effects.conftest import FOUR_JETS

A, B = (90, 10, 20), (70, -5, 0)


def test_a_stuck_input_has_one_code_in_all_events(event, after):
    given = np.concatenate([event(A, B), event(met=(3, 100))])
    got = after("met[0].pt_stuck=padding", given)
    assert got[:, 0].tolist() == [0, 0]
    assert (got[:, 1:] == given[:, 1:]).all()
    assert after("jet[1].eta_stuck=-50", given)[:, 6].tolist() == [-50, -50]


def test_a_stuck_input_of_a_shifted_contract_is_stuck_at_its_own_padding(event, after):
    shifted = parse_contract(FOUR_JETS.replace("maximum = 255\n", "maximum = 255\noffset = 64\nshift = 2\n"))
    assert after("jet[0].pt_stuck=padding", event(A), shifted)[0, 2] == -16


@pytest.mark.parametrize(
    ("text", "codes", "expected"),
    [
        ("jet[0].pt_bit=3:at=1", [0, 5, 8, 247, 255], [8, 13, 8, 255, 255]),
        ("jet[0].pt_bit=3:at=0", [0, 5, 8, 247, 255], [0, 5, 0, 247, 247]),
        # -50 to 50 in seven bits of two's complement
        ("jet[0].eta_bit=0:at=0", [-50, -1, 0, 7, 50], [-50, -2, 0, 6, 50]),
        ("jet[0].eta_bit=1:at=1", [-50, -1, 0, 7, 49], [-50, -1, 2, 7, 51]),
        ("jet[0].eta_bit=6:at=1", [-50, -1, 0, 7, 50], [-50, -1, -64, -57, -14]),
        ("jet[0].eta_bit=6:at=0", [-50, -1, 0, 7, 50], [14, 63, 0, 7, 50]),
        # 0 to 143 in eight bits: what the register holds, though no phi
        ("jet[0].phi_bit=7:at=1", [0, 100, 143], [128, 228, 143]),
    ],
)
def test_a_stuck_bit_is_right_to_the_bit(four_jets, after, text, codes, expected):
    column = four_jets.input_index(text.split("_", maxsplit=1)[0])
    given = np.zeros((len(codes), four_jets.n_inputs), dtype=np.int16)
    given[:, column] = codes
    got = after(text, given)
    assert got[:, column].tolist() == expected
    np.testing.assert_array_equal(np.delete(got, column, 1), np.delete(given, column, 1))


def test_swapped_inputs_exchange_their_codes(event, after):
    got = after("jet[0].eta_swap=jet[1].eta", event(A, B))
    assert (got == event((90, -5, 20), (70, 10, 0))).all()


def test_swapped_inputs_saturate_in_a_narrower_range(event, after):
    got = after("met[0].pt_swap=jet[0].pt", event((220, 1, 2)))
    assert got[0, :3].tolist() == [100, 5, 20]
    assert after("jet[0].eta_swap=jet[0].phi", event((9, -7, 140)))[0, 2:5].tolist() == [9, 50, 0]


def test_a_prescale_keeps_a_fraction_of_the_events_in_order(four_jets):
    given = np.zeros((20_000, four_jets.n_inputs), dtype=np.int16)
    given[:, 2] = np.arange(20_000) % 250
    given[:, 3] = np.arange(20_000) // 250
    got = parse_effect("events_prescale=0.25").apply(given, four_jets, 1, np.random.default_rng(0))
    assert len(got) == pytest.approx(5_000, abs=250)
    number = got[:, 3].astype(int) * 250 + got[:, 2]
    assert (np.diff(number) > 0).all()


def test_effects_act_one_after_the_other(event, after):
    hole, dead = "jet_hole=1,0.9:width=0.2,0.2", "jet_dead=0"
    assert (after(dead, after(hole, event(A, B))) == event()).all()
    assert (after(hole, after(dead, event(B, A))) == event()).all()
    assert (after(hole, after(dead, event(A, B))) == event((0, 0, 0), B)).all()
