"""A contract says exactly how a value becomes a code, and refuses what contradicts itself."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.contracts.contract import Quantity, digitise, load_contract, parse_contract
from streams.errors import ContractError

VALUES = st.floats(-1e6, 1e6, allow_nan=False)


def quantity(**changes):
    fields = {"name": "x", "expression": "x", "lsb": 0.5, "minimum": -100, "maximum": 100}
    return Quantity(**(fields | changes))


def test_example_contract_lays_out_the_57_inputs_of_the_global_trigger(contract):
    assert contract.n_inputs == 57
    assert contract.input_names[:4] == ("met[0].pt", "met[0].eta", "met[0].phi", "egamma[0].pt")
    assert contract.input_names[-1] == "jet[9].phi"
    assert contract.input_index("muon[0].pt") == 3 + 12
    assert [contract.inputs[contract.input_index(name)].maximum for name in ("jet[0].pt", "muon[3].pt")] == [
        2047,
        511,
    ]
    assert contract.inputs[contract.input_index("met[0].pt")].maximum == 4095
    for spec in contract.inputs:
        if spec.quantity == "phi":
            assert spec.wrap * spec.lsb == pytest.approx(math.tau, rel=1e-12)
        if spec.quantity == "eta":
            assert spec.minimum == -spec.maximum


def test_presence_points_every_input_at_the_pt_of_its_object(contract):
    assert contract.presence[contract.input_index("jet[4].phi")] == contract.input_index("jet[4].pt")


def test_contracts_in_use_keep_their_hash(contract):
    # packages, references and datasets of existing sites hold this number: later keys must not change it
    assert contract.hash == "6e0676a1e56a5d054bb749e80b93bb006bcb48b89a98c416f0518fc71475dcec"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('tree = "events"', 'tree = "events"\nlabel = "n"'),
        ('tree = "events"', 'tree = "events"\nselect = "n > 1"'),
        ("count = 2", 'count = 2\nselect = "Jet_Px > 1"'),
        ("count = 2", "count = 2\nkeep_without_pt = true"),
        ("lsb = 0.0435", "lsb = 0.0435\ncoded = true"),
        (
            "lsb = 0.0435",
            'lsb = 0.0435\nstage = {raw = "ap_fixed<18,13>", scaled = "ap_fixed<8,6,RND,SAT>"}',
        ),
    ],
)
def test_later_keys_change_the_hash_where_they_are_used(small_text, old, new):
    assert old in small_text
    assert parse_contract(small_text.replace(old, new, 1)).hash != parse_contract(small_text).hash


def test_hash_follows_content_and_not_layout(contract, contract_path):
    text = contract_path.read_text()
    assert parse_contract("# another comment\n" + text).hash == contract.hash
    assert parse_contract(text.replace("version = 1", "version = 2")).hash != contract.hash
    assert parse_contract(text.replace("maximum = 4095", "maximum = 4094")).hash != contract.hash


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'rounding = "floor"',
            'roundin = "floor"',
            "objects[0].quantities[0].roundin'.*did you mean 'rounding'",
        ),
        ('tree = "events"', 'treee = "events"', "did you mean 'tree'"),
        ('tree = "events"', "", "'tree' is missing"),
        ("count = 10", 'count = "ten"', r"objects\[3\].count"),
        ("wrap = 576", "wrap = 500", "set maximum = 499"),
        ('sort_by = "pt"', 'sort_by = "et"', "sort_by = 'et'"),
        ("maximum = 4095", "maximum = 70000", "16 bits"),
        ("hypot(MET_px, MET_py)", "__import__('os')", "unknown function '__import__'"),
        ('name = "jet"', 'name = "muon"', "stands twice"),
        ("version = 1", "version = [", "not valid TOML"),
        ("lsb = 0.5", "lsb = 0.0", "lsb"),
    ],
)
def test_wrong_contract_gives_one_line_with_file_key_and_cure(contract_path, tmp_path, old, new, said):
    text = contract_path.read_text()
    assert old in text
    path = tmp_path / "contract.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ContractError, match=said.replace("[0]", r"\[0\]")) as caught:
        load_contract(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_contract_is_named(tmp_path):
    with pytest.raises(ContractError, match=r"nowhere\.toml"):
        load_contract(tmp_path / "nowhere.toml")


def test_unknown_input_is_refused_with_a_hint(contract):
    with pytest.raises(ContractError, match=r"did you mean 'jet\[\d\]\.pt'"):
        contract.input_index("jet[10].pt")


@given(st.lists(VALUES, min_size=1, max_size=20), st.sampled_from(["floor", "nearest"]))
def test_clamped_codes_are_within_one_lsb_of_the_value(values, rounding):
    q = quantity(rounding=rounding)
    codes = digitise(values, q)
    assert codes.dtype == np.int16
    for value, code in zip(values, codes.tolist(), strict=True):
        if value < q.minimum * q.lsb:
            assert code == q.minimum
        elif value >= (q.maximum + 1) * q.lsb:
            assert code == q.maximum
        elif rounding == "floor":
            assert code == min(math.floor(value / q.lsb), q.maximum)
        else:
            assert code == max(q.minimum, min(round(value / q.lsb), q.maximum))


@given(VALUES, st.integers(-5, 5))
def test_wrapped_codes_repeat_after_one_turn(value, turns):
    q = quantity(lsb=1.0, minimum=-72, maximum=71, wrap=144)
    value = math.floor(value)
    code = int(digitise([value], q)[0])
    assert -72 <= code <= 71
    assert (code - value) % 144 == 0
    assert digitise([value + 144 * turns], q)[0] == code


@given(st.integers(-100, 100), st.integers(-50, 50), st.integers(0, 4))
def test_offset_and_shift_are_those_of_the_firmware(raw, offset, shift):
    q = quantity(offset=offset, shift=shift)
    assert digitise([raw * q.lsb], q)[0] == (raw - offset) >> shift
    assert q.code_minimum <= (raw - offset) >> shift <= q.code_maximum
    assert digitise([0.0], q)[0] == q.padding()


def test_nearest_breaks_ties_to_the_even_code():
    q = quantity(rounding="nearest")
    assert digitise([0.25, 0.75, 1.25, -0.25, -0.75], q).tolist() == [0, 2, 2, 0, -2]


def test_eta_codes_are_mirror_images():
    q = quantity(lsb=0.0435, minimum=-115, maximum=115, rounding="nearest")
    eta = np.linspace(0, 5, 1001)
    np.testing.assert_array_equal(digitise(-eta, q), -digitise(eta, q))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_without_a_code_is_refused(bad):
    with pytest.raises(ContractError, match="NaN or infinity"):
        digitise([1.0, bad], quantity())


def test_a_range_without_zero_has_no_code_for_missing_objects():
    with pytest.raises(ValueError, match="must contain 0"):
        quantity(minimum=1)
