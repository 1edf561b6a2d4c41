"""Boosted trees from training libraries, as integer trees over input codes.

XGBoost's own JSON is read directly; everything else goes through conifer's converters (scikit-learn, TMVA,
ONNX, Yggdrasil). A real threshold becomes the integer code that splits the codes in the same way, so the way
of an event is exact; only leaf values are rounded. Refuses to know any training library's Python package.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.errors import ModelError
from hw.fixed_point import FixedFormat, quantise
from hw.stages import INPUT_FORMAT
from hw.trees import LEAF, Tree, TreeModel

_CONIFER_LEAF = -2
_LOGISTIC = frozenset({"reg:logistic", "binary:logistic", "binary:logitraw"})
"""Objectives whose base score is a probability."""
_IDENTITY = frozenset(
    {"reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:quantileerror", "binary:hinge"}
)
"""Objectives whose base score is where the sum starts from."""


@dataclass(frozen=True, slots=True)
class TreeTarget:
    """What a training library does not know about the firmware.

    Parameters
    ----------
    name, contract_hash, input_names
        As in `TreeModel`.
    value_format, score_format
        As in `TreeModel`; leaf values are rounded as `value_format` says.
    threshold
        Threshold of the score, a real number.
    input_offset, input_scale
        The trees were trained on `float32((code - offset) * scale)`: one number or one per input, scales
        above zero.
    """

    name: str
    contract_hash: str
    input_names: tuple[str, ...]
    value_format: FixedFormat
    score_format: FixedFormat
    threshold: float
    input_offset: float | Sequence[float] = 0.0
    input_scale: float | Sequence[float] = 1.0

    def affine(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Give offset and scale of every input: float64, (n_inputs,) each.

        Raises
        ------
        ModelError
            When a scale is not above zero or their number is wrong.
        """
        count = len(self.input_names)
        try:
            offset = np.broadcast_to(np.asarray(self.input_offset, dtype=np.float64), count)
            scale = np.broadcast_to(np.asarray(self.input_scale, dtype=np.float64), count)
        except ValueError as error:
            raise ModelError(f"model {self.name} needs {count} input offsets and scales: {error}") from error
        if not (np.isfinite(offset).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise ModelError(f"model {self.name}: input scales must be finite and above zero")
        return offset, scale


def from_xgboost_json(content: bytes | str, target: TreeTarget) -> TreeModel:
    """Read what XGBoost's `Booster.save_model("model.json")` wrote.

    Parameters
    ----------
    content
        The file.
    target
        What the firmware needs beside it.

    Raises
    ------
    ModelError
        When it is anything else, has several outputs, categories, or a booster other than gbtree.
    """
    try:
        learner = json.loads(content)["learner"]
        booster, parameters = learner["gradient_booster"], learner["learner_model_param"]
        if booster["name"] != "gbtree":
            raise ModelError(f"the booster {booster['name']} has no firmware: train with booster=gbtree")
        if int(parameters.get("num_class", 0)) > 1 or int(parameters.get("num_target", 1)) > 1:
            raise ModelError("the model has several outputs: train one with a single output")
        if int(parameters["num_feature"]) > len(target.input_names):
            raise ModelError(
                f"the model has {parameters['num_feature']} features, the contract {len(target.input_names)} "
                "inputs: use one contract for both"
            )
        base = _base_score(
            float(np.ravel(json.loads(str(parameters["base_score"])))[0]), learner["objective"]["name"]
        )
        trees = [_xgboost_tree(tree, target) for tree in booster["model"]["trees"]]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"this is not XGBoost's JSON ({error!r}): use Booster.save_model('model.json')"
        ) from error
    return _model(trees, base, target)


def from_conifer(model: Any, target: TreeTarget) -> TreeModel:
    """Read a model of conifer.

    Parameters
    ----------
    model
        What `conifer.converters.convert_from_...` gave, or the same as a dictionary, as in conifer's JSON.
    target
        What the firmware needs beside it.

    Raises
    ------
    ModelError
        When it is anything else, has several outputs or oblique splits.
    """
    try:
        ensemble = _mapping(model)
        strict = {"<": True, "<=": False}[ensemble.get("splitting_convention", "<=")]
        if any(len(group) != 1 for group in ensemble["trees"]):
            raise ModelError("the model has several outputs: train one with a single output")
        norm = float(ensemble["norm"])
        trees = [_conifer_tree(_mapping(group[0]), norm, strict, target) for group in ensemble["trees"]]
        base = float(np.ravel(ensemble["init_predict"])[0]) * norm
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"this is not a model of conifer ({error!r}): use its converters") from error
    return _model(trees, base, target)


def _model(trees: Iterable[Tree], base: float, target: TreeTarget) -> TreeModel:
    if not np.isfinite(base):
        raise ModelError(f"model {target.name} starts from {base}: train it with another base score")
    return TreeModel(
        name=target.name,
        contract_hash=target.contract_hash,
        input_names=target.input_names,
        trees=tuple(trees),
        value_format=target.value_format,
        score_format=target.score_format,
        threshold_raw=int(quantise(target.threshold, target.score_format)),
        initial_raw=int(quantise(base, target.value_format)),
    )


def _mapping(item: Any) -> Mapping[str, Any]:
    return item if isinstance(item, Mapping) else vars(item)


def _base_score(given: float, objective: str) -> float:
    """Turn XGBoost's base score into what the sum starts from."""
    if objective in _IDENTITY:
        return given
    if objective not in _LOGISTIC:
        raise ModelError(
            f"the objective {objective} has no firmware: train with binary:logistic or reg:squarederror"
        )
    if not 0 < given < 1:
        raise ModelError(f"the base score {given} is no probability: get the model again from its source")
    return float(np.log(given) - np.log1p(-given))


def _xgboost_tree(tree: Mapping[str, Any], target: TreeTarget) -> Tree:
    if any(tree.get("split_type", ())) or any(tree.get("categories", ())):
        raise ModelError("the model splits by categories: encode them as numbers and train again")
    left = np.asarray(tree["left_children"], dtype=np.int64)
    # XGBoost computes in float32: its decimal text must land on the same number
    real = np.asarray(tree["split_conditions"], dtype=np.float32).astype(np.float64)
    feature = np.where(left == LEAF, LEAF, np.asarray(tree["split_indices"], dtype=np.int64))
    right = np.asarray(tree["right_children"], dtype=np.int64)
    return _tree(feature, real, left, right, real, target, strict=True)


def _conifer_tree(tree: Mapping[str, Any], norm: float, strict: bool, target: TreeTarget) -> Tree:
    feature = np.asarray(tree["feature"], dtype=np.int64)
    for node, weights in enumerate(tree.get("weight", ())):
        if feature[node] >= 0 and list(np.flatnonzero(weights)) not in ([], [feature[node]]):
            raise ModelError("the model has oblique splits: train one that compares single inputs")
    return _tree(
        np.where(feature == _CONIFER_LEAF, LEAF, feature),
        np.asarray(tree["threshold"], dtype=np.float64),
        np.asarray(tree["children_left"], dtype=np.int64),
        np.asarray(tree["children_right"], dtype=np.int64),
        np.asarray(tree["value"], dtype=np.float64) * norm,
        target,
        strict=strict,
    )


def _codes(
    threshold: npt.NDArray[np.float64], feature: npt.NDArray[np.int64], target: TreeTarget, *, strict: bool
) -> npt.NDArray[np.float64]:
    """Find the highest code that goes left of each threshold; many lie right on a value of the training."""
    offset, scale = (each[feature] for each in target.affine())
    near = np.floor(threshold / scale + offset)
    if np.isnan(near).any():
        raise ModelError(f"model {target.name} has a threshold that is no number: train it again")
    near = np.clip(near, INPUT_FORMAT.raw_minimum - 8.0, INPUT_FORMAT.raw_maximum + 8.0)
    candidates = near[:, None] + np.arange(-2.0, 3.0)
    trained_on = ((candidates - offset[:, None]) * scale[:, None]).astype(np.float32).astype(np.float64)
    limit = threshold[:, None]
    left = trained_on < limit if strict else trained_on <= limit
    return np.asarray(near - 3.0 + left.sum(axis=1))


def _tree(
    feature: npt.NDArray[np.int64],
    threshold: npt.NDArray[np.float64],
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
    value: npt.NDArray[np.float64],
    target: TreeTarget,
    *,
    strict: bool,
) -> Tree:
    """Turn thresholds into codes and put nodes behind their parents; a split all codes pass is left out."""
    codes = np.zeros(len(feature))
    inner = feature != LEAF
    codes[inner] = _codes(threshold[inner], feature[inner], target, strict=strict)

    def skip(node: int) -> int:
        """Follow splits that send every code the same way."""
        for _ in range(len(feature)):
            if feature[node] == LEAF or INPUT_FORMAT.raw_minimum <= codes[node] < INPUT_FORMAT.raw_maximum:
                return node
            node = int(right[node] if codes[node] < INPUT_FORMAT.raw_minimum else left[node])
        raise ModelError(f"model {target.name} has a tree with a loop: get it again from its source")

    order, children = [skip(0)], []
    for node in order:  # grows while it is read: breadth first
        if feature[node] == LEAF:
            children.append((LEAF, LEAF))
            continue
        if len(order) > len(feature):
            raise ModelError(f"model {target.name} has a tree with a loop: get it again from its source")
        children.append((len(order), len(order) + 1))
        order += [skip(int(left[node])), skip(int(right[node]))]
    nodes = np.array(order)
    leaf = feature[nodes] == LEAF
    values = np.where(leaf, value[nodes], 0.0)
    return Tree(
        feature=feature[nodes],
        threshold=np.where(leaf, 0, codes[nodes]).astype(np.int64),
        left=np.array([pair[0] for pair in children]),
        right=np.array([pair[1] for pair in children]),
        value=quantise(values, target.value_format),
    )
