"""The site's side of a backtest: its datasets, packages, references and recorded windows, as sources.

Only reads. What is made of them stands in `streams.backtest`; knows no page and no command line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, func, select

from daemon.references.commissioning import load_dataset
from daemon.responses.board_work import package_path
from daemon.site.keys import site_trusted_keys
from daemon.site.settings import Site, SiteModel
from hw.models import AnyEmulator, Model, emulator_of
from hw.package import Package, open_package
from streams.backtest.source import DatasetSource
from streams.counting.codec import decode_summary
from streams.errors import BacktestError, MalformedMessage
from streams.judging.assessment import Assessment, AssessmentSettings, assess
from streams.judging.reference import Reference, decode_reference
from streams.judging.reference_store import approved_reference, find_reference
from streams.store.closing import stored_conditions
from streams.store.database import read_session
from streams.store.folding import Place
from streams.store.records import WITH_COUNTS, WindowRow, WindowState

_CLOSED = (*WITH_COUNTS, WindowState.ARCHIVED)


@dataclass(frozen=True)
class Drawing:
    """How lumisections are drawn from a dataset; see `streams.backtest.source.DatasetSource`."""

    n_events: int
    lumisections_per_fill: int
    pileup: float
    seed: int


@dataclass(frozen=True, eq=False)
class EmulatedScore:
    """Scores and decisions as the firmware would give them; it can be sent to other processes."""

    model: Model

    @cached_property
    def _emulator(self) -> AnyEmulator:
        return emulator_of(self.model)

    def __call__(self, inputs: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Return scores and decisions of events, int16 of shape (n_events, n_inputs)."""
        scores = self._emulator.scores(inputs)
        return scores.astype(np.int32), scores > self.model.threshold_raw

    def __getstate__(self) -> dict[str, Any]:
        """Leave the emulator behind: another process makes its own."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def stored_reference(engine: Engine, model: SiteModel, reference_id: str) -> Reference:
    """Return a proposed, approved or retired reference of a model, by the beginning of its id.

    Raises
    ------
    ReferenceProblem
        There is none, or more than one.
    BacktestError
        It is another model's.
    """
    row = find_reference(engine, reference_id)
    if row.model != model.name:
        raise BacktestError(
            f"reference {row.id[:12]} is one of model '{row.model}', not of '{model.name}': "
            f"see `lumiwatch reference list --model {model.name}`"
        )
    return decode_reference(row.content)


def dataset_source(
    site: Site,
    engine: Engine | None,
    model: SiteModel,
    dataset: Path,
    package: Path | str | None,
    how: Drawing,
) -> DatasetSource:
    """Return lumisections drawn from a dataset, scored by a package's bit-accurate emulator if there is one.

    Parameters
    ----------
    engine
        The site's database; only asked where the package is an id.
    package
        Its file, its id, or None: the events have no score.

    Raises
    ------
    DatasetError
        The dataset is missing, broken or of another contract.
    BacktestError, NotFound, PackageError
        The package is for another contract, missing, or not to be trusted.
    """
    opened = None if package is None else _opened(site, engine, model, package)
    drawn = DatasetSource(
        load_dataset(dataset, model.contract),
        model.contract,
        model.name,
        how.seed,
        n_events=how.n_events,
        lumisections_per_fill=how.lumisections_per_fill,
        pileup=how.pileup,
    )
    if opened is None:
        return drawn
    scored = {"package": opened.id, "score": EmulatedScore(opened.model)}
    return DatasetSource(**{field.name: getattr(drawn, field.name) for field in fields(drawn)} | scored)


def recorded_reference(engine: Engine, model: SiteModel, run: int) -> Reference:
    """Return the reference in use for the firmware of a run.

    Raises
    ------
    BacktestError
        The run was not watched here, or nothing is approved.
    """
    with read_session(engine) as session:
        package = session.exec(_closed(model.name, run, WindowRow.package).limit(1)).first()
    if package is None:
        raise BacktestError(
            f"run {run} of {model.name} has no closed window here: choose a run that was watched"
        )
    reference = approved_reference(engine, model.name, package)
    if reference is None:
        raise BacktestError(
            f"no reference of {model.name} is approved: name a proposed one with --reference "
            f"(see `lumiwatch reference list --model {model.name}`)"
        )
    return reference


def recorded_length(engine: Engine, model: str, run: int) -> tuple[int, int]:
    """Return how many closed windows of a run have their counts, and how many have them no more."""
    counts = func.count(col(WindowRow.id))
    with read_session(engine) as session:
        kept = session.exec(_closed(model, run, counts, kept=True)).one()
        return kept, session.exec(_closed(model, run, counts)).one() - kept


def recorded_assessments(
    engine: Engine, model: SiteModel, run: int, reference: Reference, settings: AssessmentSettings
) -> Iterator[Assessment]:
    """Assess the closed windows of a run again, one after the other, as their lumisections follow.

    What depends on the clock, how long an assessment took, is left out.

    Raises
    ------
    BacktestError
        A window cannot be read.
    """
    with read_session(engine) as session:
        query = _closed(model.name, run, WindowRow.id, kept=True)
        ids = session.exec(query.order_by(col(WindowRow.lumisection), col(WindowRow.id))).all()
    for window_id in ids:
        with read_session(engine) as session:
            yield _assessed_again(session, window_id, model, reference, settings)


def _assessed_again(
    session: Session, window_id: int, model: SiteModel, reference: Reference, settings: AssessmentSettings
) -> Assessment:
    window = session.get_one(WindowRow, window_id)
    try:
        counts = decode_summary(window.summary)
    except MalformedMessage as error:
        raise BacktestError(
            f"the window of LS {window.lumisection} cannot be read ({error}): it was stored by another "
            "lumiwatch, choose a later run"
        ) from error
    return assess(
        counts,
        reference,
        stored_conditions(session, Place(window.model, window.run, window.lumisection)),
        model.contract,
        settings,
        revision=window.revision,
        complete=window.complete,
        late_events=window.late_events,
    )


def _closed(model: str, run: int, what: Any, *, kept: bool = False) -> Any:
    states = WITH_COUNTS if kept else _CLOSED
    return select(what).where(
        WindowRow.model == model, WindowRow.run == run, col(WindowRow.state).in_(states)
    )


def _opened(site: Site, engine: Engine | None, model: SiteModel, package: Path | str) -> Package:
    if isinstance(package, str):
        if engine is None:
            raise AssertionError("a package's id is looked up in the database")
        package = package_path(engine, site, package)
    opened = open_package(package, site_trusted_keys(site))
    if opened.model.contract_hash != model.contract.hash:
        raise BacktestError(
            f"{package}: made for another contract ({opened.model.contract_hash[:12]}) than that of "
            f"{model.name} now ({model.contract.hash[:12]}): build one for this contract"
        )
    return opened
