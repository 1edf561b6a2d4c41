"""A real installation on a small site that was commissioned once, for tests that kill its processes.

Nothing here is a fake: broker, worker, daemon, board and jobs are the real processes.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from sqlalchemy.engine import Engine

from daemon.demo.stage import root_file
from daemon.errors import BoardUnknown, NotFound
from daemon.process.broker import bootstrap_of
from daemon.process.supervisor import RestartPolicy
from daemon.references.commissioning import Commissioning, Resampling
from daemon.references.installation import Installation
from daemon.responses.board_work import board_address, package_path
from daemon.responses.through_board import score_on
from daemon.site.keys import site_trusted_keys
from daemon.site.settings import Site, SiteModel, load_site
from daemon.store import queries
from daemon.store.database import open_database
from daemon.store.records import ResponseState, StepState
from daemon.store.views import ResponseDetail
from hw.board import BoardIdentity
from hw.boards.ipbus import IPbusBoard
from hw.emulator import Emulator
from hw.errors import BoardUnreachable
from hw.package import Package, open_package
from retrain.train_settings import TrainSettings
from streams.counting.summary import summarise
from streams.effects.effect import parse_effect
from streams.events.batch import Batch
from streams.events.dataset import Dataset
from streams.events.replay import Replayer, ReplaySettings, lumisection_events
from streams.judging.reference_store import approve_reference
from streams.store.history import ClosedWindow, closed_windows
from tests.support.daemon import copy_site

MODEL = "anomaly"
RUN = 77
EVENTS = 4000
DRIFT_FROM = 7
ALARMED = 12
"""After this lumisection there is an alarm, and enough drifted events to retrain on."""

RESPONSE = f"{MODEL}-1-r1"
_SEED = 5
_EFFECT = f"jet_gain=1.10@LS{DRIFT_FROM}"
_PATIENT = RestartPolicy(first_pause_s=0.1, longest_pause_s=0.1, failures=100)
_SMALLER = (
    (r"rate_band = 0\.10", "rate_band = 0.20"),
    (r"verify_lumisections = 10", "verify_lumisections = 3"),
    (r"minimum_events = 50000", "minimum_events = 12000"),
)


@dataclass(frozen=True)
class Commissioned:
    """A site with firmware and an approved reference, and the events it was made from."""

    site: Path
    dataset: Path
    package: Package


def commission(folder: Path) -> Commissioned:
    """Make the example site small and give it its first firmware and reference: real ones, soon made."""
    site_folder = copy_site(folder)
    model_file = site_folder / "models" / MODEL / "model.toml"
    text = model_file.read_text()
    for pattern, smaller in _SMALLER:
        text, count = re.subn(pattern, smaller, text)
        assert count == 1, f"the example site says no {pattern}"
    model_file.write_text(text)
    site_file = site_folder / "lumiwatch.toml"
    site_file.write_text(
        site_file.read_text().replace("allowed_lateness_s = 60 ", "allowed_lateness_s = 20 ")
    )

    site = load_site(site_folder)
    model = site.models[MODEL]
    engine = open_database(site.database_url)
    work = Commissioning(site, engine)
    file = folder / "hzz.npz"
    work.convert([root_file()], model.contract, file, _ignore)
    dataset = Dataset.load(file)
    settings = TrainSettings(epochs=8, threshold_events=50_000)
    training = work.train(model, [file], settings, _ignore)
    package, _ = work.build(model, training, file, _ignore)
    resampling = Resampling(lumisections=30, events_per_lumisection=EVENTS, seed=_SEED + 1)
    reference = work.reference(model, dataset, package, resampling, _ignore)
    approve_reference(engine, reference.id, "local", datetime.now(UTC))
    engine.dispose()
    return Commissioned(site_folder, file, package)


def site_copy(commissioned: Commissioned, folder: Path) -> Path:
    """Copy the commissioned site, database included, for one test."""
    target = folder / "site"
    shutil.copytree(commissioned.site, target)
    return target


@dataclass
class Records:
    """What a site's database says, and the events that its board is fed with."""

    folder: Path
    commissioned: Commissioned
    site: Site = field(init=False)
    engine: Engine = field(init=False)
    dataset: Dataset = field(init=False)

    def __post_init__(self) -> None:
        self.site = load_site(self.folder)
        self.engine = open_database(self.site.database_url)
        self.dataset = Dataset.load(self.commissioned.dataset)

    @property
    def model(self) -> SiteModel:
        return self.site.models[MODEL]

    def replay_settings(self, first: int, last: int) -> ReplaySettings:
        return ReplaySettings(
            model=MODEL,
            run=RUN,
            first=first,
            last=last,
            events_per_lumisection=EVENTS,
            effects=(parse_effect(_EFFECT),),
            seed=_SEED,
        )

    def take(self, first: int, last: int) -> None:
        """Take lumisections through the board, as fast as they go."""
        with closing(IPbusBoard(board_address(self.site, MODEL))) as board:
            settings = self.replay_settings(first, last)
            score = score_on(board)
            Replayer(bootstrap_of(self.site), self.dataset, self.model.contract, settings, score).run()

    def board(self) -> BoardIdentity:
        """What the board says that it is; its weights are those of the package that it names, all of them."""
        with closing(IPbusBoard(board_address(self.site, MODEL))) as board:
            before = board.identify()
            words = board.read_back(active=True)
            after = board.identify()
        if before.epoch == after.epoch:
            path = package_path(self.engine, self.site, after.package_id)
            package = open_package(path, site_trusted_keys(self.site))
            assert np.array_equal(words, package.model.memory()), "the board runs a mixture"
            assert after.weights_hash == package.manifest.weights_hash
        return after

    def switches(self) -> int | None:
        """How often the board has changed its weights since it was started; None while there is none."""
        try:
            with closing(IPbusBoard(board_address(self.site, MODEL))) as board:
                return board.identify().counters.switches
        except (BoardUnknown, BoardUnreachable):
            return None

    def judged(self) -> list[int]:
        """Lumisections with a verdict at the daemon, one entry for each verdict."""
        return [v.lumisection for v in queries.verdict_timeline(self.engine, MODEL, run=RUN, limit=1000)]

    def windows(self) -> list[ClosedWindow]:
        return closed_windows(self.engine, MODEL)

    def check_counts(self, lumisections: Sequence[int]) -> None:
        """Compare the windows of the first firmware with counts made directly from the dataset."""
        package, contract = self.commissioned.package, self.model.contract
        emulator, threshold = Emulator(package.model), package.model.score_stage.threshold_raw
        settings = self.replay_settings(1, 1)
        windows = closed_windows(self.engine, MODEL, package=package.id)
        assert [window.summary.lumisection for window in windows] == list(lumisections)
        for window in windows:
            found, inputs = window.summary, self._events(window.summary.lumisection)
            scores = emulator.scores(inputs)
            batch = Batch(
                model=MODEL,
                contract_name=contract.name,
                contract_version=contract.version,
                contract_hash=contract.hash,
                run=RUN,
                lumisection=found.lumisection,
                source=settings.source,
                sequence=0,
                package=package.id,
                simulated=True,
                inputs=inputs,
                score=scores.astype(np.int32),
                accept=scores > threshold,
                input_names=contract.input_names,
            )
            direct = summarise(batch, contract)
            assert window.complete
            assert window.n_batches == settings.batches_per_lumisection
            assert (found.n_events, found.n_accept) == (EVENTS, direct.n_accept)
            assert np.array_equal(found.inputs, direct.inputs)
            assert np.array_equal(found.score, direct.score)
            assert np.array_equal(found.maps, direct.maps)

    def _events(self, lumisection: int) -> npt.NDArray[np.int16]:
        settings = self.replay_settings(1, 1)
        return lumisection_events(
            self.dataset,
            self.model.contract,
            run=RUN,
            lumisection=lumisection,
            n_events=EVENTS,
            effects=settings.effects,
            seed=settings.seed,
        )

    def response(self, response_id: str = RESPONSE) -> ResponseDetail | None:
        try:
            return queries.response(self.engine, response_id)
        except NotFound:
            return None

    def state(self, response_id: str = RESPONSE) -> ResponseState | None:
        response = self.response(response_id)
        return None if response is None else response.state

    def step(self, name: str, response_id: str = RESPONSE) -> StepState | None:
        response = self.response(response_id)
        steps = {} if response is None else {step.name: step.state for step in response.steps}
        return steps.get(name)

    def close(self) -> None:
        self.engine.dispose()


@dataclass
class Plant(Records):
    """A running installation whose processes can be killed by name."""

    installation: Installation
    said: list[str]

    def kill(self, name: str) -> None:
        """SIGKILL a process; nothing that it started may live on."""
        (child,) = [child for child in self.installation._supervisor.children if child.name == name]
        if child.process.poll() is not None:
            return
        offspring = psutil.Process(child.process.pid).children(recursive=True)
        child.process.kill()
        child.process.wait()
        _, alive = psutil.wait_procs(offspring, timeout=60)
        assert alive == [], f"{name} left processes behind"

    def wait(self, condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
        """Wait as `lumiwatch up` does: what has died is started again."""
        wait_for(condition, what, timeout_s, self.installation.check, 0.02)


def wait_for(
    condition: Callable[[], object],
    what: str,
    timeout_s: float = 60.0,
    meanwhile: Callable[[], object] = lambda: None,
    look_s: float = 0.1,
) -> None:
    """Look again and again until there is something."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        meanwhile()
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what} in vain"
        time.sleep(look_s)


@contextmanager
def plant(commissioned: Commissioned, folder: Path) -> Iterator[Plant]:
    """Run everything of a copy of the site."""
    target = site_copy(commissioned, folder)
    said: list[str] = []
    with Installation(target, {"console": {"port": 0}}, said.append) as installation:
        installation._supervisor.policy = _PATIENT
        installation.start_last_board(MODEL)
        installation.start_worker()
        installation.start_daemon()
        running = Plant(target, commissioned, installation, said)
        running.site = installation.site
        try:
            yield running
        finally:
            running.close()
            for name in ("daemon", "worker"):  # soon over: their orderly end has tests of its own
                running.kill(name)


def _ignore(_fraction: float, _message: str = "") -> None:
    pass
