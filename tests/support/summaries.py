"""Summaries of hand-made events or counts, for tests of the judging half."""

import numpy as np

from streams.counting.layout import N_SCORE_BINS, layout_of
from streams.counting.summary import Summary, summarise
from streams.events.batch import Batch
from tests.support.streams import MODEL, PACKAGE, RUN


def summary_of_events(contract, inputs, score, *, lumisection=1, run=RUN, accepted_above=900_000):
    """Count events given as codes, shape (events, inputs)."""
    batch = Batch(
        model=MODEL,
        contract_name=contract.name,
        contract_version=contract.version,
        contract_hash=contract.hash,
        run=run,
        lumisection=lumisection,
        source="replay",
        sequence=1,
        package=PACKAGE,
        simulated=True,
        inputs=np.asfortranarray(inputs, dtype=np.int16),
        score=np.asarray(score, dtype=np.int32),
        accept=np.asarray(score) > accepted_above,
        input_names=contract.input_names,
    )
    return summarise(batch, contract)


def padded_events(contract, n_events):
    """Return events without any object."""
    return np.tile([spec.padding for spec in contract.inputs], (n_events, 1)).astype(np.int16)


def summary_of_counts(contract, n_events, histograms, *, n_accept=0, run=RUN, lumisection=1):
    """Return a summary of given histograms (name -> counts of all bins); other inputs hold no object."""
    layout = layout_of(contract)
    inputs = np.zeros(layout.n_input_bins, dtype=np.int64)
    for index, spec in enumerate(contract.inputs):
        counts = np.zeros(layout.starts[index + 1] - layout.starts[index], dtype=np.int64)
        counts[spec.padding - spec.minimum + 1] = n_events
        inputs[layout.starts[index] : layout.starts[index + 1]] = histograms.get(spec.name, counts)
    score = np.zeros(N_SCORE_BINS, dtype=np.int64)
    score[100] = n_events
    return Summary(
        model=MODEL,
        contract_hash=contract.hash,
        run=run,
        lumisection=lumisection,
        package=PACKAGE,
        batch=None,
        simulated=True,
        n_events=n_events,
        n_accept=n_accept,
        layout=layout,
        inputs=inputs,
        score=score,
        maps=np.zeros(layout.n_map_bins, dtype=np.int64),
    )
