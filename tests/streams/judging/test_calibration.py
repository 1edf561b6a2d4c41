"""A calibration finds again the noise and the bias that lumisections were made with."""

import numpy as np
import pytest

from streams.contracts.contract import parse_contract
from streams.judging.calibration import calibrate, folds_in_strata, folds_of
from streams.judging.channels import design, measure
from streams.judging.expectation import Expectation, Slice, sliced
from streams.judging.pileup_fit import fit_pileup, pileup_shift
from tests.support.summaries import summary_of_counts

EVENTS = 2000
RUNS, EACH = 8, 25


@pytest.fixture(scope="module")
def small(small_text):
    return parse_contract(small_text)


def _met(gain):
    """Density of the met codes, smooth, moved by a gain: shape (103,)."""
    codes = np.arange(-1, 102) / (10.0 * gain)
    density = np.where(codes > 0, codes**2 * np.exp(-codes), 0.0)
    return density / density.sum()


def _lumisections(contract, *, copies=1, wander=0.0, jets=0.4, seed=3):
    """Return lumisections whose events come in copies, with a gain drawn for each run."""
    rng = np.random.default_rng(seed)
    parts = []
    for run in range(1, RUNS + 1):
        density = _met(1 + wander * rng.standard_normal())
        for lumisection in range(1, EACH + 1):
            met = copies * rng.multinomial(EVENTS // copies, density)
            pt = np.zeros(258, dtype=np.int64)
            there = rng.binomial(EVENTS, jets)
            pt[41:43] = there // 2
            pt[1] = EVENTS - pt.sum()
            accepted = int(rng.binomial(EVENTS, 0.1))
            histograms = {"met[0].pt": met, "jet[0].pt": pt}
            parts.append(
                summary_of_counts(
                    contract, EVENTS, histograms, n_accept=accepted, run=run, lumisection=lumisection
                )
            )
    return parts


def test_counting_noise_has_a_spread_of_one_and_no_bias(small):
    got = calibrate(_lumisections(small), [50.0] * RUNS * EACH, small)
    assert got.n_folds == RUNS
    assert got.n_events == EVENTS
    assert got.pileup_error == 0.0
    for name in ("met gain", "accept rate"):
        assert got.channels[name].spread == pytest.approx(1.0, abs=0.12)
        assert got.channels[name].bias < 0.006
        assert got.channels[name].dof >= RUNS * (EACH - 2)


def test_events_that_come_four_at_a_time_have_twice_the_spread(small):
    got = calibrate(_lumisections(small, copies=4), [50.0] * RUNS * EACH, small)
    assert got.channels["met gain"].spread == pytest.approx(2.0, abs=0.24)


def test_a_gain_that_wanders_from_run_to_run_is_a_bias_and_no_noise(small):
    got = calibrate(_lumisections(small, wander=0.03), [50.0] * RUNS * EACH, small).channels["met gain"]
    assert got.spread == pytest.approx(1.0, abs=0.15)
    # a run strays from the mean of the other seven: by sqrt(8 / 7) of the wander, known to a third
    assert 0.018 < got.bias < 0.05


def test_runs_are_held_out_whole_where_there_are_three_or_more():
    np.testing.assert_array_equal(folds_of([(5, 1), (7, 1), (5, 2), (9, 4)]), [0, 1, 0, 2])
    blocks = folds_of([(5, number) for number in range(32)])
    assert sorted(set(blocks.tolist())) == [0, 1, 2, 3]
    assert (np.bincount(blocks) == 8).all()


def test_no_part_that_is_held_out_is_a_whole_stratum():
    places = [(run, number) for run in (5, 7, 9) for number in range(16)]
    one = list(range(48))
    np.testing.assert_array_equal(folds_in_strata(places, [one]), folds_of(places))
    # runs 5 and 7 had the same value and are held out in turn; run 9 is alone at its own
    folds = folds_in_strata(places, [one[:32], one[32:]])
    assert folds[:32].tolist() == [0] * 16 + [1] * 16
    assert sorted(set(folds[32:].tolist())) == [3, 4, 5, 6]
    # of two runs blocks are held out, even where a value had come with one block of each
    two = places[:32]
    every = [[n for n in range(32) if (n // 4) % 4 == 0], [n for n in range(32) if (n // 4) % 4]]
    folds = folds_in_strata(two, every)
    assert all(len(set(folds[group].tolist())) == 4 for group in every)


@pytest.fixture(scope="module")
def rising(small):
    """Return an expectation whose number of jets is a hundredth of the pileup."""
    pileups = (20.0, 40.0, 60.0)
    return Expectation(tuple(Slice(one, 8, _at(small, one / 100, 1_000_000)) for one in pileups))


def _at(contract, share, n_events):
    pt = np.zeros(258, dtype=np.int64)
    pt[41] = round(share * n_events)
    pt[1] = n_events - pt[41]
    met = np.rint(_met(1.0) * n_events).astype(np.int64)
    met[40] += n_events - met.sum()
    return summary_of_counts(contract, n_events, {"met[0].pt": met, "jet[0].pt": pt}, n_accept=n_events // 10)


def test_the_numbers_of_objects_show_the_pileup(small, rising):
    made = design(small, rising.pooled)
    window = _at(small, 0.408, 20_000)
    shift = pileup_shift(made, window, rising, 40.0, rising.at(40.0))
    assert shift.value == pytest.approx(np.log(1.02), rel=0.02)
    # binomial: the variance of log of a share of 0.4 among 20000
    assert shift.variance == pytest.approx(0.6 / 0.4 / 20_000, rel=0.05)


def test_the_fitted_pileup_is_held_near_the_measured_one(small, rising):
    made = design(small, rising.pooled)
    window = _at(small, 0.44, 20_000)
    loose, tight, exact = (fit_pileup(made, window, rising, 40.0, error) for error in (0.1, 0.01, 0.0))
    assert loose.pileup == pytest.approx(44.0, rel=0.01)
    assert 40.0 < tight.pileup <= 40.0 * 1.04 + 1e-9
    assert exact.pileup == 40.0


def test_numbers_of_objects_are_judged_at_the_measured_pileup(small, rising):
    made = design(small, rising.pooled)
    index = [channel.name for channel in made.channels].index("number of jet")
    window = _at(small, 0.44, 20_000)
    fitted = fit_pileup(made, window, rising, 40.0, 0.05)
    there = measure(made, window, rising.at(40.0))
    assert fitted.measured.effect[index] == pytest.approx(there.effect[index])
    # the error of the pileup adds to the noise of counting
    assert fitted.measured.variance[index] > there.variance[index] + 0.9 * 0.05**2 * 20_000


def test_without_a_second_slice_the_measured_pileup_stands(small):
    parts = _lumisections(small)[:20]
    expectation = sliced(parts, [50.0] * 20)
    made = design(small, expectation.pooled)
    assert fit_pileup(made, parts[0], expectation, 50.0, 0.1).pileup == 50.0
