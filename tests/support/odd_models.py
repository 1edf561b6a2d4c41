"""Small models of formats that nobody would choose: what arithmetic and generators must survive."""

from itertools import pairwise

import numpy as np

from hw.errors import HardwareError
from hw.fixed_point import MAXIMUM_WIDTH, FixedFormat, Overflow, Rounding
from hw.layout import Layout
from hw.network import DenseLayer, FirmwareModel, InputStage, ScoreStage
from hw.stages import INPUT_FORMAT


def odd_model(seed, *, sizes=None, cuts=None, wide=False, toolchain="lumiwatch-rtl") -> FirmwareModel:
    """Give a random model: any widths, signs and modes, parameters up to the ends of their formats."""
    rng = np.random.default_rng(seed)
    while True:
        try:
            return _draw(rng, sizes, cuts, wide, toolchain)
        except HardwareError:
            continue  # a sum too wide, a shift too far: such a model cannot be


def odd_inputs(model, n_events, *, seed=1) -> np.ndarray:
    """Give inputs of all magnitudes, int16 (n_events, n_inputs)."""
    rng = np.random.default_rng(seed)
    shape = (n_events, model.n_inputs)
    values = rng.integers(-32768, 32768, shape) >> rng.integers(0, 16, shape)
    corners = rng.choice([-32768, -1, 0, 1, 32767], shape)
    return np.where(rng.random(shape) < 0.1, corners, values).astype(np.int16)


def _draw(rng, sizes, cuts, wide, toolchain) -> FirmwareModel:
    sizes = sizes or tuple(int(n) for n in rng.integers(1, 8, rng.integers(2, 6)))
    offset, scale = _parameter_format(rng), _parameter_format(rng)
    source = _near(rng, INPUT_FORMAT.integer + scale.integer, scale.fraction, wide)
    stage = InputStage(_raw(rng, offset, sizes[0]), _raw(rng, scale, sizes[0]), scale, source, offset)
    layers = []
    for number, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
        weight, bias = _parameter_format(rng), _parameter_format(rng)
        result = _near(rng, source.integer + weight.integer, source.fraction + weight.fraction, wide)
        layers.append(
            DenseLayer(
                f"dense{number}",
                _raw(rng, weight, (n_in, n_out)),
                _raw(rng, bias, n_out),
                weight,
                bias,
                str(rng.choice(["relu", "linear"])),
                result,
            )
        )
        source = result
    logit = bool(rng.random() < 0.5)
    kind = "logit" if logit else "sum_of_squares"
    factor = 1 if logit else 2
    score = _near(rng, factor * source.integer, factor * source.fraction, wide=False)
    threshold = int(rng.choice([score.raw_minimum, score.raw_maximum, int(_raw(rng, score, 1)[0])]))
    output = int(rng.integers(sizes[-1])) if logit else 0
    if cuts is None:
        cuts = (int(rng.integers(1, len(layers))),) if len(layers) > 1 else ()
    model = FirmwareModel(
        "odd",
        "c0ffee",
        tuple(f"x{i}" for i in range(sizes[0])),
        stage,
        tuple(layers),
        ScoreStage(kind, score, threshold, output),
        Layout(toolchain, cuts=cuts),
    )
    _evaluate(model)
    return model


def _evaluate(model) -> None:
    """Raise where a conversion shifts too far to have a meaning."""
    from hw.emulator import Emulator  # noqa: PLC0415

    Emulator(model).scores(np.zeros((1, model.n_inputs), np.int16))


def _parameter_format(rng) -> FixedFormat:
    width = int(rng.integers(1, 20))
    return FixedFormat(width, int(rng.integers(-4, width + 5)), bool(rng.random() < 0.7))


def _near(rng, integer, fraction, wide) -> FixedFormat:
    """Give a format that cuts something off at both ends of a value with so many bits."""
    low = int(rng.integers(fraction - 14, fraction + 3))
    high = int(rng.integers(integer - 6, integer + 4))
    width = min(max(1, high + low), MAXIMUM_WIDTH if wide else 31)
    return FixedFormat(
        width,
        width - low,
        bool(rng.random() < 0.7),
        list(Rounding)[rng.integers(3)],
        list(Overflow)[rng.integers(2)],
    )


def _raw(rng, fmt, shape) -> np.ndarray:
    low, high = max(fmt.raw_minimum, -(1 << 31)), min(fmt.raw_maximum, (1 << 31) - 1)
    values = rng.integers(low, high, shape, endpoint=True) >> rng.integers(0, 4, shape)
    return np.where(rng.random(shape) < 0.1, rng.choice([low, high], shape), values)
