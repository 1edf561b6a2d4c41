"""The emulator against hls4ml's own prediction of the same network, our C simulation, and its definition.

hls4ml is run as its users run it: `ModelGraph.compile()`, then `predict` of the standardised inputs, with the
same precisions: it is spared the input stage and the score. All give the same bits, which is checked.
"""

import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np

from hw import arithmetic
from hw.emulator import Emulator
from hw.fixed_point import FixedFormat, to_float
from hw.network import ScoreStage
from hw.toolchain import laid_out
from hw.toolchains.hls4ml import Hls4mlToolchain
from tests.benchmarks.row import Row, best_cpu_seconds
from tests.support.hw import random_inputs, random_model

ENOUGH = 1e6
TIMES = 20


def run(quick: bool) -> list[Row]:
    """Measure the demonstration network's sizes with one output, then others; `quick` a tiny one."""
    sizes = (6, 4, 1) if quick else (57, 32, 16, 1)
    model = random_model(sizes)
    inputs = random_inputs(2_000 if quick else 200_000, sizes[0])
    rate = _rate(model, inputs)
    rows = [
        Row(
            name=f"emulator, {_named(sizes)}",
            value=rate,
            unit="events/s",
            target=None if quick else ">= 1,000,000 events/s",
            met=None if quick else rate >= ENOUGH,
        ),
        *_compared(model, inputs, rate, quick=quick),
    ]
    if not quick:
        rows += [_other(random_model((57, 32, 16, 8)), "sum of squares"), _other(_logit(), "logit")]
    return rows


def _compared(model, inputs, rate, *, quick) -> list[Row]:
    few = inputs[:2_000]
    emulator = Emulator(model)
    with tempfile.TemporaryDirectory(prefix="lumiwatch-bench-") as folder:
        predict = _compiled_by_hls4ml(model, Path(folder) / "hls4ml")
        standardised = to_float(emulator.standardised(few), model.input_stage.result_format)
        if not np.array_equal(
            predict(standardised).reshape(len(few), -1),
            to_float(emulator.outputs(few), model.layers[-1].result_format),
        ):
            raise AssertionError("the emulator and hls4ml's prediction disagree")
        theirs = len(few) / best_cpu_seconds(lambda: predict(standardised), 2 if quick else 5)
        image = _our_image(model, Path(folder) / "image")
        if not np.array_equal(image.run(inputs)[0], emulator.scores(inputs)):
            raise AssertionError("the emulator and the C simulation disagree")
        ours = len(inputs) / best_cpu_seconds(lambda: image.run(inputs), 2 if quick else 5)
    defined = len(few) / best_cpu_seconds(lambda: _by_definition(model, few), 2 if quick else 5)
    name = f"emulator against {{}}, {_named([model.n_inputs, *(x.n_out for x in model.layers)])}"
    return [
        Row(
            name=name.format("hls4ml's predict"),
            value=rate,
            unit="events/s",
            baseline="hls4ml, compile() and predict() without input stage and score",
            baseline_value=theirs,
            ratio=rate / theirs,
            target=None if quick else f">= {TIMES}x",
            met=None if quick else rate >= TIMES * theirs,
        ),
        Row(
            name=name.format("the C simulation"),
            value=rate,
            unit="events/s",
            baseline="the image built from hls4ml's sources, as an emulated board runs it",
            baseline_value=ours,
            ratio=rate / ours,
        ),
        Row(
            name=name.format("its definition"),
            value=rate,
            unit="events/s",
            baseline="hw.arithmetic, all in int64",
            baseline_value=defined,
            ratio=rate / defined,
        ),
    ]


def _other(model, kind) -> Row:
    inputs = random_inputs(200_000, model.n_inputs)
    sizes = [model.n_inputs, *(layer.n_out for layer in model.layers)]
    return Row(name=f"emulator, {_named(sizes)}, {kind}", value=_rate(model, inputs), unit="events/s")


def _rate(model, inputs) -> float:
    emulator = Emulator(model)
    return len(inputs) / best_cpu_seconds(lambda: emulator.run(inputs), 10)


def _logit():
    model = random_model((16, 64, 32, 32, 5))
    score = ScoreStage("logit", FixedFormat.parse("fixed<18,8,RND,SAT>"), 0, 2)
    return type(model)(
        model.name, model.contract_hash, model.input_names, model.input_stage, model.layers, score
    )


def _by_definition(model, inputs):
    source = model.input_stage.result_format
    values = arithmetic.standardise(model.input_stage, inputs.astype(np.int64))
    for layer in model.layers:
        values, source = arithmetic.dense(layer, source, values), layer.result_format
    return arithmetic.score(model.score_stage, source, values)


def _our_image(model, folder):
    toolchain = Hls4mlToolchain()
    model = laid_out(model, toolchain)
    return toolchain.emulate(toolchain.build(toolchain.generate(model, folder)).parts, model)


def _compiled_by_hls4ml(model, folder):
    """Give hls4ml's prediction of a model's layers, from standardised values to the last layer's results."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hls4ml.model.graph import ModelGraph  # noqa: PLC0415 - slow to import

    standardised = model.input_stage.result_format
    layers = [{"name": "standardised", "class_name": "InputLayer", "input_shape": [model.n_inputs]}]
    names = {"standardised": {"Precision": {"result": str(standardised)}}}
    source = standardised
    for layer in model.layers:
        layers.append(
            {
                "name": layer.name,
                "class_name": "Dense",
                "n_in": layer.n_in,
                "n_out": layer.n_out,
                "use_bias": True,
                "weight_data": to_float(layer.weight_raw, layer.weight_format),
                "bias_data": to_float(layer.bias_raw, layer.bias_format),
            }
        )
        precision = {
            "weight": str(layer.weight_format),
            "bias": str(layer.bias_format),
            "accum": str(layer.accumulator_format(source)),
            "result": str(layer.result_format),
        }
        names[layer.name] = {"Strategy": "Latency", "ReuseFactor": 1, "Precision": precision}
        if layer.activation == "relu":
            name = f"{layer.name}_relu"
            layers.append(
                {"name": name, "class_name": "Activation", "activation": "relu", "n_in": layer.n_out}
            )
            names[name] = {"ReuseFactor": 1, "Precision": {"result": str(layer.result_format)}}
        source = layer.result_format
    configuration = {
        "OutputDir": str(folder),
        "ProjectName": "network",
        "Backend": "Vitis",
        "IOType": "io_parallel",
        "WriterOptions": {"WriteTar": False},
        "HLSConfig": {
            "Model": {"Precision": str(standardised), "ReuseFactor": 1, "Strategy": "Latency"},
            "LayerName": names,
        },
    }
    logging.getLogger("hls4ml").setLevel(logging.WARNING)
    graph = ModelGraph.from_layer_list(configuration, layers)
    graph.compile()
    return graph.predict


def _named(sizes) -> str:
    return "-".join(map(str, sizes))
