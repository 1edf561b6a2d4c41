"""`lumiwatch demo`: the whole loop on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daemon.cli.output import err, out
from daemon.errors import CheckFailed, InvalidChoice
from streams.effects.effect import parse_effect


def demo(
    effect: Annotated[
        str, typer.Option(help="What happens to the detector (see below), or none.")
    ] = "jet_gain=1.05@LS61",
    auto_approve: Annotated[bool, typer.Option(help="Approve the response without asking.")] = False,
    auto_reject: Annotated[bool, typer.Option(help="Reject the response without asking.")] = False,
    folder: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("lumiwatch-demo"),
    port: Annotated[int, typer.Option(help="Port of the console; 0: a free one.", min=0, max=65535)] = 8642,
    events: Annotated[int, typer.Option(help="Events in each lumisection.", min=2000)] = 10_000,
    pace: Annotated[
        float, typer.Option(help="Seconds for each lumisection once it drifts.", min=0, max=3600)
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 1,
    stay: Annotated[bool, typer.Option(help="Keep everything running at the end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Play the whole loop: real events, drift, alarm, approval, retraining, reconfigured firmware.

    Exit code 0 only if every step really happened and the accept rate came back, or, with --effect none,
    if nothing happened; 1 otherwise.
    """
    from daemon.demo.script import DemoOptions, run_demo

    if auto_approve and auto_reject:
        raise InvalidChoice("--auto-approve and --auto-reject exclude each other: give one")
    parsed = parse_effect(effect)
    nothing = parsed.kind == "none"
    good = 60 if nothing else parsed.first_lumisection - 1
    decision = "approve" if auto_approve else "reject" if auto_reject else None
    options = DemoOptions(
        folder=folder.resolve(),
        effect=None if nothing else parsed,
        decision=decision,
        good_lumisections=good,
        events_per_lumisection=events,
        seconds_per_lumisection=pace,
        port=port,
        seed=seed,
        stay=stay,
    )
    summary = run_demo(options, err if as_json else out)
    if as_json:
        typer.echo(summary.model_dump_json(indent=2))
    if not summary.passed:
        raise CheckFailed("not everything happened as it should: see the summary")
