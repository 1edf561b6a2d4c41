"""The compiled counting gives exactly the counts of numpy, whatever the codes and however they lie."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.counting import fill_kernels
from streams.counting.fill import NO_PADDING, MapSlot, fill_columns, fill_octaves, plan_fill
from streams.counting.layout import N_SCORE_BINS, SCORE_STEPS_PER_OCTAVE, score_bins

LOWEST, HIGHEST = -(2**15), 2**15 - 1
CODES = st.one_of(
    st.integers(-40, 40), st.integers(LOWEST, HIGHEST), st.sampled_from([LOWEST, HIGHEST, 0, 0, 0])
)


def counted_by_numpy(column, low, high):
    bins = np.clip(column.astype(np.int64), low - 1, high + 1) - low + 1
    return np.bincount(bins, minlength=high - low + 3)


def map_by_numpy(inputs, slots):
    eta_axis, phi_axis = slots[0].eta_axis, slots[0].phi_axis
    cells = np.zeros((eta_axis[2], phi_axis[2]), dtype=np.int64)
    for slot in slots:
        for event in inputs.astype(np.int64):
            if slot.presence < 0 or event[slot.presence] != slot.padding:
                row = np.clip((event[slot.eta] - eta_axis[0]) // eta_axis[1], 0, eta_axis[2] - 1)
                column = np.clip((event[slot.phi] - phi_axis[0]) // phi_axis[1], 0, phi_axis[2] - 1)
                cells[row, column] += 1
    return cells.ravel()


def laid_out(columns, layout):
    """Return the same events, shape (n_events, n_columns), in another place of memory."""
    n_columns, n_events = columns.shape
    if layout == "rows":
        return np.ascontiguousarray(columns.T)
    if layout == "every second":
        wide = np.full((n_columns, 2 * n_events), 7, dtype=np.int16)
        wide[:, ::2] = columns
        return wide[:, ::2].T
    if layout == "padded columns":
        wide = np.full((n_columns, n_events + 3), 7, dtype=np.int16)
        wide[:, :n_events] = columns
        return wide[:, :n_events].T
    if layout == "backwards":
        return np.ascontiguousarray(columns[::-1, ::-1])[::-1, ::-1].T
    fixed = columns.copy()
    fixed.flags.writeable = False
    return fixed.T


@st.composite
def blocks(draw):
    n_columns, n_events = draw(st.integers(1, 4)), draw(st.integers(0, 150))
    columns = np.zeros((n_columns, n_events), dtype=np.int16)
    ranges = []
    for column in columns:
        column[:] = draw(st.lists(CODES, min_size=n_events, max_size=n_events))
        low = draw(st.integers(-60, 60))
        ranges.append((low, low + draw(st.integers(0, 200)), draw(st.sampled_from([0, -40, 1, NO_PADDING]))))
    layout = draw(st.sampled_from(["columns", "rows", "every second", "padded columns", "backwards"]))
    return laid_out(columns, layout), ranges


@pytest.fixture(scope="module", params=[True, False], ids=["squeezing", "plain"])
def way(request):
    """Count with and without the processor's instruction for squeezing, on any processor."""
    with pytest.MonkeyPatch.context() as patch:
        own = fill_kernels._Scratch()
        own.fill = (request.param, *own.fill[1:])
        patch.setattr(fill_kernels, "_SCRATCH", own)
        yield


@settings(max_examples=150, deadline=None)
@given(block=blocks())
def test_columns_are_counted_as_numpy_counts_them(way, block):
    inputs, ranges = block
    lows, highs, paddings = zip(*ranges, strict=True)
    counts, maps, pairs = fill_columns(inputs, plan_fill(lows, highs, paddings))
    expected = [counted_by_numpy(inputs[:, index], low, high) for index, (low, high, _) in enumerate(ranges)]
    np.testing.assert_array_equal(counts, np.concatenate(expected))
    assert maps.shape == pairs.shape == (0,)


def pairs_by_numpy(inputs, thresholds):
    marked = (inputs >= np.array(thresholds)).astype(np.int64)
    return (marked.T @ marked)[np.triu_indices(len(thresholds))]


@settings(max_examples=80, deadline=None)
@given(block=blocks(), data=st.data())
def test_pairs_are_counted_as_numpy_counts_them(block, data):
    inputs, ranges = block
    lows, highs, paddings = zip(*ranges, strict=True)
    thresholds = data.draw(st.lists(CODES, min_size=len(lows), max_size=len(lows)))
    found = fill_columns(inputs, plan_fill(lows, highs, paddings, thresholds=thresholds))
    np.testing.assert_array_equal(found.pairs, pairs_by_numpy(inputs, thresholds))
    np.testing.assert_array_equal(
        found.columns, fill_columns(inputs, plan_fill(lows, highs, paddings)).columns
    )


def test_only_columns_of_one_group_are_paired():
    inputs = np.random.default_rng(3).integers(-3, 4, (1000, 7)).astype(np.int16)
    kinds = [1, 0, 2, 1, 0, 1, 3]
    plan = plan_fill([-3] * 7, [3] * 7, [0] * 7, thresholds=[0] * 7, kinds=kinds)
    groups = [[1, 4], [0, 3, 5], [2], [6]]
    expected = [pairs_by_numpy(inputs[:, members], [0] * len(members)) for members in groups]
    np.testing.assert_array_equal(fill_columns(inputs, plan).pairs, np.concatenate(expected))


@pytest.mark.parametrize("n_columns", [1, 2, 3, 4, 5, 11, 12, 13])
@pytest.mark.parametrize("n_events", [0, 1, 63, 64, 65, 511, 512, 513, 32_768, 40_001])
def test_pairs_of_any_number_of_columns_and_events_are_all_counted(n_columns, n_events):
    inputs = np.random.default_rng(n_events).integers(-3, 4, (n_events, n_columns)).astype(np.int16)
    thresholds = np.arange(n_columns) % 5 - 2
    plan = plan_fill([-3] * n_columns, [3] * n_columns, [0] * n_columns, thresholds=thresholds.tolist())
    np.testing.assert_array_equal(fill_columns(inputs, plan).pairs, pairs_by_numpy(inputs, thresholds))


@settings(max_examples=60, deadline=None)
@given(
    events=st.lists(st.tuples(*[st.one_of(st.just(0), CODES)] * 6), max_size=80),
    eta_axis=st.tuples(st.integers(-300, 0), st.integers(1, 70), st.integers(1, 32)),
    phi_axis=st.tuples(st.integers(-5, 5), st.integers(1, 2000), st.integers(1, 36)),
    padding=st.sampled_from([0, 3]),
    always=st.booleans(),
)
def test_maps_hold_the_objects_that_are_there(way, events, eta_axis, phi_axis, padding, always):
    inputs = np.array(events, dtype=np.int16).reshape(len(events), 6)
    slots = [
        MapSlot(first + 1, first + 2, -1 if always else first, padding, eta_axis, phi_axis, 0)
        for first in (0, 3)
    ]
    _, maps, _ = fill_columns(inputs, plan_fill([0] * 6, [9] * 6, [0] * 6, slots))
    np.testing.assert_array_equal(maps, map_by_numpy(inputs, slots))


@pytest.mark.parametrize("width", [1, 3, 7, 117, 4096, 65_536])
def test_every_code_falls_into_the_map_cell_of_integer_division(width):
    codes = np.arange(LOWEST, HIGHEST + 1, dtype=np.int16)
    bins = min(-(-65_536 // width), 32_000)
    slots = [MapSlot(0, 1, -1, 0, (LOWEST, width, bins), (0, 1, 1), 0)]
    inputs = np.stack([codes, np.zeros_like(codes)], axis=1)
    _, maps, _ = fill_columns(inputs, plan_fill([0, 0], [9, 9], [0, 0], slots))
    np.testing.assert_array_equal(maps, map_by_numpy(inputs, slots))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(-3, 600)), max_size=100))
def test_scores_are_counted_in_their_bins(way, scores):
    values = np.array(scores, dtype=np.int32)
    counts = fill_octaves(values, SCORE_STEPS_PER_OCTAVE, N_SCORE_BINS)
    np.testing.assert_array_equal(counts, np.bincount(score_bins(values), minlength=N_SCORE_BINS))


@pytest.mark.parametrize("constant", [True, False])
def test_more_events_than_a_counter_holds_are_all_counted(way, constant):
    # given more equal codes in a row than a 16-bit counter can hold
    column = np.full(200_001, 5, dtype=np.int16)
    if not constant:
        column[::1000] = 9
    # when they are counted, then none is lost
    counts, _, _ = fill_columns(column[:, None], plan_fill([0], [10], [NO_PADDING]))
    np.testing.assert_array_equal(counts, counted_by_numpy(column, 0, 10))


def test_threads_count_at_the_same_time_without_disturbing_each_other():
    rng = np.random.default_rng(1)
    plan = plan_fill([-50] * 3, [50] * 3, [0] * 3)
    blocks = [rng.integers(-60, 60, (5000, 3)).astype(np.int16) for _ in range(4)]
    expected = [fill_columns(block, plan)[0] for block in blocks]
    wrong = []

    def work(block, counts):
        same = (np.array_equal(fill_columns(block, plan)[0], counts) for _ in range(50))
        if not all(same):
            wrong.append(1)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(blocks, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_map_too_fine_for_its_codes_is_refused():
    with pytest.raises(ValueError, match="fewer bins"):
        plan_fill([0], [1], [0], [MapSlot(0, 0, 0, 0, (0, 1, 256), (0, 1, 256), 0)])
