"""From the histograms of a lumisection to the summary that is merged and judged. Knows no broker.

Nobody summarised events here: the histograms were filled elsewhere, each with its own number of entries,
so the summary has own totals, no score and nothing accepted.
"""

from pathlib import Path
from typing import Final

import numpy as np

from streams.contracts.contract import Contract
from streams.counting.layout import N_SCORE_BINS, layout_of
from streams.counting.summary import BatchId, Summary
from streams.dqm.files import DqmLumisection, read_dqm
from streams.dqm.histogram_counts import count
from streams.errors import DqmFileError, HistogramError
from streams.events.batch import digest

NO_FIRMWARE: Final = "dqm"
"""What stands for the identity of a package where no firmware scored anything."""


def summarise_histograms(
    found: DqmLumisection, contract: Contract, *, model: str, simulated: bool = False
) -> Summary:
    """Count the histograms of one lumisection.

    Parameters
    ----------
    found
        What a file holds of it: every element of the contract must be there.
    contract
        One that lists histograms.
    model
        Name of the monitored model.
    simulated
        Marks what does not come from collisions.

    Returns
    -------
    Summary
        `n_events` is the largest total of any histogram: the number of entries of the fullest one. The
        batch's source is that of `found`, its sequence 0, its digest that of the counts.

    Raises
    ------
    DqmFileError
        The contract lists no histograms, or elements are missing.
    HistogramError
        A histogram cannot be counted.
    """
    _require_histograms(contract)
    place = f"run {found.run}, LS {found.lumisection}"
    missing = [spec.path for spec in contract.histograms if spec.path not in found.histograms]
    if missing:
        raise DqmFileError(
            f"{place} has no {missing[0]} ({len(missing)} of {len(contract.histograms)} missing): "
            "a file must hold all elements of the contract"
        )
    try:
        parts = [count(spec, found.histograms[spec.path]) for spec in contract.histograms]
    except HistogramError as error:
        raise HistogramError(f"{place}: {error}") from error
    inputs = np.concatenate(parts)
    layout = layout_of(contract)
    content = contract.hash.encode() + inputs.astype("<i8").tobytes()
    return Summary(
        model=model,
        contract_hash=contract.hash,
        run=found.run,
        lumisection=found.lumisection,
        package=NO_FIRMWARE,
        batch=BatchId(found.source, 0, digest(content)),
        simulated=simulated,
        n_events=int(np.add.reduceat(inputs, layout.starts[:-1]).max()),
        n_accept=0,
        layout=layout,
        inputs=inputs,
        score=np.zeros(N_SCORE_BINS, dtype=np.int64),
        maps=np.zeros(layout.n_map_bins, dtype=np.int64),
    )


def read_summaries(path: Path, contract: Contract, *, model: str, simulated: bool = False) -> list[Summary]:
    """Read a DQM file and count all its lumisections, or none.

    Raises
    ------
    DqmFileError, HistogramError
        As `streams.dqm.files.read_dqm` and `summarise_histograms`; the message names the file.
    """
    _require_histograms(contract)
    found = read_dqm(path, [spec.path for spec in contract.histograms])[::-1]
    summaries = []
    try:
        while found:  # taken off one by one: a file of many lumisections is not held twice
            summaries.append(summarise_histograms(found.pop(), contract, model=model, simulated=simulated))
    except (DqmFileError, HistogramError) as error:
        raise type(error)(f"{path}: {error}") from error
    return summaries


def _require_histograms(contract: Contract) -> None:
    if not contract.histograms:
        raise DqmFileError(
            f"contract '{contract.name}' lists no histograms: DQM files need one with [[histograms]]"
        )
