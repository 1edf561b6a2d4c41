"""References and watching of models that are watched by histograms: the site's side of `streams.dqm.watcher`.

Knows where a site keeps its journals and its lineage; refuses to know file formats.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy.engine import Engine

from daemon.cli.output import ProgressCallback
from daemon.errors import SettingsError
from daemon.journal.lineage import Artefact, add_edge
from daemon.site.settings import Site, SiteModel
from daemon.store.database import transaction
from streams.counting.summary import Summary, merge_all
from streams.dqm.summary import read_summaries
from streams.dqm.watcher import sha256_of
from streams.errors import ReferenceProblem
from streams.judging.reference import Reference, build_reference
from streams.judging.reference_store import propose_reference


def journal_dir(site: Site, model: str) -> Path:
    """Where the watcher of a model keeps its journal, and its records of refused files."""
    return site.state_dir / "watch" / model


def require_histograms(model: SiteModel) -> None:
    """Make sure that a model is watched by histograms.

    Raises
    ------
    SettingsError
        Its contract lists objects.
    """
    if model.has_firmware:
        raise SettingsError(
            f"{model.contract_path}: lists objects, and DQM files hold histograms: "
            "name a model whose contract has [[histograms]]"
        )


def propose_histogram_reference(
    model: SiteModel,
    files: Sequence[Path],
    pileup: float,
    engine: Engine,
    clock: Callable[[], datetime],
    progress: ProgressCallback,
) -> Reference:
    """Build a reference from the lumisections of DQM files, and propose it for approval.

    Parameters
    ----------
    model
        Watched by histograms.
    files
        DQM files; a lumisection that several of them hold parts of is added up.
    pileup
        Pileup of those lumisections.

    Raises
    ------
    DqmFileError, HistogramError
        A file cannot be read or counted.
    ReferenceProblem, SummaryError
        Too few lumisections with entries, or a file is given twice.
    """
    require_histograms(model)
    places: dict[tuple[int, int], list[Summary]] = defaultdict(list)
    for number, file in enumerate(files):
        progress(number / len(files), file.name)
        for summary in read_summaries(file, model.contract, model=model.name):
            places[summary.run, summary.lumisection].append(summary)
    merged = [merge_all(parts) for _, parts in sorted(places.items())]
    filled = [summary for summary in merged if summary.n_events]
    if not filled:
        raise ReferenceProblem(f"the {len(files)} files have no entries: give files of good lumisections")
    reference = build_reference(
        filled,
        model.contract,
        pileups=[pileup] * len(filled),
        built_from=f"{len(filled)} lumisections of {len(files)} DQM files, the first {files[0].name}",
        budget_per_lumisection=model.settings.watch.false_alarm_budget,
    )
    now = clock()
    propose_reference(engine, reference, now)
    with transaction(engine) as session:
        child = Artefact("reference", reference.id)
        for file in files:
            parent = Artefact("dqm_file", f"{file.name}@{sha256_of(file)}")
            add_edge(session, child, parent, "built from", now=now)
    return reference
