import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hw.emulator import Emulator
from hw.errors import ModelError
from hw.fixed_point import FixedFormat, to_float
from hw.ingest.target import IngestTarget, LayerFormats
from hw.ingest.torch_model import from_torch, load_weights
from hw.models import read_model
from hw.torch_network import TorchNetwork
from tests.support.hw import corner_inputs, random_inputs

N_IN = 6
TARGET = IngestTarget(
    "tagger",
    "c0ffee",
    tuple(f"x{i}" for i in range(N_IN)),
    input_offset=np.linspace(-20, 60, N_IN).round().tolist(),
    input_scale=np.linspace(0.004, 0.02, N_IN).tolist(),
    kind="logit",
    output=1,
    threshold=0.5,
)


def network(*, norms=True):
    """Give a network of every supported kind, its BatchNorm statistics far from the identity."""
    torch.manual_seed(3)
    parts = [
        nn.Sequential(nn.BatchNorm1d(N_IN), nn.Linear(N_IN, 12), nn.BatchNorm1d(12), nn.ReLU()),
        nn.Dropout(0.5),
        nn.Sequential(nn.Linear(12, 8, bias=False), nn.ReLU(), nn.BatchNorm1d(8), nn.Identity()),
        nn.Linear(8, 3),
    ]
    if not norms:
        parts = [nn.Linear(N_IN, 4), nn.ReLU(), nn.Linear(4, 3)]
    module = nn.Sequential(*parts)
    rng = np.random.default_rng(4)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            size = part.num_features
            part.running_mean.copy_(torch.as_tensor(rng.normal(0, 0.5, size)))
            part.running_var.copy_(torch.as_tensor(rng.uniform(0.5, 2.0, size)))
            part.weight.data.copy_(torch.as_tensor(rng.uniform(0.5, 1.5, size)))
            part.bias.data.copy_(torch.as_tensor(rng.normal(0, 0.3, size)))
    return module.eval()


def logits_of(module, codes):
    offset, scale = TARGET.affine()
    with torch.no_grad():
        return module.double()(torch.from_numpy((codes - offset) * scale)).numpy()


def test_the_emulator_follows_torch_within_the_grid_and_the_quantised_network_exactly():
    module = network()
    model = from_torch(module, TARGET)
    codes = random_inputs(10_000, N_IN)
    outputs = to_float(Emulator(model).outputs(codes), model.layers[-1].result_format)
    real = logits_of(module, codes)
    assert np.abs(outputs - real).max() < 0.02
    assert real.std() > 0.2, "small errors of small numbers prove nothing"
    corners = np.concatenate([codes, corner_inputs(N_IN)])
    quantised = TorchNetwork(model, quantised=True)
    assert quantised.exact
    np.testing.assert_array_equal(quantised.run(corners)[0], Emulator(model).run(corners)[0])
    assert [layer.activation for layer in model.layers] == ["relu", "relu", "linear"]
    assert read_model(model.to_npz_bytes()).weights_hash == model.weights_hash


def test_score_and_threshold_are_the_targets():
    module = network(norms=False)
    codes = random_inputs(4_000, N_IN)
    real = logits_of(module, codes)
    for target, scores in (
        (TARGET, real[:, 1]),
        (replace(TARGET, kind="sum_of_squares", output=0, threshold=0.2), (real**2).sum(axis=1)),
    ):
        model = from_torch(module, target)
        _, accepts = Emulator(model).run(codes)
        clear = np.abs(scores - target.threshold) > 0.01
        np.testing.assert_array_equal(accepts[clear], scores[clear] > target.threshold)
        assert 0.01 < accepts.mean() < 0.99


def test_a_training_mode_module_is_read_as_it_evaluates():
    module = network()
    evaluated = from_torch(module, TARGET)
    assert from_torch(module.train(), TARGET).weights_hash == evaluated.weights_hash
    assert module.training, "the module is left as it was"


def test_formats_per_layer():
    weight, result = FixedFormat.parse("fixed<8,2,RND,SAT>"), FixedFormat.parse("fixed<12,6,RND_CONV,SAT>")
    target = replace(TARGET, layer_formats={"dense1": LayerFormats(weight=weight, result=result)})
    first, last = from_torch(network(norms=False), target).layers
    assert (first.weight_format, first.result_format) == (weight, result)
    assert (first.bias_format, last.weight_format) == (TARGET.formats.bias, TARGET.formats.weight)
    with pytest.raises(ModelError, match="formats of layer 'dense9': there are dense1, dense2"):
        from_torch(network(norms=False), replace(TARGET, layer_formats={"dense9": LayerFormats()}))


def test_weights_outside_their_format_are_named_or_saturate_when_asked():
    module = network(norms=False)
    module[0].weight.data[2, 5] = -11.5
    with pytest.raises(
        ModelError, match=r"dense1 \(module\.0\): weight\[2, 5\] = -11\.5 is outside fixed<16,4"
    ):
        from_torch(module, TARGET)
    assert from_torch(module, TARGET, saturate=True).layers[0].weight_raw[5, 2] == -(1 << 15)


def test_the_largest_weight_of_a_format_is_inside():
    module = network(norms=False)
    module[2].bias.data[0] = 8 - 2.0**-12
    assert from_torch(module, TARGET).layers[1].bias_raw[0] == (1 << 15) - 1
    module[2].bias.data[0] = 8 - 2.0**-14
    with pytest.raises(ModelError, match=r"dense2 \(module\.2\): bias\[0\] = 7\.99994 is outside"):
        from_torch(module, TARGET)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_never_accepted(value):
    module = network(norms=False)
    module[0].weight.data[1, 4] = value
    for saturate in (False, True):
        with pytest.raises(ModelError, match=r"module\.0 \(Linear\) weight\[1, 4\] is not finite"):
            from_torch(module, TARGET, saturate=saturate)


class Doubled(nn.Linear):
    """A layer of another library: it is a Linear, and computes something else."""

    def forward(self, values):
        return 2 * super().forward(values)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            nn.Sequential(nn.Linear(N_IN, 2), nn.Tanh()),
            r"module\.1 \(torch\.nn.*Tanh\) has no firmware: suppo",
        ),
        (nn.Sequential(Doubled(N_IN, 2)), r"module\.0 \(.*Doubled\) has no firmware"),
        (nn.Sequential(nn.Sequential(nn.Conv1d(1, 1, 1))), r"module\.0\.0 \(.*Conv1d\) has no firmware"),
        (nn.Sequential(nn.ReLU(), nn.Linear(N_IN, 2)), r"module\.0 \(ReLU\) must follow a Linear"),
        (nn.Sequential(nn.Linear(4, 2)), r"module\.0 \(Linear\) takes 4 inputs, what comes before gives 6"),
        (nn.Sequential(nn.Linear(N_IN, 2), nn.BatchNorm1d(3)), r"module\.1 \(BatchNorm1d\) takes 3 values"),
        (nn.Sequential(nn.Linear(N_IN, 2), nn.ReLU(), nn.BatchNorm1d(2)), "behind the last ReLU"),
        (nn.Sequential(nn.BatchNorm1d(N_IN, track_running_stats=False)), "no running statistics"),
        (nn.Sequential(), "has no layer"),
    ],
)
def test_what_firmware_cannot_do_is_refused_by_name(module, message):
    with pytest.raises(ModelError, match=message):
        from_torch(module, TARGET)


def saved(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def as_npz(state):
    buffer = io.BytesIO()
    np.savez(buffer, **{name: tensor.numpy() for name, tensor in state.items()})
    return buffer.getvalue()


@pytest.mark.parametrize("write", [saved, as_npz])
def test_parameters_come_from_a_file(write):
    module, empty = network(), network()
    for parameter in empty.parameters():
        parameter.data.zero_()
    load_weights(empty, write(module.state_dict()))
    assert from_torch(empty, TARGET).weights_hash == from_torch(module, TARGET).weights_hash


class Trap:
    """What a hostile file holds."""

    def __reduce__(self):
        return (print, ("executed",))


def test_a_file_with_code_in_it_is_refused_and_not_executed(capsys):
    with pytest.raises(ModelError, match="holds more than parameters"):
        load_weights(network(), saved({"0.weight": Trap()}))
    with pytest.raises(ModelError, match="holds more than parameters"):
        load_weights(network(norms=False), saved(network(norms=False)))
    assert "executed" not in capsys.readouterr().out


def test_damaged_and_foreign_files_are_refused():
    content = saved(network().state_dict())
    for wrong in (b"", content[: len(content) // 2], b"PK\x03\x04", b"\x80\x02}q\x00."):
        with pytest.raises(ModelError, match="no state dict"):
            load_weights(network(), wrong)
    with pytest.raises(ModelError, match="does not fit the module"):
        load_weights(network(norms=False), content)
    with pytest.raises(ModelError, match="no state dict"):
        load_weights(network(), saved([1, 2, 3]))
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(65 << 20))
    with pytest.raises(ModelError, match="unpacks to more than"):
        load_weights(network(), bomb.getvalue())


def test_the_target_is_checked():
    with pytest.raises(ModelError, match="one input offset and scale, or 6 of each"):
        from_torch(network(), replace(TARGET, input_offset=[1.0, 2.0]))
    with pytest.raises(ModelError, match="must be finite"):
        from_torch(network(), replace(TARGET, input_scale=float("nan")))
    with pytest.raises(ModelError, match=r"input\.offset\[0\] = 40000 is outside"):
        from_torch(network(norms=False), replace(TARGET, input_offset=40000.0))
    wide = FixedFormat.parse("fixed<40,8,RND,SAT>")
    with pytest.raises(ModelError, match="one signed 32-bit word"):
        from_torch(network(), replace(TARGET, formats=replace(TARGET.formats, weight=wide)))
