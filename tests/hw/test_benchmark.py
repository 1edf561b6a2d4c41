from dataclasses import dataclass

import numpy as np
import pytest

from hw.benchmark import bench
from hw.emulator import Emulator
from hw.errors import HardwareError
from tests.support.hw import random_inputs, random_model


@dataclass
class Faulty:
    """A fake stage: the emulator with one wrong bit in one score or one decision."""

    emulator: Emulator
    score_bit: int = 0
    wrong_decision: bool = False

    def run(self, inputs):
        scores, accepts = self.emulator.scores(inputs), self.emulator.accepts(inputs)
        scores[7] ^= self.score_bit
        accepts[7] ^= self.wrong_decision
        return scores, accepts


@pytest.fixture
def model():
    return random_model()


def test_a_stage_that_agrees_passes(model):
    report = bench(model, random_inputs(100, 6), {"copy": Faulty(Emulator(model))})
    assert report.passed
    assert [stage.name for stage in report.stages] == ["emulator", "copy"]
    assert report.weights_hash == model.weights_hash


@pytest.mark.parametrize("fault", [{"score_bit": 4}, {"wrong_decision": True}])
def test_one_wrong_bit_fails_the_bench(model, fault):
    report = bench(model, random_inputs(100, 6), {"copy": Faulty(Emulator(model), **fault)})
    assert not report.passed
    assert (report.stages[1].mismatching_events, report.stages[1].mismatching_bits) == (1, 1)
    assert report.stages[1].largest_error_lsb == fault.get("score_bit", 0)


def test_a_bench_that_compared_nothing_is_not_passed(model):
    assert not bench(model, random_inputs(100, 6), {}).passed
    assert not bench(model, np.empty((0, 6), np.int16), {"copy": NoEvents()}).passed


class NoEvents:
    """A fake stage that answers nothing."""

    def run(self, _inputs):
        return np.empty(0, np.int64), np.empty(0, bool)


def test_a_stage_that_loses_events_is_an_error(model):
    with pytest.raises(HardwareError, match="check the stage"):
        bench(model, random_inputs(5, 6), {"lossy": NoEvents()})


def test_floating_point_is_reported_and_decides_nothing(model):
    inputs = random_inputs(50, 6)
    lsb = model.score_stage.result_format.lsb

    def floating(codes):
        return (Emulator(model).scores(codes) + 2.5) * lsb

    report = bench(model, inputs, {"copy": Faulty(Emulator(model))}, informational={"float": floating})
    assert report.passed
    assert report.stages[2].largest_error_lsb == pytest.approx(2.5)
    assert not report.stages[2].binding


def test_progress_is_told(model):
    told = []
    bench(
        model,
        random_inputs(50, 6),
        {"copy": Faulty(Emulator(model))},
        progress=lambda f, m: told.append((f, m)),
    )
    assert told[-1][0] == 1.0
    assert any("copy" in message for _, message in told)
