"""The events of a replay: drawn from a dataset, a function of seed, run and lumisection alone.

Knows no broker and no clock.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from streams.contracts.contract import Contract
from streams.effects.effect import Effect
from streams.errors import ReplayError
from streams.events.batch import MAX_BATCH_EVENTS
from streams.events.dataset import Dataset
from streams.events.resample import resample


def lumisection_events(
    dataset: Dataset,
    contract: Contract,
    *,
    run: int,
    lumisection: int,
    n_events: int,
    effects: Sequence[Effect] = (),
    seed: int = 0,
) -> npt.NDArray[np.int16]:
    """Return the events of one lumisection: int16, shape (n_events, n_inputs); fewer with a prescale.

    The effects act one after the other. The same seed, run and lumisection give the same events.
    """
    rng = np.random.default_rng([seed, run, lumisection])
    inputs = resample(dataset, contract, n_events, rng)
    for effect in effects:
        inputs = effect.apply(inputs, contract, lumisection, rng)
    return inputs


def replay_lumisections(
    dataset: Dataset,
    contract: Contract,
    *,
    run: int,
    first: int,
    last: int,
    events_per_lumisection: int,
    batches_per_lumisection: int = 1,
    effects: Sequence[Effect] = (),
    seed: int = 0,
) -> Iterator[tuple[int, npt.NDArray[np.int16]]]:
    """Yield ``(lumisection, inputs)`` for every batch, lumisections `first` to `last` included.

    Raises
    ------
    ReplayError
        Events and batches do not fit together.
    """
    check_split(events_per_lumisection, batches_per_lumisection)
    for lumisection in range(first, last + 1):
        inputs = lumisection_events(
            dataset,
            contract,
            run=run,
            lumisection=lumisection,
            n_events=events_per_lumisection,
            effects=effects,
            seed=seed,
        )
        for part in np.array_split(inputs, batches_per_lumisection):
            yield lumisection, part


def check_split(events: int, batches: int) -> None:
    """Raise `ReplayError` unless so many events fit into so many batches."""
    if not 1 <= batches <= events:
        raise ReplayError(f"{events} events in {batches} batches: give at least one event for each batch")
    if -(-events // batches) > MAX_BATCH_EVENTS:
        raise ReplayError(
            f"{events} events in {batches} batches: a batch holds {MAX_BATCH_EVENTS}, send more of them"
        )
