"""The recorder: keeps a bounded, prescaled sample of recent raw events on disk, for retraining.

It never slows the stream down: chosen events are copied into a bounded queue and written by a thread of its
own. What the queue cannot take is dropped and counted. Several workers record at once. Knows no broker and no
drift; how files look stands in `streams.events.segments`.
"""

import atexit
import logging
import os
import queue
import re
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from streams.contracts.contract import Contract
from streams.errors import RecorderError, StreamsError
from streams.events.batch import Batch
from streams.events.dataset import Dataset, concatenate, dataset_of
from streams.events.segments import NewBlock, Room, SegmentFolder, blocks, digest

logger = logging.getLogger(__name__)

DEFAULT_PRESCALE: Final = 5
DEFAULT_MAX_BYTES: Final = 512 * 1024 * 1024
DEFAULT_MAX_AGE: Final = timedelta(days=7)
DEFAULT_MAX_EVENTS: Final = 100_000
DEFAULT_MAX_FILES: Final = 20_000
QUEUE_BYTES: Final = 32 * 1024 * 1024
"""Events that wait to be written; more are dropped."""

_REMEMBERED_LUMISECTIONS: Final = 256
_LOOK_S: Final = 60.0
_COMPLAIN_S: Final = 60.0
_CLOSE_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True)
class RecorderSettings:
    """How much is kept.

    Attributes
    ----------
    folder
        One folder per model is made in it.
    prescale
        Every n-th event is kept.
    max_bytes, max_files
        Bounds for each model, over all workers; each further worker may exceed the bytes by a sixteenth.
    max_age
        What was written longer ago is deleted.
    max_events
        Events that one worker keeps of a lumisection and model, the first ones that come: at high rates the
        room then lasts for many lumisections.
    """

    folder: Path
    prescale: int = DEFAULT_PRESCALE
    max_bytes: int = DEFAULT_MAX_BYTES
    max_files: int = DEFAULT_MAX_FILES
    max_age: timedelta = DEFAULT_MAX_AGE
    max_events: int = DEFAULT_MAX_EVENTS


@dataclass
class RecorderCounters:
    """What became of the events that the prescale chose, since the start.

    Attributes
    ----------
    kept
        Written to disk.
    thinned
        Left out because their lumisection had enough.
    dropped
        Lost because the disk did not keep up.
    failures
        Batches that could not be written.
    """

    kept: int = 0
    thinned: int = 0
    dropped: int = 0
    failures: int = 0


@dataclass(frozen=True)
class _Job:
    """The chosen events of a batch on their way to the disk, as copies."""

    batch: Batch
    contract: Contract
    prescale: int

    @property
    def size(self) -> int:
        """Bytes of the arrays."""
        return int(self.batch.inputs.nbytes + self.batch.score.nbytes + self.batch.accept.nbytes)


class Recorder:
    """Writes recent events, from any thread of any number of processes.

    Parameters
    ----------
    settings
        What to keep, and where.
    clock
        Unix time, for the age of files.

    Raises
    ------
    RecorderError
        The settings make no sense.
    """

    def __init__(self, settings: RecorderSettings, clock: Callable[[], float] = time.time) -> None:
        if settings.prescale < 1:
            raise RecorderError(f"recorder prescale {settings.prescale}: give 1 or more")
        self.counters = RecorderCounters()
        self._settings = settings
        self._clock = clock
        self._room = Room(settings.max_bytes, settings.max_files, settings.max_age.total_seconds())
        self._writer = f"{os.getpid()}-{uuid.uuid4()}"
        self._folders: dict[str, SegmentFolder] = {}
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | threading.Event | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._taken: OrderedDict[tuple[str, int, int], int] = OrderedDict()
        self._complained_s = -_COMPLAIN_S
        self._thread = threading.Thread(target=self._write_all, name="lumiwatch-recorder", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def record(self, batch: Batch, contract: Contract) -> bool:
        """Take a copy of every n-th event of a batch, to be written soon; returns at once, raises nothing.

        Returns
        -------
        bool
            Whether events were taken.
        """
        prescale = self._settings.prescale
        chosen = slice(batch.sequence % prescale, None, prescale)
        n_events = len(range(batch.n_events)[chosen])
        n_bytes = n_events * (2 * contract.n_inputs + 5)
        if not n_events or not self._thread.is_alive() or not self._admits(batch, n_events, n_bytes):
            return False
        self._jobs.put(_Job(_copied(batch, chosen), contract, prescale))
        return True

    def flush(self) -> None:
        """Wait until everything taken so far is written."""
        if self._thread.is_alive():
            done = threading.Event()
            self._jobs.put(done)
            done.wait()

    def close(self) -> None:
        """Write what waits, for at most 10 s, and take nothing more."""
        atexit.unregister(self.close)
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join(_CLOSE_TIMEOUT_S)

    def _admits(self, batch: Batch, n_events: int, n_bytes: int) -> bool:
        place = (batch.model, batch.run, batch.lumisection)
        with self._lock:
            taken = self._taken.get(place, 0)
            if taken >= self._settings.max_events:
                self.counters.thinned += n_events
                return False
            if self._waiting_bytes + n_bytes > QUEUE_BYTES:
                self.counters.dropped += n_events
                return False
            self._taken[place] = taken + n_events
            while len(self._taken) > _REMEMBERED_LUMISECTIONS:
                self._taken.popitem(last=False)
            self._waiting_bytes += n_bytes
            return True

    def _write_all(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_LOOK_S)
            except queue.Empty:
                self._contained(self._make_room)
                continue
            if job is None:
                break
            if isinstance(job, threading.Event):
                job.set()
                continue
            self._contained(partial(self._write, job))
            with self._lock:
                self._waiting_bytes -= job.size
        for folder in self._folders.values():
            folder.close()

    def _write(self, job: _Job) -> None:
        batch = job.batch
        made_by = f"recorder prescale={job.prescale} source={batch.source} package={batch.package}"
        dataset = dataset_of(
            job.contract,
            batch.inputs,
            made_by=made_by,
            run=np.full(batch.n_events, batch.run, dtype=np.int64),
            lumisection=np.full(batch.n_events, batch.lumisection, dtype=np.int64),
            score=batch.score,
            accept=batch.accept,
        )
        folder = self._folders.get(batch.model)
        if folder is None:
            path = model_folder(self._settings.folder, batch.model)
            folder = self._folders[batch.model] = SegmentFolder(path, self._room, self._writer, self._clock)
        block = NewBlock(batch.source, batch.sequence, dataset.to_bytes())
        folder.append(batch.run, batch.lumisection, batch.package, block)
        self.counters.kept += batch.n_events

    def _make_room(self) -> None:
        for folder in self._folders.values():
            folder.make_room()

    def _contained(self, work: Callable[[], None]) -> None:
        """Judging goes on whatever happens here: retraining will say that events are missing."""
        try:
            work()
        except (OSError, StreamsError) as error:
            self.counters.failures += 1
            if time.monotonic() - self._complained_s >= _COMPLAIN_S:
                self._complained_s = time.monotonic()
                cause = error.strerror if isinstance(error, OSError) else error
                logger.warning("recent events are not kept: %s (%s)", self._settings.folder, cause)
        except Exception:
            self.counters.failures += 1
            logger.exception("the recorder failed: recent events are missing")


def recent_dataset(
    folder: Path,
    model: str,
    *,
    first_lumisection: int,
    last_lumisection: int,
    run: int | None = None,
    package: str | None = None,
    max_events: int | None = None,
) -> Dataset:
    """Return the recorded events of a range of lumisections as one dataset, in their order.

    Parameters
    ----------
    folder
        The recorder's folder.
    first_lumisection, last_lumisection
        Both included.
    run, package
        Only of this run, scored by this package; None for all.
    max_events
        Stop after the batch that reaches this number.

    Raises
    ------
    RecorderError
        Nothing was recorded there.
    """
    parts: list[Dataset] = []
    events = 0
    for block in blocks(model_folder(folder, model), first_lumisection, last_lumisection):
        if run is not None and block.name.run != run:
            continue
        if package is not None and block.name.package != digest(package):
            continue
        content = block.content()
        if content is None:  # deleted meanwhile to make room, or cut short by a kill
            continue
        parts.append(Dataset.from_bytes(content, source=str(block.path)))
        events += parts[-1].n_events
        if max_events is not None and events >= max_events:
            break
    if not parts:
        of_package = f" of package {package[:12]}" if package is not None else ""
        raise RecorderError(
            f"no events of {model} recorded in LS {first_lumisection} to {last_lumisection}{of_package}: "
            "wait for data, or choose another range"
        )
    if len(parts) == 1:
        return parts[0]
    return concatenate(parts, made_by=f"recent LS {first_lumisection}-{last_lumisection} of {model}")


def model_folder(folder: Path, model: str) -> Path:
    """Return where a model's events are kept: its name, or a digest where the name cannot be a folder's."""
    return folder / (model if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", model) else digest(model))


def _copied(batch: Batch, chosen: slice) -> Batch:
    return replace(
        batch,
        # column by column, as a batch lies in memory: several times faster than row by row
        inputs=batch.inputs.T[:, chosen].copy().T,
        score=batch.score[chosen].copy(),
        accept=batch.accept[chosen].copy(),
    )
