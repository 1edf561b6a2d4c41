"""Effects do to codes what the detector would have done to values, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.contracts.contract import digitise, parse_contract
from streams.effects.effect import Effect, parse_effect
from streams.errors import EffectError


def columns_of(contract, name, quantity="pt"):
    return [i for i, spec in enumerate(contract.inputs) if spec.object == name and spec.quantity == quantity]


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        ("jet_gain=1.05@LS61", Effect("gain", "jet", 1.05, 61)),
        ("muon_gain=0.9", Effect("gain", "muon", 0.9, 0)),
        ("jet_dead=3@LS5", Effect("dead", "jet", 3.0, 5)),
        ("none", Effect("none", "", 0.0)),
    ],
)
def test_reads_and_writes_the_same(text, effect):
    assert parse_effect(text) == effect
    assert str(effect) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jet_smear=1.1", "unknown kind 'smear': known are bit, dead, gain"),
        ("jet_gain", "badly written"),
        ("jet_gain=1.05@61", "badly written"),
        ("jet_gain=nan", "a number above 0"),
        ("jet_gain=0", "above 0"),
        ("jet_gain=1e999", "above 0"),
        ("jet_gain=1.2.3", "a number above 0"),
        ("jet_dead=1.5", "a number from 0"),
        ("", "badly written"),
    ],
)
def test_refuses_what_it_cannot_read(text, said):
    with pytest.raises(EffectError, match=said):
        parse_effect(text)


@pytest.mark.parametrize("text", ["tau_gain=1.1", "tau_dead=0", "jet_dead=10"])
def test_refuses_what_the_contract_does_not_have(dataset, contract, text):
    with pytest.raises(EffectError, match="contract 'anomaly' has"):
        parse_effect(text).apply(dataset.inputs, contract, 1, np.random.default_rng())


def test_acts_from_its_first_lumisection_on(dataset, contract):
    effect, rng = parse_effect("jet_gain=1.5@LS61"), np.random.default_rng(0)
    assert effect.apply(dataset.inputs, contract, 60, rng) is dataset.inputs
    assert (effect.apply(dataset.inputs, contract, 61, rng) != dataset.inputs).any()
    assert parse_effect("none").apply(dataset.inputs, contract, 61, rng) is dataset.inputs


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


def test_a_dead_slot_is_missing(dataset, contract):
    after = parse_effect("jet_dead=0").apply(dataset.inputs, contract, 1, np.random.default_rng())
    start = contract.input_index("jet[0].pt")
    assert (after[:, start : start + 3] == 0).all()
    others = [i for i in range(contract.n_inputs) if not start <= i < start + 3]
    np.testing.assert_array_equal(after[:, others], dataset.inputs[:, others])
