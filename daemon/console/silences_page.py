"""Silences: what is kept quiet now, a form to keep something quiet, and a button to end it.

Refuses to know what a silence does; rights are asked for again with every act.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from nicegui import run, ui

from daemon.access.roles import Act
from daemon.console.layout import Visit, badge, heading, still_logged_in
from daemon.console.live import Live
from daemon.console.silence_mark import SILENCED, WAITING
from daemon.console.wording import date_and_clock
from daemon.errors import DaemonError
from daemon.incidents.silences import MAX_REASON, Silences
from daemon.incidents.silencing import FAMILIES, Silence, object_of_input
from daemon.process.services import Services

_LENGTHS: Final = {
    0.5: "30 minutes", 1: "1 hour", 2: "2 hours", 4: "4 hours", 8: "8 hours", 12: "12 hours",
    24: "1 day", 72: "3 days", 168: "7 days", 720: "30 days",
}  # fmt: skip
_ALL: Final = ""


async def build(visit: Visit, services: Services, model: str) -> None:
    """Fill the page of silences.

    Parameters
    ----------
    model
        Chosen in the form at the beginning; empty or unknown: every model.
    """
    await _SilencesPage(visit, services, model).build()


class _SilencesPage:
    def __init__(self, visit: Visit, services: Services, model: str) -> None:
        self._visit = visit
        self._services = services
        self._silences = Silences(services.engine, services.site, services.clock)
        self._model = model if model in services.site.models else _ALL

    async def build(self) -> None:
        heading("Silences")
        ui.label(
            "A silence keeps messages about matching incidents out of chat and phones. Incidents, console "
            "and metrics go on. When it is over, what is still wrong is told in one message."
        ).classes("lw-muted")
        with ui.element("section").classes("lw-panel").props('aria-label="Active silences"'):
            heading("Active", 2)
            self._live = Live(self._fetch, self._show)
            await self._live.refresh()
        if self._visit.may(Act.SILENCE):
            with ui.element("section").classes("lw-panel").props('aria-label="New silence"'):
                heading("Keep something quiet", 2)
                self._form()
        else:
            ui.label("Your role may look at silences, but not make or end them.").classes("lw-muted")

    def _fetch(self) -> tuple[tuple[Silence, bool], ...]:
        now = self._services.clock()
        return tuple((one, one.active(now)) for one in self._silences.list(active_only=True))

    def _show(self, found: tuple[tuple[Silence, bool], ...]) -> None:
        if not found:
            ui.label("Nothing is silenced.").classes("lw-muted")
        for silence, active in found:
            with (
                ui.element("div")
                .classes("lw-row lw-spread")
                .style("padding:8px 0;border-bottom:1px solid var(--line)")
            ):
                with ui.element("div"):
                    with ui.element("div").classes("lw-row"):
                        badge(SILENCED if active else WAITING)
                        ui.label(silence.scope).classes("lw-step-title")
                        ui.label(_times(silence, active=active))
                    ui.label(f"{silence.reason} ({silence.author}, {silence.id})").classes("lw-muted")
                if self._visit.may(Act.SILENCE):
                    self._end_button(silence)

    def _end_button(self, silence: Silence) -> None:
        async def end() -> None:
            await self._do(lambda who: self._silences.end(silence.id, author=who), f"{silence.id} has ended.")

        ui.button("End", icon="notifications_active", color="grey-8", on_click=end).classes(
            "lw-button"
        ).props(f'unelevated aria-label="End {silence.id}"')

    def _form(self) -> None:
        models = {_ALL: "every model", **{name: name for name in sorted(self._services.site.models)}}
        objects = sorted(
            {
                object_of_input(name)
                for model in self._services.site.models.values()
                for name in model.contract.input_names
            }
        )
        with ui.element("div").classes("lw-row"):
            model = _choice("Model", models, self._model)
            family = _choice("Family", {_ALL: "all but firmware faults", **{one: one for one in FAMILIES}})
            kind = _choice("Object", {_ALL: "every object", **{one: one for one in objects}})
            length = ui.select(_LENGTHS, value=2, label="For").props("outlined dense")
            length.style("min-width:160px")
        reason = ui.input("Reason (everybody sees it)").props(f"outlined dense maxlength={MAX_REASON}")
        reason.classes("w-full")

        async def create() -> None:
            chosen = [str(field.value) or None for field in (model, family, kind)]
            ends_at: datetime = self._services.clock() + timedelta(hours=float(length.value or 0))
            words = str(reason.value or "")
            done = await self._do(
                lambda who: self._silences.create(
                    author=who,
                    reason=words,
                    ends_at=ends_at,
                    model=chosen[0],
                    family=chosen[1],
                    object=chosen[2],
                ),
                "The silence has begun.",
            )
            if done:
                reason.set_value("")

        reason.on("keydown.enter", create)
        ui.button("Silence", icon="notifications_off", color="blue-9", on_click=create).classes(
            "lw-button"
        ).props("unelevated").style("align-self:flex-start")

    async def _do(self, act: Callable[[str], object], words: str) -> bool:
        """Act in the name of who is logged in now, and say what came of it."""

        def checked() -> None:
            who = still_logged_in(self._visit, self._services).name
            self._services.access.check(who, Act.SILENCE)
            act(who)

        try:
            await run.io_bound(checked)
        except DaemonError as error:
            ui.notify(f"Not accepted: {error}", type="negative", timeout=15_000, multi_line=True)
            return False
        ui.notify(words, type="positive")
        await self._live.refresh()
        return True


def _choice(label: str, options: dict[str, str], value: str = _ALL) -> ui.select:
    return ui.select(options, value=value, label=label).props("outlined dense").style("min-width:230px")


def _times(silence: Silence, *, active: bool) -> str:
    begins = "" if active else f"from {date_and_clock(silence.starts_at)} "
    return f"{begins}until {date_and_clock(silence.ends_at)}"
