"""Soak: a bounded broker and one worker at full rate for minutes. Does their memory stay flat?

Resident memory is sampled four times a second; each quarter of the run is represented by its largest
sample. The run ends with the counts of the windows, which must be those of the batches sent.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from sqlmodel import Session, func, select

from streams.broker.bounded import BoundedBroker
from streams.broker.embedded import ensure_topics
from streams.store.database import open_engine
from streams.store.records import WindowRow, create_tables
from streams.topics import BATCHES
from streams.worker import WorkerSettings, start_worker
from streams.worker_settings import GROUP
from tests.benchmarks.events import BATCH_EVENTS, CONTRACT
from tests.benchmarks.row import Row
from tests.benchmarks.stream_processes import MODEL

SAMPLE_S = 0.25
TIMEOUT_S = 600.0
FLAT = 1.10
"""How much larger the last quarter may be than the second: the first one fills caches and buffers."""


def _mebibytes(process_id):
    return psutil.Process(process_id).memory_info().rss / 2**20


def _counted_batches(engine, n_events):
    with Session(engine) as session:
        return (session.exec(select(func.sum(WindowRow.n_events))).one() or 0) // n_events


def _soak(folder, n_batches, n_events, limit_bytes):
    """Return samples (share of the batches counted, MiB of worker, broker, gate), seconds, rolls."""
    with BoundedBroker(log=folder / "broker.log", group=GROUP, limit_bytes=limit_bytes) as broker:
        ensure_topics(broker.bootstrap, {BATCHES: 2})
        settings = WorkerSettings(
            bootstrap=broker.bootstrap,
            database_url=f"sqlite:///{folder}/site.db",
            models={MODEL: {"contract": CONTRACT}},
            state_dir=folder / "worker",
            recent_dir=folder / "recent",
        )
        engine = open_engine(settings.database_url)
        create_tables(engine)
        worker = start_worker(settings, log=folder / "worker.log")
        command = [sys.executable, "-m", "tests.benchmarks.stream_processes", "produce", broker.bootstrap]
        producer = subprocess.Popen([*command, "2", str(n_batches), str(n_events), "0"])
        samples, begun = [], None
        started = time.monotonic()
        deadline = started + TIMEOUT_S
        try:
            while (counted := _counted_batches(engine, n_events)) < n_batches:
                if time.monotonic() > deadline or worker.poll() is not None:
                    raise AssertionError(f"{counted} of {n_batches} batches, worker {worker.poll()}")
                if counted:
                    begun = begun or time.monotonic()
                    processes = (worker.pid, broker.process_id, psutil.Process().pid)
                    samples.append((counted / n_batches, *map(_mebibytes, processes)))
                time.sleep(SAMPLE_S)
            seconds = time.monotonic() - (begun or started)
            processes = (worker.pid, broker.process_id, psutil.Process().pid)
            samples.append((1.0, *map(_mebibytes, processes)))
        finally:
            for process in (producer, worker):
                process.terminate()
                process.wait(30)
        if _counted_batches(engine, n_events) != n_batches:
            raise AssertionError("the windows do not hold the batches that were sent, each once")
        engine.dispose()
        return samples, seconds, broker.status.rolls


def _rows(samples, place, name, largest):
    quarters = []
    for quarter in range(4):
        within = [sample[place] for sample in samples if quarter / 4 <= sample[0] <= (quarter + 1) / 4]
        quarters.append(max(within, default=quarters[-1] if quarters else samples[0][place]))
    rows = [
        Row(name=f"{name}, resident at {25 * (number + 1)} %", value=value, unit="MiB")
        for number, value in enumerate(quarters)
    ]
    growth = quarters[3] / quarters[1]
    rows.append(
        Row(
            name=f"{name}, largest",
            value=max(quarters),
            unit="MiB",
            baseline="at 50 %",
            baseline_value=quarters[1],
            ratio=growth,
            target=f"<= {FLAT}x" if largest is None else f"<= {largest:.0f} MiB",
            met=growth <= FLAT if largest is None else max(quarters) <= largest,
        )
    )
    return rows


def run(quick):
    """Soak for minutes, through many rolls; quick: for seconds, which shows only that it works."""
    n_batches, n_events, limit = (60, 2000, 16 << 20) if quick else (5000, BATCH_EVENTS, 128 << 20)
    with tempfile.TemporaryDirectory(prefix="lumiwatch-soak-") as name:
        samples, seconds, rolls = _soak(Path(name), n_batches, n_events, limit)
    return [
        Row(name=f"soak of {seconds:.0f} s", value=n_batches * n_events / seconds, unit="events/s"),
        Row(name="rolls of the broker", value=float(rolls), unit="rolls"),
        *_rows(samples, 1, "worker", None),
        *_rows(samples, 2, "broker", 64 + 1.5 * limit / 2**20),
        *_rows(samples, 3, "gate and this benchmark", None),
    ]
