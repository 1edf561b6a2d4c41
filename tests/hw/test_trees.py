from dataclasses import replace

import numpy as np
import pytest

from hw.errors import ModelError, OffGridError
from hw.fixed_point import FixedFormat
from hw.layout import Layout
from hw.tree_emulator import TreeEmulator
from hw.trees import LEAF, Tree, TreeModel
from tests.support.hw import corner_inputs, random_inputs
from tests.support.trees import random_tree_model

STUMP = {
    "feature": [0, LEAF, LEAF],
    "threshold": [7, 0, 0],
    "left": [1, LEAF, LEAF],
    "right": [2, LEAF, LEAF],
}


def walk(model, codes):
    """Score one event the slow way."""
    total = model.initial_raw
    for tree in model.trees:
        node = 0
        while tree.feature[node] != LEAF:
            left = codes[tree.feature[node]] <= tree.threshold[node]
            node = (tree.left if left else tree.right)[node]
        total += tree.value[node]
    return total


def test_the_emulator_walks_every_tree_to_the_right_leaf():
    model = random_tree_model()
    inputs = np.concatenate([random_inputs(400, 4, low=-200, high=200), corner_inputs(4)])
    sums = TreeEmulator(model).outputs(inputs)[:, 0]
    assert sums.tolist() == [walk(model, codes) for codes in inputs]
    assert len(np.unique(sums)) > 20


def test_a_code_on_the_threshold_goes_left():
    tree = Tree(**STUMP, value=[0, 3, -4])
    model = replace(random_tree_model(n_inputs=1, n_trees=1), trees=(tree,), initial_raw=0)
    inputs = np.array([[6], [7], [8]], dtype=np.int16)
    assert TreeEmulator(model).outputs(inputs)[:, 0].tolist() == [3, 3, -4]


def test_the_sum_is_rounded_once_into_the_score():
    # 11 fraction bits become 8: the ties are at 4 eighths
    tree = Tree(**STUMP, value=[0, 12, -12])
    model = random_tree_model(n_inputs=1, n_trees=1)
    inputs = np.array([[0], [8]], dtype=np.int16)
    for rounding, expected in (("RND", [2, -1]), ("RND_CONV", [2, -2]), ("TRN", [1, -2])):
        score = FixedFormat.parse(f"fixed<12,4,{rounding},SAT>")
        each = replace(model, trees=(tree,), score_format=score, initial_raw=0, threshold_raw=1)
        scores, accepts = TreeEmulator(each).run(inputs)
        assert scores.tolist() == expected
        assert accepts.tolist() == [expected[0] > 1, False]


def test_a_partition_gives_sum_score_and_decision():
    model = random_tree_model()
    inputs = random_inputs(100, 4)
    emulator = TreeEmulator(model)
    answers = emulator.partition(0, inputs.astype(np.int64))
    partition = model.partitions()[0]
    assert answers.shape == (100, partition.n_outputs)
    assert (answers[:, 0] == emulator.outputs(inputs)[:, 0]).all()
    assert (answers[:, 1] == emulator.scores(inputs)).all()
    assert (answers[:, 2] == emulator.accepts(inputs)).all()
    assert partition.result_format.holds(answers[:, 0]).all()


def test_inputs_of_another_shape_or_type_are_refused():
    emulator = TreeEmulator(random_tree_model())
    with pytest.raises(ModelError, match=r"int16 inputs of the shape \(n, 4\)"):
        emulator.run(np.zeros((3, 5), np.int16))
    with pytest.raises(ModelError, match="int16"):
        emulator.run(np.zeros((3, 4), np.int32))


def test_the_threshold_alone_is_loadable():
    model = random_tree_model()
    other = model.with_memory([17])
    assert other.threshold_raw == 17
    assert other.structure_hash == model.structure_hash
    assert other.weights_hash != model.weights_hash
    assert [segment.name for segment in model.segments()] == ["score.threshold"]
    with pytest.raises(OffGridError, match=r"score\.threshold"):
        model.with_memory([5000])
    with pytest.raises(ModelError, match="needs 1 integer word"):
        model.with_memory([1, 2])


def test_a_changed_leaf_is_another_structure_in_the_same_hole():
    model = random_tree_model()
    changed = replace(model.trees[0], value=np.where(model.trees[0].feature == LEAF, 1, 0))
    other = replace(model, trees=(changed, *model.trees[1:]))
    assert other.structure_hash != model.structure_hash
    assert other.shell_hash == model.shell_hash
    assert other.partitions()[0].interface_hash == model.partitions()[0].interface_hash


def test_a_model_survives_its_file():
    model = replace(random_tree_model(), layout=Layout("conifer", "xc7"))
    again = TreeModel.from_npz_bytes(model.to_npz_bytes())
    assert again.structure() == model.structure()
    assert again.memory().tolist() == model.memory().tolist()
    assert again.to_npz_bytes() == model.to_npz_bytes()
    inputs = random_inputs(50, 4)
    assert (TreeEmulator(again).scores(inputs) == TreeEmulator(model).scores(inputs)).all()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b'{"kind": "trees"}'])
def test_a_file_of_another_kind_is_refused(content):
    with pytest.raises(ModelError, match="not a tree model"):
        TreeModel.from_npz_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"left": [1, LEAF, 1]}, "leaves are the nodes"),
        ({"right": [1, LEAF, LEAF]}, "one parent"),
        ({"left": [0, LEAF, LEAF]}, "one parent"),
        ({"threshold": [7, 1, 0]}, "thresholds at its inner nodes"),
        ({"threshold": [7, 0]}, "differ in length"),
        ({"threshold": [7.5, 0, 0]}, "integers"),
    ],
)
def test_what_is_no_tree_is_refused(change, message):
    with pytest.raises(ModelError, match=message):
        Tree(**{**STUMP, "value": [0, 1, 2], **change})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"trees": ()}, ModelError, "no tree"),
        ({"input_names": ("only one",)}, ModelError, "an input that the model does not have"),
        ({"value_format": FixedFormat(4, 1)}, OffGridError, "tree 0 value"),
        ({"score_format": FixedFormat(40, 4)}, ModelError, "must fit the board's 31 bits"),
        ({"threshold_raw": 1 << 20}, OffGridError, "score.threshold"),
        ({"layout": Layout(cuts=(1,))}, ModelError, "one partition"),
    ],
)
def test_a_model_that_contradicts_itself_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        replace(random_tree_model(), **change)
