"""Generated lumisections: the same for the same seed, well formed, and moving the way a detector moves."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import streams.contracts
from streams.backtest.event_kernels import code_of
from streams.backtest.generator import (
    ACCEPTED_SHARE,
    BUNCHES,
    PILEUP_ERROR,
    PILEUP_JITTER,
    USUAL_BUNCHES,
    WANDER_LUMISECTIONS,
    GeneratedDetector,
)
from streams.contracts.contract import digitise, load_contract, parse_contract
from streams.contracts.quantity import Quantity
from streams.effects.effect import parse_effect
from streams.errors import ContractError, EffectError
from tests.streams.conftest import CONTRACT_PATH, SMALL_CONTRACT

CONTRACT = load_contract(CONTRACT_PATH)
SHIPPED = Path(streams.contracts.__file__).parent


@pytest.fixture(scope="module")
def detector():
    return GeneratedDetector(CONTRACT, 7)


def column(inputs, name):
    return inputs[:, CONTRACT.input_index(name)]


def test_a_lumisection_depends_on_seed_run_and_number_alone(detector):
    first = detector.events(3, 14, 500)
    detector.events(3, 15, 500)
    again = GeneratedDetector(CONTRACT, 7).events(3, 14, 500)

    np.testing.assert_array_equal(first, again)
    for other in (detector.events(3, 15, 500), detector.events(4, 14, 500)):
        assert (first != other).any()
    assert (first != GeneratedDetector(CONTRACT, 8).events(3, 14, 500)).any()


def test_a_longer_block_begins_with_the_shorter_one(detector):
    np.testing.assert_array_equal(detector.events(1, 1, 2000)[:300], detector.events(1, 1, 300))


def test_the_block_lies_as_counting_wants_it(detector):
    inputs = detector.events(1, 1, 100)

    assert inputs.dtype == np.int16
    assert inputs.shape == (100, 57)
    assert inputs.flags.f_contiguous


def test_codes_keep_to_the_contract(detector):
    inputs = detector.events(2, 5, 20_000, pileup=120.0)

    for spec, codes in zip(CONTRACT.inputs, inputs.T, strict=True):
        assert spec.minimum <= codes.min(), spec.name
        assert codes.max() <= spec.maximum, spec.name
    assert not column(inputs, "met[0].eta").any()
    assert set(np.unique(column(inputs, "met[0].phi"))) == set(range(144))


def test_objects_fall_in_pt_and_missing_ones_are_padding_behind_them(detector):
    inputs = detector.events(2, 6, 20_000)

    for group in CONTRACT.objects:
        pts = np.array([column(inputs, f"{group.name}[{index}].pt") for index in range(group.count)])
        assert (np.diff(pts, axis=0) <= 0).all(), group.name
        for index, pt in enumerate(pts):
            for name in ("eta", "phi"):
                assert not column(inputs, f"{group.name}[{index}].{name}")[pt == 0].any()
    jets = np.array([column(inputs, f"jet[{index}].pt") > 0 for index in range(10)])
    assert 0.5 < jets.mean() < 0.95


@pytest.mark.parametrize(
    "quantity",
    [
        Quantity(name="pt", expression="a", lsb=0.5, minimum=0, maximum=511),
        Quantity(name="pt", expression="a", lsb=0.3, minimum=-7, maximum=300, offset=5, shift=2),
        Quantity(name="eta", expression="a", lsb=0.0435, minimum=-115, maximum=115, rounding="nearest"),
        Quantity(name="phi", expression="a", lsb=0.043633, minimum=0, maximum=143, wrap=144),
        Quantity(name="phi", expression="a", lsb=0.1, minimum=-30, maximum=32, wrap=63, rounding="nearest"),
    ],
)
def test_codes_are_those_of_the_contract_s_own_rules(quantity):
    values = np.concatenate(
        [np.random.default_rng(1).normal(0, 60, 500), np.arange(-40, 40) * quantity.lsb / 2]
    )
    rule = np.array(
        [
            quantity.minimum,
            quantity.maximum,
            quantity.wrap or 0,
            quantity.offset,
            quantity.shift,
            quantity.rounding == "nearest",
            quantity.padding(),
        ]
    )

    assert [code_of(value, quantity.lsb, rule) for value in values] == digitise(values, quantity).tolist()


def test_more_pileup_means_more_jets_harder_ones_and_a_wider_missing_energy(detector):
    few, many = (detector.events(1, 1, 20_000, pileup=pileup) for pileup in (20.0, 60.0))

    assert (column(many, "jet[5].pt") > 0).mean() > 2 * (column(few, "jet[5].pt") > 0).mean()
    assert column(many, "jet[2].pt").mean() > 1.2 * column(few, "jet[2].pt").mean()
    assert column(many, "met[0].pt").mean() > 1.3 * column(few, "met[0].pt").mean()


def test_spectra_fall_eta_has_a_crack_and_jets_recoil(detector):
    inputs = detector.events(1, 1, 50_000, pileup=20.0)
    pt, eta = column(inputs, "jet[0].pt"), column(inputs, "egamma[0].eta")[column(inputs, "egamma[0].pt") > 0]

    counts = [((pt >= low) & (pt < 2 * low)).sum() for low in (50, 100, 200, 400)]
    assert all(high < low / 3 for low, high in pairwise(counts))
    crack, barrel = (np.abs(np.abs(eta) * 0.0435 - centre) < 0.07 for centre in (1.5, 1.1))
    assert crack.sum() < 0.85 * barrel.sum()
    turn = (column(inputs, "jet[0].phi").astype(int) - column(inputs, "jet[1].phi"))[pt > 100] % 144
    assert (np.abs(turn - 72) < 24).mean() > 0.8


def test_pileup_decays_within_a_fill_and_is_measured_with_a_small_error(detector):
    sections = range(1, 601)
    true = np.array([detector.pileup(5, section) for section in sections])
    measured = np.array([detector.conditions(5, section).pileup for section in sections])

    assert true[0] == pytest.approx(65, rel=0.03)
    assert true[-1] == pytest.approx(20, rel=0.03)
    decay = 65 * (20 / 65) ** (np.arange(600) / 599)
    assert np.std(true / decay) == pytest.approx(PILEUP_JITTER, rel=0.15)
    assert np.std(measured / true) == pytest.approx(PILEUP_ERROR, rel=0.15)
    assert detector.pileup(5, 2000) == pytest.approx(20, rel=0.03)


def test_conditions_are_those_of_simulated_stable_beams(detector):
    conditions = detector.conditions(5, 9)

    assert (conditions.model, conditions.run, conditions.lumisection) == ("anomaly", 5, 9)
    assert conditions.stable_beams
    assert conditions.simulated
    assert conditions.end_of_lumisection


def test_the_energy_scale_wanders_half_from_fill_to_fill_and_half_within(detector):
    gains = np.array(
        [[list(detector.gains(run, section).values()) for section in range(1, 601)] for run in range(60)]
    )
    wander = (gains - 1) / 0.0005

    assert wander.std() == pytest.approx(1, rel=0.1)
    # 600 lumisections hold few correlation times: the mean of a fill keeps a little of what is within
    assert wander.mean(axis=1).var() == pytest.approx(0.5 + 0.5 * 2 * WANDER_LUMISECTIONS / 600, rel=0.25)
    within = wander - wander.mean(axis=1, keepdims=True)
    lag = int(WANDER_LUMISECTIONS)
    correlation = (within[:, lag:] * within[:, :-lag]).mean() / within.var()
    assert correlation == pytest.approx(np.exp(-1), abs=0.1)


def test_the_wander_of_a_lumisection_does_not_depend_on_how_far_one_looks(detector):
    before = detector.gains(8, 100)
    detector.gains(8, 5000)

    assert detector.gains(8, 100) == before
    assert GeneratedDetector(CONTRACT, 7, lumisections_per_fill=50).gains(8, 100) == before
    assert set(GeneratedDetector(CONTRACT, 7, gain_wander=0).gains(8, 100).values()) == {1.0}


def test_a_gain_scales_before_the_codes_are_made(detector):
    normal, high = detector.events(1, 1, 20_000), detector.events(1, 1, 20_000, gains={"jet": 1.05})

    ratio = column(high, "jet[0].pt").mean() / column(normal, "jet[0].pt").mean()
    assert ratio == pytest.approx(1.05, abs=0.005)
    np.testing.assert_array_equal(column(high, "met[0].pt"), column(normal, "met[0].pt"))
    with pytest.raises(ContractError, match="no object 'photon' has a gain: use met"):
        detector.events(1, 1, 10, gains={"photon": 1.0})


def test_the_threshold_accepts_its_share(detector):
    scores = detector.scores(detector.events(1, 1, 50_000, pileup=40.0))

    assert scores.dtype == np.int32
    assert (scores >= detector.threshold).mean() == pytest.approx(ACCEPTED_SHARE, abs=0.01)
    assert detector.threshold == GeneratedDetector(CONTRACT, 99).threshold
    assert detector.scores(np.zeros((3, 57), dtype=np.int16)).tolist() == [0, 0, 0]


def test_a_summary_counts_the_batch_after_its_effects(detector):
    batch = detector.batch(4, 2, 3000)
    summary = detector.summary(4, 2, 3000)
    dead = detector.summary(4, 2, 3000, effects=[parse_effect("jet_dead=1")])

    assert (summary.run, summary.lumisection, summary.package) == (4, 2, batch.package)
    assert summary.n_events == dead.n_events == 3000
    assert summary.n_accept == int(batch.accept.sum())
    jet = CONTRACT.input_index("jet[1].pt")
    np.testing.assert_array_equal(
        summary.codes(jet), np.bincount(batch.inputs[:, jet], minlength=len(summary.codes(jet)))
    )
    assert dead.codes(jet)[0] == 3000
    with pytest.raises(EffectError, match="jet"):
        detector.summary(4, 2, 10, effects=[parse_effect("jet_dead=10")])


def test_another_contract_gets_the_same_detector():
    small = parse_contract(SMALL_CONTRACT)
    inputs = GeneratedDetector(small, 7).events(1, 1, 1000)
    same = GeneratedDetector(CONTRACT, 7).events(1, 1, 1000)

    np.testing.assert_array_equal(inputs[:, small.input_index("jet[1].phi")], column(same, "jet[1].phi"))
    np.testing.assert_array_equal(
        inputs[:, small.input_index("jet[0].pt")], np.minimum(column(same, "jet[0].pt"), 255)
    )


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ('name = "jet"', 'name = "photon"', "no object 'photon' is generated: use a contract of met"),
        ('name = "eta"', 'name = "iso"', "no quantity 'jet.iso' is generated"),
        ('unit = "rad"', 'unit = "deg"', "'jet.phi' is in 'deg': a generated one is in 'rad'"),
        ("count = 1\n", "count = 2\n", "met has count = 2"),
    ],
)
def test_a_contract_that_asks_for_more_is_refused(before, after, problem):
    with pytest.raises(ContractError, match=problem):
        GeneratedDetector(parse_contract(SMALL_CONTRACT.replace(before, after)), 1)


def test_a_staged_contract_is_refused():
    with pytest.raises(ContractError, match=r"'met\.pt' is staged by firmware: use a contract of raw codes"):
        GeneratedDetector(load_contract(SHIPPED / "axol1tl-v5.toml"), 1)


def test_a_contract_of_raw_hardware_integers_is_served():
    inputs = GeneratedDetector(load_contract(SHIPPED / "l1-ntuple.toml"), 1).events(1, 1, 100)

    assert inputs.shape == (100, 57)
    assert inputs.any(axis=0).sum() > 40


def test_without_numbers_of_bunches_nothing_is_told_and_nothing_changes(detector):
    usual = GeneratedDetector(CONTRACT, 7, bunches=(USUAL_BUNCHES,))
    assert detector.conditions(3, 14).values == {}
    assert usual.conditions(3, 14).values == {BUNCHES: USUAL_BUNCHES}
    np.testing.assert_array_equal(usual.events(3, 14, 500), detector.events(3, 14, 500))


def test_runs_have_numbers_of_bunches_in_turn_and_energies_follow(detector):
    made = GeneratedDetector(CONTRACT, 7, bunches=(1200.0, 1800.0))
    assert [made.bunches(run) for run in (1, 2, 3, 10_001)] == [1200.0, 1800.0, 1200.0, 1200.0]
    assert made.pileup(3, 14) == detector.pileup(3, 14)
    few, usual = made.gains(3, 14), detector.gains(3, 14)
    assert few["jet"] == pytest.approx(0.98 * usual["jet"])
    assert few["met"] == pytest.approx(0.97 * usual["met"])
    assert few["muon"] == usual["muon"]
