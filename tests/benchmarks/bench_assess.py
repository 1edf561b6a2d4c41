"""Every statistic of a window of 57 inputs, against scipy on the raw values of the same events."""

import numpy as np
from scipy import stats

from streams.conditions import Conditions
from streams.counting.summary import merge_all, summarise
from streams.judging.assessment import AssessmentSettings, assess
from streams.judging.expectation import sliced
from streams.judging.extremes import ks_distances
from streams.judging.reference import build_reference
from tests.benchmarks.events import coarse_contract, even_inputs, example_contract, make_batch, sparse_inputs
from tests.benchmarks.row import Row, best_cpu_seconds

MS = 1e3
PART_EVENTS = 50_000


def _window(contract, make, n_events, seed):
    """A window's events, and their summary; batches are smaller than windows, so it is merged of parts."""
    inputs = make(contract, n_events, seed)
    parts = [inputs[begin : begin + PART_EVENTS] for begin in range(0, n_events, PART_EVENTS)]
    return inputs, merge_all(summarise(make_batch(contract, part, seed), contract) for part in parts)


def _reference(contract, make, n_events):
    parts = [
        summarise(make_batch(contract, make(contract, n_events, 100 + ls), ls, ls), contract)
        for ls in range(1, 17)
    ]
    return build_reference(parts, contract, pileups=[50.0] * 16, built_from="benchmark")


def _rows(name, contract, make, n_events, target_ms, repeats):
    inputs, window = _window(contract, make, n_events, 1)
    others, expected = _window(contract, make, n_events, 2)
    distances, _ = ks_distances(window, sliced([expected], [50.0]).at(50.0))

    def by_scipy():
        return [
            stats.ks_2samp(a, b, method="asymp").statistic for a, b in zip(inputs.T, others.T, strict=True)
        ]

    if not np.allclose(distances, by_scipy(), atol=1e-9):
        raise AssertionError("ks_distances and scipy.stats.ks_2samp disagree")
    reference = _reference(contract, make, min(n_events, 5000))
    conditions = Conditions(model="anomaly", run=1, lumisection=1, pileup=50.0, end_of_lumisection=True)
    settings = AssessmentSettings()
    seconds = best_cpu_seconds(lambda: assess(window, reference, conditions, contract, settings), repeats)
    scipy_s = best_cpu_seconds(by_scipy, 1)
    met = seconds * MS <= target_ms
    return [
        Row(
            name=f"assess, {n_events} x {contract.n_inputs}, {name}",
            value=seconds * MS,
            unit="ms",
            baseline="scipy.stats.ks_2samp of the values, the inputs alone",
            baseline_value=scipy_s * MS,
            ratio=scipy_s / seconds,
            target=f"<= {target_ms} ms",
            met=met,
        )
    ]


def run(quick):
    """Measure full resolution, and a contract of 64 codes for each input."""
    n_events, repeats = (2000, 2) if quick else (200_000, 20)
    return [
        *_rows("full resolution", example_contract(), sparse_inputs, n_events, 8, repeats),
        *_rows("64 bins", coarse_contract(), even_inputs, n_events, 1, repeats),
    ]
