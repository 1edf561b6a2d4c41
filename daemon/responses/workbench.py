"""The real workshop: retraining, building and benching in child processes of the rooms that know how.

Every job writes its files into the response's folder; a job whose result is there already is not
done again. What happens to a board is in `daemon.responses.board_work`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from threading import Event

import numpy as np
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.errors import StepFailed
from daemon.responses.board_work import BoardWork, package_path
from daemon.responses.drifted_events import DriftedEvents
from daemon.responses.jobs import RESULT_FILE, adopt_package, run_job
from daemon.responses.retraining import run_retraining
from daemon.responses.workshop import Applied, Benched, Built, Progress, Retrained, Task
from daemon.site.keys import ensure_keys, site_trusted_keys
from daemon.site.settings import Site
from daemon.store.views import BoardStatus
from hw.job import BenchResult, BenchSpec, BuildResult, BuildSpec
from hw.manifest import Lineage
from hw.package import Package, image_sizes, open_package
from hw.plan import PlanKind, plan
from hw.report import BenchReport
from retrain.records import record_result
from streams.conditions import decode_conditions
from streams.counting.codec import decode_summary
from streams.events.dataset import Dataset
from streams.judging.reference import successor_reference
from streams.judging.reference_store import load_reference, register_reference
from streams.store.records import ConditionsRow, WindowRow


class Workbench:
    """Does the work of responses; see `daemon.responses.workshop.Workshop`.

    Parameters
    ----------
    engine
        The site's database.
    site
        Models, folders and keys.
    stopping
        Set when the daemon stops: child processes are killed.
    clock
        Gives aware UTC.
    """

    def __init__(self, engine: Engine, site: Site, stopping: Event, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._site = site
        self._stopping = stopping
        self._clock = clock
        self.boards = BoardWork(engine, site, clock, stopping)
        self._events = DriftedEvents(engine, site, stopping, clock)

    def package_on_board(self, model: str) -> str:
        """Id of the package that the model's board runs."""
        return self.boards.package_on_board(model)

    def board_status(self, model: str) -> BoardStatus:
        """Ask a board what it runs; never raises."""
        return self.boards.status(model)

    def retrain(self, task: Task, progress: Progress) -> Retrained:
        """Retrain on the incident's events against those from before it."""
        result = run_retraining(
            self._site, task, task.folder / "retrain", self._package(task.package), self._events,
            progress=progress, stopping=self._stopping,
        )  # fmt: skip
        if result.status != "candidate" or result.model is None or result.training_id is None:
            raise StepFailed(f"no candidate: {result.reason}")
        record_result(self._engine, result, finished_at=self._clock())
        return Retrained(
            training_id=result.training_id,
            strategy=result.chosen or "unknown",
            candidate=result.model.path,
            dataset_ids=tuple(result.dataset_ids),
            summary=result.reason,
            table=tuple(outcome.model_dump(mode="json") for outcome in result.strategies),
        )

    def build(self, task: Task, retrained: Retrained, progress: Progress) -> Built:
        """Build, bench and sign a package; an image of the same structure is used again."""
        ensure_keys(self._site)
        model = self._site.models[task.model]
        previous = self._package(task.package)
        folder = task.folder / "build"
        folder.mkdir(parents=True, exist_ok=True)
        spec = BuildSpec(
            model=retrained.candidate,
            out=folder / "candidate.lwpkg",
            signing_key=self._site.signing_key_file,
            trusted_keys=self._site.trusted_keys_dir,
            reuse=package_path(self._engine, self._site, task.package),
            version=f"{previous.manifest.version.split('+')[0]}+{task.response_id}",
            toolchain=model.settings.firmware.toolchain,
            inputs=self._bench_inputs(task),
            lineage=Lineage(
                datasets=retrained.dataset_ids, parent_package=task.package, training=retrained.training_id
            ),
            created=self._clock(),
        )
        timeout_s = model.settings.firmware.build_timeout_s
        result = run_job(
            "hw.job",
            spec,
            BuildResult,
            folder,
            timeout_s=timeout_s,
            progress=progress,
            stopping=self._stopping,
        )
        package = adopt_package(self._engine, self._site, result, now=self._clock())
        way = plan(previous.model, package.model, image_bytes=image_sizes(package))
        how = "image used again" if result.reused_image else f"compiled in {result.build_s:.1f} s"
        return Built(
            package_id=package.id,
            path=self._site.packages_dir / f"{package.id}.lwpkg",
            plan_kind=way.kind.value,
            plan_reason=way.reason,
            summary=f"package {package.short_id} signed ({how}); plan: {way.kind.value}, {way.reason}",
            detail={
                "reused_image": result.reused_image,
                "build_s": result.build_s,
                "changed_segments": list(way.changed_segments),
                "changed_words": way.changed_words,
                "transfer_bytes": way.transfer_bytes,
                "dead_time_s": way.dead_time_s,
                "dead_time_source": way.dead_time_source,
                "changed_partitions": list(way.changed_partitions),
                "lost": way.lost,
                "bench": result.bench.model_dump(mode="json"),
            },
        )

    def bench(self, task: Task, built: Built, progress: Progress) -> Benched:
        """Compare the package's image with the emulator on recorded events, before any board is touched."""
        return self._bench(task, built, task.folder / "bench", None, progress)

    def apply(self, task: Task, built: Built, progress: Progress) -> Applied:
        """Load and switch the board, then compare the board itself with the emulator.

        Raises
        ------
        StepFailed
            The board went back by itself, or differs from the emulator: the response has to roll back.
        """
        progress(0.0, "loading the inactive weight bank")
        previous = self._package(task.package)
        report = self.boards.apply(
            task.model, self._package(built.package_id), previous, built.plan_kind, task.decided_by
        )
        address = self.boards.address(task.model)
        # a comparison from before a crash says nothing about the board of now
        (task.folder / "board-bench" / RESULT_FILE).unlink(missing_ok=True)
        progress(0.3, f"{report.reason}; comparing the board with the emulator")
        with self.boards.turn(
            task.model
        ):  # the bench is a process of its own, and a board may take one client
            benched = self._bench(task, built, task.folder / "board-bench", address, progress)
        if not benched.passed:
            raise StepFailed(f"the board differs from the emulator: {benched.summary}")
        return Applied(
            package_id=built.package_id,
            previous_package=task.package,
            summary=(
                f"package {built.package_id[:12]} runs on the board: {report.reason}; "
                f"switched in {report.switch_s * 1e3:.1f} ms; {benched.summary}"
            ),
            detail={"apply": report.model_dump(mode="json"), "bench": benched.report},
        )

    def reload(self, task: Task, progress: Progress) -> Applied:
        """Write the same weights once more where the board's differ, and prove the board by golden vectors.

        Raises
        ------
        HardwareError, StepFailed
            The board runs something else, does not answer, or differs although its weights are right.
        """
        progress(0.0, f"comparing the board's weights with package {task.package[:12]}")
        package = self._package(task.package)
        report = self.boards.apply(task.model, package, package, PlanKind.WEIGHTS.value, task.decided_by)
        return Applied(
            package_id=task.package,
            previous_package=task.package,
            summary=f"package {task.package[:12]} runs on the board: {report.reason}",
            detail={"apply": report.model_dump(mode="json")},
        )

    def roll_back(self, task: Task, progress: Progress) -> str:
        """Make the board run the package of before the response."""
        progress(0.0, f"bringing package {task.package[:12]} back")
        return self.boards.roll_back(task.model, self._package(task.package), task.decided_by)

    def successor_reference(
        self, task: Task, package_id: str, run: int, first_lumisection: int, last_lumisection: int
    ) -> str:
        """Register a reference from the verified windows, with the calibration of the old one."""
        if task.reference_id is None:
            raise StepFailed("the incident names no reference: build and approve one by hand")
        with Session(self._engine) as session:
            windows = session.exec(
                select(WindowRow)
                .where(
                    WindowRow.model == task.model,
                    WindowRow.run == run,
                    WindowRow.package == package_id,
                    col(WindowRow.lumisection).between(first_lumisection, last_lumisection),
                )
                .order_by(col(WindowRow.lumisection))
            ).all()
            conditions = session.exec(
                select(ConditionsRow).where(
                    ConditionsRow.model == task.model,
                    ConditionsRow.run == run,
                    col(ConditionsRow.lumisection).in_([window.lumisection for window in windows]),
                )
            ).all()
        known = {row.lumisection: decode_conditions(row.document.encode()) for row in conditions}
        windows = [window for window in windows if window.lumisection in known]
        parent = load_reference(self._engine, task.reference_id)
        reference = successor_reference(
            parent,
            [decode_summary(window.summary) for window in windows],
            package_id,
            built_from=(
                f"verification of {task.response_id}: "
                f"LS {first_lumisection}-{last_lumisection} of run {run}, "
                f"approved by {task.decided_by}"
            ),
            pileups=[known[window.lumisection].pileup for window in windows],
            values=[parent.header.value_in(known[window.lumisection]) for window in windows],
        )
        return register_reference(self._engine, reference, task.decided_by, self._clock()).id

    def _bench_inputs(self, task: Task) -> Path:
        """Write the incident's events as the plain array that the bench reads."""
        file = task.folder / "events.npy"
        if not file.exists():
            temporary = file.with_suffix(".part.npy")
            np.save(temporary, Dataset.load(task.folder / "retrain" / "recent.npz").inputs)
            temporary.replace(file)
        return file

    def _bench(
        self, task: Task, built: Built, folder: Path, board: str | None, progress: Progress
    ) -> Benched:
        folder.mkdir(parents=True, exist_ok=True)
        spec = BenchSpec(
            package=built.path,
            trusted_keys=self._site.trusted_keys_dir,
            board=board,
            inputs=self._bench_inputs(task),
        )
        timeout_s = self._site.models[task.model].settings.firmware.build_timeout_s
        result = run_job(
            "hw.job",
            spec,
            BenchResult,
            folder,
            timeout_s=timeout_s,
            progress=progress,
            stopping=self._stopping,
        )
        return Benched(
            passed=result.passed,
            summary=_bench_sentence(result.bench),
            report=result.bench.model_dump(mode="json"),
        )

    def _package(self, package_id: str) -> Package:
        return open_package(package_path(self._engine, self._site, package_id), site_trusted_keys(self._site))


def _bench_sentence(report: BenchReport) -> str:
    stages = ", ".join(
        f"{stage.name}: {stage.mismatching_bits} of {stage.events} events' bits differ"
        if stage.mismatching_bits
        else f"{stage.name}: {stage.events} events bit-identical"
        for stage in report.stages[1:]
        if stage.binding
    )
    return f"against the emulator: {stages}"
