"""What holds for every kind, whatever the events: ranges, missing objects, order, seeds, and no strength."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streams.contracts.contract import parse_contract
from streams.effects.effect import parse_effect
from streams.effects.kinds import KINDS
from tests.streams.effects.conftest import FOUR_JETS

CONTRACT = parse_contract(FOUR_JETS)
MINIMUM = np.array([spec.minimum for spec in CONTRACT.inputs])
MAXIMUM = np.array([spec.maximum for spec in CONTRACT.inputs])
PT = slice(2, None, 3)

ENERGY = ["jet_gain=1.7", "jet_gain=0.01", "jet_offset=-7", "jet_offset=7", "jet_resolution=0.4"]
ENERGY += ["jet_tail=3:fraction=0.5", "jet_tail=0.1:fraction=0.5"]
LOSSES = ["jet_hole=0,0:width=6,3", "jet_hole=3,70:width=60,90:unit=codes", "jet_pileup=0.5:below=60"]
GAINS = ["jet_noise=40:fraction=0.5", "jet_noise=40:fraction=0.5:at=9,9", "jet_pileup=1.5:below=60"]
GAINS += ["jet_pileup=4:below=200"]
FAULTS = ["jet_dead=1", "jet[1].eta_stuck=-50", "met[0].pt_stuck=padding", "jet[0].pt_bit=3:at=1"]
FAULTS += ["met[0].pt_swap=jet[0].pt", "jet[0].eta_swap=jet[0].phi", "events_prescale=0.5"]
EXTREMES = [
    "jet_gain=1e9",
    "jet_offset=-1e9",
    "jet_offset=1e9",
    "jet_resolution=1e9",
    "jet_pileup=1.5:below=1e9",
]
EXTREMES += ["jet_noise=1e9:fraction=1:at=1e9,-1e9", "jet_hole=1e9,1e9:width=1e9,1e9"]
ALL = [*ENERGY, *LOSSES, *GAINS, *FAULTS, *EXTREMES]
NOTHING = ["jet_gain=1", "jet_offset=0", "jet_resolution=0", "jet_tail=1:fraction=1", "jet_tail=3:fraction=0"]
NOTHING += ["jet_hole=0,0:width=0,0", "jet_noise=40:fraction=0", "jet_pileup=1:below=60", "events_prescale=1"]
NOTHING += ["none"]

SEED = st.integers(0, 2**32 - 1)
EXAMPLES = settings(deadline=None, max_examples=200)  # the first one compiles


@st.composite
def blocks(draw):
    """Draw events as firmware sends them: jets by falling pt, missing ones all padding and last."""
    n_events = draw(st.integers(0, 12))
    codes = arrays(np.int16, (n_events, 4, 3), elements=st.integers(0, 2**15 - 1))
    jets = draw(codes).astype(np.int64)
    jets[:, :, 0] = -np.sort(-(jets[:, :, 0] % 256), axis=1)
    jets[:, :, 1] = jets[:, :, 1] % 101 - 50
    jets[:, :, 2] %= 144
    jets[jets[:, :, 0] == 0] = 0
    met = draw(arrays(np.int16, (n_events, 2), elements=st.integers(0, 100)))
    block = np.concatenate([met, jets.reshape(n_events, 12)], axis=1).astype(np.int16)
    return np.asfortranarray(block) if draw(st.booleans()) else block


def changed(text, block, seed):
    return parse_effect(text).apply(block, CONTRACT, 1, np.random.default_rng(seed))


def test_every_kind_is_among_them():
    assert {parse_effect(text).kind for text in ALL} == set(KINDS)
    assert {parse_effect(text).kind for text in NOTHING} >= {
        name for name, kind in KINDS.items() if kind.grows
    }


@EXAMPLES
@given(text=st.sampled_from(ALL), block=blocks(), seed=SEED)
def test_codes_stay_in_range_and_the_input_as_it_was(text, block, seed):
    before = block.copy()
    block.flags.writeable = False
    after = changed(text, block, seed)
    np.testing.assert_array_equal(block, before)
    assert after.dtype == np.int16
    assert after.shape[1] == CONTRACT.n_inputs
    assert len(after) == len(block) or text.startswith("events_")
    assert ((after >= MINIMUM) & (after <= MAXIMUM)).all()
    np.testing.assert_array_equal(after, changed(text, block, seed))


@EXAMPLES
@given(text=st.sampled_from([*ENERGY, *LOSSES, *GAINS]), block=blocks(), seed=SEED)
def test_jets_stay_in_order_without_gaps_and_missing_ones_are_padding(text, block, seed):
    after = changed(text, block, seed)
    pt = after[:, PT].astype(int)
    assert (np.diff(pt, axis=1) <= 0).all()
    jets = after[:, 2:].reshape(len(after), 4, 3)
    assert (jets[pt == 0] == 0).all()
    np.testing.assert_array_equal(after[:, :2], block[:, :2])


@EXAMPLES
@given(text=st.sampled_from([*ENERGY, *LOSSES]), block=blocks(), seed=SEED)
def test_what_is_missing_stays_missing(text, block, seed):
    after = changed(text, block, seed)
    n_before, n_after = ((one[:, PT] > 0).sum(axis=1) for one in (block, after))
    assert (n_after <= n_before).all()
    if text in ENERGY and "-7" not in text:
        np.testing.assert_array_equal(n_after, n_before)


@EXAMPLES
@given(text=st.sampled_from(LOSSES), block=blocks(), seed=SEED)
def test_what_is_left_was_there_before_in_the_same_order(text, block, seed):
    after = changed(text, block, seed)
    for old, new in zip(block[:, 2:].reshape(-1, 4, 3), after[:, 2:].reshape(-1, 4, 3), strict=True):
        rest = iter(old.tolist())
        assert all(jet in rest for jet in new.tolist() if jet[0])


@EXAMPLES
@given(text=st.sampled_from(NOTHING), block=blocks(), seed=SEED)
def test_without_strength_nothing_changes(text, block, seed):
    np.testing.assert_array_equal(changed(text, block, seed), block)
