"""`lumiwatch incidents`, `approve`, `reject`, `prescale-out`: what is wrong, and what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from daemon import queries
from daemon.cli.output import DEFAULT_SITE, JsonOption, SiteOption, out, print_json, print_record, print_table
from daemon.client import connect
from daemon.database import open_database
from daemon.errors import NotFound
from daemon.records import DecisionKind, IncidentState
from daemon.settings import load_site

_IDENTITY = re.compile(r"[a-z0-9][a-z0-9_-]*")
app = typer.Typer(help="Incidents: list (default), show, ack, resolve, respond.")
CommentOption = Annotated[str, typer.Option("--comment", "-m", help="For the record.")]
IncidentArgument = Annotated[str, typer.Argument(metavar="INCIDENT", help="For example anomaly-1.")]
ResponseArgument = Annotated[str, typer.Argument(metavar="RESPONSE", help="For example anomaly-1-r1.")]


@app.callback(invoke_without_command=True)
def list_incidents(
    context: typer.Context,
    site: SiteOption = DEFAULT_SITE,
    everything: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List incidents that are not resolved."""
    if context.invoked_subcommand is not None:
        return
    states = None if everything else [state for state in IncidentState if state is not IncidentState.RESOLVED]
    found = queries.incidents(open_database(load_site(site).database_url), states=states)
    if as_json:
        print_json([incident.model_dump(mode="json") for incident in found])
        return
    rows = [(i.id, i.state, i.run, f"{i.onset_lumisection}-{i.last_lumisection}", i.reason) for i in found]
    print_table("incidents", ("id", "state", "run", "LS", "what"), rows)


@app.command()
def show(incident: IncidentArgument, site: SiteOption = DEFAULT_SITE, as_json: JsonOption = False) -> None:
    """Show one incident: its history, and its responses step by step."""
    engine = open_database(load_site(site).database_url)
    found = queries.incident(engine, incident)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    print_record(
        f"incident {found.id}",
        {
            "state": found.state,
            "lumisections": f"run {found.run}, LS {found.onset_lumisection}-{found.last_lumisection}",
            "what": found.reason,
            "firmware": found.package[:12],
        },
    )
    lines = [(f"{event.at:%H:%M:%S}", event.actor, event.text) for event in found.events]
    print_table("history (UTC)", ("at", "who", "what"), lines)
    for response in found.responses:
        detail = queries.response(engine, response.id)
        steps = [(step.title, step.state, step.detail) for step in detail.steps]
        print_table(f"response {response.id}: {response.state}", ("step", "state", "detail"), steps)


@app.command("ack")
def acknowledge(
    incident: IncidentArgument, site: SiteOption = DEFAULT_SITE, comment: CommentOption = ""
) -> None:
    """Say that you look after an incident."""
    _post(site, f"/incidents/{_part(incident)}/acknowledge", {"comment": comment})
    out.print(f"incident {incident} acknowledged")


@app.command()
def resolve(incident: IncidentArgument, comment: CommentOption, site: SiteOption = DEFAULT_SITE) -> None:
    """End an incident by hand."""
    _post(site, f"/incidents/{_part(incident)}/resolve", {"comment": comment})
    out.print(f"incident {incident} resolved")


@app.command()
def respond(incident: IncidentArgument, site: SiteOption = DEFAULT_SITE, as_json: JsonOption = False) -> None:
    """Ask for a new response to an incident, for example after a rejection."""
    answer = _post(site, f"/incidents/{_part(incident)}/responses", {})
    if as_json:
        print_json(answer)
    else:
        out.print(f"response {answer['id']} is being prepared")


def approve(
    response: ResponseArgument,
    site: SiteOption = DEFAULT_SITE,
    strategy: Annotated[
        str | None, typer.Option(help="How to retrain; without it, the least invasive strategy that passes.")
    ] = None,
    comment: CommentOption = "",
) -> None:
    """Approve a response: lumiwatch retrains, proves the result bit by bit and reconfigures the board."""
    _decide(site, response, DecisionKind.APPROVE, comment, strategy)


def reject(response: ResponseArgument, site: SiteOption = DEFAULT_SITE, comment: CommentOption = "") -> None:
    """Reject a response: the firmware stays as it is, the incident stays open."""
    _decide(site, response, DecisionKind.REJECT, comment)


def prescale_out(
    response: ResponseArgument, site: SiteOption = DEFAULT_SITE, comment: CommentOption = ""
) -> None:
    """Close a response with the instruction to prescale the algorithm out."""
    _decide(site, response, DecisionKind.PRESCALE_OUT, comment)


def _decide(site: Path, response: str, kind: DecisionKind, comment: str, strategy: str | None = None) -> None:
    content = {"decision": kind.value, "strategy": strategy, "comment": comment, "via": "cli"}
    _post(site, f"/responses/{_part(response)}/decisions", content)
    out.print(f"response {response}: {kind.value.replace('_', ' ')} recorded")


def _part(identity: str) -> str:
    """Make sure that an id is one part of a path, and not a way to elsewhere."""
    if not _IDENTITY.fullmatch(identity):
        raise NotFound(f"{identity!r} is no id: find it with `lumiwatch incidents` and `incidents show`")
    return identity


def _post(site: Path, path: str, content: dict[str, Any]) -> Any:
    with connect(load_site(site)) as client:
        return client.post(path, content)
