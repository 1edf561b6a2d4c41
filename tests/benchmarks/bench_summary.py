"""The summary of a batch: how many bytes, and how long the steps from a message to a summary take."""

import numpy as np

from streams.batch import batch_model, decode_batch, digest, encode_batch
from streams.summary import merge_all, summarise
from streams.summary_codec import decode_summary, encode_summary
from tests.benchmarks.events import BATCH_EVENTS, even_inputs, example_contract, make_batch, sparse_inputs
from tests.benchmarks.row import Row, best_seconds

US = 1e6


def _rows(contract, kind, inputs, repeats):
    batch = make_batch(contract, inputs)
    message = encode_batch(batch)
    summary = summarise(batch, contract, digest(message))
    payload = encode_summary(summary)
    back = decode_summary(payload)
    if not all(np.array_equal(getattr(back, n), getattr(summary, n)) for n in ("inputs", "score", "maps")):
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
            Row(name=f"{step}, {name}", value=best_seconds(work, repeats) * US, unit="us")
            for step, work in steps
        ),
    ]


def run(quick):
    """Measure batches of both kinds of events."""
    contract = example_contract()
    n_events, repeats = (1000, 2) if quick else (BATCH_EVENTS, 40)
    return [
        row
        for kind, make in (("objects missing", sparse_inputs), ("all codes alike", even_inputs))
        for row in _rows(contract, kind, make(contract, n_events), repeats)
    ]
