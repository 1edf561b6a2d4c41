"""What becomes of a message: its result is delivered, or it is a dead letter, or the worker ends."""

import asyncio
import base64
import json

import pytest

from streams import pipeline as module
from streams.conditions import encode_conditions
from streams.counting.codec import decode_summary, encode_summary
from streams.dead_letter import MAX_PAYLOAD_BYTES
from streams.events.batch import digest, encode_batch
from streams.events.recorder import Recorder, RecorderSettings
from streams.judging.judge import MonitoredModel
from streams.pipeline import Pipeline, Topics
from streams.store.database import open_engine
from streams.store.records import create_tables
from streams.store.windows import WindowStore
from streams.topics import BATCHES, CONDITIONS, SUMMARIES
from tests.support.streams import MODEL, FakeEvent, FakeMessage, FakeTopic, conditions


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/site.db")
    create_tables(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def failures():
    return []


@pytest.fixture
def build(engine, contract, failures):
    """Return a function that builds a pipeline, as a new worker would."""

    def make(recorder=None):
        models = {MODEL: MonitoredModel(contract)}
        store = WindowStore(engine, models=models)
        topics = Topics(FakeTopic(), FakeTopic(), FakeTopic())
        return Pipeline(models, store, topics, recorder, fail=lambda: failures.append(1)), topics

    return make


def _letter(topics):
    ((_, value),) = topics.dead_letters.sent
    return json.loads(value)


def _play(pipeline, topics, batch, announced):
    """Pass a batch through both stages, then its conditions."""

    async def run():
        await pipeline.summarise([FakeEvent(encode_batch(batch), FakeMessage(BATCHES, 1, 42))])
        key, value = topics.summaries.sent[-1]
        await pipeline.merge([FakeEvent(value, FakeMessage(SUMMARIES))])
        await pipeline.conditions([FakeEvent(encode_conditions(announced), FakeMessage(CONDITIONS))])
        return key, value

    return asyncio.run(run())


def test_a_batch_becomes_one_summary_then_a_window_then_a_verdict(build, detector, failures):
    pipeline, topics = build()
    batch = detector.batch(7)
    key, value = _play(pipeline, topics, batch, conditions(7))
    summary = decode_summary(value)
    assert key == MODEL.encode()
    assert summary.batch == ("replay", 0, digest(encode_batch(batch)))
    ((_, verdict),) = topics.verdicts.sent
    assert json.loads(verdict)["lumisection"] == 7
    assert failures == []
    assert pipeline.counters.verdicts == 1


@pytest.mark.parametrize(
    ("stage", "topic", "value", "said"),
    [
        ("summarise", BATCHES, b"\xff" * 100, "Arrow"),
        ("summarise", BATCHES, None, "without content"),
        ("merge", SUMMARIES, b"LWSUM1junk", "unpacked"),
        ("conditions", CONDITIONS, b"[]", "conditions"),
    ],
)
def test_malformed_messages_are_dead_letters(build, failures, stage, topic, value, said):
    pipeline, topics = build()
    asyncio.run(getattr(pipeline, stage)([FakeEvent(value, FakeMessage(topic, 2, 9))]))
    letter = _letter(topics)
    assert said in letter["reason"]
    assert (letter["topic"], letter["partition"], letter["offset"]) == (topic, 2, 9)
    assert base64.b64decode(letter["payload"]) == (value or b"")
    assert failures == []


def test_a_dead_letter_holds_no_more_than_it_must(build):
    pipeline, topics = build()
    asyncio.run(pipeline.summarise([FakeEvent(b"x" * 200_000, FakeMessage(BATCHES))]))
    letter = _letter(topics)
    assert letter["truncated"]
    assert letter["size"] == 200_000
    assert len(base64.b64decode(letter["payload"])) == MAX_PAYLOAD_BYTES


def test_a_summary_that_names_no_batch_is_a_dead_letter(build, detector):
    pipeline, topics = build()
    value = encode_summary(detector.summary(7))
    asyncio.run(pipeline.merge([FakeEvent(value, FakeMessage(SUMMARIES))]))
    assert "names no batch" in _letter(topics)["reason"]


def test_a_message_that_breaks_the_decoder_does_not_end_the_worker(build, failures, monkeypatch):
    def broken(_payload):
        raise ZeroDivisionError

    monkeypatch.setattr(module, "decode_summary", broken)
    pipeline, topics = build()
    event = FakeEvent(b"anything", FakeMessage(SUMMARIES))
    asyncio.run(pipeline.merge([event]))
    assert "ZeroDivisionError" in _letter(topics)["reason"]
    assert failures == []


def test_a_verdict_that_cannot_be_delivered_ends_the_worker_and_is_sent_by_the_next(
    build, detector, failures
):
    pipeline, topics = build()
    topics.verdicts.fails = True
    _play(pipeline, topics, detector.batch(7), conditions(7))
    assert failures == [1]
    assert topics.dead_letters.sent == []

    successor, new_topics = build()
    asyncio.run(successor.sweep())
    assert [json.loads(value)["lumisection"] for _, value in new_topics.verdicts.sent] == [7]
    asyncio.run(successor.sweep())
    assert len(new_topics.verdicts.sent) == 1


def test_a_database_that_fails_ends_the_worker_and_blames_no_message(build, detector, failures, engine):
    pipeline, topics = build()
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE stream_assessments")
        connection.exec_driver_sql("DROP TABLE stream_batches")
    _play(pipeline, topics, detector.batch(7), conditions(7, end_of_lumisection=False))
    assert failures == [1]
    assert topics.dead_letters.sent == []


def test_recent_events_that_cannot_be_kept_do_not_stop_the_stream(build, detector, tmp_path, failures):
    (tmp_path / "file").write_text("")
    recorder = Recorder(RecorderSettings(tmp_path / "file"))
    pipeline, topics = build(recorder)
    _play(pipeline, topics, detector.batch(7), conditions(7))
    recorder.close()
    assert len(topics.verdicts.sent) == 1
    assert recorder.counters.failures == 1
    assert failures == []
