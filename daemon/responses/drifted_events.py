"""The recorded events that a retraining works with: those of the incident, and those from before it.

Waits while there are too few. Knows neither jobs nor boards.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Final

from sqlalchemy.engine import Engine

from daemon.errors import StepFailed
from daemon.journal.lineage import Artefact, add_edge, run_artefact
from daemon.process.children import Interrupted
from daemon.responses.workshop import Progress, Task
from daemon.site.settings import Site
from daemon.store.database import transaction
from streams.events.dataset import Dataset
from streams.events.recorder import recent_dataset

_LOOK_FOR_EVENTS_S: Final = 0.5
_ANY_LUMISECTION: Final = 2**31 - 1


class DriftedEvents:
    """Collects events for responses.

    Parameters
    ----------
    engine
        The site's database.
    site
        Folders, and how many events are needed.
    stopping
        Set when the daemon stops: nothing is waited for any more.
    clock
        Gives aware UTC.
    """

    def __init__(self, engine: Engine, site: Site, stopping: Event, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._site = site
        self._stopping = stopping
        self._clock = clock

    def collect(self, task: Task, folder: Path, progress: Progress) -> tuple[Path, Path]:
        """Collect the incident's events and those from before it, as two dataset files.

        Files of before a restart are kept: what was trained on them may be there already, and the recorder
        may have dropped their events since.
        """
        files = folder / "recent.npz", folder / "reference.npz"
        if all(file.exists() for file in files):
            return files
        settings = self._site.models[task.model].settings.retrain
        recent = self._recent_events(task, progress)
        before = recent_dataset(
            self._site.recent_dir,
            task.model,
            run=task.run,
            first_lumisection=max(task.first_lumisection - settings.reference_lumisections, 0),
            last_lumisection=task.first_lumisection - 1,
            package=task.package,
        )
        now = self._clock()
        with transaction(self._engine) as session:
            run = run_artefact(task.model, task.run)
            for dataset, what in ((recent, "drifted events of"), (before, "events before the drift of")):
                add_edge(session, Artefact("dataset", dataset.id), run, what, now=now)
        recent.save(files[0])
        before.save(files[1])
        return files

    def _recent_events(self, task: Task, progress: Progress) -> Dataset:
        """Collect drifted events; wait for more lumisections while there are too few.

        Raises
        ------
        StepFailed
            Too few came in time: the run has ended, or the recorder's prescale is too large.
        """
        settings = self._site.models[task.model].settings.retrain
        deadline = self._clock() + timedelta(seconds=settings.events_timeout_s)
        last_lumisection = task.last_lumisection
        while True:
            recent = recent_dataset(
                self._site.recent_dir,
                task.model,
                run=task.run,
                first_lumisection=task.first_lumisection,
                last_lumisection=last_lumisection,
                package=task.package,
                max_events=settings.maximum_events,
            )
            if recent.n_events >= settings.minimum_events:
                return recent
            if self._clock() > deadline:
                raise StepFailed(
                    f"{recent.n_events} drifted events of run {task.run} were recorded, "
                    f"{settings.minimum_events} are needed (retrain.minimum_events): "
                    "wait for data, then ask for a new response"
                )
            progress(0.0, f"waiting for drifted events: {recent.n_events} of {settings.minimum_events}")
            if self._stopping.wait(_LOOK_FOR_EVENTS_S):
                raise Interrupted
            last_lumisection = _ANY_LUMISECTION
