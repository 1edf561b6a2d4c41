"""A real worker process on the real broker: killed in the middle, it counts every event exactly once."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from sqlalchemy import inspect, text

from streams import topics
from streams.broker.embedded import EmbeddedBroker, die_with_parent, ensure_topics
from streams.dead_letter import MAX_PAYLOAD_BYTES, decode_dead_letter
from streams.effects.effect import parse_effect
from streams.errors import WorkerError
from streams.events.batch import MAX_BATCH_BYTES
from streams.events.recorder import recent_dataset
from streams.events.replay import Replayer, ReplaySettings
from streams.judging.reference_store import register_reference
from streams.judging.verdict import Verdict
from streams.pipeline import EXIT_FAILED
from streams.store.database import open_engine
from streams.store.history import closed_windows
from streams.store.records import create_tables
from streams.worker import WorkerModel, WorkerSettings, load_settings, main, start_worker
from streams.worker_status import worker_reports
from tests.support.hostile import CONTRACT_PATH, KINDS, hostile_messages
from tests.support.streams import MODEL, RUN

EVENTS = 2000
BATCHES = 4
LAST = 40
DRIFT_FROM = 31


@pytest.fixture
def broker(tmp_path):
    with EmbeddedBroker(log=tmp_path / "broker.log") as running:
        ensure_topics(running.bootstrap, {topics.BATCHES: 2})
        yield running


@pytest.fixture
def settings(broker, contract_path, tmp_path):
    return WorkerSettings(
        bootstrap=broker.bootstrap,
        database_url=f"sqlite:///{tmp_path}/site.db",
        models={MODEL: {"contract": contract_path}},
        state_dir=tmp_path / "worker",
        recent_dir=tmp_path / "recent",
        instance="worker-0",
    )


@pytest.fixture
def engine(settings):
    engine = open_engine(settings.database_url)
    create_tables(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def start(settings, tmp_path):
    """Return a function that starts the worker; all are killed at the end."""
    running = []

    def run(own=settings):
        running.append(start_worker(own, log=tmp_path / "worker.log"))
        return running[-1]

    yield run
    for process in running:
        process.kill()
        process.wait()


def _wait(process, condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, "the worker ended"
        assert time.monotonic() < deadline, "the worker did not get there in time"
        time.sleep(0.02)


def _read(bootstrap, topic):
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=500
    )
    try:
        return [message.value for message in consumer]
    finally:
        consumer.close()


def _end(bootstrap, topic):
    """Return the offset after the last message of a topic of one partition."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    try:
        (end,) = consumer.end_offsets([TopicPartition(topic, 0)]).values()
        return end
    finally:
        consumer.close()


def _send_malformed(bootstrap):
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    producer.send(topics.BATCHES, b"no arrow").get(timeout=60)
    producer.send(topics.BATCHES, key=b"k", value=None).get(timeout=60)
    producer.send(topics.SUMMARIES, b"no summary").get(timeout=60)
    producer.send(topics.CONDITIONS, b'{"model": "stranger", "run": 1, "lumisection": 1, "pileup": 1}').get(
        10
    )
    producer.close()


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_and_counts_nothing_twice(
    broker, settings, engine, start, detector, reference, contract, tmp_path
):
    # given an approved reference, malformed messages, and a running worker
    register_reference(engine, reference, "local", datetime.now(UTC))
    _send_malformed(broker.bootstrap)
    replay = ReplaySettings(
        model=MODEL,
        run=RUN,
        first=1,
        last=LAST,
        events_per_lumisection=EVENTS,
        batches_per_lumisection=BATCHES,
        effects=(parse_effect(f"jet_gain=1.15@LS{DRIFT_FROM}"),),
        seed=17,
    )
    Replayer(broker.bootstrap, detector.dataset, contract, replay, detector.firmware).run()
    worker = start()

    # when it is killed in the middle and started again
    _wait(worker, lambda: len(closed_windows(engine, MODEL)) >= 5)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    before = len(closed_windows(engine, MODEL))
    worker = start()
    _wait(worker, lambda: len(closed_windows(engine, MODEL)) == LAST)
    _wait(worker, lambda: len(_read(broker.bootstrap, topics.DEAD_LETTERS)) >= 4)

    # then every window holds exactly what was sent
    assert before < LAST
    windows = closed_windows(engine, MODEL)
    for window in windows:
        effects = replay.effects
        direct = detector.summary(
            window.summary.lumisection, n_events=EVENTS, effects=effects, seed=replay.seed
        )
        assert window.complete
        assert window.n_batches == BATCHES
        assert (window.summary.n_events, window.summary.n_accept) == (direct.n_events, direct.n_accept)
        assert np.array_equal(window.summary.inputs, direct.inputs)
        assert np.array_equal(window.summary.score, direct.score)
        assert np.array_equal(window.summary.maps, direct.maps)

    # and each has one verdict, in order, that finds the drift
    seen = {}
    for message in _read(broker.bootstrap, topics.VERDICTS):
        verdict = Verdict.model_validate_json(message)
        seen.setdefault(verdict.id, verdict)
    verdicts = list(seen.values())
    assert [verdict.lumisection for verdict in verdicts] == list(range(1, LAST + 1))
    assert {verdict.state for verdict in verdicts[: DRIFT_FROM - 1]} <= {"good", "warning"}
    alarms = [verdict.lumisection for verdict in verdicts if verdict.state == "alarm"]
    assert alarms[0] in {DRIFT_FROM, DRIFT_FROM + 1, DRIFT_FROM + 2}

    # and what was malformed is in the dead letters, with a reason
    letters = [json.loads(message) for message in _read(broker.bootstrap, topics.DEAD_LETTERS)]
    reasons = {
        (letter["topic"], letter["partition"], letter["offset"]): letter["reason"] for letter in letters
    }
    assert len(reasons) == 4
    assert Counter(place[0] for place in reasons)[topics.BATCHES] == 2
    assert any("Arrow" in reason for reason in reasons.values())
    assert any("unknown model 'stranger'" in reason for reason in reasons.values())

    # and it is not behind any more, and said what it did
    _wait(worker, lambda: worker_reports(engine)[0].lag_messages == 0)
    (report,) = worker_reports(engine)
    assert (report.worker, report.pid) == ("worker-0", worker.pid)
    assert report.counters["verdicts"] > 0

    # and recent events are kept, none of them twice
    recent = recent_dataset(tmp_path / "recent", MODEL, first_lumisection=DRIFT_FROM, last_lumisection=LAST)
    assert recent.n_events == (LAST - DRIFT_FROM + 1) * EVENTS // settings.recorder_prescale

    # and a terminated worker ends well
    worker.terminate()
    assert worker.wait(60) == 0
    assert worker_reports(engine) == []


def _send_hostile(bootstrap):
    """Send the whole corpus; return (topic, partition, offset) -> message."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, max_request_size=2 * MAX_BATCH_BYTES)
    sent = {}
    for kind, topic in zip(KINDS, (topics.BATCHES, topics.CONDITIONS, topics.SUMMARIES), strict=True):
        for message in hostile_messages(kind):
            found = producer.send(topic, message.content, key=message.name.encode()).get(timeout=30)
            sent[found.topic, found.partition, found.offset] = message
    producer.close()
    return sent


@pytest.mark.slow
def test_the_whole_corpus_of_hostile_messages_ends_in_dead_letters_and_poisons_no_window(
    broker, settings, engine, start, detector, contract
):
    # given a worker of two models, one of which the hostile messages claim to be about
    models = settings.models | {"small": WorkerModel(contract=CONTRACT_PATH)}
    worker = start(settings.model_copy(update={"models": models}))
    replay = ReplaySettings(
        model=MODEL, run=RUN, first=1, last=3, events_per_lumisection=EVENTS, batches_per_lumisection=BATCHES
    )
    rest = replace(replay, first=4, last=6)

    # when they come between valid ones
    Replayer(broker.bootstrap, detector.dataset, contract, replay, detector.firmware).run()
    sent = _send_hostile(broker.bootstrap)
    Replayer(broker.bootstrap, detector.dataset, contract, rest, detector.firmware).run()
    _wait(worker, lambda: len(closed_windows(engine, MODEL)) == rest.last)
    _wait(worker, lambda: _end(broker.bootstrap, topics.DEAD_LETTERS) >= len(sent))

    # then each is one dead letter that says why
    letters = [decode_dead_letter(message) for message in _read(broker.bootstrap, topics.DEAD_LETTERS)]
    assert Counter((letter.topic, letter.partition, letter.offset) for letter in letters) == Counter(
        sent.keys()
    )
    for letter in letters:
        message = sent[letter.topic, letter.partition, letter.offset]
        assert message.reason in letter.reason
        assert letter.size == len(message.content)
        assert letter.payload == message.content[:MAX_PAYLOAD_BYTES]

    # and no window holds anything of them
    assert closed_windows(engine, "small") == []
    with engine.connect() as connection:
        assert connection.execute(text("SELECT DISTINCT model FROM stream_windows")).scalars().all() == [
            MODEL
        ]
    for window in closed_windows(engine, MODEL):
        direct = detector.summary(window.summary.lumisection, n_events=EVENTS, seed=replay.seed)
        assert window.complete
        assert window.summary.n_events == direct.n_events
        assert np.array_equal(window.summary.inputs, direct.inputs)
        assert np.array_equal(window.summary.score, direct.score)

    # and the worker ends well
    worker.terminate()
    assert worker.wait(60) == 0


@pytest.mark.slow
def test_a_worker_that_stands_still_ends_and_the_next_one_goes_on(
    broker, settings, engine, start, detector, contract, tmp_path
):
    # given a worker whose emulator never answers
    folder = tmp_path / "stuck"
    stuck = settings.model_copy(update={"state_dir": folder, "standstill_s": 6.0, "integrity_prescale": 1})
    folder.mkdir()
    (folder / "worker.json").write_text(stuck.model_dump_json())
    with (tmp_path / "stuck.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.support.stuck_worker", str(folder / "worker.json")],
            stderr=log,
            preexec_fn=die_with_parent(),  # noqa: PLW1509 - it calls prctl and takes no lock
        )

    # when messages come
    replay = ReplaySettings(
        model=MODEL, run=RUN, first=1, last=3, events_per_lumisection=EVENTS, batches_per_lumisection=BATCHES
    )
    Replayer(broker.bootstrap, detector.dataset, contract, replay, detector.firmware).run()

    # then it ends, says why, and has done nothing
    assert worker.wait(150) == EXIT_FAILED
    assert "messages wait, and none was handled for" in (tmp_path / "stuck.log").read_text()
    assert closed_windows(engine, MODEL) == []

    # and the next one counts everything
    worker = start()
    _wait(worker, lambda: len(closed_windows(engine, MODEL)) == replay.last)
    assert [window.n_batches for window in closed_windows(engine, MODEL)] == [BATCHES] * replay.last


def test_settings_are_read_from_json_and_toml(tmp_path, contract_path):
    toml = tmp_path / "worker.toml"
    toml.write_text(
        f'bootstrap = "127.0.0.1:9092"\ndatabase_url = "sqlite:///{tmp_path}/x.db"\n'
        f'state_dir = "{tmp_path}"\n[models.anomaly]\ncontract = "{contract_path}"\n'
        "[models.anomaly.assessment]\nrate_band = 0.2\n"
    )
    settings = load_settings(toml)
    assert settings.monitored_models()["anomaly"].assessment.rate_band == 0.2
    json_file = tmp_path / "worker.json"
    json_file.write_text(settings.model_dump_json())
    assert load_settings(json_file) == settings


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "cannot be read"), ("{}", "key 'bootstrap'"), ('{"bootstrapp": "x"}', "worker.json")],
)
def test_wrong_settings_are_named(tmp_path, text, said):
    path = tmp_path / "worker.json"
    path.write_text(text)
    with pytest.raises(WorkerError, match=said):
        load_settings(path)


def test_a_worker_makes_no_tables_and_says_who_does(tmp_path, contract_path, capsys):
    # given a database that nobody has prepared; no broker is asked for anything
    settings = WorkerSettings(
        bootstrap="127.0.0.1:1",
        database_url=f"sqlite:///{tmp_path}/site.db",
        models={MODEL: {"contract": contract_path}},
        state_dir=tmp_path,
    )
    file = tmp_path / "worker.json"
    file.write_text(settings.model_dump_json())

    assert main([str(file)]) == 2

    said = capsys.readouterr().err
    assert "has no table stream_assessments: start the worker by `lumiwatch worker`" in said
    engine = open_engine(settings.database_url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys):
    assert main([]) == 2
    assert main([str(tmp_path / "absent.json")]) == 2
    assert "absent.json: cannot be read" in capsys.readouterr().err
