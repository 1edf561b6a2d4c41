"""`lumiwatch incidents`, `approve`, `reject`, `prescale-out`: what is wrong, and what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from daemon.cli.output import DEFAULT_SITE, JsonOption, SiteOption, out, print_json, print_record, print_table
from daemon.client import connect
from daemon.errors import NotFound
from daemon.incidents.silences import Silences
from daemon.incidents.silencing import Silence
from daemon.responses.what_next import QUESTIONS, what_next
from daemon.site.settings import load_site
from daemon.store import queries, views
from daemon.store.database import open_database
from daemon.store.records import DecisionKind, IncidentState

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
    loaded = load_site(site)
    engine = open_database(loaded.database_url)
    found = queries.incidents(engine, states=states)
    quiet = Silences(engine, loaded).quiet_incidents()
    if as_json:
        names = {incident: silence.id for incident, silence in quiet.items()}
        print_json([{**one.model_dump(mode="json"), "silenced_by": names.get(one.id)} for one in found])
        return
    rows = [
        (
            i.id,
            i.state,
            _silenced(quiet.get(i.id)),
            i.run,
            f"{i.onset_lumisection}-{i.last_lumisection}",
            i.reason,
        )
        for i in found
    ]
    print_table("incidents", ("id", "state", "silenced", "run", "LS", "what"), rows)


@app.command()
def show(incident: IncidentArgument, site: SiteOption = DEFAULT_SITE, as_json: JsonOption = False) -> None:
    """Show one incident: its history, and its responses step by step."""
    loaded = load_site(site)
    engine = open_database(loaded.database_url)
    found = queries.incident(engine, incident)
    silence = Silences(engine, loaded).quiet_incidents().get(incident)
    if as_json:
        print_json({**found.model_dump(mode="json"), "silenced_by": silence.id if silence else None})
        return
    print_record(
        f"incident {found.id}",
        {
            "state": f"{found.state}, came back {found.reopened} times" if found.reopened else found.state,
            "silenced": f"{_silenced(silence)}: {silence.reason}" if silence else "no",
            "lumisections": f"run {found.run}, LS {found.onset_lumisection}-{found.last_lumisection}",
            "what": found.reason,
            "firmware": found.package[:12],
        },
    )
    lines = [(f"{event.at:%H:%M:%S}", event.actor, event.text) for event in found.events]
    print_table("history (UTC)", ("at", "who", "what"), lines)
    for response in found.responses:
        _show_response(queries.response(engine, response.id))


def _silenced(silence: Silence | None) -> str:
    return "" if silence is None else f"until {silence.ends_at:%m-%d %H:%M} by {silence.author}"


def _show_response(detail: views.ResponseDetail) -> None:
    """Print one response: what it asks, who has answered, its steps, and what comes next."""
    facts = {"state": detail.state, "requested by": detail.requested_by}
    if detail.estimate is not None:
        facts["known before"] = detail.estimate["summary"]
    if detail.hardware is not None:
        facts["for the board"] = detail.hardware["summary"]
    if detail.waits_for is not None:
        waits = detail.waits_for
        facts |= {
            "asks": QUESTIONS[waits.stage],
            "approved by": f"{', '.join(waits.approved_by) or 'nobody yet'} ({waits.needed} needed)",
            "missing": " or ".join(waits.missing),
            "until": f"{waits.until:%Y-%m-%d %H:%M} UTC" if waits.until else "",
        }
    print_record(f"response {detail.id}", {**facts, "next": what_next(detail)})
    decided = [
        (f"{one.at:%H:%M:%S}", one.operator, QUESTIONS[one.stage], one.kind, one.strategy, one.comment)
        for one in detail.decisions
    ]
    print_table("decisions (UTC)", ("at", "who", "on", "answer", "strategy", "comment"), decided)
    steps = [(step.title, step.state, step.detail) for step in detail.steps]
    print_table("steps", ("step", "state", "detail"), steps)


@app.command("ack")
def acknowledge(
    incident: IncidentArgument, site: SiteOption = DEFAULT_SITE, comment: CommentOption = ""
) -> None:
    """Say that you look after an incident."""
    post(site, f"/incidents/{path_part(incident)}/acknowledge", {"comment": comment})
    out.print(f"incident {incident} acknowledged")


@app.command()
def resolve(incident: IncidentArgument, comment: CommentOption, site: SiteOption = DEFAULT_SITE) -> None:
    """End an incident by hand."""
    post(site, f"/incidents/{path_part(incident)}/resolve", {"comment": comment})
    out.print(f"incident {incident} resolved")


@app.command()
def respond(incident: IncidentArgument, site: SiteOption = DEFAULT_SITE, as_json: JsonOption = False) -> None:
    """Ask for a new response to an incident, for example after a rejection."""
    answer = post(site, f"/incidents/{path_part(incident)}/responses", {})
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
    answer = post(site, f"/responses/{path_part(response)}/decisions", content)
    decided = views.ResponseDetail.model_validate(answer)
    out.print(f"response {response}: {kind.value.replace('_', ' ')} recorded. {what_next(decided)}")


def path_part(identity: str) -> str:
    """Make sure that an id is one part of a path, and not a way to elsewhere."""
    if not _IDENTITY.fullmatch(identity):
        raise NotFound(f"{identity!r} is no id: find it with `lumiwatch incidents` and `incidents show`")
    return identity


def post(site: Path, path: str, content: dict[str, Any]) -> Any:
    """Send one act to the daemon; returns its answer."""
    with connect(load_site(site)) as client:
        return client.post(path, content)
