from dataclasses import replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest

from hw.emulator import Emulator
from hw.errors import ModelError
from hw.fixed_point import FixedFormat, Overflow, Rounding
from tests.support.hw import corner_inputs, random_inputs, random_model


def convert(value: Fraction, fmt: FixedFormat) -> Fraction:
    scaled = value * 2**fmt.fraction
    assert fmt.rounding is Rounding.RND
    assert fmt.overflow is Overflow.SAT
    raw = floor(scaled + Fraction(1, 2))
    return min(max(raw, fmt.raw_minimum), fmt.raw_maximum) * Fraction(1, 2) ** fmt.fraction


def slow_score(model, event) -> Fraction:
    """Compute one score with exact fractions: the arithmetic as the design states it."""
    stage = model.input_stage
    offset_unit = Fraction(1, 2) ** stage.offset_format.fraction
    scale_unit = Fraction(1, 2) ** stage.scale_format.fraction
    values = []
    for x, offset, scale in zip(event, stage.offset_raw, stage.scale_raw, strict=True):
        product = (int(x) - int(offset) * offset_unit) * int(scale) * scale_unit
        values.append(convert(product, stage.result_format))
    for layer in model.layers:
        results = []
        for column in range(layer.n_out):
            total = Fraction(int(layer.bias_raw[column]), 2**layer.bias_format.fraction)
            for row, value in enumerate(values):
                total += value * Fraction(int(layer.weight_raw[row, column]), 2**layer.weight_format.fraction)
            result = convert(total, layer.result_format)
            results.append(max(result, Fraction(0)) if layer.activation == "relu" else result)
        values = results
    return convert(sum(v * v for v in values), model.score_stage.result_format)


@pytest.mark.parametrize("offset", ["fixed<16,16,RND,SAT>", "fixed<20,16,RND,SAT>", "fixed<16,18,RND,SAT>"])
def test_scores_are_those_of_exact_fractions(offset):
    model = random_model()
    model = replace(model, input_stage=replace(model.input_stage, offset_format=FixedFormat.parse(offset)))
    inputs = np.concatenate([random_inputs(60, 6), corner_inputs(6)[:40], corner_inputs(6)[-40:]])
    fraction = model.score_stage.result_format.fraction
    expected = [int(slow_score(model, event) * 2**fraction) for event in inputs]
    assert Emulator(model).scores(inputs).tolist() == expected


def test_sums_beyond_53_bits_stay_exact():
    weight = FixedFormat.parse("fixed<34,6,RND,SAT>")
    model = random_model()
    layers = tuple(
        replace(x, weight_format=weight, weight_raw=x.weight_raw * 65_537 + 1) for x in model.layers
    )
    model = replace(model, layers=layers)
    assert model.layers[1].accumulator_format(model.layers[0].result_format).width > 53
    inputs = random_inputs(80, 6)
    fraction = model.score_stage.result_format.fraction
    expected = [int(slow_score(model, event) * 2**fraction) for event in inputs]
    assert Emulator(model).scores(inputs).tolist() == expected


def test_the_decision_is_score_above_threshold():
    model = random_model()
    inputs = random_inputs(100, 6)
    scores = Emulator(model).scores(inputs)
    model = replace(model, score_stage=replace(model.score_stage, threshold_raw=int(scores[0])))
    accepts = Emulator(model).accepts(inputs)
    assert not accepts[0]
    assert (accepts == (scores > scores[0])).all()
    assert accepts.any()


def test_events_do_not_influence_each_other():
    model = random_model()
    inputs = random_inputs(20_000, 6)
    emulator = Emulator(model)
    assert (emulator.scores(inputs)[9_000:9_010] == emulator.scores(inputs[9_000:9_010])).all()


def test_no_event_has_no_score():
    assert Emulator(random_model()).scores(np.empty((0, 6), np.int16)).shape == (0,)


@pytest.mark.parametrize(
    "inputs", [np.zeros((3, 5), np.int16), np.zeros((3, 6), np.int32), np.zeros(6, np.int16)]
)
def test_inputs_of_another_shape_or_type_are_refused(inputs):
    with pytest.raises(ModelError, match="int16 inputs"):
        Emulator(random_model()).scores(inputs)
