import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from hw.emulator import Emulator
from hw.errors import ModelError
from hw.fixed_point import FixedFormat, to_float
from hw.ingest.qonnx_model import from_qonnx
from hw.ingest.target import IngestTarget
from hw.models import read_model
from tests.support.hw import corner_inputs
from tests.support.qonnx import GraphMaker, execute

HERE = Path(__file__).parent
SCALE = 2.0**-7
N_IN = 5


def target(n_inputs=N_IN, **changes):
    names = tuple(f"x{i}" for i in range(n_inputs))
    settings = {"input_offset": 3.0, "input_scale": SCALE, "kind": "logit", "threshold": 0.25}
    return IngestTarget("tagger", "c0ffee", names, **(settings | changes))


def codes_for(n_inputs=N_IN):
    """Give 11 000 events and more: usual ones, any at all, ties of the input stage, corners."""
    rng = np.random.default_rng(1)
    usual = rng.normal(0, 300, (8000, n_inputs)).clip(-32768, 32767).astype(np.int16)
    any_at_all = rng.integers(-32768, 32768, (3000, n_inputs)).astype(np.int16)
    return np.concatenate([usual, any_at_all, corner_inputs(n_inputs)])


def weights(*shape, seed=2, spread=0.7):
    return np.random.default_rng(seed).normal(0, spread, shape)


def plain():
    """Give a two-layer graph in which every result rounds and saturates."""
    maker = GraphMaker(N_IN)
    maker.quant(10, 2.0**-4)
    maker.dense(weights(N_IN, 7, spread=1.2), weights(7))
    maker.node("Relu")
    maker.quant(7, 2.0**-3, signed=0)
    maker.dense(weights(7, 3, seed=3), weights(3, seed=4))
    maker.quant(9, 2.0**-4)
    return maker


def assert_bit_true(maker, n_inputs=N_IN, **changes):
    """Compare the emulator's last layer with the graph, executed as defined, on every event."""
    wanted = target(n_inputs, **changes)
    model = from_qonnx(maker.content(), wanted)
    codes = codes_for(n_inputs)
    offset, scale = wanted.affine()
    events = (codes.astype(np.float64) - offset) * scale
    expected = execute(maker.model(), events.reshape(len(events), *maker.shape[1:]))
    found = to_float(Emulator(model).outputs(codes), model.layers[-1].result_format)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected[:, 0])) > 20, "a graph that always answers the same proves nothing"
    return model


def test_formats_come_from_the_quant_nodes_and_every_bit_agrees():
    model = assert_bit_true(plain())
    assert str(model.input_stage.result_format) == "fixed<10,6,RND_CONV,SAT>"
    first, last = model.layers
    assert (str(first.weight_format), str(first.bias_format)) == (
        "fixed<6,2,RND_CONV,SAT>",
        "fixed<12,4,RND_CONV,SAT>",
    )
    assert (str(first.result_format), first.activation) == ("ufixed<7,4,RND_CONV,SAT>", "relu")
    assert (str(last.result_format), last.activation) == ("fixed<9,5,RND_CONV,SAT>", "linear")
    assert (first.weight_raw.min(), first.weight_raw.max()) == (-31, 31), "narrow: -32 is left out"


def test_the_firmware_model_survives_its_file():
    model = from_qonnx(plain().content(), target())
    again = read_model(model.to_npz_bytes())
    assert again.structure_hash == model.structure_hash
    assert again.weights_hash == model.weights_hash


@pytest.mark.parametrize("rounding", ["ROUND", "FLOOR", "HALF_UP", "DOWN"])
@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "onnx.brevitas"])
def test_roundings_of_results_above_zero(rounding, domain):
    maker = GraphMaker(N_IN, domain=domain)
    maker.quant(9, 2.0**-4, rounding="FLOOR", op="IntQuant")
    maker.dense(weights(N_IN, 4), rounding="ROUND")
    maker.node("Relu")
    maker.quant(8, 2.0**-3, signed=1, narrow=1, rounding=rounding)
    maker.dense(weights(4, 2, seed=6))
    maker.quant(8, 2.0**-2, signed=0, rounding=rounding)
    assert_bit_true(maker)


def test_everything_between_two_quantisers_is_folded_exactly():
    maker = GraphMaker(N_IN, shape=(1, 1, N_IN))
    maker.node("Mul", maker.constant(2.0))
    maker.node("Add", maker.constant(np.array([[0.5, 0.0, 1.0, -2.0, 0.25]])))
    maker.node("Flatten", axis=1)
    maker.quant(10, 2.0**-4)
    maker.node("Mul", maker.constant([1.0, 0.5, 0.75, 2.0, -1.0]))
    maker.node("Add", maker.constant(0.125))
    quantised = maker.quant(6, 2.0**-4, data=maker.constant(weights(4, N_IN)))
    maker.node("Gemm", quantised, maker.quant(10, 2.0**-8, data=maker.constant(weights(4))), transB=1)
    variance = np.array([0.25, 1.0, 4.0, 2.25]) - 2.0**-10
    mean, gain, shift = [0.5, -1.0, 0.25, 2.0], [1.5, 1.0, 0.5, 3.0], [0.0, 0.125, -1.0, 0.5]
    vectors = [maker.constant(values) for values in (gain, shift, mean, variance)]
    maker.node("BatchNormalization", *vectors, epsilon=2.0**-10)
    maker.node("Sub", maker.constant(0.375))
    maker.node("Div", maker.constant([1.0, 2.0, 0.5, 1.0]))
    maker.node("Dropout")
    maker.node("Relu")
    maker.node("Reshape", maker.constant([-1, 4], np.int64))
    maker.quant(9, 2.0**-4, signed=0)
    transposed = maker.node(
        "Transpose", data=maker.quant(6, 2.0**-4, data=maker.constant(weights(3, 4))), perm=[1, 0]
    )
    maker.node("MatMul", transposed)
    maker.quant(12, 2.0**-5)
    model = assert_bit_true(maker)
    assert to_float(model.input_stage.scale_raw, model.input_stage.scale_format)[0] == 2 * SCALE


def test_scales_per_channel_of_weights_meet_on_the_finest_grid():
    maker = GraphMaker(N_IN)
    maker.quant(8, 2.0**-3)
    maker.node(
        "MatMul",
        maker.quant(5, [[2.0**-3, 2.0**-6, 2.0**-4]], data=maker.constant(weights(N_IN, 3)), narrow=1),
    )
    maker.quant(10, 2.0**-3)
    model = assert_bit_true(maker)
    assert str(model.layers[0].weight_format) == "fixed<8,2,RND_CONV,SAT>"


def test_a_power_of_two_behind_a_layer_moves_the_binary_points_alone():
    maker = GraphMaker(N_IN)
    maker.quant(10, 2.0**-4)
    maker.dense(weights(N_IN, 3), weights(3))
    maker.node("Mul", maker.constant(0.25))
    maker.quant(10, 2.0**-4)
    layer = assert_bit_true(maker).layers[0]
    formats = (str(layer.weight_format), str(layer.bias_format))
    assert formats == ("fixed<6,0,RND_CONV,SAT>", "fixed<12,2,RND_CONV,SAT>")


def test_a_last_layer_without_a_quant_keeps_its_exact_sums():
    maker = plain()
    maker.nodes.pop()
    maker.current = maker.nodes[-1].output[0]
    model = assert_bit_true(maker)
    assert model.layers[-1].result_format.fraction == 8, "that of the bias, finer than the products"


def test_a_relu_behind_its_quant_and_a_wider_quant_behind_that():
    maker = GraphMaker(N_IN)
    maker.quant(8, 2.0**-3)
    maker.dense(weights(N_IN, 3))
    maker.quant(8, 2.0**-3)
    maker.node("Relu")
    maker.quant(8, 2.0**-4, signed=0)
    maker.dense(weights(3, 2, seed=8))
    maker.quant(10, 2.0**-3)
    assert assert_bit_true(maker).layers[0].activation == "relu"


def test_the_score_follows_the_target():
    content = plain().content()
    codes = codes_for()
    squares = Emulator(from_qonnx(content, target(kind="sum_of_squares"))).scores(codes)
    logit = Emulator(from_qonnx(content, target(output=2))).scores(codes)
    outputs = Emulator(from_qonnx(content, target())).outputs(codes).astype(np.float64) / 16
    np.testing.assert_array_equal(squares / 1024, np.minimum((outputs**2).sum(axis=1), 16384))
    np.testing.assert_array_equal(logit / 1024, outputs[:, 2])


def test_what_brevitas_exported_gives_what_brevitas_computed():
    # a QuantIdentity, three QuantLinear with QuantReLU between them and a QuantIdentity, trained with and
    # exported by Brevitas 0.13.4; `outputs` are those of its own forward, and of qonnx 1.0.0's execution
    with np.load(HERE / "brevitas.npz") as recorded:
        codes, outputs = recorded["codes"], recorded["outputs"]
    wanted = target(6, input_offset=0.0, input_scale=2.0**-8)
    model = from_qonnx((HERE / "brevitas.onnx").read_bytes(), wanted)
    assert [layer.activation for layer in model.layers] == ["relu", "relu", "linear"]
    found = to_float(Emulator(model).outputs(codes), model.layers[-1].result_format)
    np.testing.assert_array_equal(found, outputs.astype(np.float64))
    assert len(codes) > 2000
    assert len(np.unique(outputs)) > 500


# what is refused, by the name of the node


def without_input_quant():
    maker = GraphMaker(N_IN)
    maker.dense(weights(N_IN, 3))
    maker.quant(8, 0.5)
    return maker


def after_one_layer(*, quantised=True):
    maker = GraphMaker(N_IN)
    maker.quant(8, 2.0**-3)
    maker.dense(weights(N_IN, 4))
    if quantised:
        maker.quant(8, 2.0**-3)
    return maker


def with_node(op, *constants, **settings):
    maker = after_one_layer()
    maker.node(op, *(maker.constant(one) for one in constants), **settings)
    return maker


def with_quant(bits=8, scale=0.125, **settings):
    maker = after_one_layer(quantised=False)
    maker.quant(bits, scale, **settings)
    return maker


def two_layers_without_quant():
    maker = after_one_layer(quantised=False)
    maker.dense(weights(4, 2))
    return maker


def with_plain_weights():
    maker = after_one_layer()
    maker.node("MatMul", maker.constant(weights(4, 3)))
    return maker


def with_branch():
    maker = after_one_layer()
    maker.node("Add", "x")
    return maker


def with_real_norm():
    maker = after_one_layer(quantised=False)
    maker.node("BatchNormalization", *(maker.constant(np.full(4, v)) for v in (1.0, 0.0, 0.5, 0.3)))
    return maker


def behind_relu(op):
    maker = after_one_layer(quantised=False)
    maker.node("Relu")
    maker.node(op, maker.constant(0.5))
    maker.quant(8, 2.0**-3)
    return maker


def scaled_at_the_end():
    return with_node("Mul", 0.5)


def with_weight_quant(**settings):
    maker = after_one_layer()
    maker.dense(weights(4, 3), **settings)
    return maker


REFUSED = {
    "operator": (with_node("Softmax"), r"Softmax 't\d+' of ONNX has no firmware: export the logits"),
    "foreign operator": (with_node("Trunc", domain="qonnx.custom_op.general"), r"Trunc 't\d+'.*use a Quant"),
    "unknown operator": (with_node("Erf"), r"Erf 't\d+'.*supported are Quant"),
    "scale": (with_quant(scale=0.1), r"Quant 't\d+': scale 0\.1 is no power of two: train with"),
    "weight scale": (with_weight_quant(weight_scale=0.3), r"Quant 't\d+': scale 0\.3 is no power of two"),
    "negative scale": (with_quant(scale=-0.5), r"scale -0\.5 is no power of two"),
    "scale per channel": (with_quant(scale=[[0.5, 0.25, 0.5, 0.5]]), "scale per channel"),
    "zero point": (with_quant(zero=3.0), "zero point 3: use a symmetric quantiser"),
    "rounding": (with_quant(rounding="CEIL"), "no rounding CEIL of values below zero: use ROUND"),
    "half away": (with_quant(rounding="HALF_UP"), "no rounding HALF_UP of values below zero"),
    "ceiling": (with_quant(rounding="CEIL", signed=0), "firmware has no rounding CEIL: use ROUND"),
    "narrow": (with_quant(narrow=1), "narrow range lacks one end.*narrow_range=False"),
    "narrow unsigned": (with_quant(narrow=1, signed=0), "narrow range lacks one end"),
    "width": (with_quant(bits=2.5), r"bit width 2\.5: use a whole number"),
    "one bit": (with_quant(bits=1), "bit width 1: use a whole number from 2"),
    "too wide": (with_quant(bits=64), "bit width 64: use a whole number"),
    "far away": (with_quant(scale=2.0**-100), "fraction bits"),
    "wide weights": (with_weight_quant(weight_bits=40), "32-bit word: use fewer bits"),
    "no input quantiser": (without_input_quant(), r"MatMul 't\d+': the input reaches it without a Quant"),
    "no quantiser": (two_layers_without_quant(), r"MatMul 't\d+': no Quant stands between"),
    "plain weights": (with_plain_weights(), r"MatMul 't\d+': its weight has no Quant"),
    "branch": (with_branch(), r"Add 't\d+': it takes .*without branches"),
    "normalisation": (with_real_norm(), r"BatchNormalization 't\d+'.*merge_bn"),
    "sum behind a relu": (behind_relu("Add"), r"Add 't\d+': it follows a Relu without a Quant"),
    "product behind a relu": (behind_relu("Mul"), r"Mul 't\d+': it follows a Relu without a Quant"),
    "scaled output": (scaled_at_the_end(), "output 't.*scaled or shifted"),
    "matrix": (
        with_node("MatMul", np.ones((3, 2))),
        r"weights \(3, 2\) do not fit values of the shape \(4,\)",
    ),
    "vector": (with_node("Add", np.ones(3)), r"a constant \(3,\) does not fit"),
    "batch": (with_node("Flatten", axis=0), "it changes the batch"),
    "transposed data": (with_node("Transpose", perm=[1, 0]), r"Transpose 't\d+': it takes"),
    "division by zero": (with_node("Div", 0.0), "divides by zero"),
    "division by three": (with_node("Div", 3.0), "not on a binary grid"),
    "nothing": (GraphMaker(N_IN), "holds no graph"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_bit_true_is_refused_by_name(what):
    maker, message = REFUSED[what]
    with pytest.raises(ModelError, match=message):
        from_qonnx(maker.content(), target())


def test_a_second_rounding_is_refused():
    maker = with_quant()
    maker.quant(6, 0.5)
    with pytest.raises(
        ModelError, match=r"rounds a second time, from fixed<8,5,RND_CONV,SAT> into fixed<6,5"
    ):
        from_qonnx(maker.content(), target())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(value):
    maker = plain()
    broken = weights(N_IN, 7)
    broken[2, 3] = value
    index = next(i for i, one in enumerate(maker.initializers) if list(one.dims) == [N_IN, 7])
    name = maker.initializers[index].name
    maker.initializers[index] = numpy_helper.from_array(broken.astype(np.float32), name)
    with pytest.raises(
        ModelError, match=rf"initializer '{name}'\[2, 3\] is not finite: the training diverged"
    ):
        from_qonnx(maker.content(), target())


def test_no_damaged_file_is_anything_but_an_error():
    content = (HERE / "brevitas.onnx").read_bytes()
    wanted = target(6)
    rng = np.random.default_rng(5)
    for length in rng.integers(0, len(content), 40):
        with pytest.raises(ModelError):
            from_qonnx(content[:length], wanted)
    for _ in range(200):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = rng.integers(256)
        try:
            from_qonnx(bytes(damaged), wanted)
        except ModelError:
            continue


def test_parameters_in_other_files_are_never_read(tmp_path):
    secret = tmp_path / "weights.bin"
    secret.write_bytes(bytes(4 * N_IN * 7))
    model = plain().model()
    tensor = next(one for one in model.graph.initializer if list(one.dims) == [N_IN, 7])
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(secret))
    with pytest.raises(ModelError, match=r"lies in another file: export with external_data=False"):
        from_qonnx(model.SerializeToString(), target())


def test_sizes_are_bounded_before_anything_is_unpacked():
    with pytest.raises(ModelError, match="exceeds 32 MiB"):
        from_qonnx(bytes((32 << 20) + 1), target())
    model = plain().model()
    model.graph.initializer[0].dims[:] = [1 << 20, 1 << 20]
    with pytest.raises(ModelError, match="constants, more than"):
        from_qonnx(model.SerializeToString(), target())
    many = plain()
    for _ in range(5000):
        many.node("Identity")
    with pytest.raises(ModelError, match="nodes, more than 4096"):
        from_qonnx(many.content(), target())


def test_products_cannot_grow_without_end():
    maker = after_one_layer(quantised=False)
    factor = maker.constant(float(np.float32(1 / 3)))
    for _ in range(100):
        maker.node("Mul", factor)
    with pytest.raises(ModelError, match="far beyond any format"):
        from_qonnx(maker.content(), target())


def test_the_graph_must_fit_the_target():
    with pytest.raises(ModelError, match="the graph takes 5 inputs, the target names 4"):
        from_qonnx(plain().content(), target(4))
    with pytest.raises(ModelError, match=r"input.scale\[0\] = 1e-09 becomes zero"):
        from_qonnx(plain().content(), target(input_scale=1e-9))
    with pytest.raises(ModelError, match=r"score.threshold\[0\] = 1e\+06 is outside"):
        from_qonnx(plain().content(), target(threshold=1e6))
    with pytest.raises(ModelError, match="output 3 is the score, the last layer has 3"):
        from_qonnx(plain().content(), target(output=3))
    model = plain().model()
    model.graph.output[0].name = "t0"
    with pytest.raises(ModelError, match="is not the end of its chain"):
        from_qonnx(model.SerializeToString(), target())
    model.graph.output.append(helper.make_tensor_value_info("t1", TensorProto.FLOAT, None))
    with pytest.raises(ModelError, match="1 inputs and 2 outputs"):
        from_qonnx(model.SerializeToString(), target())


def test_an_input_scaled_off_the_grid_needs_a_finer_one():
    maker = GraphMaker(N_IN)
    maker.node("Mul", maker.constant(1 / 3))
    maker.quant(8, 2.0**-3)
    maker.dense(weights(N_IN, 2))
    with pytest.raises(ModelError, match=r"as an input scale, is not exact in fixed<24,2,RND,SAT>"):
        from_qonnx(maker.content(), target())
    fine = replace(target().formats, scale=FixedFormat.parse("fixed<32,0,RND,SAT>"))
    assert_bit_true(maker, formats=fine)


def test_without_the_onnx_package_the_cure_is_named():
    program = (
        "import sys\nsys.modules['onnx'] = None\n"
        "from hw.ingest.qonnx_model import from_qonnx\nfrom hw.ingest.target import IngestTarget\n"
        "try:\n    from_qonnx(b'', IngestTarget('m', 'c', ('a',)))\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "ModelError reading QONNX needs the onnx package: run `pip install onnx`"
