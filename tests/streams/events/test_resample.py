"""Resampled events are recorded ones, turned and mirrored exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.contracts.contract import parse_contract
from streams.errors import DatasetError, ResampleError
from streams.events.dataset import dataset_of
from streams.events.resample import n_turns, resample, resampled_dataset, turn_and_mirror


def slow_turn_and_mirror(event, contract, turn, mirror):
    """Turn one event in plain Python."""
    result = [int(code) for code in event]
    for position, spec in enumerate(contract.inputs):
        if event[contract.input_index(f"{spec.object}[{spec.index}].pt")] == 0:
            continue
        if spec.quantity == "phi":
            result[position] = (result[position] + turn * spec.wrap // 144) % spec.wrap
        if spec.quantity == "eta" and mirror:
            result[position] = -result[position]
    return result


@settings(max_examples=60, deadline=None)
@given(index=st.integers(0, 2420), turn=st.integers(0, 143), mirror=st.booleans())
def test_one_turn_is_the_same_angle_for_every_object(dataset, contract, index, turn, mirror):
    event = dataset.inputs[index : index + 1]
    got = turn_and_mirror(event, contract, np.array([turn]), np.array([mirror]))
    assert got[0].tolist() == slow_turn_and_mirror(event[0], contract, turn, mirror)


@settings(max_examples=30, deadline=None)
@given(turns=st.lists(st.integers(0, 143), min_size=50, max_size=50))
def test_turning_back_restores_every_bit(dataset, contract, turns):
    there = np.array(turns)
    events = dataset.inputs[:50]
    mirrored = there % 2 == 0
    moved = turn_and_mirror(events, contract, there, mirrored)
    np.testing.assert_array_equal(turn_and_mirror(moved, contract, (144 - there) % 144, mirrored), events)


def test_resampling_keeps_what_turns_cannot_change(dataset, contract):
    events = resample(dataset, contract, 30_000, np.random.default_rng(1))
    assert events.shape == (30_000, 57)
    assert events.dtype == np.int16
    fixed = [i for i, spec in enumerate(contract.inputs) if spec.quantity == "pt"]
    known = {row.tobytes() for row in np.ascontiguousarray(dataset.inputs[:, fixed])}
    assert {row.tobytes() for row in np.ascontiguousarray(events[:, fixed])} <= known
    for position, spec in enumerate(contract.inputs):
        assert events[:, position].min() >= spec.minimum
        assert events[:, position].max() <= spec.maximum


def test_angles_between_objects_stay(dataset, contract):
    """The jets turn with the muons: phi differences in calorimeter codes are those of a recorded event."""
    jet, muon = contract.input_index("jet[0].pt"), contract.input_index("muon[0].pt")
    both = dataset.take((dataset.inputs[:, jet] > 0) & (dataset.inputs[:, muon] > 0), made_by="both")

    def signature(events):
        angle = (4 * events[:, jet + 2].astype(int) - events[:, muon + 2]) % 576
        side = events[:, jet + 1].astype(int) * events[:, muon + 1]
        return set(
            zip(events[:, jet].tolist(), events[:, muon].tolist(), angle.tolist(), side.tolist(), strict=True)
        )

    events = resample(both, contract, 5000, np.random.default_rng(2))
    assert signature(events) <= signature(both.inputs)


def test_turns_are_uniform_and_half_of_the_events_mirrored(dataset, contract):
    forward = np.flatnonzero(dataset.inputs[:, contract.input_index("jet[0].eta")] > 0)
    one = dataset.take(forward[:1], made_by="one")
    events = resample(one, contract, 144_000, np.random.default_rng(3))
    phi = np.bincount(events[:, contract.input_index("jet[0].phi")], minlength=144)
    assert abs(phi - 1000).max() < 6 * np.sqrt(1000)
    eta = events[:, contract.input_index("jet[0].eta")]
    assert abs(np.count_nonzero(eta == eta[0]) - 72_000) < 6 * np.sqrt(36_000)


def test_the_same_seed_gives_the_same_events_and_says_so(dataset, contract):
    first, second = (resampled_dataset(dataset, contract, 500, seed=7) for _ in range(2))
    assert first.id == second.id
    assert first.provenance.made_by == "resample seed=7 events=500"
    assert first.provenance.parents == [dataset.id]
    assert resampled_dataset(dataset, contract, 500, seed=8).id != first.id


def test_offset_codes_mirror_about_physical_zero(small_text):
    contract = parse_contract(small_text.replace('rounding = "nearest"', 'rounding = "nearest"\noffset = 10'))
    events = np.array([[5, 60, 20 - 10, 3, 0, -10, 0]], dtype=np.int16)
    got = turn_and_mirror(events, contract, np.array([141]), np.array([True]))
    assert got.tolist() == [[5, 60, -20 - 10, 0, 0, -10, 0]]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("minimum = -115", "minimum = -100", "symmetric"),
        ('unit = "rad"', 'unit = "deg"', "no full turn"),
        ("wrap = 144", "", "no full turn"),
    ],
)
def test_codes_that_cannot_be_turned_exactly_are_refused(small_text, old, new, said):
    contract = parse_contract(small_text.replace(old, new, 1))
    with pytest.raises(ResampleError, match=said):
        resample(
            dataset_of(contract, np.zeros((2, 7), np.int16), made_by="x"),
            contract,
            5,
            np.random.default_rng(),
        )


def test_the_example_turns_in_144_steps(contract):
    assert n_turns(contract) == 144


def test_no_events_and_another_contract_are_refused(dataset, contract, small_text):
    with pytest.raises(ResampleError, match="without events"):
        resample(dataset.take(np.zeros(0, np.intp), made_by="none"), contract, 5, np.random.default_rng())
    with pytest.raises(DatasetError, match="convert it again"):
        resample(dataset, parse_contract(small_text), 5, np.random.default_rng())


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_events_handed_in_are_not_changed(dataset, contract, order):
    for n_events in (1, 5):
        events = np.array(dataset.inputs[:n_events], order=order)
        turn_and_mirror(events, contract, np.full(n_events, 7), np.ones(n_events, np.bool_))
        np.testing.assert_array_equal(events, dataset.inputs[:n_events])
