import io
from dataclasses import replace

import numpy as np
import pytest

from hw.archive import npy_bytes, zip_bytes
from hw.errors import ModelError, OffGridError
from hw.fixed_point import FixedFormat
from hw.layout import Layout
from hw.network import DenseLayer, FirmwareModel, ScoreStage
from tests.support.hw import random_model

OTHER = FixedFormat.parse("fixed<20,16,RND,SAT>")


def test_segments_cover_the_memory_in_order_without_gaps():
    model = random_model((6, 5, 3))
    segments = model.segments()
    assert [s.name for s in segments] == [
        "input.offset", "input.scale", "dense1.weight", "dense1.bias", "dense2.weight", "dense2.bias",
        "score.threshold",
    ]  # fmt: skip
    assert [s.start for s in segments] == [0, 6, 12, 42, 47, 62, 65]
    assert len(model.memory()) == model.n_words == segments[-1].stop == 66


def test_the_memory_holds_matrices_row_by_row():
    model = random_model((6, 5, 3))
    segment = model.segment("dense1.weight")
    stored = model.memory()[segment.start : segment.stop].reshape(6, 5)
    assert (stored == model.layers[0].weight_raw).all()


def test_a_changed_word_changes_the_weights_hash_but_not_the_structure_hash():
    model = random_model()
    words = model.memory()
    words[-1] += 1
    changed = model.with_memory(words)
    assert changed.structure_hash == model.structure_hash
    assert changed.weights_hash != model.weights_hash
    assert changed.score_stage.threshold_raw == model.score_stage.threshold_raw + 1
    assert (changed.memory() == words).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: replace(m, name="other"),
        lambda m: replace(m, contract_hash="other"),
        lambda m: replace(m, input_names=tuple(reversed(m.input_names))),
        lambda m: replace(m, score_stage=ScoreStage("sum_of_squares", FixedFormat.parse("ufixed<18,14>"), 0)),
        lambda m: replace(m, layers=(replace(m.layers[0], activation="linear"), *m.layers[1:])),
        lambda m: replace(m, layers=(replace(m.layers[0], result_format=OTHER), *m.layers[1:])),
        lambda m: replace(m, input_stage=replace(m.input_stage, offset_format=OTHER)),
    ],
)  # fmt: skip
def test_whatever_is_not_a_parameter_changes_the_structure_hash(change):
    model = random_model()
    assert change(model).structure_hash != model.structure_hash


def test_a_word_off_the_grid_is_refused_with_segment_and_index():
    model = random_model()
    words = model.memory()
    words[model.segment("dense2.bias").start + 1] = 40_000
    with pytest.raises(OffGridError, match=r"dense2\.bias\[1\] = 40000 is outside fixed<16,4,RND,SAT>"):
        model.with_memory(words)


@pytest.mark.parametrize("words", [np.zeros(3, np.int32), np.zeros(random_model().n_words)])
def test_a_memory_of_the_wrong_size_or_type_is_refused(words):
    with pytest.raises(ModelError, match="integer words"):
        random_model().with_memory(words)


def test_a_model_survives_its_file_and_equal_models_have_equal_bytes():
    model = random_model()
    content = model.to_npz_bytes()
    again = FirmwareModel.from_npz_bytes(content)
    assert (again.structure_hash, again.weights_hash) == (model.structure_hash, model.weights_hash)
    assert again.to_npz_bytes() == random_model().to_npz_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a zip",
        random_model().to_npz_bytes()[:-200],
        zip_bytes(
            {"structure.npy": npy_bytes(np.frombuffer(b"{}", np.uint8)), "memory.npy": npy_bytes(np.zeros(1))}
        ),
        zip_bytes(
            {
                "structure.npy": npy_bytes(np.frombuffer(b"[1]", np.uint8)),
                "memory.npy": npy_bytes(np.zeros(1)),
            }
        ),
        zip_bytes({"../structure.npy": b""}),
    ],
    ids=["empty", "no zip", "truncated", "no keys", "no object", "traversal"],
)
def test_what_is_no_model_file_is_refused(content):
    with pytest.raises(ModelError, match="not a firmware model"):
        FirmwareModel.from_npz_bytes(content)


def test_a_python_object_in_a_model_file_is_never_loaded():
    model = random_model()
    evil = np.array([{"a": 1}], dtype=object)
    buffer = io.BytesIO()
    np.save(buffer, evil, allow_pickle=True)
    structure = npy_bytes(np.frombuffer(str(model.structure()).encode(), np.uint8))
    with pytest.raises(ModelError):
        FirmwareModel.from_npz_bytes(zip_bytes({"structure.npy": structure, "memory.npy": buffer.getvalue()}))


def test_parameters_cannot_be_changed_in_place():
    model = random_model()
    with pytest.raises(ValueError, match="read-only"):
        model.layers[0].weight_raw[0, 0] = 1


def test_layers_that_do_not_fit_are_refused():
    model = random_model()
    with pytest.raises(ModelError, match="dense2 takes 5 inputs"):
        replace(model, layers=(random_model((6, 7)).layers[0], *model.layers[1:]))
    with pytest.raises(ModelError, match="names 5 inputs"):
        replace(model, input_names=model.input_names[:-1])
    with pytest.raises(ModelError, match="twice"):
        replace(model, layers=(model.layers[0], replace(model.layers[1], name="dense1"), model.layers[2]))
    with pytest.raises(ModelError, match="at least one"):
        replace(model, layers=())


def test_a_sum_that_could_not_be_exact_is_refused():
    wide = FixedFormat.parse("fixed<40,20>")
    model = random_model((6, 3))
    layer = model.layers[0]
    with pytest.raises(ModelError, match="narrower"):
        replace(
            model,
            layers=(replace(layer, weight_format=wide, bias_format=wide),),
            input_stage=replace(model.input_stage, result_format=wide),
        )


@pytest.mark.parametrize("name", ["Dense", "input", "a-b", "", "x" * 40, "int main"])
def test_a_layer_name_that_is_no_identifier_is_refused(name):
    layer = random_model().layers[0]
    with pytest.raises(ModelError, match="cannot name a layer"):
        replace(layer, name=name)


def test_floating_point_parameters_are_refused():
    fmt = FixedFormat.parse("fixed<16,4>")
    with pytest.raises(ModelError, match="raw integers"):
        DenseLayer("dense1", np.zeros((2, 2)), np.zeros(2, int), fmt, fmt, "relu", fmt)


def test_a_model_with_constants_and_partitions_survives_its_file():
    model = random_model()
    constants = ("dense2.weight", "dense1.weight", "dense1.bias")
    laid_out = replace(model, layout=Layout("da4ml", "part", constants, (1, 2)))
    again = FirmwareModel.from_npz_bytes(laid_out.to_npz_bytes())
    assert again.layout == laid_out.layout
    assert again.structure() == laid_out.structure()
    assert (again.parameters() == model.parameters()).all()
    assert again.n_words == model.n_words - sum(model.segment(name).words for name in constants)


def test_partitions_share_the_memory_without_gaps():
    model = replace(random_model(), layout=Layout(constants=("dense2.bias",), cuts=(1, 2)))
    parts = model.partitions()
    assert [part.start for part in parts] == [0, parts[0].stop, parts[1].stop]
    assert parts[-1].stop == model.n_words
    assert [s.name for part in parts for s in part.segments()] == [s.name for s in model.segments()]


def test_layouts_that_cannot_be_are_refused():
    with pytest.raises(ModelError, match=r"no segment 'dense9\.weight'"):
        replace(random_model(), layout=Layout(constants=("dense9.weight",)))
    with pytest.raises(ModelError, match="cannot begin at layer 3"):
        replace(random_model(), layout=Layout(cuts=(3,)))
    for cuts in ((0,), (2, 1), (1, 1)):
        with pytest.raises(ModelError, match="rising indices"):
            Layout(cuts=cuts)


def test_the_value_of_a_constant_is_structure_and_not_weights():
    model = replace(random_model(), layout=Layout(constants=("dense1.bias",)))
    words = model.parameters()
    words[model.segment("dense1.bias").start] += 1
    other = model.with_parameters(words)
    assert other.structure_hash != model.structure_hash
    assert (other.weights_hash, other.shell_hash) == (model.weights_hash, model.shell_hash)
