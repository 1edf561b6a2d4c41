"""What a boosted-tree firmware must answer, computed with NumPy: the oracle of its bench.

All trees walk down together, one level per step. Refuses to know C++ and boards.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hw.errors import ModelError
from hw.fixed_point import requantise
from hw.trees import LEAF, TreeModel

_CHUNK = 4096
"""Events per step: the table of (event, tree) positions stays inside the processor's cache."""


class TreeEmulator:
    """Evaluates a tree model on integers, bit by bit as the firmware does.

    Parameters
    ----------
    model
        The model.

    Examples
    --------
    >>> scores, accepts = TreeEmulator(model).run(inputs)  # doctest: +SKIP
    """

    def __init__(self, model: TreeModel) -> None:
        self.model = model
        sizes = [tree.n_nodes for tree in model.trees]
        self._roots = np.cumsum([0, *sizes[:-1]])
        feature, left, right = [], [], []
        for root, tree in zip(self._roots, model.trees, strict=True):
            leaf, here = tree.feature == LEAF, np.arange(tree.n_nodes)
            feature.append(np.where(leaf, 0, tree.feature))
            left.append(root + np.where(leaf, here, tree.left))  # a leaf leads to itself
            right.append(root + np.where(leaf, here, tree.right))
        self._feature, self._left, self._right = (np.concatenate(part) for part in (feature, left, right))
        self._threshold = np.concatenate([tree.threshold for tree in model.trees])
        self._value = np.concatenate([tree.value for tree in model.trees])

    def run(self, inputs: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Score events.

        Parameters
        ----------
        inputs
            int16, (n, n_inputs).

        Returns
        -------
        tuple
            Raw scores, int64 (n,), and decisions, bool (n,).

        Raises
        ------
        ModelError
            When the inputs have another shape or type.
        """
        scores = self.scores(inputs)
        return scores, np.asarray(scores > self.model.threshold_raw)

    def scores(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Compute the raw scores, int64 (n,); raises as `run` does."""
        sums = self.outputs(inputs)[:, 0]
        return requantise(sums, self.model.value_format.fraction, self.model.score_format)

    def accepts(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
        """Compute the decisions, `score > threshold`: bool, (n,); raises as `run` does."""
        return self.run(inputs)[1]

    def outputs(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Compute the exact sums, int64 (n, 1), raw in the model's `sum_format`; raises as `run` does."""
        if inputs.ndim != 2 or inputs.shape[1] != self.model.n_inputs or inputs.dtype != np.int16:
            raise ModelError(
                f"model {self.model.name} takes int16 inputs of the shape (n, {self.model.n_inputs}), "
                f"not {inputs.dtype} {inputs.shape}"
            )
        sums = np.empty((len(inputs), 1), dtype=np.int64)
        for start in range(0, len(inputs), _CHUNK):
            codes = inputs[start : start + _CHUNK]
            sums[start : start + _CHUNK, 0] = self._value[self._leaves(codes)].sum(axis=1)
        return sums + self.model.initial_raw

    def partition(self, index: int, values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Compute the one partition as its image does: int64, (n, 3), sum, score and decision.

        Parameters
        ----------
        index
            0.
        values
            int64, (n, n_inputs), codes.

        Raises
        ------
        ModelError
            When there is no such partition or the values are no codes.
        """
        source = self.model.partitions()[0].source_format
        if index != 0 or values.dtype != np.int64 or not source.holds(values).all():
            raise ModelError(
                f"model {self.model.name} has one partition, p0, which takes int64 codes of 16 bits"
            )
        inputs = values.astype(np.int16)
        scores, accepts = self.run(inputs)
        return np.column_stack([self.outputs(inputs), scores, accepts])

    def _leaves(self, codes: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        rows = np.arange(len(codes))[:, None]
        nodes = np.broadcast_to(self._roots, (len(codes), len(self._roots)))
        for _ in range(self.model.depth):
            below = codes[rows, self._feature[nodes]] <= self._threshold[nodes]
            nodes = np.where(below, self._left[nodes], self._right[nodes])
        return np.asarray(nodes)
