"""Nothing lost, nothing counted twice: workers and connections die at random while a known stream passes.

Three worker processes on the real broker, which they reach through a relay whose connections are cut; two
models, one with conditions and one without, runs of several lumisections from two sources that send them out
of order and now and then twice. At the end every window holds what its events give when counted directly.

``LUMIWATCH_TEST_SEED`` plays another game of chance than the one of every day.
"""

import os
import random
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from sqlmodel import func, select

from daemon.store.database import open_database
from streams import topics
from streams.broker.embedded import binary_path, die_with_parent, ensure_topics, free_port
from streams.contracts.contract import load_contract
from streams.counting.codec import decode_summary
from streams.judging.verdict import Verdict
from streams.store.database import read_session
from streams.store.records import AssessmentRow, BatchRow, WindowRow, WindowState
from streams.worker import WorkerSettings
from tests.support.known_stream import ANNOUNCED, CONTRACT, SEQUENCES, SILENT, SOURCES, Stream
from tests.support.relay import HOST, Relay
from tests.support.workers import Workers

SEED = int(os.environ.get("LUMIWATCH_TEST_SEED", "20260501"))
WORKERS = 3
ROUNDS = 3
"""Times that all workers are killed: after each, the embedded broker takes ten seconds to share out anew."""
KILLS_JOINING = 5
"""Kills after each round, while the workers that were started again join their group."""
AHEAD = 100
"""Batches that the producer is ahead of what is stored."""
LATENESS_S = 1.5
PATIENCE_S = 3.0
LIMIT_S = 420.0


class Game:
    """Sends the stream, kills what it is told to kill, and looks at the database."""

    def __init__(self, engine, workers, relay, bootstrap):
        self.engine, self.workers, self.relay = engine, workers, relay
        self._bootstrap = bootstrap
        self._draw = random.Random(SEED + 1)
        self._begun = time.monotonic()
        self.sent = 0
        self.cut = 0

    def play(self, messages):
        """Send everything; kills and the cut are spread over the stream."""
        rounds = {index * len(messages) // (ROUNDS + 1) for index in range(1, ROUNDS + 1)}
        batches = 0
        with self._producer() as send:
            for index, message in enumerate(messages):
                send(message)
                batches += message.topic == topics.BATCHES
                if index % 20 == 0:
                    self.wait(lambda sent=batches: self.stored() > 0.9 * sent - AHEAD)
                if index in rounds:
                    self._kill_all(batches)
                if index == len(messages) * 5 // 8:
                    # between two rounds, when all are at work
                    self.wait(lambda sent=batches: self.stored() > 0.9 * sent - AHEAD / 2)
                    self.cut += self.relay.cut()

    def _kill_all(self, sent):
        """Kill every worker at some moment of its work, in any order, and some again while they join."""
        self.wait(lambda: self.stored() > 0.9 * sent - AHEAD + self._draw.randrange(AHEAD // 2))
        for number in self._draw.sample(range(WORKERS), WORKERS):
            before, until = self.stored(), time.monotonic() + 0.5
            more = self._draw.randrange(20)
            # how far it comes only decides where it is hit
            while self.stored() < before + more and time.monotonic() < until:
                time.sleep(0.01)
            self.workers.kill(number, instance=self._draw.random() < 0.25)
        for _ in range(KILLS_JOINING):
            number = self._draw.randrange(WORKERS)
            time.sleep(self._draw.random())
            self.workers.kill(number, instance=self._draw.random() < 0.25)

    def send(self, messages):
        """Send some more messages, in random order."""
        with self._producer() as send:
            for message in self._draw.sample(messages, len(messages)):
                send(message)

    def wait(self, condition):
        """Wait for the workers, starting those again that end by themselves."""
        while not condition():
            self.workers.supervise()
            assert time.monotonic() < self._begun + LIMIT_S, self.workers.logs()[-6000:]
            time.sleep(0.05)

    def stored(self):
        """Return how many batches are counted."""
        with read_session(self.engine) as session:
            return session.exec(select(func.count()).select_from(BatchRow)).one()

    def settled(self):
        """Whether every window is closed and assessed with all that it holds."""
        with read_session(self.engine) as session:
            waiting = select(func.count()).select_from(WindowRow)
            waiting = waiting.where(
                (WindowRow.state == WindowState.OPEN) | (WindowRow.assessed_events < WindowRow.n_events)
            )
            return session.exec(waiting).one() == 0

    def topic(self, name):
        """Return everything on a topic."""
        consumer = KafkaConsumer(bootstrap_servers=self._bootstrap, auto_offset_reset="earliest")
        try:
            partitions = [TopicPartition(name, number) for number in consumer.partitions_for_topic(name)]
            consumer.assign(partitions)
            left, found = sum(consumer.end_offsets(partitions).values()), []
            while len(found) < left:
                for records in consumer.poll(timeout_ms=1000).values():
                    found += [record.value for record in records]
            return found
        finally:
            consumer.close()

    def _producer(self):
        return _Producer(self)


class _Producer:
    """Sends in the background; what the broker has not confirmed when it is left is sent again."""

    def __init__(self, game):
        self._game = game
        self._pending = []

    def __enter__(self):
        self._client = KafkaProducer(bootstrap_servers=self._game._bootstrap, linger_ms=0)
        return self._send

    def __exit__(self, kind, error, trace):
        try:
            while kind is None and self._pending:
                pending, self._pending = self._pending, []
                for message, future in pending:
                    try:
                        future.get(timeout=60)
                    except KafkaError:
                        self._send(message)
        finally:
            self._client.close()

    def _send(self, message):
        future = self._client.send(message.topic, message.value, partition=message.partition)
        self._pending.append((message, future))
        self._game.sent += message.topic == topics.BATCHES


@pytest.fixture
def relay(tmp_path):
    """Start a broker that sends its clients to a relay; return the relay."""
    port = free_port()
    with Relay(port) as relay, (tmp_path / "broker.log").open("ab") as log:
        broker = subprocess.Popen(
            [str(binary_path()), "broker"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent(),  # noqa: PLW1509 - it calls prctl and takes no lock
            env={
                "PATH": os.environ["PATH"],
                "LISTENER_URL": f"tcp://{HOST}:{port}",
                "ADVERTISED_LISTENER_URL": f"tcp://{HOST}:{relay.port}",
                "STORAGE_ENGINE": "memory://tansu/",
                "NO_COLOR": "1",
            },
        )  # fmt: skip
        try:
            yield relay
        finally:
            broker.kill()
            broker.wait()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/site.db"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def game(relay, database_url, tmp_path):
    bootstrap = f"{HOST}:{relay.port}"
    _ensure_topics(bootstrap)
    contract_path = tmp_path / "contract.toml"
    contract_path.write_text(CONTRACT)
    settings = WorkerSettings(
        bootstrap=bootstrap,
        database_url=database_url,
        models={name: {"contract": contract_path} for name in (ANNOUNCED, SILENT)},
        state_dir=tmp_path,
        allowed_lateness_s=LATENESS_S,
        source_patience_s=PATIENCE_S,
        sweep_interval_s=0.5,
        standstill_s=30.0,
        session_timeout_s=8.0,  # the embedded broker lets a join take six
    )
    engine = open_database(database_url)
    workers = Workers(settings, tmp_path / "workers")
    try:
        yield Game(engine, workers, relay, bootstrap)
    finally:
        workers.stop()
        engine.dispose()


def _ensure_topics(bootstrap):
    deadline = time.monotonic() + 60
    while True:
        try:
            ensure_topics(bootstrap, {topics.BATCHES: 3, topics.SUMMARIES: 2})
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_whatever_dies_every_event_is_counted_exactly_once(game, tmp_path):
    # given a stream whose counts are known, and three workers
    stream = Stream(load_contract(tmp_path / "contract.toml"), SEED)
    messages, held_back = stream.messages()
    for number in range(WORKERS):
        game.workers.start(number, instance=number == 0)

    # when workers are killed all the while, every connection is cut once, and some batches come at last
    game.play(messages)
    game.wait(game.settled)
    before = game.stored()
    game.send(held_back)
    game.wait(lambda: game.stored() >= stream.count and game.settled())
    game.wait(lambda: len(game.topic(topics.SUMMARIES)) >= game.sent)
    game.wait(game.settled)

    # then something did happen
    with read_session(game.engine) as session:
        windows = session.exec(select(WindowRow)).all()
        assessed = session.exec(select(AssessmentRow)).all()
    summaries = len(game.topic(topics.SUMMARIES))
    letters = game.topic(topics.DEAD_LETTERS)
    late = sum(window.late_events for window in windows)
    record = (
        f"seed {SEED}: {stream.count} batches in {len(windows)} windows; {game.sent} messages sent, "
        f"{before} counted before the last {len(held_back)}; {game.workers.killed} workers killed, "
        f"{game.workers.ended} ended by themselves, {game.cut} connections cut; {summaries - game.sent} "
        f"batches delivered again, {summaries - stream.count} summaries repeated; {late} events late, "
        f"{sum(window.revision - 1 for window in windows)} windows assessed again"
    )
    sys.stdout.write(f"\n{record}\n")
    assert stream.count >= 2000
    assert game.workers.killed >= 20
    assert game.cut > WORKERS
    assert summaries > game.sent > stream.count
    assert late > 0
    assert letters == []

    # and every batch is counted once
    assert game.stored() == stream.count
    assert {(row.model, row.run, row.lumisection) for row in windows} == set(stream.batches)
    for row in windows:
        _check(row, *stream.expected((row.model, row.run, row.lumisection)))

    # and every lumisection has exactly one first verdict, stored and on the topic
    first = Counter((row.model, row.run, row.lumisection) for row in assessed if row.revision == 1)
    assert first == dict.fromkeys(stream.batches, 1)
    latest = {row.window_id: row for row in sorted(assessed, key=lambda row: row.id)}
    assert all(latest[row.id].revision == row.revision for row in windows)
    game.wait(lambda: _published(game) == {row.verdict_id for row in assessed})


def _check(row, expected, inputs):
    counted = decode_summary(row.summary)
    place = (row.model, row.run, row.lumisection)
    assert (row.n_batches, row.n_events) == (len(SOURCES) * SEQUENCES, inputs.shape[0]), place
    assert (counted.n_events, counted.n_accept) == (expected.n_events, expected.n_accept), place
    assert np.array_equal(counted.inputs, expected.inputs), place
    assert np.array_equal(counted.score, expected.score), place
    assert np.array_equal(counted.maps, expected.maps), place
    # and once more by other means than our own
    for index, minimum in enumerate(counted.layout.minimums):
        codes = np.bincount(inputs[:, index] - minimum, minlength=counted.codes(index).size)
        assert np.array_equal(counted.codes(index), codes), place
    if row.model == ANNOUNCED:
        assert row.complete, place


def _published(game):
    return {Verdict.model_validate_json(value).id for value in game.topic(topics.VERDICTS)}
