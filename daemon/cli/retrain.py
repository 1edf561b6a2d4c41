"""`lumiwatch retrain request`: have a model retrained without an alarm, with the same approvals."""

from __future__ import annotations

from typing import Annotated

import typer

from daemon.cli.incidents import path_part, post
from daemon.cli.output import DEFAULT_SITE, JsonOption, SiteOption, out, print_json

app = typer.Typer(no_args_is_help=True, help="Retraining that no alarm has asked for.")


@app.callback()
def retrain() -> None:
    """Keep `request` a command of its own, also while it is the only one."""


@app.command()
def request(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="For example anomaly.")],
    reason: Annotated[str, typer.Option(help="Why, for those who are to approve it.")],
    site: SiteOption = DEFAULT_SITE,
    as_json: JsonOption = False,
) -> None:
    """Ask for a retraining on the latest lumisections; it is proposed, approved and verified as any other."""
    answer = post(site, f"/models/{path_part(model)}/retrain", {"reason": reason, "via": "cli"})
    if as_json:
        print_json(answer)
        return
    response = answer["id"]
    out.print(f"response {response} is being prepared; then: lumiwatch approve {response}")
