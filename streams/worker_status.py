"""The status of a worker: how far it is behind and what it has done, written every few seconds.

A worker that cannot keep up says so here; one that says nothing any more is stale. "Behind" is counted in
messages that wait and in the age of the data at hand, never in the pace of the work. Knows no engine: whoever
runs one hands in where its partitions end.
"""

import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Engine, delete
from sqlmodel import col, select

from streams.store.database import read_session, write_session
from streams.store.records import WorkerRow

LUMISECTION_S: Final = 23.3104
"""2^18 orbits of the LHC."""
REPORT_INTERVAL_S: Final = 2.0
STALE_AFTER: Final = timedelta(seconds=10)
FORGOTTEN_AFTER: Final = timedelta(days=1)
MOST_WORKERS: Final = 256
_RATE_OVER_S: Final = 10.0
_PAGE_BYTES: Final = resource.getpagesize()


class ModelProgress(BaseModel):
    """How far a worker is with one model.

    Attributes
    ----------
    run, lumisection
        Of the batch handled last.
    lag_s
        How old that batch was when it was handled.
    """

    model_config = ConfigDict(frozen=True)

    run: int
    lumisection: int
    lag_s: float = 0.0


class WorkerReport(BaseModel):
    """What a worker says of itself.

    Attributes
    ----------
    worker
        Its name in the group.
    lag_messages
        Messages in its partitions that it has not handled.
    lag_s
        Age of the data at hand while more waits; 0 when nothing does.
    events_per_s
        Over the last 10 s or so.
    rss_bytes
        Memory in use.
    counters
        What it has done since it started, by name.
    models
        By name.
    """

    model_config = ConfigDict(frozen=True)

    worker: str
    host: str
    pid: int
    started_at: AwareDatetime
    seen_at: AwareDatetime
    lag_messages: int = Field(ge=0)
    lag_s: float = Field(ge=0)
    events_per_s: float = Field(ge=0)
    rss_bytes: int = Field(ge=0)
    counters: dict[str, int] = Field(default_factory=dict)
    models: dict[str, ModelProgress] = Field(default_factory=dict)

    @property
    def lag_lumisections(self) -> float:
        """`lag_s` in lumisections."""
        return self.lag_s / LUMISECTION_S

    def stale(self, now: datetime) -> bool:
        """Whether the worker has said nothing for too long: it ended, or hangs."""
        return now - self.seen_at > STALE_AFTER


@dataclass
class Progress:
    """How far this worker is; told by whoever handles messages, from any thread.

    Parameters
    ----------
    clock
        Unix time.
    """

    clock: Callable[[], float] = time.time
    _handled: dict[tuple[str, int], tuple[int, float]] = field(default_factory=dict)
    _events: int = 0
    _models: dict[str, ModelProgress] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def handled(self, message: Any) -> None:
        """Take note that a message (topic, partition, offset, timestamp in s) was handled to its end."""
        with self._lock:
            sent_s = message.timestamp or self.clock()
            self._handled[message.topic, message.partition] = (message.offset + 1, sent_s)

    def counted(self, model: str, run: int, lumisection: int, n_events: int, sent_s: float | None) -> None:
        """Take note that a batch was counted; `sent_s` is the time at which it was sent, if known."""
        lag_s = max(self.clock() - sent_s, 0.0) if sent_s else 0.0
        with self._lock:
            self._events += n_events
            self._models[model] = ModelProgress(run=run, lumisection=lumisection, lag_s=lag_s)

    def behind(
        self, ends: Mapping[tuple[str, int], int], begins: Mapping[tuple[str, int], int], started_s: float
    ) -> tuple[int, float]:
        """Tell how far this worker is behind.

        Parameters
        ----------
        ends
            Offset of the next message to come, of each partition of this worker.
        begins
            Where this worker began to read, for partitions of which it has handled nothing yet.
        started_s
            Unix time of the worker's start.

        Returns
        -------
        int
            Messages that wait.
        float
            Age of the data at hand: of the message handled last, in that partition with waiting ones where it
            is oldest; since the start where none was handled. 0 when none waits.
        """
        now_s = self.clock()
        messages, age_s = 0, 0.0
        with self._lock:
            # what was handled of partitions that others have now says nothing: they may come back
            self._handled = {place: done for place, done in self._handled.items() if place in ends}
            for place, end in ends.items():
                at, sent_s = self._handled.get(place, (begins.get(place, end), started_s))
                if end > at:
                    messages += end - at
                    age_s = max(age_s, now_s - sent_s)
        return messages, age_s

    def reached(self) -> dict[tuple[str, int], int]:
        """Return the offset after the message handled last, by topic and partition."""
        with self._lock:
            return {place: offset for place, (offset, _) in self._handled.items()}

    def snapshot(self) -> tuple[int, dict[str, ModelProgress]]:
        """Return events counted since the start, and the models."""
        with self._lock:
            return self._events, dict(self._models)


class Reporter:
    """Writes the reports of this worker.

    Parameters
    ----------
    engine
        The site's database.
    name
        Of this worker, unique among those that run.
    progress
        How far it is.
    counters
        Gives what it has done since it started, by name.
    """

    def __init__(
        self, engine: Engine, name: str, progress: Progress, counters: Callable[[], Mapping[str, int]]
    ) -> None:
        self._engine = engine
        self._name = name
        self._progress = progress
        self._counters = counters
        self._started_at = datetime.now(UTC)
        self._events: list[tuple[float, int]] = [(time.monotonic(), 0)]

    def report(self, ends: Mapping[tuple[str, int], int], begins: Mapping[tuple[str, int], int]) -> None:
        """Write one report; `ends` and `begins` as in `Progress.behind`. Blocks on the database."""
        now = datetime.now(UTC)
        lag_messages, lag_s = self._progress.behind(ends, begins, self._started_at.timestamp())
        events, models = self._progress.snapshot()
        idle = {name: one.model_copy(update={"lag_s": 0.0}) for name, one in models.items()}
        report = WorkerReport(
            worker=self._name,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._started_at,
            seen_at=now,
            lag_messages=lag_messages,
            lag_s=lag_s,
            events_per_s=self._rate(events),
            rss_bytes=resident_bytes(),
            counters=dict(self._counters()),
            models=models if lag_messages else idle,
        )
        with write_session(self._engine, lock="streams.workers") as session:
            session.merge(WorkerRow(name=self._name, seen_at=now, report=report.model_dump_json()))
            session.execute(delete(WorkerRow).where(col(WorkerRow.seen_at) < now - FORGOTTEN_AFTER))

    def stopped(self) -> None:
        """Take the report back: the worker ends as it should, and nobody need miss it."""
        with write_session(self._engine, lock="streams.workers") as session:
            session.execute(delete(WorkerRow).where(col(WorkerRow.name) == self._name))

    def _rate(self, events: int) -> float:
        now = time.monotonic()
        self._events.append((now, events))
        while len(self._events) > 2 and now - self._events[1][0] >= _RATE_OVER_S:
            self._events.pop(0)
        then, before = self._events[0]
        return max(events - before, 0) / (now - then) if now > then else 0.0


def worker_reports(engine: Engine) -> list[WorkerReport]:
    """Return the latest report of each worker that did not end as it should, by name."""
    query = select(WorkerRow.report).order_by(col(WorkerRow.seen_at).desc()).limit(MOST_WORKERS)
    with read_session(engine) as session:
        reports = [WorkerReport.model_validate_json(report) for report in session.exec(query)]
    return sorted(reports, key=lambda report: report.worker)


def resident_bytes() -> int:
    """Return the memory that this process has in use; the most it ever had where only that is known."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
