import numpy as np
import pytest

from retrain.gain import GainSettings, estimate_gain

SETTINGS = GainSettings(replicas=40)


def momenta(rng, n_events, gain=1.0, slots=4):
    """Falling spectrum above 20 GeV in half-GeV codes, rounded down; some slots are empty."""
    values = 20.0 * (1 + rng.exponential(0.6, (n_events, slots)))
    codes = np.floor(gain * values / 0.5).astype(np.int16)
    return np.where(rng.random((n_events, slots)) < 0.3, codes, 0).astype(np.int16)


def estimate(reference, recent, **options):
    options = {"name": "jet", "settings": SETTINGS, "rng": np.random.default_rng(9)} | options
    return estimate_gain(reference, recent, **options)


@pytest.mark.parametrize("gain", [0.93, 0.99, 1.02, 1.05, 1.2])
def test_a_gain_is_found_within_its_uncertainty(gain):
    rng = np.random.default_rng(1)
    found = estimate(momenta(rng, 20_000), momenta(rng, 20_000, gain))
    assert abs(found.gain - gain) < 4 * found.uncertainty
    assert found.uncertainty < 0.005
    if abs(gain - 1) > 0.015:
        assert found.finding == "gain"
        assert found.distance_after < found.distance_before


def test_the_uncertainty_is_honest():
    # given 40 pairs of samples without any drift
    rng = np.random.default_rng(2)
    found = [estimate(momenta(rng, 3000), momenta(rng, 3000)) for _ in range(40)]
    # then the estimates scatter as their uncertainties say (chi-square of 40 degrees of freedom, 0.1 % tails)
    pulls = np.array([(one.gain - 1) / one.uncertainty for one in found])
    assert 16 < float(pulls @ pulls) < 76
    # and nearly all of them leave the object alone
    assert sum(one.finding == "compatible_with_one" for one in found) >= 38


def test_too_few_objects_are_left_alone():
    rng = np.random.default_rng(3)
    found = estimate(momenta(rng, 20_000), momenta(rng, 100, 1.5))
    assert (found.finding, found.gain) == ("too_few_entries", 1.0)
    assert "500 are needed" in found.reason


def test_no_objects_at_all_break_nothing():
    empty = np.zeros((1000, 4), dtype=np.int16)
    assert estimate(empty, empty).finding == "too_few_entries"


def test_lost_objects_are_no_gain():
    # given a detector that loses the hardest object of every event
    rng = np.random.default_rng(4)
    recent = np.sort(momenta(rng, 20_000), axis=1)
    recent[:, -1] = 0
    found = estimate(momenta(rng, 20_000), recent)
    assert found.finding == "not_a_gain"
    assert "number of objects" in found.reason


def test_a_smeared_spectrum_is_no_gain():
    # given a resolution that became worse by a quarter
    rng = np.random.default_rng(5)
    recent = momenta(rng, 20_000)
    smeared = np.maximum(recent * rng.normal(1.0, 0.25, recent.shape), 1).astype(np.int16)
    found = estimate(momenta(rng, 20_000), np.where(recent > 0, smeared, 0).astype(np.int16))
    assert found.finding == "not_a_gain"
    assert "KS distance" in found.reason


def test_codes_rounded_to_the_nearest_have_their_edge_half_a_code_lower():
    # given small codes, on which half a code matters
    rng = np.random.default_rng(6)
    true = 8 * (1 + rng.exponential(0.6, (2, 40_000, 1)))
    reference, recent = np.rint(true[0]).astype(np.int16), np.rint(1.3 * true[1]).astype(np.int16)
    right, wrong = estimate(reference, recent, first_edge=-0.5), estimate(reference, recent, first_edge=0.0)
    assert abs(right.gain - 1.3) < 4 * right.uncertainty
    assert abs(wrong.gain - 1.3) > abs(right.gain - 1.3)


def test_the_padding_code_need_not_be_zero():
    rng = np.random.default_rng(7)
    reference, recent = momenta(rng, 10_000), momenta(rng, 10_000, 1.05)
    plain = estimate(reference, recent)
    moved = estimate(reference - 16, recent - 16, padding=-16)
    assert moved == plain


def test_the_same_seed_gives_the_same_estimate():
    rng = np.random.default_rng(8)
    reference, recent = momenta(rng, 5000), momenta(rng, 5000, 1.05)
    assert estimate(reference, recent) == estimate(reference, recent)
