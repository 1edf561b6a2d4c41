"""The summary of a batch: how many bytes, and how long the steps from a message to a summary take."""

import itertools
import tempfile
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from streams.counting.codec import decode_summary, encode_summary
from streams.counting.summary import BatchId, merge_all, summarise
from streams.events.batch import batch_model, decode_batch, digest, encode_batch
from streams.judging.judge import MonitoredModel
from streams.store.database import open_engine
from streams.store.records import create_tables
from streams.store.windows import Outcome, WindowStore
from tests.benchmarks.events import BATCH_EVENTS, even_inputs, example_contract, make_batch, sparse_inputs
from tests.benchmarks.row import Row, best_cpu_seconds, best_seconds

US = 1e6
COUNTS = ("inputs", "score", "maps", "pairs")


def _rows(contract, kind, inputs, repeats):
    batch = make_batch(contract, inputs)
    message = encode_batch(batch)
    summary = summarise(batch, contract, digest(message))
    payload = encode_summary(summary)
    back = decode_summary(payload)
    if not all(np.array_equal(getattr(back, n), getattr(summary, n)) for n in COUNTS):
        raise AssertionError("a summary does not survive its bytes")
    name = f"{len(inputs)} x {inputs.shape[1]}, {kind}"
    share = len(payload) / len(message)
    nameless = summarise(batch, contract)
    steps = (
        ("batch decoded", lambda: (batch_model(message), decode_batch(message, contract))),
        ("batch's checksum", lambda: digest(message)),
        ("batch counted", lambda: summarise(batch, contract, 1)),
        ("summary encoded", lambda: encode_summary(summary)),
        ("summary decoded", lambda: decode_summary(payload)),
        ("32 summaries merged", lambda: merge_all([nameless] * 32)),
    )
    return [
        Row(
            name=f"summary, {name}",
            value=len(payload),
            unit="bytes",
            baseline="its batch",
            baseline_value=len(message),
            ratio=share,
            target="<= 5 %" if len(inputs) >= BATCH_EVENTS else None,
            met=share <= 0.05 if len(inputs) >= BATCH_EVENTS else None,
        ),
        *(
            Row(name=f"{step}, {name}", value=best_cpu_seconds(work, repeats) * US, unit="us")
            for step, work in steps
        ),
    ]


def _fold_rows(contract, inputs, n_summaries, repeats):
    """Summaries of one lumisection folded into their window, many in one transaction."""
    summary = summarise(make_batch(contract, inputs), contract)
    with tempfile.TemporaryDirectory(prefix="lumiwatch-bench-") as folder:
        engine = open_engine(f"sqlite:///{folder}/site.db")
        create_tables(engine)
        store = WindowStore(engine, models={summary.model: MonitoredModel(contract)})
        sequences = itertools.count()

        def fold():
            group = [replace(summary, batch=BatchId("bench", next(sequences), 1)) for _ in range(n_summaries)]
            return store.fold_summaries(group, datetime.now(UTC))

        seconds = best_seconds(fold, repeats)
        if {folded.outcome for folded in fold()} != {Outcome.ADDED}:
            raise AssertionError("not every summary was added")
        engine.dispose()
    return [
        Row(name=f"{n_summaries} summaries stored in one transaction (SQLite)", value=seconds * US, unit="us")
    ]


def run(quick):
    """Measure batches of both kinds of events."""
    contract = example_contract()
    n_events, repeats = (1000, 2) if quick else (BATCH_EVENTS, 40)
    stored = _fold_rows(contract, sparse_inputs(contract, n_events), 128, 3)
    kinds = (("objects missing", sparse_inputs), ("all codes alike", even_inputs))
    rows = [row for kind, make in kinds for row in _rows(contract, kind, make(contract, n_events), repeats)]
    return rows + stored
