"""`lumiwatch watch` and `reference from-histograms`: DQM files as input."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli.output import DEFAULT_SITE, JsonOption, ModelOption, SiteOption, out, print_json, progress
from daemon.errors import CheckFailed
from daemon.site.settings import load_site
from daemon.store.queries import site_model
from streams.conditions import STABLE_BEAMS
from streams.dqm.journal import FileOutcome, FileRecord


def watch(
    folder: Annotated[Path, typer.Argument(help="Folder that DQM files land in.")],
    model: ModelOption,
    site: SiteOption = DEFAULT_SITE,
    once: Annotated[bool, typer.Option("--once", help="Take what lies there now, and end.")] = False,
    pileup: Annotated[
        float | None,
        typer.Option(
            help="Pileup to announce with each lumisection's end; without, others send conditions.",
            min=0,
            max=1000,
        ),
    ] = None,
    beam_mode: Annotated[str, typer.Option(help="Beam mode to announce with it.")] = STABLE_BEAMS,
    simulated: Annotated[bool, typer.Option("--simulated", help="Mark it as no collisions.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 5.0,
    settle: Annotated[float, typer.Option(help="Seconds a file must not have changed.", min=0)] = 2.0,
    as_json: JsonOption = False,
) -> None:
    """Have each DQM file of a folder counted once: histograms become summaries as files land."""
    from daemon.process.broker import bootstrap_of
    from daemon.references.histograms import journal_dir, require_histograms
    from daemon.site.state_dir import prepare_state_dir
    from streams.dqm.delivery import DqmDelivery
    from streams.dqm.journal import Journal
    from streams.dqm.watcher import FolderWatcher, WatchSettings

    loaded = load_site(site)
    watched = site_model(loaded, model)
    require_histograms(watched)
    bootstrap = bootstrap_of(loaded)
    prepare_state_dir(loaded)
    settings = WatchSettings(
        model=model,
        pileup=pileup,
        beam_mode=beam_mode,
        simulated=simulated,
        settle_s=settle,
        interval_s=interval,
    )
    say = _say_json if as_json else _say
    with (
        Journal(journal_dir(loaded, model)) as journal,
        DqmDelivery(bootstrap, model, loaded.kafka_security) as deliver,
    ):
        watcher = FolderWatcher(folder.resolve(), watched.contract, settings, journal, deliver, say)
        if not once:
            watcher.run(threading.Event())
        refused = [record for record in watcher.run_once() if record.outcome is FileOutcome.REFUSED]
    if refused:
        raise CheckFailed(
            f"{len(refused)} files were refused: read {journal_dir(loaded, model) / 'refused'}, mend them"
        )


def from_histograms(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="DQM files of good lumisections.")],
    model: ModelOption,
    pileup: Annotated[float, typer.Option(help="Pileup of these lumisections.", min=0)],
    site: SiteOption = DEFAULT_SITE,
    as_json: JsonOption = False,
) -> None:
    """Build a reference from DQM files, and propose it for approval."""
    from daemon.operations import utc_now
    from daemon.references.histograms import propose_histogram_reference
    from daemon.site.state_dir import prepare_state_dir
    from daemon.store.database import open_database

    loaded = load_site(site)
    prepare_state_dir(loaded)
    with progress("reference") as report:
        reference = propose_histogram_reference(
            site_model(loaded, model), files, pileup, open_database(loaded.database_url), utc_now, report
        )
    if as_json:
        print_json({"id": reference.id, **reference.header.model_dump(mode="json")})
    else:
        out.print(f"reference {reference.id} proposed: `lumiwatch reference approve {reference.id[:12]}`")


def _say(record: FileRecord) -> None:
    what = record.reason or f"{record.lumisections} lumisections"
    name = "" if record.outcome is FileOutcome.REFUSED else f"{record.path}: "
    out.print(f"{record.outcome.value}: {name}{what}", soft_wrap=True, markup=False)


def _say_json(record: FileRecord) -> None:
    typer.echo(json.dumps(asdict(record)))
