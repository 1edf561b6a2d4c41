import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from hw.arithmetic import dense
from hw.emulator import Emulator
from hw.errors import StructureMismatch, ToolchainError
from hw.fixed_point import FixedFormat, Overflow, Rounding
from hw.formats import NetworkFormats
from hw.layout import Layout
from hw.stages import DenseLayer, ScoreStage
from hw.toolchain import laid_out
from hw.toolchains.da4ml import Da4mlToolchain
from hw.toolchains.da4ml_logic import trace
from hw.verilator import lint
from tests.support.hw import corner_inputs, random_inputs, random_model

pytest.importorskip("da4ml", reason="da4ml is not installed")

# every rounding and overflow, signed and not, on some edge
ODD_FORMATS = NetworkFormats(
    offset=FixedFormat.parse("ufixed<12,9>"),
    scale=FixedFormat.parse("fixed<14,2,RND,SAT>"),
    standardised=FixedFormat.parse("fixed<11,6,RND_CONV,SAT>"),
    weight=FixedFormat.parse("fixed<8,3>"),
    bias=FixedFormat.parse("fixed<10,2>"),
    hidden=FixedFormat.parse("ufixed<10,5,RND,SAT>"),
    latent=FixedFormat.parse("fixed<10,6,TRN,WRAP>"),
    score=FixedFormat.parse("ufixed<16,12,RND_CONV,SAT>"),
)
SIZES = (5, 4, 3)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Give a model in two partitions, its project and its image."""
    toolchain = Da4mlToolchain()
    model = laid_out(random_model(SIZES, formats=ODD_FORMATS), toolchain)
    project = toolchain.generate(model, tmp_path_factory.mktemp("da4ml") / "project")
    return model, project, toolchain.build(project)


def test_every_kind_of_conversion_is_that_of_the_emulator_in_da4mls_own_interpreter():
    rng = np.random.default_rng(1)
    for signed, rounding, overflow, activation, fraction, source_signed in product(
        (True, False), Rounding, Overflow, ("relu", "linear"), (-2, 3, 14), (True, False)
    ):
        source = FixedFormat(8, 3, source_signed)
        result = FixedFormat(8, 8 - fraction, signed, rounding, overflow)
        weight = rng.integers(-64, 64, (3, 3))
        weight[1], weight[:, 2] = 0, 0  # an input that is not used, a result that is constant
        bias = rng.integers(-256, 256, 3)
        layer = DenseLayer("dense1", weight, bias, FixedFormat(7, 2), FixedFormat(9, 3), activation, result)
        ends = [source.raw_minimum, source.raw_minimum + 1, 0, source.raw_maximum]
        values = rng.integers(source.raw_minimum, source.raw_maximum + 1, (400, 3))
        values = np.concatenate([values, list(product(ends, repeat=3))])
        logic = trace((layer,), source, 5)
        assert (logic.evaluate(values) == dense(layer, source, values)).all(), (source, result, activation)


def test_the_interpreter_agrees_on_layers_in_a_row():
    model = random_model((20, 12, 6), seed=3)
    weight = model.layers[0].weight_raw.copy()
    weight[:, 4] = 0  # a constant enters the second layer
    model = replace(model, layers=(replace(model.layers[0], weight_raw=weight), model.layers[1]))
    source = model.input_stage.result_format
    codes = np.concatenate([random_inputs(3000, 20), corner_inputs(20)])
    emulator = Emulator(model)
    logic = trace(model.layers, source, 5)
    assert (logic.evaluate(emulator.standardised(codes)) == emulator.outputs(codes)).all()


def test_the_clocked_verilog_agrees_with_the_emulator_in_every_bit(odd):
    model, _, image = odd
    inputs = np.concatenate(
        [random_inputs(20_000, SIZES[0], low=-32768, high=32767), corner_inputs(SIZES[0])]
    )
    inputs = np.concatenate([inputs, random_inputs(20_000, SIZES[0])])
    answers = Da4mlToolchain().emulate(image.parts, model).outputs(inputs)
    emulator = Emulator(model)
    scores, accepts = emulator.run(inputs)
    assert (answers[:, :-2] == emulator.outputs(inputs)).all()
    assert (answers[:, -2] == scores).all()
    assert (answers[:, -1] == accepts).all()
    assert len(np.unique(scores)) > 1000
    assert 0 < accepts.mean() < 1


def test_input_stage_and_threshold_are_loadable(odd):
    model, _, image = odd
    rng = np.random.default_rng(5)
    assert [s.name for s in model.segments()] == ["input.offset", "input.scale", "score.threshold"]
    words = [rng.integers(s.format.raw_minimum, s.format.raw_maximum + 1, s.words) for s in model.segments()]
    other = model.with_memory(np.concatenate(words))
    inputs = random_inputs(2000, SIZES[0])
    scores, accepts = Da4mlToolchain().emulate(image.parts, other).run(inputs)
    expected = Emulator(other).run(inputs)
    assert (scores == expected[0]).all()
    assert (accepts == expected[1]).all()
    assert (scores != Emulator(model).scores(inputs)).any()


def test_calls_at_the_same_time_do_not_disturb_each_other(odd):
    model, _, image = odd
    chain = Da4mlToolchain().emulate(image.parts, model)
    batches = [random_inputs(3000, SIZES[0], seed=seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(chain.run, batches))
    emulator = Emulator(model)
    for batch, (scores, _) in zip(batches, found, strict=True):
        assert (scores == emulator.scores(batch)).all()


def test_an_image_with_other_constants_is_refused(odd):
    model, _, image = odd
    layer = replace(model.layers[1], weight_raw=model.layers[1].weight_raw ^ 1)
    other = replace(model, layers=(model.layers[0], layer))
    with pytest.raises(StructureMismatch, match="p1"):
        Da4mlToolchain().emulate(image.parts, other)


def test_a_logit_in_one_partition_agrees_too(tmp_path):
    toolchain = Da4mlToolchain(layers_per_partition=2)
    score = ScoreStage("logit", FixedFormat.parse("fixed<9,5,RND_CONV,SAT>"), -20, output=2)
    model = laid_out(replace(random_model(SIZES, seed=8), score_stage=score), toolchain)
    image = toolchain.build(toolchain.generate(model, tmp_path / "project"))
    assert list(image.parts) == ["p0"]
    inputs = np.concatenate([random_inputs(10_000, SIZES[0]), corner_inputs(SIZES[0])])
    scores, accepts = toolchain.emulate(image.parts, model).run(inputs)
    expected = Emulator(model).run(inputs)
    assert (scores == expected[0]).all()
    assert (accepts == expected[1]).all()
    assert scores.min() < 0 < scores.max()


def test_the_partitions_fit_together_in_the_top_module(odd):
    _, _, image = odd
    said = lint(image.sources, "lumiwatch_top")
    assert "%Error" not in said
    assert "PINMISSING" not in said
    assert "lumiwatch_top.v" not in said  # no port is cut or padded


def test_image_and_estimate_tell_the_same_latency(odd):
    model, project, image = odd
    toolchain = Da4mlToolchain()
    resources = toolchain.estimate(project)
    chain = toolchain.emulate(image.parts, model).images
    assert (resources.source, resources.interval_cycles) == ("estimate", 1)
    assert resources.latency_cycles == chain.latency_cycles
    assert chain.interval_cycles == 1
    assert resources.luts > 100
    assert resources.registers > 100
    assert image.resources == (resources,)


def test_the_same_model_gives_the_same_sources(odd, tmp_path):
    model, project, image = odd
    again = Da4mlToolchain().generate(model, tmp_path / "again")
    for name, content in image.sources.items():
        assert (again.folder / name).read_bytes() == content
    assert not any(str(project.folder).encode() in content for content in image.sources.values())
    assert {"lumiwatch_top.v", "p0/lumiwatch_p0.v", "p1/p1_network.v", "da4ml/shift_adder.v"} <= set(
        image.sources
    )


def test_a_changed_layer_changes_its_partition_alone_and_fits_the_same_edges(odd, tmp_path):
    model, project, _ = odd
    last = model.layers[1]
    # such weights reach a small part of the result's range only: da4ml itself would narrow the port
    layer = replace(last, weight_raw=np.sign(last.weight_raw), bias_raw=np.zeros_like(last.bias_raw))
    other = replace(model, layers=(model.layers[0], layer))
    changed = Da4mlToolchain().generate(other, tmp_path / "changed").folder
    before, after = ((folder / "p1/lumiwatch_p1.v").read_text() for folder in (project.folder, changed))
    assert before != after
    ports = [re.findall(r"^ +(?:in|out)put .*$", text, re.MULTILINE) for text in (before, after)]
    assert ports[0] == ports[1]
    assert len(ports[0]) == 4
    for path in (project.folder / "p0").glob("*.v"):
        assert (changed / "p0" / path.name).read_bytes() == path.read_bytes()
    assert model.partitions()[1].interface_hash == other.partitions()[1].interface_hash
    assert model.shell_hash == other.shell_hash


def test_fewer_adders_between_registers_take_more_cycles(tmp_path):
    model = random_model((4, 3), seed=4)
    found = []
    for adders in (1, 5):
        toolchain = Da4mlToolchain(adders_per_stage=adders)
        project = toolchain.generate(laid_out(model, toolchain), tmp_path / str(adders))
        found.append(toolchain.estimate(project).latency_cycles)
    assert found[0] > found[1] + 3


def test_sums_too_wide_for_da4ml_are_refused_by_layer_and_format():
    model = random_model((4, 3, 2))
    wide = FixedFormat.parse("fixed<24,8,RND,SAT>")
    first = replace(model.layers[0], result_format=wide)
    second = replace(model.layers[1], weight_format=FixedFormat(24, 12))
    with pytest.raises(
        ToolchainError, match=r"layer dense2: its sums need fixed<\d+,\d+> of fixed<24,8,RND,SAT>"
    ):
        Da4mlToolchain().layout(replace(model, layers=(first, second)))


def test_weights_too_long_for_da4ml_are_refused_by_name_and_format():
    model = random_model((4, 3))
    narrow = FixedFormat.parse("fixed<8,4,RND,SAT>")
    stage = replace(model.input_stage, result_format=narrow)
    weight = np.zeros((4, 3), dtype=np.int64)
    weight[2, 1] = (1 << 24) + 1
    layer = replace(model.layers[0], weight_raw=weight, weight_format=FixedFormat(26, 4))
    with pytest.raises(ToolchainError, match=r"dense1.weight\[2, 1\] = 16777217 in fixed<26,4>"):
        Da4mlToolchain().layout(replace(model, input_stage=stage, layers=(layer,)))
    weight[2, 1] = 1 << 24  # one significant bit
    Da4mlToolchain().layout(replace(model, input_stage=stage, layers=(replace(layer, weight_raw=weight),)))


def test_a_result_that_needs_more_than_da4mls_bits_is_refused():
    model = random_model((4, 3))
    layer = replace(model.layers[0], result_format=FixedFormat(40, 2))
    score = ScoreStage("logit", FixedFormat(20, 4), 0)
    with pytest.raises(ToolchainError, match=r"layer dense1: .* into fixed<40,2> exactly"):
        Da4mlToolchain().layout(replace(model, layers=(layer,), score_stage=score))


def test_a_model_with_another_layout_is_refused(tmp_path):
    with pytest.raises(ToolchainError, match="layout"):
        Da4mlToolchain().generate(
            replace(random_model((4, 3)), layout=Layout("hls4ml")), tmp_path / "project"
        )


def test_a_folder_that_is_no_project_is_refused(odd, tmp_path):
    _, project, _ = odd
    with pytest.raises(ToolchainError, match="is no da4ml project"):
        Da4mlToolchain().estimate(replace(project, folder=tmp_path))


def test_it_says_what_it_found():
    status = Da4mlToolchain().probe()
    assert status.available
    assert status.version in status.reason
    assert not Da4mlToolchain(compiler="no-such-compiler").probe().available
