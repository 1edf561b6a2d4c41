"""Small boosted-tree models for tests."""

import numpy as np

from hw.fixed_point import FixedFormat, quantise
from hw.trees import LEAF, Tree, TreeModel

VALUE = FixedFormat.parse("fixed<14,3,RND,SAT>")
SCORE = FixedFormat.parse("fixed<12,4,RND,SAT>")


def random_tree(depth, n_inputs, rng, value_format=VALUE) -> Tree:
    """Give one tree with some early leaves, its nodes in depth-first order."""
    nodes = []

    def grow(level):
        index = len(nodes)
        nodes.append(None)
        if level == 0 or (level < depth and rng.random() < 0.2):
            value = int(quantise(rng.normal(0, 0.5), value_format))
            nodes[index] = (LEAF, 0, LEAF, LEAF, value)
            return index
        feature, threshold = int(rng.integers(n_inputs)), int(rng.integers(-120, 120))
        nodes[index] = (feature, threshold, grow(level - 1), grow(level - 1), 0)
        return index

    grow(depth)
    return Tree(*np.array(nodes).T)


def random_tree_model(
    *, n_trees=6, depth=3, n_inputs=4, seed=1, value_format=VALUE, score_format=SCORE, threshold=0.25
) -> TreeModel:
    """Give a tree model with plausible random parameters; the last of several trees is a lone leaf."""
    rng = np.random.default_rng(seed)
    trees = [random_tree(depth, n_inputs, rng, value_format) for _ in range(n_trees)]
    if n_trees > 1:
        trees[-1] = Tree([LEAF], [0], [LEAF], [LEAF], [5])
    return TreeModel(
        name="boosted",
        contract_hash="c0ffee",
        input_names=tuple(f"object[{i}].pt" for i in range(n_inputs)),
        trees=tuple(trees),
        value_format=value_format,
        score_format=score_format,
        threshold_raw=int(quantise(threshold, score_format)),
        initial_raw=int(quantise(-0.125, value_format)),
    )
