"""Linear channels give effects in units that people know, checked against effects made by hand."""

import numpy as np
import pytest
from scipy import stats

from streams.contracts.contract import parse_contract
from streams.effects.effect import parse_effect
from streams.judging.channels import design, measure
from streams.judging.expectation import Expectation, Slice, sliced
from tests.support.summaries import summary_of_counts

EVENTS = 100_000_000


@pytest.fixture(scope="module")
def small(small_text):
    return parse_contract(small_text)


def _spectrum(n_events, gain=1.0, there=1.0, maximum=255):
    """Count pt codes (2 for each GeV) of a smooth spectrum; missing objects hold the code 0."""
    edges = np.arange(-1.0, maximum + 2)
    inside = np.diff(stats.gamma(4.0, scale=10.0 * gain).cdf(np.maximum(edges, 0.0)))
    counts = np.zeros(maximum + 3, dtype=np.int64)
    counts[:-1] = np.rint(there * n_events * inside)
    counts[1] += n_events - counts.sum()
    return counts


def _window(contract, n_events=EVENTS, *, eta_shift=0, accepted=0.1, **jet):
    eta = np.zeros(233, dtype=np.int64)
    eta[101 + eta_shift : 132 + eta_shift] = 1
    there = round(jet.get("there", 1.0) * n_events)
    eta = eta * (there // 31)
    eta[116] += n_events - eta.sum()
    histograms = {"jet[0].pt": _spectrum(n_events, **jet), "jet[0].eta": eta}
    return summary_of_counts(contract, n_events, histograms, n_accept=round(accepted * n_events))


def _measured(contract, window, reference):
    made = design(contract, reference)
    expected = Expectation((Slice(50.0, 8, reference),)).at(50.0)
    measured = measure(made, window, expected)
    names = [channel.name for channel in made.channels]
    return {
        name: (effect, variance)
        for name, effect, variance in zip(names, measured.effect, measured.variance, strict=True)
    }


@pytest.mark.parametrize("gain", [0.99, 1.001, 1.01])
def test_a_gain_of_a_smooth_spectrum_is_that_gain(small, gain):
    got = _measured(small, _window(small, gain=gain), _window(small))
    assert got["jet gain"][0] == pytest.approx(gain - 1, rel=0.02)


def test_a_gain_of_the_objects_that_are_there_is_no_matter_of_how_many_are(small):
    some = {"there": 0.4}
    got = _measured(small, _window(small, gain=1.01, **some), _window(small, **some))
    assert got["jet gain"][0] == pytest.approx(0.01, rel=0.02)
    assert got["number of jet"][0] == pytest.approx(0.0, abs=1e-6)


def test_fewer_objects_are_a_relative_change_of_their_number(small):
    got = _measured(small, _window(small, there=0.36), _window(small, there=0.4))
    assert got["number of jet"][0] == pytest.approx(-0.1, rel=1e-3)
    assert got["jet gain"][0] == pytest.approx(0.0, abs=1e-4)


def test_a_shift_of_eta_is_told_in_its_unit(small):
    # of 31 codes, the one that missing objects have too is left out
    got = _measured(small, _window(small, eta_shift=2), _window(small))
    assert got["jet mean eta"][0] == pytest.approx(2 * 0.0435 * 31 / 30, rel=1e-3)


def test_a_tail_counts_the_events_above_its_edge(small):
    reference = _window(small)
    pt = reference.histogram(small.input_index("jet[0].pt")).copy()
    got = _measured(small, reference, reference)
    tail = next(name for name in got if "tail" in name)
    edge = round(float(tail.split()[-2]) / 0.5) + 1
    added = int(pt[edge:].sum())
    pt[edge] += added
    pt[20] -= added
    eta = reference.histogram(small.input_index("jet[0].eta"))
    doubled = summary_of_counts(small, EVENTS, {"jet[0].pt": pt, "jet[0].eta": eta}, n_accept=EVENTS // 10)
    assert _measured(small, doubled, reference)[tail][0] == pytest.approx(1.0)


def test_the_accept_rate_has_the_noise_of_counting(small):
    effect, variance = _measured(small, _window(small, accepted=0.12), _window(small))["accept rate"]
    assert effect == pytest.approx(0.2)
    assert variance == pytest.approx(0.1 * 0.9 / 0.1**2)


def test_the_noise_of_a_gain_is_that_of_independent_objects(small):
    rng = np.random.default_rng(1)
    reference = _window(small)
    density = _spectrum(EVENTS) / EVENTS
    eta = reference.histogram(small.input_index("jet[0].eta")) / EVENTS
    windows = [
        summary_of_counts(
            small,
            2000,
            {"jet[0].pt": rng.multinomial(2000, density), "jet[0].eta": rng.multinomial(2000, eta)},
            n_accept=200,
        )
        for _ in range(300)
    ]
    found = [_measured(small, window, reference)["jet gain"] for window in windows]
    foreseen = np.sqrt(found[0][1] / 2000)
    assert np.std([effect for effect, _ in found]) == pytest.approx(foreseen, rel=0.15)


def test_nothing_differs_from_itself(small):
    reference = _window(small)
    assert all(abs(effect) < 1e-9 for effect, _ in _measured(small, reference, reference).values())


@pytest.mark.parametrize("pileup", [15.0, 70.0])
def test_a_gain_reads_the_same_where_a_pileup_brings_fewer_or_more_objects(
    generated, contract, fills, pileup
):
    # given channels made at pileup 36 to 44, and the same events with and without a gain at another
    made = design(contract, sliced(*fills).pooled)
    without = generated.summary(9, 1, 20_000, pileup=pileup)
    gained = generated.summary(9, 1, 20_000, pileup=pileup, effects=[parse_effect("jet_gain=1.02")])
    expected = sliced([without], [pileup]).at(pileup)
    effects = dict(
        zip((one.name for one in made.channels), measure(made, gained, expected).effect, strict=True)
    )
    assert effects["jet gain"] == pytest.approx(0.02, abs=0.002)
    assert effects["met gain"] == pytest.approx(0.0, abs=1e-9)
