import pytest

from retrain.choice import choose, difference
from retrain.errors import ContractMismatch, EncoderMismatch
from retrain.evaluate import Criteria
from retrain.selection import SelectionSettings, select
from retrain.strategies import strategies_named
from streams.contracts.contract import Contract
from streams.events.dataset import dataset_of
from tests.support.hw import random_model


def choose_for(firmware, reference, recent, contract, names=None, **options):
    selection = select(reference, recent, contract, SelectionSettings())
    return choose(firmware, selection, strategies_named(names), criteria=Criteria(), **options)


def test_a_gain_is_answered_by_recalibration_which_restores_rate_and_scores(
    firmware, reference, drifted, contract
):
    # given jets that are 5 % too hard
    choice = choose_for(firmware, reference, drifted, contract)
    # then the firmware as it is fails, and the least invasive strategy passes; nothing else is tried
    assert not choice.baseline.passed
    assert choice.chosen == "input_recalibration"
    assert [outcome.strategy for outcome in choice.outcomes] == ["input_recalibration"]
    evaluation = choice.outcomes[0].evaluation
    assert abs(evaluation.rate_deviation) < max(0.03, 2.5 * evaluation.rate_deviation_error)
    assert evaluation.score_p_value > 0.01
    assert choice.outcomes[0].words_changed == 10
    assert choice.model.structure_hash == firmware.structure_hash
    assert "least invasive" in choice.reason


def test_without_drift_nothing_is_retrained(firmware, reference, detector, contract):
    choice = choose_for(firmware, reference, detector(seed=600), contract)
    assert (choice.chosen, choice.model, choice.outcomes) == (None, None, ())
    assert "nothing to retrain" in choice.reason


def test_where_nothing_helps_every_strategy_says_why(firmware, reference, dead, contract):
    # given a dead jet slot
    names = ["input_recalibration", "batchnorm", "bias"]
    choice = choose_for(firmware, reference, dead, contract, names)
    # then there is no candidate, and one reason per strategy
    assert choice.chosen is None
    assert choice.model is None
    assert [outcome.strategy for outcome in choice.outcomes] == names
    assert "not a gain" in choice.outcomes[0].reason
    assert "KS distance" in choice.outcomes[2].reason
    for name in names:
        assert f"{name}: " in choice.reason


def test_one_named_strategy_is_the_only_one_tried(firmware, reference, drifted, contract):
    choice = choose_for(firmware, reference, drifted, contract, ["batchnorm"])
    assert [outcome.strategy for outcome in choice.outcomes] == ["batchnorm"]
    assert choice.chosen is None


def test_trying_all_goes_on_and_still_chooses_the_first(firmware, reference, drifted, contract):
    seen = []
    names = ["input_recalibration", "batchnorm"]
    choice = choose_for(
        firmware, reference, drifted, contract, names, try_all=True, progress=lambda f, m: seen.append((f, m))
    )
    assert len(choice.outcomes) == 2
    assert choice.chosen == "input_recalibration"
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert seen[-1][1].startswith("input_recalibration: ")


def test_events_of_another_contract_are_refused(firmware, reference, drifted, contract):
    other = Contract.model_validate({**contract.model_dump(), "version": 2})
    moved = [dataset_of(other, dataset.inputs, made_by="test") for dataset in (reference, drifted)]
    with pytest.raises(ContractMismatch, match="the model's contract"):
        choose_for(firmware, *moved, other)


def test_models_of_other_structure_have_no_difference_in_words():
    with pytest.raises(EncoderMismatch, match="another structure"):
        difference(random_model(), random_model((6, 4, 3)))
