"""One decision tree as flat integer arrays, and what makes such arrays a tree.

Refuses to know how trees are added up and what their numbers stand for.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from hw.errors import ModelError
from hw.stages import Raw

LEAF = -1
"""What stands at a leaf in place of a feature or a child."""


@dataclass(frozen=True, eq=False)
class Tree:
    """One tree: an event goes left where `code[feature] <= threshold`. Node 0 is the root.

    Parameters
    ----------
    feature
        int, (n_nodes,), index of the input; `LEAF` at a leaf.
    threshold
        int, (n_nodes,), an int16 code; 0 at a leaf.
    left, right
        int, (n_nodes,), children, each behind its parent; `LEAF` at a leaf.
    value
        int, (n_nodes,), raw leaf value in the model's `value_format`; 0 elsewhere.

    Raises
    ------
    ModelError
        When this is not one tree.
    """

    feature: Raw
    threshold: Raw
    left: Raw
    right: Raw
    value: Raw

    def __post_init__(self) -> None:
        for item in fields(self):
            given = np.asarray(getattr(self, item.name))
            if given.ndim != 1 or not given.size or given.dtype.kind not in "iu":
                raise ModelError(f"a tree's {item.name} must be flat, non-empty integers, not {given.dtype}")
            raw = np.array(given, dtype=np.int64)
            raw.setflags(write=False)
            object.__setattr__(self, item.name, raw)
        count = self.feature.size
        if any(getattr(self, item.name).size != count for item in fields(self)):
            raise ModelError(f"a tree's arrays differ in length: each node needs one entry in all {count}")
        leaves = self.feature == LEAF
        if ((self.left == LEAF) != leaves).any() or ((self.right == LEAF) != leaves).any():
            raise ModelError("a tree's leaves are the nodes without feature and children, no others")
        parents = np.flatnonzero(~leaves)
        children = np.concatenate([self.left[parents], self.right[parents]])
        if (children <= np.tile(parents, 2)).any() or sorted(children) != list(range(1, count)):
            raise ModelError("a tree's nodes must each have one parent, which comes before them")
        if self.value[parents].any() or self.threshold[leaves].any():
            raise ModelError("a tree has thresholds at its inner nodes and values at its leaves, 0 elsewhere")

    @property
    def n_nodes(self) -> int:
        """Number of nodes, leaves included."""
        return int(self.feature.size)

    @cached_property
    def depth(self) -> int:
        """Most comparisons on a way to a leaf."""
        levels = np.zeros(self.n_nodes, dtype=np.int64)
        for node in np.flatnonzero(self.feature != LEAF):
            levels[[self.left[node], self.right[node]]] = levels[node] + 1
        return int(levels.max())
