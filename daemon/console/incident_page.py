"""Incidents: the list, and one incident with its story, its messages exactly as sent, and the response."""

import base64
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from nicegui import run, ui

from daemon.access.roles import Act
from daemon.alerts.channels import LOG, Action
from daemon.alerts.compose import story_of
from daemon.console.job_log_panel import JobLogPanel
from daemon.console.layout import Visit, badge, heading, link, marks, still_logged_in, table
from daemon.console.live import Live
from daemon.console.looks import INCIDENTS, NOTIFICATIONS
from daemon.console.response_panel import ResponsePanel
from daemon.console.silence_mark import silence_mark, silence_words
from daemon.console.wording import clock, date_and_clock, lumisections, short
from daemon.errors import DaemonError
from daemon.incidents.silences import Silences
from daemon.incidents.silencing import Silence
from daemon.process.services import Services
from daemon.store import queries, views
from daemon.store.records import FINAL_RESPONSE_STATES, IncidentState

_ACTIONS = {
    Action.POST.value: "alarm: head of the thread",
    Action.REPLY.value: "reply in the thread",
    Action.EDIT.value: "head brought up to date",
}


async def build_list(visit: Visit, services: Services) -> None:
    """Fill the page of all incidents."""
    del visit
    heading("Incidents")
    with ui.element("section").classes("lw-panel"):
        await Live(lambda: _fetch_list(services), _show_list).refresh()


def _fetch_list(services: Services) -> tuple[list[views.IncidentView], dict[str, Silence]]:
    silences = Silences(services.engine, services.site, services.clock)
    return queries.incidents(services.engine), silences.quiet_incidents()


def _show_list(shown: tuple[list[views.IncidentView], dict[str, Silence]]) -> None:
    found, quiet = shown
    if not found:
        ui.label("No incident so far.").classes("lw-muted")
    for incident in found:
        with ui.element("div").classes("lw-row").style("padding:8px 0;border-bottom:1px solid var(--line)"):
            badge(INCIDENTS[incident.state])
            link(incident.id, f"/incidents/{incident.id}")
            marks(simulated=incident.simulated)
            if incident.id in quiet:
                silence_mark(silence_words(quiet[incident.id]))
            where = lumisections(incident.first_lumisection, incident.last_lumisection)
            ui.label(f"run {incident.run}, LS {where}, opened {date_and_clock(incident.opened_at)}").classes(
                "lw-muted"
            )
            ui.label(incident.resolution or incident.reason).style("flex-basis:100%")


async def build(visit: Visit, services: Services, incident_id: str) -> None:
    """Fill the page of one incident.

    Raises
    ------
    NotFound
        No such incident.
    """
    await _IncidentPage(visit, services, incident_id).build()


class _IncidentPage:
    def __init__(self, visit: Visit, services: Services, incident_id: str) -> None:
        self._visit = visit
        self._services = services
        self._incident_id = incident_id
        self._responses: set[str] = set()

    async def build(self) -> None:
        incident = await run.io_bound(queries.incident, self._services.engine, self._incident_id)
        if incident is None:  # the daemon is stopping
            return
        self._head = Live(self._fetch_head, self._show_head)
        await self._head.refresh()
        with ui.element("div").classes("lw-two"):
            with ui.element("div").classes("lw-stack"):
                self._answers = ui.element("div").classes("lw-stack")
                with ui.element("section").classes("lw-panel"):
                    heading("Messages, exactly as sent", 2)
                    await Live(self._fetch_messages, _Messages().show, keep=True).refresh()
            with ui.element("section").classes("lw-panel"):
                heading("What happened", 2)
                await Live(lambda: self._fetch().events, _show_story).refresh()
        await self._add_responses([answer.id for answer in incident.responses])
        ui.timer(2.0, self._look_for_responses, immediate=False)

    def _fetch(self) -> views.IncidentDetail:
        return queries.incident(self._services.engine, self._incident_id)

    def _fetch_head(self) -> tuple[views.IncidentDetail, Silence | None]:
        silences = Silences(self._services.engine, self._services.site, self._services.clock)
        return self._fetch(), silences.quiet_incidents().get(self._incident_id)

    def _fetch_messages(self) -> list[tuple[views.NotificationView, str | None]]:
        return [(message, _picture(message)) for message in self._fetch().notifications]

    async def _look_for_responses(self) -> None:
        found = await run.io_bound(queries.responses, self._services.engine, incident_id=self._incident_id)
        await self._add_responses([answer.id for answer in reversed(found or [])])

    async def _add_responses(self, ids: list[str]) -> None:
        for response_id in ids:
            if response_id in self._responses:
                continue
            self._responses.add(response_id)
            with self._answers, ui.element("div").classes("lw-stack") as place:
                await ResponsePanel(self._visit, self._services, response_id).build()
                await JobLogPanel(self._services.site, response_id).build()
            place.move(target_index=0)

    def _show_head(self, shown: tuple[views.IncidentDetail, Silence | None]) -> None:
        incident, silence = shown
        with ui.element("div").classes("lw-row lw-spread"):
            with ui.element("div").classes("lw-row"):
                heading(f"Incident {incident.id}")
                badge(INCIDENTS[incident.state])
                marks(simulated=incident.simulated)
            with ui.element("div").classes("lw-row"):
                link(f"Model {incident.model}", f"/models/{incident.model}")
                if incident.state is not IncidentState.RESOLVED:
                    link("Silence", f"/silences?model={incident.model}")
                self._acts(incident)
        if silence is not None:
            silence_mark(silence_words(silence))
        if incident.instruction and incident.state is not IncidentState.RESOLVED:
            ui.label(f"Instruction to the shift: {incident.instruction}").classes("lw-notice warning")
        ui.label(incident.resolution or incident.reason).classes("lw-reason")
        story = story_of(incident)
        if story:
            ui.label(f"Likely: {story}").classes("lw-story")
        where = lumisections(incident.first_lumisection, incident.last_lumisection)
        acknowledged = incident.acknowledged_by or "nobody yet"
        table(
            (
                "run",
                "alarm in LS",
                "onset",
                "families",
                "package",
                "reference",
                "opened",
                "came back",
                "acknowledged by",
            ),
            [
                (
                    str(incident.run),
                    where,
                    f"LS {incident.onset_lumisection}",
                    ", ".join(incident.families) or "none",
                    short(incident.package),
                    short(incident.reference_id),
                    date_and_clock(incident.opened_at),
                    f"{incident.reopened} times" if incident.reopened else "no",
                    acknowledged,
                )
            ],
        )

    def _acts(self, incident: views.IncidentDetail) -> None:
        """Offer what can be done with an incident as it is now."""
        if incident.state is IncidentState.RESOLVED:
            return
        acts: list[tuple[str, str, str, Callable[[str], object]]] = []
        operations, name = self._services.operations, self._incident_id
        fresh = incident.state is IncidentState.OPEN and incident.acknowledged_by is None
        if fresh and self._visit.may(Act.ACKNOWLEDGE):
            acts.append(
                (
                    "Acknowledge",
                    "visibility",
                    "blue-9",
                    lambda who: operations.acknowledge(name, operator=who),
                )
            )
        model = self._services.site.models.get(incident.model)
        answerable = model is not None and model.has_firmware and self._visit.may(Act.RESPOND)
        if answerable and all(answer.state in FINAL_RESPONSE_STATES for answer in incident.responses):
            acts.append(
                ("Propose again", "restart_alt", "grey-8", lambda who: operations.propose(name, operator=who))
            )
        for words, icon, colour, act in acts:
            ui.button(words, icon=icon, color=colour, on_click=partial(self._do, act)).classes(
                "lw-button"
            ).props("unelevated")

    async def _do(self, act: Callable[[str], object]) -> None:
        """Act in the name of who is logged in now, and say so when it is refused."""

        def checked() -> None:
            act(still_logged_in(self._visit, self._services).name)

        try:
            await run.io_bound(checked)
        except DaemonError as error:
            ui.notify(f"Not accepted: {error}", type="negative", timeout=15_000, multi_line=True)
        await self._head.refresh()


def _show_story(events: list[views.IncidentEventView]) -> None:
    with ui.element("div").style("width:100%"):
        for event in reversed(events):
            with ui.element("div").classes("lw-line"):
                ui.label(clock(event.at)).classes("lw-muted").style("font-variant-numeric:tabular-nums")
                with ui.element("div"):
                    ui.label(event.text)
                    ui.label(event.actor).classes("lw-muted")


class _Messages:
    """The messages of an incident: each is drawn once, so that an opened one stays open."""

    def __init__(self) -> None:
        self._states: dict[str, ui.label] = {}
        self._place: ui.element | None = None

    def show(self, found: list[tuple[views.NotificationView, str | None]]) -> None:
        """Add new messages on top and bring the state of the others up to date."""
        if self._place is None:
            self._place = ui.element("div").style("width:100%")
        for message, picture in found:
            if message.id not in self._states:
                with self._place:
                    entry = self._draw(message, picture)
                entry.move(target_index=0)
            self._states[message.id].set_text(_delivery(message))

    def _draw(self, message: views.NotificationView, picture: str | None) -> ui.element:
        head = message.action == Action.POST
        words = f"{clock(message.created_at)}  {_ACTIONS.get(message.action, message.action)}"
        with ui.expansion(words, value=head).classes("lw-message") as entry:
            self._states[message.id] = ui.label().classes("lw-muted")
            ui.label(str(message.payload.get("text", ""))).classes("lw-pre")
            if picture is not None:
                source = f"data:image/png;base64,{picture}"
                ui.html(f'<img class="lw-picture" alt="Picture of the alarm" src="{source}">', sanitize=False)
            exact = {
                key: value for key, value in message.payload.items() if key in {"method", "path", "body"}
            }
            with ui.expansion("Request, byte for byte").props("dense").classes("w-full"):
                ui.label(json.dumps(exact, indent=2, ensure_ascii=False)).classes("lw-pre")
        return entry


def _delivery(message: views.NotificationView) -> str:
    if message.channel == LOG:
        return "Kept here and printed by the daemon: no chat is configured for it."
    state = NOTIFICATIONS[message.state].word
    problem = f". {message.last_error}" if message.last_error else ""
    return f"{message.channel}: {state} after {message.attempts} attempts{problem}"


def _picture(message: views.NotificationView) -> str | None:
    """Read the picture of a message, as base64 for the page."""
    path = message.payload.get("image")
    if not isinstance(path, str) or not path.endswith(".png"):
        return None
    try:
        return base64.b64encode(Path(path).read_bytes()).decode("ascii")
    except OSError:
        return None
