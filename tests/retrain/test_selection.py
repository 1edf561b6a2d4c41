import numpy as np
import pytest

from retrain.errors import ContractMismatch, TooFewEvents
from retrain.selection import SelectionSettings, select
from streams.contracts.contract import Contract
from streams.events.dataset import dataset_of

SETTINGS = SelectionSettings(minimum_events=1000)


def rows(inputs):
    return {row.tobytes() for row in inputs}


@pytest.fixture
def numbered(contract):
    """Twenty lumisections of 500 events; every event carries its own number."""

    def make(order=None, **columns):
        n_events = 10_000
        inputs = np.zeros((n_events, contract.n_inputs), dtype=np.int16)
        inputs[:, 0] = np.arange(n_events) % 4096
        inputs[:, 3] = np.arange(n_events) // 4096
        given = {
            "run": np.full(n_events, 5),
            "lumisection": 1 + np.arange(n_events) // 500,
            "event": np.arange(n_events) % 500,
        } | columns
        order = np.arange(n_events) if order is None else order
        given = {name: column[order] for name, column in given.items() if column is not None}
        return dataset_of(contract, inputs[order], made_by="test", **given)

    return make


def test_only_the_lumisections_and_the_run_asked_for_are_taken(numbered, contract):
    # given an incident from lumisection 11 to 14
    settings = SETTINGS.model_copy(update={"first_lumisection": 11, "last_lumisection": 14, "run": 5})
    selection = select(numbered(), numbered(), contract, settings)
    # then its 4 x 500 events are there, and the whole reference
    assert selection.recent.n_events == 2000
    assert rows(selection.recent.train) | rows(selection.recent.held_out) == rows(
        numbered().inputs[5000:7000]
    )
    assert len(selection.reference) == 10_000
    assert selection.dataset_ids == (numbered().id, numbered().id)
    with pytest.raises(TooFewEvents, match="insufficient: 0 recent events"):
        select(numbered(), numbered(), contract, settings.model_copy(update={"run": 6}))


def test_held_out_events_are_never_trained_on(numbered, contract):
    recent = select(numbered(), numbered(), contract, SETTINGS).recent
    assert not rows(recent.train) & rows(recent.held_out)
    assert abs(len(recent.held_out) - 5000) < 4 * np.sqrt(2500)


def test_an_event_stays_on_its_side_wherever_it_stands(numbered, contract):
    # given the same events in another order
    order = np.random.default_rng(1).permutation(10_000)
    one = select(numbered(), numbered(), contract, SETTINGS).recent
    two = select(numbered(), numbered(order), contract, SETTINGS).recent
    assert rows(one.held_out) == rows(two.held_out)


def test_another_seed_splits_otherwise(numbered, contract):
    one = select(numbered(), numbered(), contract, SETTINGS).recent
    two = select(numbered(), numbered(), contract, SETTINGS.model_copy(update={"seed": 2})).recent
    overlap = len(rows(one.held_out) & rows(two.held_out)) / len(one.held_out)
    assert 0.4 < overlap < 0.6


def test_more_events_than_allowed_are_thinned_out_evenly(numbered, contract):
    settings = SETTINGS.model_copy(update={"maximum_events": 4000})
    selection = select(numbered(), numbered(), contract, settings)
    assert selection.recent.n_events == len(selection.reference) == 4000
    assert abs(len(selection.recent.held_out) - 2000) < 4 * np.sqrt(1000)
    # a quarter of the sample is in every quarter of the data
    position = selection.reference[:, 0].astype(int) + 4096 * selection.reference[:, 3]
    assert np.all(np.abs(np.histogram(position, 4, (0, 10_000))[0] - 1000) < 4 * np.sqrt(1000))


def test_events_without_identity_are_split_too(numbered, contract):
    bare = numbered(run=None, lumisection=None, event=None)
    assert select(numbered(), bare, contract, SETTINGS).recent.n_events == 10_000
    with pytest.raises(TooFewEvents, match="carry no lumisection"):
        select(numbered(), bare, contract, SETTINGS.model_copy(update={"first_lumisection": 3}))
    with pytest.raises(TooFewEvents, match="carry no run"):
        select(numbered(), bare, contract, SETTINGS.model_copy(update={"run": 3}))


def test_too_few_events_are_said_to_be_insufficient(numbered, contract):
    with pytest.raises(TooFewEvents, match="insufficient: 10000 reference events, 20000 are needed"):
        select(numbered(), numbered(), contract, SETTINGS.model_copy(update={"minimum_events": 20_000}))


def test_events_of_another_contract_are_refused(numbered, contract):
    other = Contract.model_validate({**contract.model_dump(), "version": 2})
    with pytest.raises(ContractMismatch, match="the reference events"):
        select(numbered(), numbered(), other, SETTINGS)
