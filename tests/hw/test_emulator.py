from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import floor

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hw import arithmetic
from hw.emulator import Emulator
from hw.errors import FormatError, ModelError
from hw.exact_float import Landing, number_for
from hw.fixed_point import FixedFormat, Overflow, Rounding, requantise
from hw.formats import DEFAULT_FORMATS
from hw.layout import Layout
from hw.network import DenseLayer, FirmwareModel, InputStage, ScoreStage
from hw.toolchain import laid_out
from hw.toolchains.hls4ml import Hls4mlToolchain
from tests.support.hw import corner_inputs, random_inputs, random_model


def convert(value: Fraction, fmt: FixedFormat) -> Fraction:
    scaled = value * 2**fmt.fraction
    if fmt.rounding is Rounding.RND_CONV:
        raw = round(scaled)  # to the even neighbour, as Python does
    else:
        raw = floor(scaled + (Fraction(1, 2) if fmt.rounding is Rounding.RND else 0))
    if fmt.overflow is Overflow.SAT:
        raw = min(max(raw, fmt.raw_minimum), fmt.raw_maximum)
    raw = (raw - fmt.raw_minimum) % 2**fmt.width + fmt.raw_minimum
    return raw * Fraction(1, 2) ** fmt.fraction


def unit(fmt: FixedFormat) -> Fraction:
    return Fraction(1, 2) ** fmt.fraction


def slow_outputs(model, event) -> tuple[list[Fraction], Fraction]:
    """Compute the last layer's results and the score with exact fractions, as the design states it."""
    stage = model.input_stage
    values = []
    for x, offset, scale in zip(event, stage.offset_raw, stage.scale_raw, strict=True):
        difference = int(x) - int(offset) * unit(stage.offset_format)
        values.append(convert(difference * int(scale) * unit(stage.scale_format), stage.result_format))
    for layer in model.layers:
        results = []
        for column in range(layer.n_out):
            total = int(layer.bias_raw[column]) * unit(layer.bias_format)
            for row, value in enumerate(values):
                total += value * int(layer.weight_raw[row, column]) * unit(layer.weight_format)
            result = convert(total, layer.result_format)
            results.append(max(result, Fraction(0)) if layer.activation == "relu" else result)
        values = results
    stage = model.score_stage
    score = values[stage.output] if stage.kind == "logit" else sum(v * v for v in values)
    return values, convert(score, stage.result_format)


def slow_scores(model, inputs) -> list[int]:
    fmt = model.score_stage.result_format
    return [int(slow_outputs(model, event)[1] / unit(fmt)) for event in inputs]


def by_definition(model, inputs):
    """Compute raw outputs and scores with `hw.arithmetic` alone."""
    source = model.input_stage.result_format
    values = arithmetic.standardise(model.input_stage, inputs.astype(np.int64))
    for layer in model.layers:
        values, source = arithmetic.dense(layer, source, values), layer.result_format
    return values, arithmetic.score(model.score_stage, source, values)


def drawn_format(draw, widths, *, integer=None):
    width = draw(widths)
    place = draw(st.integers(-2, width + 2)) if integer is None else integer
    kind = (st.booleans(), st.sampled_from(Rounding), st.sampled_from(Overflow))
    return FixedFormat(width, place, *map(draw, kind))


@st.composite
def models(draw):
    """Draw small models of any formats that fit together; parameters random or at the ends of their range."""
    widths = st.integers(1, draw(st.sampled_from([5, 12, 20, 28])))
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def raw(fmt, shape):
        ends = rng.choice([fmt.raw_minimum, fmt.raw_maximum], shape)
        anywhere = rng.integers(fmt.raw_minimum, fmt.raw_maximum, shape, endpoint=True)
        return np.where(rng.random(shape) < draw(st.sampled_from([0, 0.5, 1])), ends, anywhere)

    try:
        offset, scale, standardised = (drawn_format(draw, widths) for _ in range(3))
        stage = InputStage(raw(offset, sizes[0]), raw(scale, sizes[0]), scale, standardised, offset)
        layers = []
        for number, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
            weight, bias, result = (drawn_format(draw, widths) for _ in range(3))
            activation = draw(st.sampled_from(["relu", "linear"]))
            layers.append(
                DenseLayer(
                    f"dense{number}",
                    raw(weight, (n_in, n_out)),
                    raw(bias, n_out),
                    weight,
                    bias,
                    activation,
                    result,
                )
            )
        score = drawn_format(draw, st.integers(1, 31))
        kind = draw(st.sampled_from(["sum_of_squares", "logit"]))
        output = sizes[-1] - 1 if kind == "logit" else 0
        last = ScoreStage(kind, score, int(raw(score, 1)[0]), output)
        cuts = tuple(sorted(draw(st.sets(st.integers(1, len(layers) - 1))))) if len(layers) > 1 else ()
        names = tuple(f"x{number}" for number in range(sizes[0]))
        return FirmwareModel("drawn", "c0ffee", names, stage, tuple(layers), last, Layout(cuts=cuts))
    except (FormatError, ModelError):
        assume(False)


@settings(max_examples=100, deadline=None)
@given(model=models(), seed=st.integers(0, 1000))
def test_every_stage_computes_what_it_is_defined_to(model, seed):
    corners = corner_inputs(model.n_inputs)
    inputs = np.concatenate(
        [corners[-80:], random_inputs(80, model.n_inputs, seed=seed, low=-32768, high=32767)]
    )
    try:
        outputs, scores = by_definition(model, inputs)
    except FormatError:  # a shift beyond what a conversion bridges
        assume(False)
    emulator = Emulator(model)
    found, accepts = emulator.run(inputs)
    np.testing.assert_array_equal(emulator.outputs(inputs), outputs)
    np.testing.assert_array_equal(found, scores)
    np.testing.assert_array_equal(accepts, scores > model.score_stage.threshold_raw)
    few = slice(75, 85)  # corners and others
    assert slow_scores(model, inputs[few]) == scores[few].tolist()


@settings(max_examples=60, deadline=None)
@given(model=models())
def test_partitions_one_after_the_other_give_what_the_whole_gives(model):
    inputs = corner_inputs(model.n_inputs)[-60:]
    emulator = Emulator(model)
    try:
        outputs, scores = emulator.outputs(inputs), emulator.scores(inputs)
    except FormatError:
        assume(False)
    values = inputs.astype(np.int64)
    for part in model.partitions():
        values = emulator.partition(part.index, values)
        assert values.shape == (len(inputs), part.n_outputs)
        assert part.result_format.holds(values[:, : part.n_out]).all()
    np.testing.assert_array_equal(values[:, :-2], outputs)
    np.testing.assert_array_equal(values[:, -2], scores)
    np.testing.assert_array_equal(values[:, -1], emulator.accepts(inputs))


@st.composite
def landings(draw):
    """Draw a conversion, and raw values that need all the bits it was said to get."""
    fmt = drawn_format(draw, st.integers(1, 54))
    bits, shift = draw(st.integers(1, 54)), draw(st.integers(-20, 40))
    assume(abs(fmt.fraction + shift) <= 62)
    near = st.sampled_from([0, 1, 2**bits, 2 ** max(0, bits - 1), 2 ** max(0, shift), 2 ** max(0, shift - 1)])
    half = 2 ** max(0, shift - 1)
    tie = st.builds(lambda number: number * half, st.integers(-(2**bits) // half, 2**bits // half))
    anywhere = st.integers(-(2**bits), 2**bits)
    values = st.lists(
        st.one_of(
            tie,
            anywhere,
            st.builds(lambda n, d, s: s * n + d, near, st.integers(-2, 2), st.sampled_from([-1, 1])),
        ),
        min_size=1,
    )
    return fmt, bits, shift, np.array([v for v in draw(values) if abs(v) <= 2**bits], dtype=np.int64)


@settings(max_examples=250, deadline=None)
@given(drawn=landings(), relu=st.booleans())
def test_what_the_widths_prove_exact_in_floating_point_is_exact(drawn, relu):
    fmt, bits, shift, raw = drawn
    number = number_for(bits, shift, fmt)
    assume(number is not None and raw.size)
    landing = Landing(fmt, shift, relu=relu)
    values = np.ldexp(raw.astype(number), -shift)
    values += number(landing.half)
    landing(values)
    expected = requantise(raw, fmt.fraction + shift, fmt)
    assert values.dtype == number
    np.testing.assert_array_equal(values.astype(np.int64), np.maximum(expected, 0) if relu else expected)


def test_the_number_type_follows_from_the_widths():
    narrow, wide = FixedFormat(16, 6), FixedFormat(53, 6)
    assert number_for(23, 4, narrow) is np.float32
    assert number_for(24, 4, narrow) is np.float64
    assert number_for(23, -1, narrow) is np.float64
    assert number_for(52, 4, narrow) is np.float64
    assert number_for(53, 4, narrow) is None
    assert number_for(23, 4, wide) is None


@pytest.mark.parametrize("offset", ["fixed<16,16,RND,SAT>", "fixed<20,16,RND,SAT>", "fixed<16,18,RND,SAT>"])
def test_scores_are_those_of_exact_fractions(offset):
    model = random_model()
    model = replace(model, input_stage=replace(model.input_stage, offset_format=FixedFormat.parse(offset)))
    inputs = np.concatenate([random_inputs(60, 6), corner_inputs(6)[:40], corner_inputs(6)[-40:]])
    assert Emulator(model).scores(inputs).tolist() == slow_scores(model, inputs)


def test_sums_beyond_53_bits_stay_exact():
    weight = FixedFormat.parse("fixed<34,6,RND,SAT>")
    model = random_model()
    layers = tuple(
        replace(x, weight_format=weight, weight_raw=x.weight_raw * 65_537 + 1) for x in model.layers
    )
    model = replace(model, layers=layers)
    assert model.layers[1].accumulator_format(model.layers[0].result_format).width > 53
    inputs = random_inputs(80, 6)
    assert Emulator(model).scores(inputs).tolist() == slow_scores(model, inputs)


def test_squares_beyond_53_bits_stay_exact():
    wide = FixedFormat.parse("fixed<29,9,TRN,SAT>")
    model = random_model()
    *hidden, last = model.layers
    layers = (*hidden, replace(last, result_format=wide, weight_raw=last.weight_raw * 4 + 1))
    lowest_bits = ScoreStage("sum_of_squares", FixedFormat.parse("ufixed<31,-9,TRN,WRAP>"), 0)
    model = replace(model, layers=layers, score_stage=lowest_bits)
    inputs = random_inputs(80, 6, low=-32768, high=32767)
    assert (np.abs(Emulator(model).outputs(inputs)) > 1 << 26).any()
    assert Emulator(model).scores(inputs).tolist() == slow_scores(model, inputs)


def test_a_logit_is_one_output_in_the_scores_format():
    model = random_model()
    fmt = FixedFormat.parse("fixed<12,6,RND_CONV,SAT>")
    model = replace(model, score_stage=ScoreStage("logit", fmt, -3, 1))
    inputs = random_inputs(200, 6)
    emulator = Emulator(model)
    scores, accepts = emulator.run(inputs)
    outputs = emulator.outputs(inputs)[:, 1]
    np.testing.assert_array_equal(scores, requantise(outputs, model.layers[-1].result_format.fraction, fmt))
    np.testing.assert_array_equal(accepts, scores > -3)
    assert scores.min() < 0 < scores.max()


def test_a_partition_refuses_what_cannot_reach_it():
    emulator = Emulator(replace(random_model(), layout=Layout(cuts=(1,))))
    inner = np.zeros((3, 5), np.int64)
    assert emulator.partition(1, inner).shape == (3, 5)
    with pytest.raises(ModelError, match="2 partitions"):
        emulator.partition(2, inner)
    for values in (inner[:, :4], inner.astype(np.int32), inner[0]):
        with pytest.raises(ModelError, match="p1 takes int64 values"):
            emulator.partition(1, values)
    with pytest.raises(ModelError, match="outside"):
        emulator.partition(1, inner + (1 << 20))


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


COARSE = {
    "standardised": "fixed<4,2,RND,SAT>",
    "weight": "fixed<4,-2>",
    "bias": "fixed<10,4>",
    "hidden": "fixed<8,17,RND,SAT>",  # its last bit is above all bits of the sum before it
    "latent": "fixed<8,4,RND_CONV,WRAP>",
    "score": "fixed<9,5,RND_CONV,WRAP>",
}
WIDE = {
    "offset": "ufixed<18,14>",
    "scale": "ufixed<20,1>",
    "standardised": "fixed<26,7,TRN,SAT>",
    "weight": "fixed<27,4>",
    "bias": "fixed<12,3>",
    "hidden": "ufixed<24,9,RND_CONV,WRAP>",
    "latent": "fixed<24,9,RND_CONV,SAT>",
    "score": "ufixed<31,14,RND_CONV,SAT>",
}


@pytest.mark.parametrize("formats", [COARSE, WIDE], ids=["coarse", "wide"])
def test_an_image_of_any_formats_gives_the_same_outputs(formats, tmp_path):
    chosen = replace(DEFAULT_FORMATS, **{name: FixedFormat.parse(text) for name, text in formats.items()})
    model = random_model((5, 4, 3), formats=chosen)
    if formats is COARSE:
        model = replace(model, score_stage=ScoreStage("logit", chosen.score, -7, 2))
    toolchain = Hls4mlToolchain()
    model = laid_out(model, toolchain)
    image = toolchain.emulate(toolchain.build(toolchain.generate(model, tmp_path / "project")).parts, model)
    inputs = np.concatenate([random_inputs(5_000, 5), corner_inputs(5)])
    seen = set()
    for words in (model.memory(), *extreme_memories(model)):
        changed = model.with_memory(words)
        expected = Emulator(changed).partition(0, inputs.astype(np.int64))
        np.testing.assert_array_equal(image.images.outputs(inputs, changed.memory()), expected)
        seen.update(expected[:, -2].tolist())
    assert len(seen) > 2


def extreme_memories(model):
    rng = np.random.default_rng(4)
    for choose in (rng.integers, lambda low, high, count: rng.choice([low, high - 1], count)):
        parts = [choose(s.format.raw_minimum, s.format.raw_maximum + 1, s.words) for s in model.segments()]
        yield np.concatenate(parts).astype(np.int32)
