"""`lumiwatch audit`: what happened, and whether the log of it is as it was written."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from daemon.cli.output import DEFAULT_SITE, JsonOption, SiteOption, out, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="The log of everything that happened, chained by hashes.")

_NOTED = re.compile(r"(\d{1,18}):([0-9a-f]{64})\Z")
_AGO = re.compile(r"(\d{1,6})([dhm])\Z")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def _since(text: str) -> datetime:
    ago = _AGO.match(text)
    if ago is not None:
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            "give a time like 2026-05-01 or 2026-05-01T12:00+02:00, or 30d, 12h"
        ) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _noted(values: list[str]) -> dict[int, str]:
    found = {}
    for value in values:
        match = _NOTED.match(value)
        if match is None:
            raise typer.BadParameter("give NUMBER:HASH as `lumiwatch audit verify` printed them")
        found[int(match[1])] = match[2]
    return found


@app.command()
def verify(
    site: SiteOption = DEFAULT_SITE,
    expect: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBER:HASH", help="A hash noted earlier or elsewhere; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every event against its hash and the one before; exit code 1 names the first that is wrong."""
    from daemon.errors import CheckFailed
    from daemon.journal import audit_log
    from daemon.site.settings import load_site
    from daemon.store.database import open_database

    report = audit_log.verify(open_database(load_site(site).database_url), _noted(expect or []))
    if as_json:
        print_json({"sound": report.sound, **asdict(report)})
    if report.broken is not None:
        raise CheckFailed(f"the audit log is broken: {report.broken.text}")
    if not as_json:
        pruned = f"; those up to {report.pruned_up_to} were forgotten on time" if report.pruned_up_to else ""
        out.print(f"the audit log is sound: {report.n_events} events{pruned}")
        if report.n_events:
            out.print(f"note for later checks: {report.last}:{report.hash}", soft_wrap=True)


@app.command()
def show(
    site: SiteOption = DEFAULT_SITE,
    since: Annotated[
        datetime | None,
        typer.Option(parser=_since, metavar="TIME", help="From this time on: 2026-05-01, 30d, 12h."),
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Of this operator; lumiwatch for its own.")] = None,
    kind: Annotated[str | None, typer.Option(help="incident.opened, or a whole family: incident.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many.")] = 200,
    as_json: JsonOption = False,
) -> None:
    """Show what happened, oldest first."""
    from daemon.site.settings import load_site
    from daemon.store import queries
    from daemon.store.database import open_database

    engine = open_database(load_site(site).database_url)
    events = queries.audit(engine, since=since, actor=actor, kind=kind, limit=limit)
    if as_json:
        print_json([event.model_dump(mode="json") for event in events])
        return
    print_table(
        "events",
        ["number", "time (UTC)", "kind", "who", "what", "hash"],
        [
            [
                event.sequence,
                f"{event.at:%Y-%m-%d %H:%M:%S}",
                event.kind,
                event.actor,
                event.text,
                event.hash[:12],
            ]
            for event in events
        ],
    )
