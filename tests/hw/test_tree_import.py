import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hw.errors import ModelError
from hw.fixed_point import FixedFormat
from hw.tree_emulator import TreeEmulator
from hw.tree_import import TreeTarget, from_conifer, from_xgboost_json
from hw.trees import LEAF

# written by XGBoost 3.2: four trees of depth 2, binary:logistic, and the margins it predicts
XGBOOST = (Path(__file__).parent / "xgboost.json").read_text()
EVENTS = [
    [0, 0, 0, 0], [17, -23, 0, 0], [16, -24, 5, 5], [18, -27, -50, 9],
    [200, -200, 200, -200], [-200, 200, -200, 200], [19, -51, -9, 0], [18, -52, -10, 1],
]  # fmt: skip
MARGINS = [2.41572237, -0.34227639, -0.25469333, -0.34227639, 2.29231024, 2.41572237, 0.47592598, 0.11488873]

FINE = FixedFormat.parse("fixed<28,6,RND,SAT>")
TARGET = TreeTarget("boosted", "c0ffee", ("a", "b", "c", "d"), FINE, FINE, threshold=0.5)

STUMP = {
    "feature": [0, -2, -2],
    "threshold": [7.0, 0.0, 0.0],
    "children_left": [1, -1, -1],
    "children_right": [2, -1, -1],
    "value": [0.0, 1.0, 2.0],
}


def ensemble(*trees, **changes):
    return {
        "trees": [[tree] for tree in trees],
        "norm": 1.0,
        "init_predict": [0.0],
        "splitting_convention": "<=",
        **changes,
    }


def first_threshold(tree, target=TARGET, **changes):
    return int(from_conifer(ensemble(tree, **changes), target).trees[0].threshold[0])


def changed(change):
    """Give XGBoost's file with one entry changed: a path of keys, and the new value."""
    *path, key, value = change
    content = json.loads(XGBOOST)
    at = content
    for step in path:
        at = at[step]
    at[key] = value
    return json.dumps(content)


def test_xgboosts_own_margins_come_out():
    model = from_xgboost_json(XGBOOST, TARGET)
    scores, accepts = TreeEmulator(model).run(np.array(EVENTS, dtype=np.int16))
    assert scores * 2.0**-22 == pytest.approx(MARGINS, abs=2e-6)
    assert accepts.tolist() == [margin > 0.5 for margin in MARGINS]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("learner", "gradient_booster", "name", "dart"), "booster dart"),
        (("learner", "learner_model_param", "num_class", "3"), "several outputs"),
        (("learner", "learner_model_param", "num_feature", "9"), "9 features, the contract 4 inputs"),
        (("learner", "objective", "name", "reg:gamma"), "objective reg:gamma"),
        (("learner", "learner_model_param", "base_score", "1.5"), "no probability"),
        (("learner", "gradient_booster", "model", "trees", 0, "split_type", [1]), "categories"),
        (("learner", "gradient_booster", "model", "trees", 0, "left_children", 0, 0), "loop"),
        (("learner", "gradient_booster", "model", "trees", None), "not XGBoost's JSON"),
    ],
)
def test_what_has_no_firmware_is_refused(change, message):
    with pytest.raises(ModelError, match=message):
        from_xgboost_json(changed(change), TARGET)


@pytest.mark.parametrize("content", ["", "[1]", "{}", "[" * 100_000])
def test_another_file_is_refused(content):
    with pytest.raises(ModelError, match="not XGBoost's JSON"):
        from_xgboost_json(content, TARGET)


def test_a_real_threshold_splits_the_codes_as_it_did_in_training():
    for real, at_most, below in ((7.0, 7, 6), (7.5, 7, 7), (-7.5, -8, -8), (-7.0, -7, -8)):
        tree = {**STUMP, "threshold": [real, 0.0, 0.0]}
        assert first_threshold(tree) == at_most
        assert first_threshold(tree, splitting_convention="<") == below


def test_a_threshold_on_a_scaled_value_is_not_lost_in_rounding():
    # trained on float32((code - 7) * 0.0123): each threshold lies exactly on the value of a code
    target = replace(TARGET, input_offset=7.0, input_scale=0.0123)
    for code in range(-300, 300, 7):
        value = float(np.float32((code - 7.0) * 0.0123))
        tree = {**STUMP, "threshold": [value, 0.0, 0.0]}
        assert first_threshold(tree, target) == code
        assert first_threshold(tree, target, splitting_convention="<") == code - 1


def test_a_split_that_all_codes_pass_is_left_out():
    for real, value in ((1e9, 1.0), (-1e9, 2.0), (np.inf, 1.0), (-np.inf, 2.0), (32767.0, 1.0)):
        model = from_conifer(ensemble({**STUMP, "threshold": [real, 0.0, 0.0]}), TARGET)
        assert model.trees[0].feature.tolist() == [LEAF]
        assert model.trees[0].value[0] == value * 2**22


def test_norm_and_initial_value_enter():
    model = from_conifer(ensemble(STUMP, norm=0.5, init_predict=[3.0]), TARGET)
    scores = TreeEmulator(model).scores(np.array([[0, 0, 0, 0], [8, 0, 0, 0]], dtype=np.int16))
    assert (scores * 2.0**-22).tolist() == [2.0, 2.5]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ensemble(STUMP, trees=[[STUMP, STUMP]]), "several outputs"),
        (ensemble({**STUMP, "weight": [[1.0, 0.5, 0, 0], [0] * 4, [0] * 4]}), "oblique"),
        (ensemble({**STUMP, "threshold": [float("nan"), 0, 0]}), "no number"),
        (ensemble({**STUMP, "children_left": [0, -1, -1]}), "loop"),
        (ensemble(STUMP, splitting_convention=">"), "not a model of conifer"),
        ({}, "not a model of conifer"),
    ],
)
def test_models_of_conifer_without_firmware_are_refused(model, message):
    with pytest.raises(ModelError, match=message):
        from_conifer(model, TARGET)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), [1.0, 2.0]])
def test_a_scale_that_turns_the_codes_around_is_refused(scale):
    with pytest.raises(ModelError, match="scale"):
        from_conifer(ensemble(STUMP), replace(TARGET, input_scale=scale))
