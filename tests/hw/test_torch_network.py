from dataclasses import replace

import numpy as np
import pytest

from hw.emulator import Emulator
from hw.fixed_point import FixedFormat
from hw.torch_network import TorchNetwork
from tests.support.hw import corner_inputs, random_inputs, random_model

INPUTS = np.concatenate([random_inputs(4000, 6), corner_inputs(6)])


@pytest.mark.parametrize("mode", ["RND,SAT", "RND_CONV,SAT", "TRN,SAT", "RND,WRAP", "TRN,WRAP"])
def test_on_its_grid_it_agrees_with_the_emulator_in_every_bit(mode):
    model = random_model(threshold=2.0)
    layers = tuple(
        replace(one, result_format=FixedFormat.parse(f"fixed<10,4,{mode}>")) for one in model.layers
    )
    model = replace(model, layers=layers)
    network = TorchNetwork(model, quantised=True)
    scores, accepts = network.run(INPUTS)
    expected, decided = Emulator(model).run(INPUTS)
    assert network.exact
    assert (scores == expected).all()
    assert (accepts == decided).all()
    assert 0 < accepts.mean() < 1


def test_with_real_numbers_it_is_close_where_nothing_saturates():
    model = random_model()
    inputs = random_inputs(2000, 6, low=-50, high=100)
    error = (
        TorchNetwork(model, quantised=False).scores(inputs)
        - Emulator(model).scores(inputs) * model.score_stage.result_format.lsb
    )
    assert 0 < np.abs(error).max() < 0.2


def test_sums_beyond_float64_are_not_called_exact():
    wide = FixedFormat.parse("fixed<28,6,RND,SAT>")
    model = random_model()
    layers = tuple(replace(one, result_format=wide) for one in model.layers)
    assert not TorchNetwork(replace(model, layers=layers), quantised=True).exact
