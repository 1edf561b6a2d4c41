import numpy as np
import pytest
import torch

from hw.emulator import Emulator
from retrain.errors import ContractMismatch, TooFewEvents, TrainingFailed
from retrain.train import input_affine, train, with_accept_rate
from retrain.train_settings import TrainSettings
from streams.contracts.contract import Contract
from tests.support.hw import random_model

SMALL = TrainSettings(epochs=2, training_events=2000, threshold_events=10_000)


def test_the_firmware_accepts_the_fraction_asked_for(trained, reference):
    # given events the training did not see
    rate = Emulator(trained.firmware).accepts(reference.inputs).mean()
    # then the bit-accurate accept rate is the target within 4 binomial standard deviations
    assert abs(rate - 0.08) < 4 * np.sqrt(0.08 * 0.92 / reference.n_events)
    assert abs(trained.record.accept_rate - 0.08) < 1e-4
    assert trained.record.seconds > 0


def test_a_jet_gain_of_five_percent_moves_the_accept_rate_out_of_its_band(firmware, reference, drifted):
    # given a band of +-10 %
    emulator = Emulator(firmware)
    before, after = (emulator.accepts(events.inputs).mean() for events in (reference, drifted))
    # then the drift is seen with room for the fluctuation of a lumisection of 10 000 events (3.4 %)
    assert after / before - 1 > 0.13


def test_the_loss_falls(trained):
    first, last = trained.record.losses[0], trained.record.losses[-1]
    assert last.reconstruction < 0.3 * first.reconstruction


def test_the_same_seed_gives_the_same_words_and_another_seed_others(recorded, contract):
    one, two = (train(recorded, contract, name="anomaly", settings=SMALL) for _ in range(2))
    other = train(recorded, contract, name="anomaly", settings=SMALL.model_copy(update={"seed": 2}))
    assert one.record.id == two.record.id
    assert one.firmware.weights_hash == two.firmware.weights_hash
    assert other.firmware.weights_hash != one.firmware.weights_hash
    assert other.firmware.structure_hash == one.firmware.structure_hash
    assert other.record.id != one.record.id


def test_training_leaves_torch_as_it_was(recorded, contract):
    torch.manual_seed(5)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    train(recorded, contract, name="anomaly", settings=SMALL.model_copy(update={"threads": threads + 1}))
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_progress_rises_to_one(recorded, contract):
    seen = []
    train(recorded, contract, name="anomaly", settings=SMALL, progress=lambda done, _: seen.append(done))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) == SMALL.epochs + 1


def test_an_absent_object_stays_at_zero_in_the_network(recorded, contract):
    # given offsets and scales of the real events
    offset, scale = input_affine(recorded.inputs, contract, TrainSettings())
    # then momenta have no offset and a spread near one, and angles are centred
    momenta = [i for i, spec in enumerate(contract.inputs) if spec.quantity == "pt"]
    assert np.all(offset[momenta] == 0)
    assert np.all((scale[momenta] > 0.001) & (scale[momenta] < 1))
    assert offset[contract.input_index("muon[0].phi")] == round(575 / 2)


def test_what_cannot_be_trained_is_refused(recorded, contract):
    few = recorded.take(np.arange(50), made_by="test")
    with pytest.raises(TooFewEvents, match="at least 200"):
        train(few, contract, name="anomaly")
    other = Contract.model_validate({**contract.model_dump(), "version": 2})
    with pytest.raises(ContractMismatch, match="convert it again"):
        train(recorded, other, name="anomaly")
    with pytest.raises(TrainingFailed, match="no object tau"):
        train(recorded, contract, name="anomaly", settings=TrainSettings(object_weights={"tau": 1.0}))


def test_a_score_that_cannot_tell_events_apart_gets_no_threshold():
    with pytest.raises(TrainingFailed, match="hardly varies"):
        with_accept_rate(random_model(), np.zeros((1000, 6), dtype=np.int16), 0.1)
