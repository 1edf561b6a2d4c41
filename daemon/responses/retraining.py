"""One retraining of a model on drifted events, in a child process: for a response, or for a trial before it.

Knows no decision, and not what becomes of the candidate.
"""

from __future__ import annotations

from pathlib import Path
from threading import Event

from daemon.responses.drifted_events import DriftedEvents
from daemon.responses.jobs import run_job
from daemon.responses.workshop import Progress, Task
from daemon.site.settings import Site
from hw.archive import write_atomically
from hw.package import Package
from retrain.messages import RetrainJob, RetrainResult
from retrain.selection import SelectionSettings


def run_retraining(
    site: Site,
    task: Task,
    folder: Path,
    package: Package,
    events: DriftedEvents,
    *,
    progress: Progress,
    stopping: Event,
) -> RetrainResult:
    """Retrain on the incident's events against those from before it, unless the result is there already.

    Parameters
    ----------
    folder
        For specification, events, candidate, result and log.
    package
        The firmware to start from.
    stopping
        When set, the child is killed.

    Raises
    ------
    StepFailed
        There are too few events, or the job failed.
    Interrupted
        It was stopped.
    """
    model = site.models[task.model]
    folder.mkdir(parents=True, exist_ok=True)
    firmware = folder / "firmware.npz"
    write_atomically(firmware, package.model.to_npz_bytes())
    recent, reference = events.collect(task, folder, progress)
    settings = model.settings.retrain
    job = RetrainJob(
        firmware=firmware,
        contract=model.contract_path,
        reference=[reference],
        recent=[recent],
        output=folder / "candidate.npz",
        strategies=list(task.strategies),
        selection=SelectionSettings(minimum_events=settings.minimum_events, seed=settings.seed),
        seed=settings.seed,
        parent_package=task.package,
    )
    return run_job(
        "retrain.job",
        job,
        RetrainResult,
        folder,
        timeout_s=settings.timeout_s,
        progress=progress,
        stopping=stopping,
    )
