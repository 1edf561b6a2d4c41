"""One window of one model: what was said of it, what explains it, and any input laid over its reference.

The choice of run, lumisection and input is made by keyboard here, or by a click on a plot beside, and stands
in the address. Refuses to judge: everything shown was found when the window was judged.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from nicegui import run, ui

from daemon.alerts.evidence import SCORE, Evidence
from daemon.console.chart_style import Figure
from daemon.console.choice import Choice
from daemon.console.layout import Visit, badge, heading, table
from daemon.console.live import Live
from daemon.console.looks import FIRMWARE_FAULT, VERDICTS
from daemon.console.map_figure import map_of_pulls
from daemon.console.ratio_chart import ratio
from daemon.console.window_facts import window_facts
from daemon.console.wording import short
from daemon.process.services import Services
from daemon.store import queries, views
from streams.counting.layout import layout_of

MAP = " map"
"""Ends the names of maps among the quantities that can be chosen."""


@dataclass(frozen=True)
class Shown:
    """What the panel shows.

    Parameters
    ----------
    choice
        What was asked for.
    verdict
        On the chosen window, or why there is none.
    packages
        Of the lumisection, oldest first.
    runs
        That can be chosen, newest first.
    figure
        Of the chosen quantity, or why there is none.
    """

    choice: Choice
    verdict: views.VerdictView | str
    packages: tuple[str, ...]
    runs: tuple[int, ...]
    figure: Figure | str


class WindowPanel:
    """The panel.

    Parameters
    ----------
    visit, services, evidence
        Who looks, at which site, and what the stream kept.
    model
        Name of the monitored model.
    choice
        What to begin with.
    on_choice
        Told that the choice changed.
    """

    def __init__(
        self,
        visit: Visit,
        services: Services,
        evidence: Evidence,
        model: str,
        choice: Choice,
        on_choice: Callable[[], None],
    ) -> None:
        self._visit = visit
        self._engine = services.engine
        self._evidence = evidence
        self._model = services.site.models[model]
        self._on_choice = on_choice
        maps = [f"{one.object}{MAP}" for one in layout_of(self._model.contract).maps]
        score = [SCORE] if self._model.has_firmware else []
        self._names = [*score, *self._model.contract.input_names, *maps]
        self.choice = choice
        self._shown: Shown | None = None
        self._plot: ui.plotly | None = None

    async def build(self) -> None:
        """Draw the choices, the words and the plot."""
        if self.choice.quantity not in self._names:
            telling = await run.io_bound(self._most_telling) or []
            named = next((name for name in telling if name in self._names), self._names[0])
            self.choice = replace(self.choice, quantity=named)
        with ui.element("section").classes("lw-panel lw-window").props('aria-label="One lumisection"'):
            self._head = ui.element("div").classes("lw-stack").style("gap:10px")
            with ui.element("div").classes("lw-row"):
                self._choosers()
            self._words = ui.label().classes("lw-muted")
            self._place = ui.element("div").classes("w-full")
            self._live = Live(self._fetch, self._show, interval_s=2.0, keep=True)
            self._story = ui.element("div").classes("lw-stack").style("gap:10px")
            await self._live.refresh()

    def _choosers(self) -> None:
        self._quantity = (
            ui.select(self._names, value=self.choice.quantity, label="Input, score or map", with_input=True)
            .props("outlined dense")
            .style("flex:1 1 180px")
            .on_value_change(lambda event: self.choose(quantity=event.value) if event.value else None)
        )
        self._lumisection = (
            ui.input("Lumisection", placeholder="the newest", value=_written(self.choice.lumisection))
            .props("outlined dense type=number min=0 step=1 debounce=300 stack-label")
            .style("width:130px")
            .on_value_change(lambda event: self._type(event.value))
        )
        self._run = (
            ui.select({"": "newest"}, value="", label="Run")
            .props("outlined dense")
            .style("min-width:110px")
            .on_value_change(lambda event: self._choose_run(event.value))
        )
        self._package = (
            ui.select([], label="Package")
            .props("outlined dense")
            .style("min-width:150px")
            .on_value_change(lambda event: self.choose(package=event.value) if event.value else None)
        )
        self._package.set_visibility(False)
        for words, icon, step in (("Earlier", "chevron_left", -1), ("Later", "chevron_right", 1)):
            ui.button(words, icon=icon, on_click=partial(self._step, step)).props("flat dense no-caps")
        ui.button("Newest", icon="last_page", on_click=self._newest).props("flat dense no-caps")

    async def choose(
        self, *, quantity: str | None = None, lumisection: int | None = None, package: str | None = None
    ) -> None:
        """Show another input, lumisection or package; what is not given stays."""
        chosen = replace(self.choice, quantity=quantity or self.choice.quantity)
        if lumisection is not None:
            chosen = replace(chosen, run=self._shown_run(), lumisection=lumisection, package=None)
        here = self.verdict
        if package is not None and here is not None and here.package != package:
            chosen = replace(chosen, run=here.run, lumisection=here.lumisection, package=package)
        await self._take(chosen)

    async def _newest(self) -> None:
        await self._take(Choice(quantity=self.choice.quantity))

    async def _step(self, step: int) -> None:
        here = self.choice.lumisection
        if here is None and self.verdict is not None:
            here = self.verdict.lumisection
        if here is not None:
            await self.choose(lumisection=max(here + step, 0))

    async def _type(self, text: object) -> None:
        written = str(text if text is not None else "").strip()
        if written == _written(self.choice.lumisection):
            return
        if not written:
            await self._take(replace(self.choice, lumisection=None, package=None))
        elif written.isascii() and written.isdigit() and len(written) < 10:
            await self.choose(lumisection=int(written))

    async def _choose_run(self, value: object) -> None:
        number = int(str(value)) if value else None
        if number != self.choice.run:
            await self._take(Choice(run=number, quantity=self.choice.quantity))

    async def _take(self, choice: Choice) -> None:
        """Make a choice: fields, address and plots follow."""
        if choice == self.choice:
            return
        self.choice = choice
        self._quantity.set_value(choice.quantity)
        self._lumisection.set_value(_written(choice.lumisection))
        ui.navigate.history.replace(choice.address(self._model.name))
        await self._live.refresh()

    @property
    def verdict(self) -> views.VerdictView | None:
        """The verdict on the window that is shown."""
        shown = self._shown
        return shown.verdict if shown is not None and isinstance(shown.verdict, views.VerdictView) else None

    def _shown_run(self) -> int | None:
        if self.choice.run is not None or self.verdict is None:
            return self.choice.run
        return self.verdict.run

    def _most_telling(self) -> list[str]:
        """Name what the verdict is about: a map that it suspects, else the most different input."""
        found = self._window(self.choice)
        if not found:
            return []
        suspected = [name for name in found[-1].suspects[:1] if name.endswith(MAP)]
        return [*suspected, *(one.name for one in found[-1].worst_inputs)]

    def _window(self, choice: Choice) -> list[views.VerdictView]:
        name, number = self._model.name, choice.run
        if number is None or choice.lumisection is None:
            newest = queries.verdict_timeline(self._engine, name, run=number, limit=1)
            if not newest or choice.lumisection is None:
                return newest
            number = newest[0].run
        return queries.verdicts_at(self._engine, name, number, choice.lumisection)

    def _fetch(self) -> Shown:
        choice = self.choice
        runs = tuple(queries.runs(self._engine, self._model.name))
        found = self._window(choice)
        packages = tuple(dict.fromkeys(one.package for one in found))
        fitting = [one for one in found if choice.package in (None, one.package)]
        if not fitting:
            return Shown(choice, _nothing(choice), packages, runs, "")
        verdict = fitting[-1]
        return Shown(
            choice, verdict, packages, runs, self._figure(verdict, choice.quantity or self._names[0])
        )

    def _figure(self, one: views.VerdictView, quantity: str) -> Figure | str:
        words = ("REPLAY", "SIMULATED DATA") if one.simulated else ()
        label = f"{quantity}, LS {one.lumisection}"
        window = (one.model, one.run, one.lumisection, one.package)
        if quantity.endswith(MAP):
            name = quantity.removesuffix(MAP)
            story = self._evidence.story(*window, one.suspects) if one.story else None
            place = story.place if story is not None and story.object == name else None
            data = self._evidence.pull_map(*window, name, place)
            if data is not None:
                return map_of_pulls(data, title=label, colours=self._visit.colours, marks=words)
        else:
            found = self._evidence.overlay(*window, quantity)
            if found is not None:
                counts, unit = found
                return ratio(counts, quantity=label, unit=unit, colours=self._visit.colours, marks=words)
        return f"The stream kept no counts of {quantity} for LS {one.lumisection} with their reference."

    def _show(self, shown: Shown) -> None:
        last, self._shown = self._shown, shown
        if last is None or (last.verdict, last.choice.quantity) != (shown.verdict, shown.choice.quantity):
            self._head.clear()
            with self._head:
                _head(shown)
            self._story.clear()
            with self._story:
                self._explain(shown)
        if last is None or (last.runs, last.choice.run) != (shown.runs, shown.choice.run):
            numbers = dict.fromkeys([*shown.runs, *([shown.choice.run] if shown.choice.run else [])])
            options = {"": "newest", **{str(number): str(number) for number in numbers}}
            self._run.set_options(options, value=_written(shown.choice.run))
        if last is None or (last.packages, last.verdict) != (shown.packages, shown.verdict):
            self._offer_packages(shown)
        self._draw(shown.figure)
        self._on_choice()

    def _offer_packages(self, shown: Shown) -> None:
        several = len(shown.packages) > 1 and isinstance(shown.verdict, views.VerdictView)
        self._package.set_visibility(several)
        if several and isinstance(shown.verdict, views.VerdictView):
            options = {package: short(package) for package in shown.packages}
            self._package.set_options(options, value=shown.verdict.package)

    def _draw(self, figure: Figure | str) -> None:
        self._words.set_visibility(isinstance(figure, str) and bool(figure))
        self._place.set_visibility(not isinstance(figure, str))
        if isinstance(figure, str):
            self._words.set_text(figure)
        elif self._plot is None:
            with self._place:
                self._plot = ui.plotly(figure).classes("lw-plot")
        else:
            self._plot.update_figure(figure)

    def _explain(self, shown: Shown) -> None:
        verdict = shown.verdict
        if isinstance(verdict, str):
            return
        table(("quantity", "value"), window_facts(verdict, rated=self._model.has_firmware))
        if verdict.worst_inputs:
            ui.label("Inputs that differ most:").classes("lw-muted")
            for one in verdict.worst_inputs:
                words = f"{one.name}: KS distance {one.ks_distance:.3f}, mean {one.mean_shift_lsb:+.1f} LSB"
                button = ui.button(words, on_click=partial(self._pick, one.name)).props("flat dense no-caps")
                button.props["aria-pressed"] = str(one.name == shown.choice.quantity).lower()

    async def _pick(self, name: str) -> None:
        if name in self._names:
            await self.choose(quantity=name)


def _head(shown: Shown) -> None:
    verdict = shown.verdict
    if isinstance(verdict, str):
        heading("One lumisection", 2)
        ui.label(verdict).classes("lw-notice quiet").props('role="status"')
        return
    with ui.element("div").classes("lw-row"):
        heading(f"LS {verdict.lumisection} of run {verdict.run}", 2)
        badge(VERDICTS[verdict.state])
        if verdict.firmware_fault:
            badge(FIRMWARE_FAULT)
    ui.label(verdict.reason)
    if verdict.story:
        ui.label(f"Likely: {verdict.story}").classes("lw-story")


def _nothing(choice: Choice) -> str:
    if choice.lumisection is None:
        return "No lumisection has been judged yet." if choice.run is None else f"Run {choice.run} has none."
    where = f" in run {choice.run}" if choice.run is not None else ""
    package = f" with package {short(choice.package)}" if choice.package is not None else ""
    return f"LS {choice.lumisection}{where}{package} was not judged: choose another."


def _written(number: int | None) -> str:
    return "" if number is None else str(number)
