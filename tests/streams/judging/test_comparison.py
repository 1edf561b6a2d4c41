"""Comparison of two summaries: the statistics of the raw values, all inputs at once."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from streams.counting.summary import summarise
from streams.errors import SummaryError
from streams.judging.comparison import compare


@pytest.fixture
def pair(make_batch):
    return make_batch(n_events=700, seed=1), make_batch(n_events=1900, seed=2, lumisection=9)


def test_every_input_equals_scipy_on_raw_codes(pair, contract):
    window, expected = (summarise(batch, contract) for batch in pair)
    got = compare(window, expected)
    for index in range(contract.n_inputs):
        raw = pair[0].inputs[:, index], pair[1].inputs[:, index]
        assert got.input_distance[index] == pytest.approx(stats.ks_2samp(*raw).statistic, abs=1e-12)
        assert got.input_mean_shift[index] == pytest.approx(raw[0].mean() - raw[1].mean(), abs=1e-9)


def test_scaled_values_and_rates(pair, contract):
    window, expected = (summarise(batch, contract) for batch in pair)
    got = compare(window, expected)
    assert got.size == pytest.approx(np.sqrt(700 * 1900 / 2600))
    assert got.value("inputs") == pytest.approx(got.input_distance.max() * got.size)
    assert got.accept_rate == pytest.approx(pair[0].accept.mean())
    assert got.rate_deviation == pytest.approx(pair[0].accept.mean() / pair[1].accept.mean() - 1)
    assert got.value("rate") == abs(got.rate_pull)


def test_the_score_is_compared_within_a_bin(pair, contract):
    window, expected = (summarise(batch, contract) for batch in pair)
    exact = stats.ks_2samp(pair[0].score, pair[1].score).statistic
    assert compare(window, expected).score_distance == pytest.approx(exact, abs=0.01)


def test_a_rate_where_none_is_expected_is_an_effect(make_batch, contract):
    silent = make_batch(accept=np.zeros(200, dtype=np.bool_))
    got = compare(summarise(make_batch(), contract), summarise(silent, contract))
    assert got.rate_deviation is None
    assert got.effect("rate") == 1.0


def test_other_contracts_are_refused(pair, contract):
    window = summarise(pair[0], contract)
    with pytest.raises(SummaryError, match="contract"):
        compare(window, dataclasses.replace(window, contract_hash="0" * 64))
