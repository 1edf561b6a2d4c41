"""`lumiwatch silences`: keep incidents quiet until a given time, with a reason; see and end what is quiet."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli.incidents import path_part, post
from daemon.cli.output import DEFAULT_SITE, JsonOption, SiteOption, out, print_json, print_table
from daemon.client import connect
from daemon.errors import InvalidChoice
from daemon.incidents.silences import Silences
from daemon.site.settings import load_site
from daemon.store.database import open_database

app = typer.Typer(help="Silences: list (default), create, end.", no_args_is_help=False)
_LENGTH = re.compile(r"(\d{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
LengthOption = Annotated[
    str | None, typer.Option("--for", metavar="LENGTH", help="How long: 45m, 2h or 3d; at most 30d.")
]
UntilOption = Annotated[
    datetime | None,
    typer.Option("--until", formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"], help="Until when, in UTC."),
]
FromOption = Annotated[
    datetime | None,
    typer.Option(
        "--from", formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"], help="From when, in UTC; default: now."
    ),
]


@app.callback(invoke_without_command=True)
def default(context: typer.Context, site: SiteOption = DEFAULT_SITE, as_json: JsonOption = False) -> None:
    """List silences that have not ended, or do what a subcommand says."""
    if context.invoked_subcommand is None:
        _list(site, everything=False, as_json=as_json)


@app.command("list")
def list_silences(
    site: SiteOption = DEFAULT_SITE,
    everything: Annotated[bool, typer.Option("--all", help="Ended ones too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List silences that have not ended."""
    _list(site, everything=everything, as_json=as_json)


@app.command()
def create(
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why; everybody sees it.")],
    site: SiteOption = DEFAULT_SITE,
    length: LengthOption = None,
    until: UntilOption = None,
    starts: FromOption = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    family: Annotated[
        str | None, typer.Option(help="Only this family; firmware faults need `integrity`.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--object", help="Only this kind of object, for example jet.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Keep matching incidents quiet: nothing leaves for chat and phone, the console goes on."""
    begin = datetime.now(UTC) if starts is None else starts.replace(tzinfo=UTC)
    end = _end(begin, length, until)
    content = {
        "reason": reason,
        "starts_at": None if starts is None else begin.isoformat(),
        "ends_at": end.isoformat(),
        "model": model,
        "family": family,
        "object": kind,
    }
    answer = post(site, "/silences", content)
    if as_json:
        print_json(answer)
    else:
        out.print(f"{answer['id']} until {end:%Y-%m-%d %H:%M} UTC")


@app.command()
def end(
    silence: Annotated[str, typer.Argument(metavar="SILENCE", help="For example silence-1.")],
    site: SiteOption = DEFAULT_SITE,
    as_json: JsonOption = False,
) -> None:
    """End a silence before its time."""
    with connect(load_site(site)) as client:
        answer = client.delete(f"/silences/{path_part(silence)}")
    if as_json:
        print_json(answer)
    else:
        out.print(f"{silence} ended")


def _list(site: Path, *, everything: bool, as_json: bool) -> None:
    loaded = load_site(site)
    found = Silences(open_database(loaded.database_url), loaded).list(active_only=not everything)
    if as_json:
        print_json([silence.model_dump(mode="json") for silence in found])
        return
    rows = [
        (
            one.id,
            one.scope,
            f"{one.starts_at:%m-%d %H:%M}",
            f"{one.ends_at:%m-%d %H:%M}",
            one.author,
            one.reason,
        )
        for one in found
    ]
    print_table("silences (UTC)", ("id", "what", "from", "until", "who", "why"), rows)


def _length(text: str) -> timedelta:
    found = _LENGTH.fullmatch(text)
    if found is None:
        raise InvalidChoice(f"--for {text!r} is no length: write for instance 45m, 2h or 3d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _end(begin: datetime, length: str | None, until: datetime | None) -> datetime:
    if until is not None and length is None:
        return until.replace(tzinfo=UTC)
    if length is not None and until is None:
        return begin + _length(length)
    raise InvalidChoice("say how long: give --for or --until, one of them")
