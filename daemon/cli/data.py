"""`lumiwatch convert` and `replay`: from ROOT files to datasets and runs."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli.output import (
    DEFAULT_SITE,
    JsonOption,
    ModelOption,
    SiteOption,
    err,
    out,
    print_json,
    print_table,
    progress,
)
from daemon.process.broker import bootstrap_of
from daemon.responses.board_work import board_address
from daemon.site.settings import load_site
from daemon.store.queries import firmware_model
from hw.boards.ipbus import IPbusBoard
from streams.contracts.library import find_contract, shipped_contracts
from streams.effects.effect import parse_effect
from streams.effects.kinds import describe_kinds


def _list_contracts(wanted: bool) -> None:
    if not wanted:
        return
    rows = [(name, one.n_inputs, one.tree, one.description) for name, one in shipped_contracts().items()]
    print_table("shipped contracts", ("name", "inputs", "tree", "description"), rows)
    raise typer.Exit


def convert(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="ROOT...", help="ROOT files: paths, or what fsspec opens (root://, https://)."
        ),
    ],
    contract: Annotated[str, typer.Option(help="Contract file (TOML), or the name of a shipped contract.")],
    target: Annotated[Path, typer.Option("--out", help="Dataset to write (NPZ).")],
    site: Annotated[Path | None, typer.Option(help="Site whose lineage should know the dataset.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an earlier run stopped.")] = False,
    list_contracts: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option("--list-contracts", callback=_list_contracts, is_eager=True, help="Shipped contracts."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Convert ROOT files to a dataset under a contract."""
    from daemon.references.commissioning import Commissioning
    from streams.conversion.convert import convert_files

    definition = find_contract(contract)
    commissioning = None if site is None else Commissioning(load_site(site))
    with progress("convert") if err.is_terminal else nullcontext(_unseen) as report:
        try:
            if commissioning is None:
                made = convert_files(
                    sources,
                    definition,
                    target,
                    progress=lambda done, of: report(done / max(of, 1), f"{done} of {of} events"),
                    resume=resume,
                )
            else:
                made = commissioning.convert(sources, definition, target, report, resume=resume)
        except KeyboardInterrupt:
            err.print("what is converted so far is kept: go on with --resume")
            raise
    provenance = made.provenance
    if as_json:
        print_json({"id": made.id, "path": str(target), **provenance.model_dump(mode="json")})
        return
    dropped = ", ".join(f"{count} {reason}" for reason, count in provenance.dropped.items()) or "none"
    out.print(f"{target}: {provenance.events_kept} of {provenance.events_in} events kept, dropped: {dropped}")
    out.print(f"dataset {made.id}")


def effects_help() -> str:
    """Say how effects are written, for the end of a command's help."""
    keeps_lines = "\b"  # click's mark for a paragraph that is not to be wrapped
    when = (
        "@LS61        from lumisection 61 on",
        "@LS61-LS90   and only until lumisection 90",
        "@LS61+100    growing over 100 lumisections",
    )
    kinds = [f"{example}\n    {says}" for example, says in describe_kinds()]
    return "\n\n".join(
        (
            "Effects are written as below, with when they act behind. Several act in the order given.",
            "\n".join((keeps_lines, *when)),
            "\n".join((keeps_lines, *kinds)),
        )
    )


def _unseen(fraction: float, message: str = "") -> None:
    """Take progress that nobody watches."""


def replay(
    dataset: Annotated[Path, typer.Argument(help="Dataset (NPZ) to draw events from.")],
    model: ModelOption,
    run: Annotated[int, typer.Option(help="Run number to give it.", min=1)],
    site: SiteOption = DEFAULT_SITE,
    first: Annotated[int, typer.Option(help="First lumisection.", min=1)] = 1,
    last: Annotated[int, typer.Option(help="Last lumisection.", min=1)] = 100,
    effect: Annotated[
        list[str] | None,
        typer.Option(help="What happens to the detector, for example jet_gain=1.05@LS61; repeatable."),
    ] = None,
    rate: Annotated[
        str, typer.Option(help="Time of a lumisection (23.3104s) or events a second (750000/s); 0: no pause.")
    ] = "23.3104s",
    sources: Annotated[int, typer.Option(help="Act as so many sources, which share the events.", min=1)] = 1,
    batches: Annotated[int, typer.Option(help="Batches of each source in a lumisection.", min=1)] = 2,
    events: Annotated[int, typer.Option(help="Events in each lumisection.", min=1)] = 10_000,
    seed: Annotated[int, typer.Option(help="Decides which events are drawn.", min=0)] = 0,
    condition: Annotated[
        list[str] | None, typer.Option(help="Also tell this condition, for example bunches=2400; repeatable.")
    ] = None,
) -> None:
    """Replay a dataset through the model's board, lumisection by lumisection, marked as simulated."""
    from daemon.references.commissioning import Commissioning, load_dataset
    from daemon.responses.through_board import score_on
    from streams.events.replay import Replayer, ReplaySettings, parse_rate, parse_values

    loaded = load_site(site)
    watched = firmware_model(loaded, model)
    bootstrap = bootstrap_of(loaded)
    seconds = parse_rate(rate, events)
    settings = ReplaySettings(
        model=model,
        run=run,
        first=first,
        last=last,
        events_per_lumisection=events,
        effects=tuple(parse_effect(text) for text in effect or []),
        seed=seed,
        seconds_per_lumisection=seconds,
        sources=sources,
        batches_per_lumisection=batches,
        lookahead=0 if seconds else 1,
        values=parse_values(condition or []),
    )
    score = score_on(IPbusBoard(board_address(loaded, model)))
    events_to_draw = load_dataset(dataset, watched.contract)
    replayer = Replayer(bootstrap, events_to_draw, watched.contract, settings, score, loaded.kafka_security)
    Commissioning(loaded).note_replay(model, run, events_to_draw)
    stop = threading.Event()
    with progress(f"run {run}", console=err) as report:
        sent = replayer.run(
            stop, lambda number: report((number - first + 1) / (last - first + 1), f"LS {number}")
        )
    out.print(f"run {run}: {sent.lumisections} lumisections, {sent.events} events in {sent.batches} batches")
