"""Every hostile message of the corpus is refused with its reason, in bounded memory, and nothing worse."""

import tracemalloc
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from streams.conditions import decode_conditions
from streams.contracts.contract import load_contract
from streams.counting.codec import decode_summary
from streams.errors import MalformedMessage
from streams.events.batch import batch_model, decode_batch
from streams.judging.judge import MonitoredModel
from streams.store.database import open_engine
from streams.store.records import create_tables
from streams.store.windows import Outcome, WindowStore
from tests.support.hostile import CONTRACT_PATH, FOLDER, KINDS, hostile_messages

MAX_PYTHON_BYTES = 100 * 1024 * 1024
NOW = datetime(2026, 3, 1, tzinfo=UTC)
CORPUS = [
    pytest.param(kind, message.content, message.reason, id=f"{kind}-{message.name}")
    for kind in KINDS
    for message in hostile_messages(kind)
]


@pytest.fixture(scope="module")
def contract():
    return load_contract(CONTRACT_PATH)


@pytest.fixture(scope="module")
def take(contract, tmp_path_factory):
    """Return a function that takes a message as a worker does."""
    engine = open_engine(f"sqlite:///{tmp_path_factory.mktemp('hostile')}/site.db")
    create_tables(engine)
    models = {"small": MonitoredModel(contract)}
    store = WindowStore(engine, models=models)

    def taken(kind, content):
        if kind == "batches":
            name = batch_model(content)
            if name not in models:
                raise MalformedMessage(f"batch of unknown model '{name}'")
            decode_batch(content, contract)
        elif kind == "conditions":
            store.record_conditions(decode_conditions(content), NOW)
        else:
            (folded,) = store.fold_summaries([decode_summary(content)], NOW)
            if folded.outcome is Outcome.REFUSED:
                raise MalformedMessage(folded.reason)

    yield taken
    engine.dispose()


@pytest.mark.parametrize(("kind", "content", "reason"), CORPUS)
def test_a_hostile_message_is_refused_with_its_reason_and_within_bounds(take, kind, content, reason):
    arrow_before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage) as caught:
            take(kind, content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reason in caught.value.reason
    assert "\n" not in caught.value.reason
    assert caught.value.reason.isprintable()
    assert len(caught.value.reason) < 500
    assert peak < MAX_PYTHON_BYTES
    assert pa.total_allocated_bytes() - arrow_before < MAX_PYTHON_BYTES


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_of_the_corpus_stands_in_its_index(kind):
    files = {path.name for path in (FOLDER / kind).iterdir()} - {"index.toml"}
    assert files == {message.name for message in hostile_messages(kind)}
    assert sum(path.stat().st_size for path in (FOLDER / kind).iterdir()) < 1_000_000
