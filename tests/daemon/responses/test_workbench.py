"""The real workshop on a real emulated board: build, bench, reconfigure, roll back. Small firmware."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from sqlalchemy.engine import Engine
from sqlmodel import Session, select

from daemon.errors import ChildFailed, NotFound, StepFailed
from daemon.operations import utc_now
from daemon.responses.board_work import BoardWork
from daemon.responses.workbench import Workbench
from daemon.responses.workshop import Retrained, Task
from daemon.site.keys import ensure_keys, site_trusted_keys
from daemon.site.settings import Site, load_site
from daemon.store.database import open_database
from hw.boards.emulated import EmulatedBoardProcess, start_emulated_board
from hw.job import BuildSpec, build
from hw.network import FirmwareModel
from hw.package import Package, open_package
from hw.records import BoardOperationRecord
from streams.errors import RecorderError
from streams.events.dataset import dataset_of
from tests.support.daemon import copy_site
from tests.support.hw import random_inputs, random_model

pytestmark = pytest.mark.slow


@dataclass
class Plant:
    site: Site
    engine: Engine
    package: Package
    board: EmulatedBoardProcess
    workbench: Workbench
    reports: list[tuple[float, str]]

    def progress(self, fraction: float, message: str) -> None:
        self.reports.append((fraction, message))

    def task(self, folder: str) -> Task:
        """A task whose recent events are there, as after a retraining."""
        model = self.site.models["anomaly"]
        task = Task(
            response_id=f"{folder}-r1",
            incident_id=folder,
            model="anomaly",
            simulated=True,
            run=1,
            first_lumisection=61,
            last_lumisection=64,
            package=self.package.id,
            reference_id=None,
            strategies=("input_recalibration",),
            decided_by="local",
            automatic=False,
            folder=self.site.state_dir / "responses" / folder,
        )
        recent = task.folder / "retrain" / "recent.npz"
        recent.parent.mkdir(parents=True)
        inputs = random_inputs(3000, model.contract.n_inputs)
        dataset_of(model.contract, inputs, made_by="test").save(recent)
        return task

    def retrained(self, task: Task, change: int = 1) -> Retrained:
        """A candidate with one changed word."""
        words = self.package.model.memory().copy()
        words[0] += change
        candidate = task.folder / "candidate.npz"
        candidate.write_bytes(self.package.model.with_memory(words).to_npz_bytes())
        return Retrained(
            training_id="d" * 64,
            strategy="bias",
            candidate=candidate,
            dataset_ids=("e" * 64,),
            summary="passes",
        )


def first_package(site: Site, model: FirmwareModel, folder: Path) -> Package:
    ensure_keys(site)
    site.packages_dir.mkdir(parents=True)
    file = folder / "model.npz"
    file.write_bytes(model.to_npz_bytes())
    spec = BuildSpec(
        model=file,
        out=folder / "first.lwpkg",
        signing_key=site.signing_key_file,
        version="1",
        toolchain=site.models["anomaly"].settings.firmware.toolchain,
        events=1000,
    )
    result = build(spec)
    path = site.packages_dir / f"{result.package_id}.lwpkg"
    spec.out.replace(path)
    return open_package(path, site_trusted_keys(site))


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    folder = tmp_path_factory.mktemp("plant")
    site = load_site(copy_site(folder))
    engine = open_database(site.database_url)
    contract = site.models["anomaly"].contract
    model = random_model((57, 4, 3), contract_hash=contract.hash, input_names=contract.input_names)
    package = first_package(site, model, folder)
    assert package.path is not None
    with start_emulated_board(package.path, sorted(site.trusted_keys_dir.glob("*.pub"))) as board:
        announcement = site.board_file("anomaly")
        announcement.parent.mkdir(parents=True)
        announcement.write_text(json.dumps({"address": board.address}))
        yield Plant(site, engine, package, board, Workbench(engine, site, Event(), utc_now), [])
    engine.dispose()


def test_a_candidate_is_built_proved_applied_and_rolled_back(plant: Plant):
    task = plant.task("whole")
    retrained = plant.retrained(task)

    built = plant.workbench.build(task, retrained, plant.progress)
    assert built.plan_kind == "weights"
    assert built.detail["reused_image"]
    assert built.detail["changed_words"] == 1

    assert plant.workbench.bench(task, built, plant.progress).passed
    assert plant.workbench.package_on_board("anomaly") == plant.package.id

    applied = plant.workbench.apply(task, built, plant.progress)
    assert plant.workbench.package_on_board("anomaly") == built.package_id == applied.package_id
    stages = [stage["name"] for stage in applied.detail["bench"]["stages"]]
    assert any(name.startswith("board ") for name in stages)

    again = plant.workbench.apply(task, built, plant.progress)
    assert again.detail["apply"]["outcome"] == "unchanged"

    plant.workbench.roll_back(task, plant.progress)
    assert plant.workbench.package_on_board("anomaly") == plant.package.id
    with Session(plant.engine) as session:
        operations = session.exec(select(BoardOperationRecord)).all()
    assert [operation.to_package for operation in operations][-1] == plant.package.id
    assert {operation.operator for operation in operations} == {"local"}
    assert plant.reports


def test_a_build_that_was_done_is_not_done_again(plant: Plant):
    task = plant.task("repeated")
    retrained = plant.retrained(task, change=2)
    first = plant.workbench.build(task, retrained, plant.progress)
    retrained.candidate.unlink()  # a second build would need it

    assert plant.workbench.build(task, retrained, plant.progress) == first


def test_a_board_that_runs_something_else_is_not_touched(plant: Plant):
    task = plant.task("stranger")
    candidate = open_package(
        plant.workbench.build(task, plant.retrained(task, change=3), plant.progress).path,
        site_trusted_keys(plant.site),
    )
    work = BoardWork(plant.engine, plant.site, utc_now)

    with pytest.raises(StepFailed, match="somebody reconfigured it"):
        work.apply("anomaly", candidate, candidate, "weights", "local")
    assert plant.workbench.package_on_board("anomaly") == plant.package.id


def test_a_broken_candidate_fails_the_build_with_the_cause(plant: Plant):
    task = plant.task("broken")
    retrained = plant.retrained(task)
    retrained.candidate.write_bytes(b"no model")

    with pytest.raises(ChildFailed, match=r"model"):
        plant.workbench.build(task, retrained, plant.progress)


def test_without_recorded_events_the_retraining_says_so(plant: Plant):
    with pytest.raises(RecorderError, match="LS 61 to 64"):
        plant.workbench.retrain(plant.task("no-events"), plant.progress)


def test_a_package_that_is_not_here_is_said(plant: Plant):
    task = plant.task("missing").model_copy(update={"package": "0" * 64})

    with pytest.raises(NotFound, match="not at this site"):
        plant.workbench.roll_back(task, plant.progress)


def test_a_silent_board_is_an_answer(plant: Plant):
    announcement = plant.site.board_file("anomaly")
    before = announcement.read_text()
    announcement.write_text(json.dumps({"address": "127.0.0.1:9"}))
    try:
        status = plant.workbench.board_status("anomaly")
    finally:
        announcement.write_text(before)

    assert not status.reachable
    assert status.error
    assert plant.workbench.board_status("anomaly").counters["events"] >= 0
    assert np.isin(plant.workbench.board_status("anomaly").active_bank, [0, 1])
