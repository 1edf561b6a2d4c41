"""End to end: batches through the real embedded broker into windows, against a Faust agent that only reads.

Rates are taken between a tenth of the batches and the last one, so that no start-up counts. Every run ends
with the counts of the windows, which must be those of the batches sent. What each process used of the
cores meanwhile is recorded too: on a small machine it says what the limit is.
"""

import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
from sqlmodel import Session, func, select

from streams.broker.embedded import EmbeddedBroker, ensure_topics
from streams.store.database import open_engine
from streams.store.records import WindowRow, create_tables
from streams.topics import BATCHES
from streams.worker import WorkerSettings, start_worker
from tests.benchmarks.events import BATCH_EVENTS, CONTRACT
from tests.benchmarks.row import Row
from tests.benchmarks.stream_processes import MODEL

NEEDED_EVENTS_PER_S = 750_000
N_BATCHES = 250
TIMEOUT_S = 120.0
SETTLING_S = 8.0
HELD_BACK_S = 60.0
"""The group misses a worker after this time: longer than one is held back while topics are filled."""
BEGIN_SHARE = 0.1


class Meter:
    """Times how a count grows from a tenth to its end, and what processes use of the cores meanwhile."""

    def __init__(self, count, total, processes):
        self._count, self._total, self._processes = count, total, processes

    def measure(self):
        """Return batches per second, and cores in use by process."""
        begin, begun_at, before = self._wait(self._total * BEGIN_SHARE)
        end, ended_at, after = self._wait(self._total)
        seconds = max(ended_at - begun_at, 1e-3)
        cores = {name: (after[name] - before[name]) / seconds for name in before}
        return (end - begin) / seconds, cores

    def _wait(self, target):
        deadline = time.monotonic() + TIMEOUT_S
        while (count := self._count()) < target:
            if time.monotonic() > deadline:
                raise AssertionError(f"{count} of {target} batches after {TIMEOUT_S:.0f} s")
            time.sleep(0.01)
        return count, time.monotonic(), {name: _cpu(process) for name, process in self._processes.items()}


def _cpu(process_id):
    try:
        times = psutil.Process(process_id).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


@contextmanager
def _process(*arguments):
    command = [sys.executable, "-m", "tests.benchmarks.stream_processes", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def _broker(folder, partitions):
    with EmbeddedBroker(log=folder / "broker.log") as broker:
        ensure_topics(broker.bootstrap, {BATCHES: partitions})
        yield broker


def _produce(broker, partitions, n_batches, n_events, first=0):
    return _process("produce", broker.bootstrap, *map(str, (partitions, n_batches, n_events, first)))


def _fill(broker, partitions, n_batches, n_events):
    begun = time.monotonic()
    with _produce(broker, partitions, n_batches, n_events) as producer:
        if producer.wait(TIMEOUT_S):
            raise AssertionError("the producer failed")
    return n_batches / (time.monotonic() - begun)


def _only_read(broker, folder, n_batches):
    with _process("read", broker.bootstrap, str(folder)) as reader:
        count = folder / "count"

        def seen():
            return int(count.read_text() or 0) if count.exists() else 0

        return Meter(seen, n_batches, {"reader": reader.pid, "broker": broker.process_id}).measure()


class Site:
    """A database and workers on it."""

    def __init__(self, folder, broker, n_events):
        self._folder, self._broker, self._n_events = folder, broker, n_events
        self._url = f"sqlite:///{folder}/site.db"
        self.engine = open_engine(self._url)
        create_tables(self.engine)
        self.workers = {}

    def start(self, number, session_timeout_s):
        folder = self._folder / f"worker-{number}"
        settings = WorkerSettings(
            bootstrap=self._broker.bootstrap,
            database_url=self._url,
            models={MODEL: {"contract": CONTRACT}},
            state_dir=folder,
            instance=f"worker-{number}",
            session_timeout_s=session_timeout_s,
        )
        self.workers[f"worker {number}"] = start_worker(settings, log=folder / "log")

    def batches(self):
        """How many batches the windows hold."""
        with Session(self.engine) as session:
            return (session.exec(select(func.sum(WindowRow.n_events))).one() or 0) // self._n_events

    def process_ids(self):
        return {name: worker.pid for name, worker in self.workers.items()}

    def close(self):
        for worker in self.workers.values():
            worker.kill()
            worker.wait()
        self.engine.dispose()


@contextmanager
def _site(folder, broker, n_events, n_workers, session_timeout_s=10.0):
    folder.mkdir()
    site = Site(folder, broker, n_events)
    try:
        for number in range(n_workers):
            site.start(number, session_timeout_s)
        yield site
    finally:
        site.close()


def _measured(site, broker, n_batches, producer=None):
    processes = {**site.process_ids(), "broker": broker.process_id}
    if producer is not None:
        processes["producer"] = producer.pid
    rate, cores = Meter(site.batches, n_batches, processes).measure()
    if site.batches() != n_batches:
        raise AssertionError("the windows do not hold the batches that were sent, each once")
    return rate, cores


def _use(cores):
    return ", ".join(f"{name} {used:.2f}" for name, used in cores.items())


def _stored(folder, n_batches, n_events):
    """One worker on a topic that is full, and the reader on the same."""
    with _broker(folder, 1) as broker:
        produced = _fill(broker, 1, n_batches, n_events) * n_events
        (folder / "reader").mkdir()
        read, reading = _only_read(broker, folder / "reader", n_batches)
        with _site(folder / "site", broker, n_events, 1) as site:
            rate, cores = _measured(site, broker, n_batches)
    read, rate = read * n_events, rate * n_events
    return [
        Row(name="producer alone (kafka-python)", value=produced, unit="events/s"),
        Row(name=f"Faust agent that only reads (cores: {_use(reading)})", value=read, unit="events/s"),
        Row(
            name=f"one worker, stored batches (cores: {_use(cores)})",
            value=rate,
            unit="events/s",
            baseline="Faust agent that only reads",
            baseline_value=read,
            ratio=rate / read,
            target=">= 0.7x",
            met=rate >= 0.7 * read,
        ),
        Row(
            name="one worker, stored batches, against the accept rate at the HL-LHC",
            value=rate,
            unit="events/s",
            target=f">= {NEEDED_EVENTS_PER_S:,} events/s",
            met=rate >= NEEDED_EVENTS_PER_S,
        ),
    ]


def _small(folder, n_batches, n_events):
    """One worker on a few small batches: that they are all counted, each once."""
    with _broker(folder, 1) as broker:
        _fill(broker, 1, n_batches, n_events)
        with _site(folder / "site", broker, n_events, 1) as site:
            rate, _ = _measured(site, broker, n_batches)
    return [Row(name="one worker, a few small batches", value=rate * n_events, unit="events/s")]


def _live(folder, n_batches, n_events):
    """One worker, at work already, while the producer sends as fast as it can."""
    with _broker(folder, 1) as broker, _site(folder / "site", broker, n_events, 1) as site:
        _fill(broker, 1, 1, n_events)
        Meter(site.batches, 1, {}).measure()
        with _produce(broker, 1, n_batches - 1, n_events, first=1) as producer:
            rate, cores = _measured(site, broker, n_batches, producer)
    return [
        Row(
            name=f"one worker beside a live producer (cores: {_use(cores)})",
            value=rate * n_events,
            unit="events/s",
            target=f">= {NEEDED_EVENTS_PER_S:,} events/s",
            met=rate * n_events >= NEEDED_EVENTS_PER_S,
        )
    ]


def _scaled(folder, n_batches, n_events):
    """One worker, then two, on two partitions that are filled after the workers have shared them."""
    rates, uses = [], []
    for n_workers in (1, 2):
        place = folder / f"workers-{n_workers}"
        place.mkdir()
        with (
            _broker(place, 2) as broker,
            _site(place / "site", broker, n_events, n_workers, HELD_BACK_S) as site,
        ):
            _hold_back(site)
            _fill(broker, 2, n_batches, n_events)
            _let_go(site)
            rate, cores = _measured(site, broker, n_batches)
        rates.append(rate * n_events)
        uses.append(cores)
    one, two = rates
    return Row(
        name=f"two workers, two partitions (cores: {_use(uses[1])})",
        value=two,
        unit="events/s",
        baseline=f"one worker (cores: {_use(uses[0])})",
        baseline_value=one,
        ratio=two / one,
        target=">= 1.6x",
        met=two >= 1.6 * one,
    )


def _hold_back(site):
    """Stop the workers once they share the partitions, shorter than the group takes to miss them."""
    time.sleep(SETTLING_S)
    for worker in site.workers.values():
        psutil.Process(worker.pid).suspend()


def _let_go(site):
    for worker in site.workers.values():
        psutil.Process(worker.pid).resume()


def run(quick):
    """Run everything; quick: a few small batches, one worker."""
    with tempfile.TemporaryDirectory(prefix="lumiwatch-bench-") as name:
        folder = Path(name)
        for part in ("stored", "live", "scaled"):
            (folder / part).mkdir()
        if quick:
            return _small(folder / "stored", 20, 500)
        return [
            *_stored(folder / "stored", N_BATCHES, BATCH_EVENTS),
            *_live(folder / "live", N_BATCHES, BATCH_EVENTS),
            _scaled(folder / "scaled", N_BATCHES, BATCH_EVENTS),
        ]
