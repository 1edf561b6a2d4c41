from dataclasses import replace

import numpy as np
import pytest

from hw.emulator import Emulator
from retrain.choice import difference
from retrain.errors import StrategyUnknown
from retrain.evaluate import score_distance
from retrain.gain import GainSettings
from retrain.strategies import STRATEGIES, Material, strategies_named
from retrain.strategies.fine_tuning import FineTuning, TuningSettings, last_layer
from retrain.strategies.recalibration import recalibrated
from retrain.train_settings import no_progress


@pytest.fixture(scope="module")
def material(firmware, contract, reference, drifted):
    return Material(
        model=firmware,
        contract=contract,
        reference=reference.inputs,
        recent=drifted.inputs[::2],
        seed=1,
        gain=GainSettings(),
        threads=1,
    )


def test_strategies_come_least_invasive_first_whatever_the_order_asked_for(firmware):
    assert [one.name for one in strategies_named(["all_weights", "bias", "input_recalibration"])] == [
        "input_recalibration",
        "bias",
        "all_weights",
    ]
    words = [
        sum(firmware.segment(name).words for name in one.segments(firmware)) for one in strategies_named()
    ]
    tuning = words[2:]
    assert tuning == sorted(tuning)
    with pytest.raises(StrategyUnknown, match="'magic' is unknown: known are input_recalibration"):
        strategies_named(["magic"])
    with pytest.raises(StrategyUnknown, match="at least one"):
        strategies_named([])


def test_recalibration_undoes_a_gain_event_by_event(firmware, contract, reference):
    # given events whose jet codes are exactly doubled (codes stand for the middle of their interval)
    jets = [i for i, spec in enumerate(contract.inputs) if (spec.object, spec.quantity) == ("jet", "pt")]
    inputs = reference.inputs[:2000].copy()
    inputs[:, jets] = np.minimum(inputs[:, jets], 1000)
    doubled = inputs.copy()
    doubled[:, jets] = np.where(inputs[:, jets] > 0, 2 * inputs[:, jets], 0)
    # when the firmware divides by two
    model = recalibrated(firmware, contract, "jet", 2.0)
    # then it sees the old numbers but for the half code that the middle moved
    before = Emulator(firmware).standardised(inputs)
    after = Emulator(model).standardised(doubled)
    scale = firmware.input_stage.scale_raw * firmware.input_stage.scale_format.lsb
    limit = 0.5 * scale / firmware.input_stage.result_format.lsb + 1
    assert np.all(np.abs(after - before) <= limit)
    assert np.any(Emulator(firmware).standardised(doubled) != before)


def test_recalibration_finds_the_gain_and_touches_only_its_object(material, contract):
    proposal = STRATEGIES["input_recalibration"].propose(material, no_progress)
    gains = {one.object: one for one in proposal.gains}
    assert set(gains) == {"met", "egamma", "muon", "jet"}
    assert abs(gains["jet"].gain - 1.05) < 4 * gains["jet"].uncertainty
    assert [name for name, one in gains.items() if one.finding == "gain"] == ["jet"]
    changed = np.flatnonzero(proposal.model.memory() != material.model.memory())
    scale = material.model.segment("input.scale")
    names = {contract.inputs[index - scale.start].name for index in changed}
    assert names == {f"jet[{slot}].pt" for slot in range(10)}


def test_recalibration_offers_nothing_where_nothing_drifted(material, detector):
    still = replace(material, recent=detector(seed=500).inputs)
    proposal = STRATEGIES["input_recalibration"].propose(still, no_progress)
    assert proposal.model is None
    assert proposal.reason.startswith("no object shows a gain")


def test_recalibration_says_that_a_dead_slot_is_no_gain(material, dead):
    proposal = STRATEGIES["input_recalibration"].propose(replace(material, recent=dead.inputs), no_progress)
    assert proposal.model is None
    assert "not a gain" in proposal.reason


def test_batch_normalisation_says_that_there_is_none(material):
    strategy = STRATEGIES["batchnorm"]
    assert strategy.segments(material.model) == ()
    proposal = strategy.propose(material, no_progress)
    assert proposal.model is None
    assert "no batch normalisation" in proposal.reason


@pytest.mark.parametrize("name", ["bias", "last_layer", "layers", "all_weights"])
def test_fine_tuning_brings_scores_back_and_changes_its_own_segments_only(material, drifted, name):
    # given drifted events that the strategy does not see
    unseen, strategy = drifted.inputs[1::2], STRATEGIES[name]
    before = Emulator(material.model)
    aim, threshold = before.scores(material.reference), material.model.score_stage.threshold_raw
    # when it tunes
    model = strategy.propose(material, no_progress).model
    # then only words it may change changed, on the same structure and threshold
    segments, words = difference(material.model, model)
    assert words
    assert set(segments) <= set(strategy.segments(material.model))
    assert model.score_stage.threshold_raw == threshold
    # and the scores of unseen events are nearer to the reference's than before by more than half
    old, new = before.scores(unseen), Emulator(model).scores(unseen)
    assert score_distance(new, aim)[0] < 0.5 * score_distance(old, aim)[0]
    expected = np.mean(aim > threshold)
    assert abs(np.mean(new > threshold) / expected - 1) < 0.4 * abs(np.mean(old > threshold) / expected - 1)


def test_fine_tuning_is_reproducible(material):
    quick = FineTuning("last_layer", last_layer, TuningSettings(steps=30))
    one, two = (quick.propose(material, no_progress).model for _ in range(2))
    assert one.weights_hash != material.model.weights_hash
    assert one.weights_hash == two.weights_hash
