"""Which events a retraining may use: the reference's, the incident's, and what is held out to judge with.

Splits by event identity, so that an event is always on the same side. Refuses to know models and strategies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from retrain.errors import ContractMismatch, TooFewEvents
from streams.contracts.contract import Contract
from streams.events.dataset import Dataset

Inputs = npt.NDArray[np.int16]


class SelectionSettings(BaseModel):
    """What to select.

    Attributes
    ----------
    first_lumisection, last_lumisection
        Recent events outside are not used (both ends included); None leaves that end open.
    run
        Recent events of other runs are not used; None takes all.
    held_out_fraction
        Part of the recent events that no strategy sees. The reference is not split: it is the yardstick.
    minimum_events
        Fewer recent or reference events: refused.
    maximum_events
        More are thinned out to this number, evenly.
    seed
        Of the split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_lumisection: int | None = Field(default=None, ge=0)
    last_lumisection: int | None = Field(default=None, ge=0)
    run: int | None = None
    held_out_fraction: float = Field(default=0.5, gt=0, lt=1)
    minimum_events: int = Field(default=5000, ge=100)
    maximum_events: int = Field(default=200_000, ge=100)
    seed: int = Field(default=1, ge=0)


@dataclass(frozen=True)
class Sample:
    """Recent events in two parts: to tune on, and to judge with.

    Parameters
    ----------
    train, held_out
        int16, (n, n_inputs) each.
    """

    train: Inputs
    held_out: Inputs

    @property
    def n_events(self) -> int:
        """Events in both parts."""
        return len(self.train) + len(self.held_out)


@dataclass(frozen=True)
class Selection:
    """What a retraining works with.

    Parameters
    ----------
    contract
        Of both samples.
    reference
        Events from before the drift: int16, (n, n_inputs).
    recent
        Events of the incident.
    dataset_ids
        Identities of the datasets the samples were taken from, the reference's first.
    """

    contract: Contract
    reference: Inputs
    recent: Sample
    dataset_ids: tuple[str, ...]


def select(reference: Dataset, recent: Dataset, contract: Contract, settings: SelectionSettings) -> Selection:
    """Select and split the events of a retraining.

    Parameters
    ----------
    reference
        Events from before the drift; all are eligible.
    recent
        Events of the incident; run and lumisections are chosen by `settings`.
    contract
        Must be the one of both datasets.
    settings
        What to select.

    Raises
    ------
    ContractMismatch
        When a dataset was made under another contract.
    TooFewEvents
        When too few events remain on either side, or the recent ones carry no lumisection to choose by.
    """
    for what, dataset in (("reference", reference), ("recent", recent)):
        if dataset.contract_hash != contract.hash:
            raise ContractMismatch(
                f"the {what} events were made under contract '{dataset.contract_name}' "
                f"{dataset.contract_hash[:12]}, not {contract.hash[:12]}: use events of one contract"
            )
    everything = np.ones(reference.n_events, dtype=np.bool_)
    yardstick, _ = _take(reference, everything, "reference", settings)
    inputs, uniform = _take(recent, _eligible(recent, settings), "recent", settings)
    held_out = uniform < settings.held_out_fraction
    if held_out.all() or not held_out.any():
        raise TooFewEvents("all recent events fall on one side of the split: use other events")
    return Selection(
        contract=contract,
        reference=yardstick,
        recent=Sample(train=inputs[~held_out], held_out=inputs[held_out]),
        dataset_ids=(reference.id, recent.id),
    )


def _eligible(dataset: Dataset, settings: SelectionSettings) -> npt.NDArray[np.bool_]:
    """Mask of the events inside the run and the lumisections asked for."""
    mask = np.ones(dataset.n_events, dtype=np.bool_)
    bounds = (settings.first_lumisection, settings.last_lumisection)
    if bounds != (None, None):
        if dataset.lumisection is None:
            raise TooFewEvents(
                "the recent events carry no lumisection: give no first and last one, or other events"
            )
        low = -1 if bounds[0] is None else bounds[0]
        high = np.iinfo(np.int64).max if bounds[1] is None else bounds[1]
        mask &= (dataset.lumisection >= low) & (dataset.lumisection <= high)
    if settings.run is not None:
        if dataset.run is None:
            raise TooFewEvents("the recent events carry no run number: give no run, or other events")
        mask &= dataset.run == settings.run
    return mask


def _take(
    dataset: Dataset, mask: npt.NDArray[np.bool_], what: str, settings: SelectionSettings
) -> tuple[Inputs, npt.NDArray[np.float64]]:
    """Give the masked events, thinned out to the most allowed, and a number in 0..1 per event to split by."""
    keys = _keys(dataset, settings.seed)[mask]
    if len(keys) < settings.minimum_events:
        raise TooFewEvents(
            f"insufficient: {len(keys)} {what} events, {settings.minimum_events} are needed: "
            "wait for more lumisections or widen the range"
        )
    inputs, uniform = dataset.inputs[mask], keys.astype(np.float64) / 2.0**64
    if len(keys) > settings.maximum_events:
        # the high bits decide the side of the split; the low ones, independent of them, who stays
        low_bits = keys & np.uint64(0xFFFFFFFF)
        chosen = np.sort(np.argsort(low_bits, kind="stable")[: settings.maximum_events])
        inputs, uniform = inputs[chosen], uniform[chosen]
    return inputs, uniform


def _keys(dataset: Dataset, seed: int) -> npt.NDArray[np.uint64]:
    """One well-mixed 64-bit key per event, from its identity where known, else from its position."""
    position = np.arange(dataset.n_events, dtype=np.uint64)
    event = position if dataset.event is None else dataset.event.astype(np.uint64)
    key = _mix(event + np.uint64(seed))
    for column in (dataset.lumisection, dataset.run):
        if column is not None:
            key = _mix(key ^ column.astype(np.uint64))
    return key


def _mix(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Finaliser of SplitMix64 (Steele, Lea & Flood 2014)."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
