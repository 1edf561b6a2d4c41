"""The first firmware and the first reference of a model at a site: convert, train, build, expect.

What a response later changes is made here once, on the command line or by the demo, with the same
lineage. Long work runs in child processes. Knows no incident and no board.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.errors import NotFound
from daemon.journal.lineage import Artefact, add_edge, run_artefact
from daemon.operations import utc_now
from daemon.process.children import ProgressCallback
from daemon.responses.jobs import adopt_package, run_job
from daemon.site.keys import ensure_keys
from daemon.site.settings import Site, SiteModel
from daemon.site.state_dir import prepare_state_dir
from daemon.store.database import open_database, transaction
from hw.errors import ToolchainError
from hw.job import BenchResult, BenchSpec, BuildResult, BuildSpec
from hw.manifest import Lineage
from hw.models import emulator_of
from hw.package import Package
from hw.toolchain import find_toolchain
from retrain.messages import TrainJob, TrainResult
from retrain.records import TrainingRow, record_result
from retrain.train_settings import TrainSettings
from streams.contracts.contract import Contract
from streams.conversion.convert import Conversion, convert_files
from streams.counting.summary import Summary, summarise
from streams.errors import DatasetError, ReferenceProblem
from streams.events.batch import Batch
from streams.events.dataset import Dataset
from streams.events.replay import lumisection_events
from streams.judging.reference import MINIMUM_LUMISECTIONS, Reference, build_reference
from streams.judging.reference_store import propose_reference

REFERENCE_RUN = 1
"""Run number of resampled lumisections; a real run is never 1 at an LHC experiment."""

_BENCH_TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class Resampling:
    """How a dataset becomes lumisections for a reference.

    Attributes
    ----------
    lumisections, events_per_lumisection
        How much.
    pileup
        What the lumisections claim.
    seed
        Decides which events are drawn.
    """

    lumisections: int = 60
    events_per_lumisection: int = 10_000
    pileup: float = 50.0
    seed: int = 0


class Commissioning:
    """Makes artefacts for the models of a site and writes down what each was made from.

    Parameters
    ----------
    site
        The site.
    engine
        Its database; opened when not given.
    clock
        Gives aware UTC.
    """

    def __init__(
        self, site: Site, engine: Engine | None = None, clock: Callable[[], datetime] = utc_now
    ) -> None:
        prepare_state_dir(site)
        self._site = site
        self._engine = engine or open_database(site.database_url)
        self._clock = clock

    def convert(
        self,
        sources: Sequence[Path | str],
        contract: Contract,
        out: Path,
        progress: ProgressCallback,
        *,
        resume: bool = False,
    ) -> Conversion:
        """Convert ROOT files to a dataset file. Raises as `streams.conversion.convert.convert_files`."""
        made = convert_files(
            sources,
            contract,
            out,
            progress=lambda done, of: progress(done / max(of, 1), f"{done} of {of} events"),
            resume=resume,
        )
        with transaction(self._engine) as session:
            child = Artefact("dataset", made.id)
            for source in made.provenance.sources:
                parent = Artefact("root_file", f"{source.name}@{source.sha256}")
                add_edge(session, child, parent, "converted from", now=self._clock())
        return made

    def train(
        self,
        model: SiteModel,
        datasets: Sequence[Path],
        settings: TrainSettings,
        progress: ProgressCallback,
    ) -> TrainResult:
        """Train a model from scratch; its file is `result.model.path`.

        Raises
        ------
        DatasetError
            A dataset is missing, broken or of another contract.
        ChildFailed
            The training could not be done; says why.
        """
        for path in datasets:
            load_dataset(path, model.contract)
        folder = self._job_folder("train", model.name)
        job = TrainJob(
            model=model.name,
            contract=model.contract_path,
            datasets=[path.resolve() for path in datasets],
            output=folder / "model.npz",
            settings=settings,
        )
        timeout_s = model.settings.retrain.timeout_s
        result = run_job("retrain.job", job, TrainResult, folder, timeout_s=timeout_s, progress=progress)
        now = self._clock()
        record_result(self._engine, result, finished_at=now)
        with transaction(self._engine) as session:
            for dataset in result.dataset_ids:
                child, parent = Artefact("training", result.training_id), Artefact("dataset", dataset)
                add_edge(session, child, parent, "trained on", now=now)
        return result

    def latest_training(self, model: str) -> TrainResult:
        """Find the result of the last training of a model.

        Raises
        ------
        NotFound
            The model was never trained here.
        """
        with Session(self._engine) as session:
            rows = select(TrainingRow).where(TrainingRow.model == model, TrainingRow.kind == "train")
            row = session.exec(rows.order_by(col(TrainingRow.recorded_at).desc())).first()
        if row is None:
            raise NotFound(f"model {model} was never trained here: run `lumiwatch train` first")
        return TrainResult.model_validate_json(row.record_json)

    def build(
        self, model: SiteModel, training: TrainResult, bench_events: Path | None, progress: ProgressCallback
    ) -> tuple[Package, BuildResult]:
        """Build, bench and sign the package of a trained model.

        Parameters
        ----------
        bench_events
            Dataset whose events become golden vectors; random ones are added.

        Raises
        ------
        ToolchainError, DatasetError
            The toolchain lacks something on this machine; the events are of another contract.
        ChildFailed
            The toolchain failed, or firmware and emulator differ.
        """
        check_toolchain(model)
        recorded = None if bench_events is None else load_dataset(bench_events, model.contract)
        ensure_keys(self._site)
        folder = self._job_folder("build", model.name)
        spec = BuildSpec(
            model=training.model.path,
            out=folder / "new.lwpkg",
            signing_key=self._site.signing_key_file,
            trusted_keys=self._site.trusted_keys_dir,
            version="1",
            toolchain=model.settings.firmware.toolchain,
            inputs=None if recorded is None else _inputs_file(recorded, folder),
            lineage=Lineage(datasets=tuple(training.dataset_ids), training=training.training_id),
            created=self._clock(),
        )
        timeout_s = model.settings.firmware.build_timeout_s
        result = run_job("hw.job", spec, BuildResult, folder, timeout_s=timeout_s, progress=progress)
        now = self._clock()
        package = adopt_package(self._engine, self._site, result, now=now)
        with transaction(self._engine) as session:
            child, parent = Artefact("package", package.id), Artefact("training", training.training_id)
            add_edge(session, child, parent, "built from", now=now)
        adopted = self._site.packages_dir / f"{package.id}.lwpkg"
        return package, result.model_copy(update={"package": adopted})

    def _job_folder(self, task: str, model: str) -> Path:
        """Make a folder that keeps a job's specification, result, log and files."""
        folder = self._site.state_dir / "jobs" / f"{self._clock():%Y%m%dT%H%M%S.%f}-{task}-{model}"
        folder.mkdir(parents=True)
        return folder

    def bench(self, spec: BenchSpec, progress: ProgressCallback) -> BenchResult:
        """Compare all implementations of a package bit by bit. Raises ChildFailed if that is not possible."""
        folder = self._job_folder("bench", spec.package.stem[:12])
        return run_job("hw.job", spec, BenchResult, folder, timeout_s=_BENCH_TIMEOUT_S, progress=progress)

    def note_replay(self, model: str, run: int, dataset: Dataset) -> None:
        """Note that a run is a replay of a dataset, so that lineage does not end at the run."""
        with transaction(self._engine) as session:
            child, parent = run_artefact(model, run), Artefact("dataset", dataset.id)
            add_edge(session, child, parent, "replayed from", now=self._clock())

    def reference(
        self,
        model: SiteModel,
        dataset: Dataset,
        package: Package,
        resampling: Resampling,
        progress: ProgressCallback,
        *,
        budget: float | None = None,
    ) -> Reference:
        """Propose a reference made of lumisections that are resampled from a dataset.

        The package's bit-accurate emulator scores the events. `budget` goes before the model's own.

        Raises
        ------
        ReferenceProblem, DatasetError
            Too few lumisections, or data of another contract.
        """
        check_resampling(resampling)
        emulator = emulator_of(package.model)
        summaries: list[Summary] = []
        for lumisection in range(1, resampling.lumisections + 1):
            inputs = lumisection_events(
                dataset,
                model.contract,
                run=REFERENCE_RUN,
                lumisection=lumisection,
                n_events=resampling.events_per_lumisection,
                seed=resampling.seed,
            )
            batch = _offline_batch(model, package, lumisection, inputs, emulator.scores(inputs))
            summaries.append(summarise(batch, model.contract))
            progress(lumisection / resampling.lumisections, f"LS {lumisection}")
        reference = build_reference(
            summaries,
            model.contract,
            pileups=[resampling.pileup] * len(summaries),
            built_from=(
                f"{resampling.lumisections} lumisections of {resampling.events_per_lumisection} events "
                f"resampled from dataset {dataset.id[:12]}, seed {resampling.seed}"
            ),
            budget_per_lumisection=budget or model.settings.watch.false_alarm_budget,
        )
        now = self._clock()
        propose_reference(self._engine, reference, now)
        with transaction(self._engine) as session:
            child = Artefact("reference", reference.id)
            add_edge(session, child, Artefact("package", package.id), "describes", now=now)
            add_edge(session, child, Artefact("dataset", dataset.id), "built from", now=now)
        return reference


def check_resampling(resampling: Resampling) -> None:
    """Refuse what cannot become a reference, before anything is drawn. Raises `ReferenceProblem`."""
    if resampling.lumisections < MINIMUM_LUMISECTIONS:
        raise ReferenceProblem(
            f"{resampling.lumisections} lumisections are too few to calibrate a reference: "
            f"give {MINIMUM_LUMISECTIONS} or more"
        )
    if not 0 <= resampling.pileup < math.inf:
        raise ReferenceProblem(f"pileup {resampling.pileup}: give a number from 0 on")


def load_dataset(path: Path, contract: Contract) -> Dataset:
    """Read a dataset that must be of a contract; `DatasetError` names the file."""
    dataset = Dataset.load(path)
    try:
        dataset.check_contract(contract)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error
    return dataset


def check_toolchain(model: SiteModel) -> None:
    """Find out whether this machine can build firmware, before long work is done for it.

    Raises
    ------
    ToolchainError, ToolchainUnknown
        It cannot; says what is missing.
    """
    status = find_toolchain(model.settings.firmware.toolchain).probe()
    if not status.available:
        raise ToolchainError(status.reason)


def _inputs_file(dataset: Dataset, folder: Path) -> Path:
    """Write the events of a dataset as the plain array that the bench reads."""
    file = folder / "events.npy"
    np.save(file, dataset.inputs)
    return file


def _offline_batch(
    model: SiteModel,
    package: Package,
    lumisection: int,
    inputs: npt.NDArray[np.int16],
    scores: npt.NDArray[np.int64],
) -> Batch:
    """Wrap events as if the firmware had seen them."""
    return Batch(
        model=model.name,
        contract_name=model.contract.name,
        contract_version=model.contract.version,
        contract_hash=model.contract.hash,
        run=REFERENCE_RUN,
        lumisection=lumisection,
        source="resampled",
        sequence=lumisection,
        package=package.id,
        simulated=True,
        inputs=inputs,
        score=scores.astype(np.int32),
        accept=scores > package.model.threshold_raw,
        input_names=model.contract.input_names,
    )
