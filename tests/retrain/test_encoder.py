from dataclasses import replace

import numpy as np
import pytest
import torch

from hw.emulator import Emulator
from hw.fixed_point import to_float
from retrain.encoder import AnomalyEncoder, encoder_of, quantise_encoder, with_segments_of
from retrain.errors import EncoderMismatch
from tests.support.hw import logit_model, random_model


def test_a_firmware_model_survives_the_way_to_an_encoder_and_back(firmware, contract):
    # given a firmware model, when it becomes an encoder and is quantised again
    threshold = float(to_float(firmware.score_stage.threshold_raw, firmware.score_stage.result_format))
    again = quantise_encoder(encoder_of(firmware), contract, name=firmware.name, threshold=threshold)
    # then no word differs
    assert again.structure_hash == firmware.structure_hash
    assert np.array_equal(again.memory(), firmware.memory())


def test_the_encoder_scores_like_the_firmware_up_to_its_rounding(firmware, reference):
    inputs = reference.inputs[:5000]
    exact = to_float(Emulator(firmware).scores(inputs), firmware.score_stage.result_format)
    with torch.no_grad():
        floating = encoder_of(firmware).score(torch.from_numpy(inputs.astype(np.float32))).numpy()
    assert np.abs(floating - exact).max() / exact.max() < 0.01
    assert np.corrcoef(floating, exact)[0, 1] > 0.9999


@pytest.mark.parametrize("segment", ["dense1.weight", "dense2.bias", "dense3.weight", "input.scale"])
def test_only_the_named_segments_change(firmware, segment):
    # given an encoder in which everything moved
    encoder = encoder_of(firmware)
    with torch.no_grad():
        for tensor in encoder.state_dict().values():
            tensor.mul_(1.25)
    # when one segment is put back
    changed = with_segments_of(firmware, encoder, [segment])
    # then every other word is the old one, and weights are in the firmware's order
    where = firmware.segment(segment)
    different = np.flatnonzero(changed.memory() != firmware.memory())
    assert different.size
    assert different.min() >= where.start
    assert different.max() < where.stop
    old, new = (to_float(one.memory()[where.start : where.stop], where.format) for one in (firmware, changed))
    assert np.allclose(new, np.clip(1.25 * old, -8, 8), atol=where.format.lsb)


def test_parameters_beyond_their_format_saturate(firmware):
    encoder = encoder_of(firmware)
    with torch.no_grad():
        encoder.layers[2].bias.fill_(1e6)
    bias = with_segments_of(firmware, encoder, ["dense3.bias"]).layers[2]
    assert set(bias.bias_raw.tolist()) == {bias.bias_format.raw_maximum}


def test_what_cannot_be_firmware_is_refused(firmware, contract):
    encoder = encoder_of(firmware)
    with pytest.raises(EncoderMismatch, match=r"has no 'score\.threshold'"):
        with_segments_of(firmware, encoder, ["score.threshold"])
    with torch.no_grad():
        encoder.layers[0].weight[0, 0] = float("nan")
    with pytest.raises(EncoderMismatch, match="learning rate"):
        with_segments_of(firmware, encoder, ["dense1.weight"])
    with pytest.raises(EncoderMismatch, match="NaN"):
        quantise_encoder(encoder, contract, name="anomaly")
    with pytest.raises(EncoderMismatch, match="takes 3 inputs"):
        quantise_encoder(AnomalyEncoder(np.zeros(3), np.ones(3)), contract, name="anomaly")


def test_a_network_with_other_activations_is_no_encoder():
    model = random_model()
    layers = (replace(model.layers[0], activation="linear"), *model.layers[1:])
    with pytest.raises(EncoderMismatch, match="linear, relu, linear"):
        encoder_of(replace(model, layers=layers))


def test_a_model_with_another_score_is_no_encoder():
    with pytest.raises(EncoderMismatch, match="the score of model jet_tagger is a logit"):
        encoder_of(logit_model())
