"""Counting of 57 int16 columns with under- and overflow, against what numpy and boost-histogram take.

All three run in one thread and give the same counts, which is checked. boost-histogram fills integer axes
with 64-bit integer storage, its fastest.
"""

import boost_histogram as bh
import numpy as np

from streams.counting.fill import fill_columns, plan_fill
from streams.counting.layout import fill, layout_of
from tests.benchmarks.events import BATCH_EVENTS, even_inputs, example_contract, sparse_inputs
from tests.benchmarks.row import Row, best_cpu_seconds

NS = 1e9


def by_numpy(columns, layout):
    """Flow bins first and last, as in the layout."""
    parts = [
        np.bincount(np.clip(column, low - 1, high + 1) - np.int16(low - 1), minlength=high - low + 3)
        for column, low, high in zip(columns, layout.minimums, layout.maximums, strict=True)
    ]
    return np.concatenate(parts)


def boost_axes(layout):
    return [
        bh.Histogram(bh.axis.Integer(low, high + 1), storage=bh.storage.Int64())
        for low, high in zip(layout.minimums, layout.maximums, strict=True)
    ]


def by_boost(columns, axes):
    for axis, column in zip(axes, columns, strict=True):
        axis.fill(column)


def _rows(contract, kind, inputs, repeats):
    layout = layout_of(contract)
    paddings = [spec.padding for spec in contract.inputs]
    plan = plan_fill(layout.minimums, layout.maximums, paddings)
    middles = [(low + high) // 2 for low, high in zip(layout.minimums, layout.maximums, strict=True)]
    pairing = plan_fill(
        layout.minimums, layout.maximums, paddings, thresholds=middles, kinds=layout.pair_kinds
    )
    columns = inputs.T
    counts = fill_columns(inputs, plan).columns
    axes = boost_axes(layout)
    by_boost(columns, axes)
    if not np.array_equal(counts, by_numpy(columns, layout)):
        raise AssertionError("fill and numpy.bincount disagree")
    if not np.array_equal(counts, np.concatenate([axis.values(flow=True) for axis in axes]).astype(np.int64)):
        raise AssertionError("fill and boost-histogram disagree")
    score = np.arange(len(inputs), dtype=np.int32)
    per_value = NS / inputs.size
    ours = best_cpu_seconds(lambda: fill_columns(inputs, plan), repeats) * per_value
    paired = best_cpu_seconds(lambda: fill_columns(inputs, pairing), repeats) * per_value
    numpy_ns = best_cpu_seconds(lambda: by_numpy(columns, layout), repeats) * per_value
    boost_ns = best_cpu_seconds(lambda: by_boost(columns, axes), repeats) * per_value
    everything = best_cpu_seconds(lambda: fill(inputs, score, contract), repeats) * per_value
    name = f"{len(inputs)} x {inputs.shape[1]}, {kind}"
    return [
        Row(
            name=f"fill, {name}",
            value=ours,
            unit="ns/value",
            target="<= 0.7 ns/value",
            met=ours <= 0.7,
        ),
        Row(
            name=f"fill against numpy, {name}",
            value=ours,
            unit="ns/value",
            baseline="clip and numpy.bincount",
            baseline_value=numpy_ns,
            ratio=numpy_ns / ours,
            target=">= 5x",
            met=numpy_ns / ours >= 5,
        ),
        Row(
            name=f"fill against boost-histogram, {name}",
            value=ours,
            unit="ns/value",
            baseline="boost-histogram",
            baseline_value=boost_ns,
            ratio=boost_ns / ours,
            target=">= 20x",
            met=boost_ns / ours >= 20,
        ),
        Row(
            name=f"fill with {layout.n_pairs} pairs of columns, {name}",
            value=paired,
            unit="ns/value",
            baseline="without pairs",
            baseline_value=ours,
            ratio=paired / ours,
            target="<= 1.1x",
            met=paired / ours <= 1.1,
        ),
        Row(name=f"fill with maps and score, {name}", value=everything, unit="ns/value"),
    ]


def run(quick):
    """Measure batches and, unless quick, windows."""
    contract = example_contract()
    rows = []
    for n_events in (1000,) if quick else (BATCH_EVENTS, 200_000):
        repeats = 2 if quick else 40 if n_events == BATCH_EVENTS else 15
        for kind, make in (("objects missing", sparse_inputs), ("all codes alike", even_inputs)):
            rows += _rows(contract, kind, make(contract, n_events), repeats)
    return rows
