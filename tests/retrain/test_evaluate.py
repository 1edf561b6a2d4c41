from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from hw.emulator import Emulator
from retrain.errors import TooFewEvents
from retrain.evaluate import Criteria, Expectation, _order, evaluate, score_distance
from retrain.train import with_accept_rate


@pytest.fixture(scope="module")
def quiet(firmware, reference, detector):
    return Expectation.of(firmware, reference.inputs, detector(seed=400).inputs)


def test_undrifted_events_pass(firmware, quiet):
    found = evaluate(firmware, quiet, Criteria())
    assert found.passed, found.reasons
    assert abs(found.rate_deviation) < 4 * found.rate_deviation_error
    assert found.score_distance < 0.015
    assert found.order == 1.0


def test_the_numbers_are_the_bit_accurate_ones(firmware, quiet, reference):
    found = evaluate(firmware, quiet, Criteria())
    accepted = Emulator(firmware).accepts(quiet.recent)
    assert found.accept_rate == accepted.mean()
    assert found.accept_rate_error == pytest.approx(np.sqrt(accepted.var() / len(accepted)))
    assert found.reference_rate == Emulator(firmware).accepts(reference.inputs).mean()


def test_a_drift_fails_with_its_reasons(firmware, reference, drifted):
    found = evaluate(firmware, Expectation.of(firmware, reference.inputs, drifted.inputs), Criteria())
    assert not found.passed
    assert [reason.split(":")[0][:15] for reason in found.reasons] == ["the accept rate", "the scores diff"]


def test_the_score_distance_is_that_of_scipy():
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 300, 4000), rng.integers(3, 303, 5000)
    distance, p_value = score_distance(first, second)
    expected = stats.ks_2samp(first, second, method="asymp")
    assert distance == pytest.approx(expected.statistic, abs=1e-12)
    assert p_value == pytest.approx(expected.pvalue, rel=0.1)


def test_few_events_prove_nothing(firmware, reference, detector):
    expectation = Expectation.of(firmware, reference.inputs, detector(seed=401, n_events=2000).inputs)
    found = evaluate(firmware, expectation, Criteria())
    assert not found.passed
    assert any("take more events" in reason for reason in found.reasons)


def test_a_right_rate_made_of_other_events_is_no_repair(firmware, quiet):
    # given a network whose hidden units were shuffled, with the right accept rate on the reference
    rng = np.random.default_rng(3)
    layers = tuple(replace(one, weight_raw=rng.permutation(one.weight_raw)) for one in firmware.layers)
    shuffled, _ = with_accept_rate(replace(firmware, layers=layers), quiet.recent, 0.08)
    # when only rate and order are asked for
    found = evaluate(shuffled, quiet, Criteria(maximum_score_distance=0.99))
    # then the order fails it
    assert abs(found.rate_deviation) < 0.05
    assert found.order < 0.9
    assert any("ranked anew" in reason for reason in found.reasons)


def test_nothing_to_compare_with_is_an_error(firmware, quiet):
    with pytest.raises(TooFewEvents, match="no events"):
        evaluate(firmware, replace(quiet, recent=quiet.recent[:0]), Criteria())
    with pytest.raises(TooFewEvents, match="accepts no event"):
        evaluate(firmware, replace(quiet, threshold_raw=2**31 - 1), Criteria())


def test_the_order_of_scores_is_spearmans_correlation_ties_included():
    rng = np.random.default_rng(5)
    first = rng.poisson(6, 500).astype(np.int64)
    second = first + rng.poisson(4, 500)
    assert _order(first, second) == pytest.approx(stats.spearmanr(first, second).statistic, rel=1e-12)
