"""One model: its verdicts over lumisections, what the inputs look like, and any histogram with its ratio."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nicegui import run, ui

from daemon import queries, views
from daemon.alerts.evidence import SCORE, Evidence
from daemon.console import charts
from daemon.console.chart_style import Figure
from daemon.console.layout import Visit, badge, heading, link, marks, table
from daemon.console.live import Live
from daemon.console.looks import FIRMWARE_FAULT, INCIDENTS, LATE, RATE_CHART, VERDICTS
from daemon.console.map_figure import map_of_pulls
from daemon.console.rate_figure import rate_against_pileup
from daemon.console.ratio_chart import ratio
from daemon.console.wording import (
    date_and_clock,
    deviation,
    evidence_words,
    lumisections,
    percent,
    rate_chart_words,
    short,
)
from daemon.errors import NotFound
from daemon.services import Services
from streams.counting.layout import layout_of
from streams.judging.rate_chart import IN_A_ROW

MAP = " map"
"""Ends the names of maps among the quantities that can be chosen."""
_SHOWN = 240


@dataclass(frozen=True)
class Overview:
    """Numbers of the page's head."""

    status: views.ModelStatus
    latest: views.VerdictView | None
    incidents: tuple[views.IncidentView, ...]


async def build(visit: Visit, services: Services, evidence: Evidence, model: str) -> None:
    """Fill the page of one model.

    Raises
    ------
    NotFound
        The site does not watch it.
    """
    if model not in services.site.models:
        known = ", ".join(sorted(services.site.models))
        raise NotFound(f"model {model!r} is not watched at this site; known models: {known}")
    head = Live(lambda: _overview(services, model), _show_overview)
    await head.refresh()
    rated = services.site.models[model].has_firmware
    with ui.element("section").classes("lw-panel"):
        heading("Verdicts, accept rate, evidence and families" if rated else "Verdicts and evidence", 2)
        _figure(lambda: _timeline(services, evidence, visit, model), 2.0)
    if rated:
        with ui.element("section").classes("lw-panel"):
            heading("Rate chart: accept rate against pileup", 2)
            ui.label(
                f"It speaks at the {IN_A_ROW}th lumisection in a row out of its band, and raises no alarm."
            ).classes("lw-muted")
            _figure(lambda: _rates(services, evidence, visit, model), 4.0)
    await _Overlays(visit, services, evidence, model).build()
    with ui.element("section").classes("lw-panel"):
        heading("Inputs against lumisections", 2)
        ui.label(
            "Kolmogorov-Smirnov distance of every input from its reference. A dotted line marks new firmware."
        ).classes("lw-muted")
        _figure(lambda: _heat_map(services, evidence, visit, model), 5.0)


def _figure(make: Callable[[], Figure | None], interval_s: float) -> None:
    """Show a plot that follows the data; `make` runs in a thread, None draws nothing."""
    plot: list[ui.plotly] = []

    def show(figure: Figure | None) -> None:
        if figure is None:
            return
        if plot:
            plot[0].update_figure(figure)
        else:
            plot.append(ui.plotly(figure).classes("lw-plot"))

    Live(make, show, interval_s=interval_s, keep=True).start()


def _overview(services: Services, model: str) -> Overview:
    status = queries.model_status(services.engine, services.site, model)
    return Overview(status, status.verdict, tuple(queries.incidents(services.engine, model=model, limit=5)))


def _latest_run(services: Services, model: str) -> int | None:
    latest = queries.verdict_timeline(services.engine, model, limit=1)
    return latest[0].run if latest else None


def _timeline(services: Services, evidence: Evidence, visit: Visit, model: str) -> Figure:
    run = _latest_run(services, model)
    verdicts = (
        queries.verdict_timeline(services.engine, model, run=run, limit=_SHOWN) if run is not None else []
    )
    assessments = evidence.assessments(model, run, limit=_SHOWN) if run is not None else []
    watched = services.site.models[model]
    band = watched.settings.watch.rate_band if watched.has_firmware else None
    return charts.timeline(verdicts, assessments, band=band, colours=visit.colours)


def _rates(services: Services, evidence: Evidence, visit: Visit, model: str) -> Figure | None:
    run = _latest_run(services, model)
    found = evidence.rate_curve(model, run, limit=_SHOWN) if run is not None else None
    return rate_against_pileup(found, visit.colours) if found is not None else None


def _heat_map(services: Services, evidence: Evidence, visit: Visit, model: str) -> Figure | None:
    run = _latest_run(services, model)
    if run is None:
        return None
    data = evidence.heat_map(model, run)
    verdicts = queries.verdict_timeline(services.engine, model, run=run, limit=_SHOWN)
    return charts.heat_map(data, verdicts, visit.colours) if data.lumisections else None


def _show_overview(found: Overview) -> None:
    status, verdict = found.status, found.latest
    with ui.element("div").classes("lw-row lw-spread"):
        with ui.element("div").classes("lw-row"):
            heading(status.model)
            if verdict is not None:
                badge(VERDICTS[verdict.state])
                if verdict.firmware_fault:
                    badge(FIRMWARE_FAULT)
                if verdict.late:
                    badge(LATE)
                if verdict.rate_chart is not None and verdict.rate_chart.speaks:
                    badge(RATE_CHART)
                marks(simulated=verdict.simulated)
        if status.incident is not None:
            with ui.element("div").classes("lw-row"):
                badge(INCIDENTS[status.incident.state])
                link(f"Incident {status.incident.id}", f"/incidents/{status.incident.id}")
    if status.description:
        ui.label(status.description).classes("lw-muted")
    with ui.element("div").classes("lw-two"):
        with ui.element("section").classes("lw-panel"):
            heading("Now", 2)
            if verdict is None:
                ui.label(
                    "No lumisection has been judged yet. Replay or stream data, and approve a reference."
                )
            else:
                _now(verdict, status)
        with ui.element("section").classes("lw-panel"):
            heading("Incidents", 2)
            if not found.incidents:
                ui.label("None so far.").classes("lw-muted")
            for incident in found.incidents:
                with ui.element("div").classes("lw-row"):
                    badge(INCIDENTS[incident.state])
                    link(incident.id, f"/incidents/{incident.id}")
                    where = lumisections(incident.first_lumisection, incident.last_lumisection)
                    ui.label(f"run {incident.run}, LS {where}").classes("lw-muted")


def _now(verdict: views.VerdictView, status: views.ModelStatus) -> None:
    ui.label(verdict.reason).classes("lw-reason")
    if verdict.story:
        ui.label(f"Likely: {verdict.story}").classes("lw-story")
    tolerated = f"\u00b1{100 * status.rate_band:.0f} %"
    firmware = [
        ("accept rate", f"{percent(verdict.accept_rate)}, expected {percent(verdict.expected_rate)}"),
        ("deviation", f"{deviation(verdict.rate_deviation)}, tolerated {tolerated}"),
        ("rate chart", rate_chart_words(verdict.rate_chart)),
        ("events", f"{verdict.n_events:,}"),
        ("integrity", _integrity(verdict)),
        ("firmware package", short(verdict.package)),
    ]
    histograms = [("entries of the fullest histogram", f"{verdict.n_events:,}")]
    rows = [
        ("run and LS", f"{verdict.run}, LS {verdict.lumisection}, {date_and_clock(verdict.received_at)}"),
        *(firmware if status.has_firmware else histograms),
        ("evidence", evidence_words(verdict.evidence, verdict.suspects)),
        ("verdict", _delay(verdict)),
        ("reference", short(verdict.reference_id)),
        ("inputs", f"{status.n_inputs}, contract version {status.contract_version}"),
        ("may decide", ", ".join(status.approvers)),
    ]
    table(("quantity", "value"), rows)


def _integrity(verdict: views.VerdictView) -> str:
    """Say how the firmware agrees with its emulator in the latest window."""
    result = verdict.integrity
    if result is None or result.ratio is None:
        return "not checked: no emulator of this package at the worker"
    interval = f"{result.ratio:.2g}, 95 % interval {result.low:.1g} to {result.high:.1g}"
    return f"{result.words} ({interval}, tolerated {result.tolerance:g})"


def _delay(verdict: views.VerdictView) -> str:
    """Say how long after its lumisection the verdict came, and what came later still."""
    if verdict.delay_s is None:
        words = "the end of the lumisection was not announced"
    else:
        words = f"{verdict.delay_s:.1f} s after the lumisection{', late' if verdict.late else ''}"
    return f"{words}; {verdict.late_events:,} late events" if verdict.late_events else words


class _Overlays:
    """The panel that lays a window over its reference, for any input and lumisection."""

    def __init__(self, visit: Visit, services: Services, evidence: Evidence, model: str) -> None:
        self._visit = visit
        self._services = services
        self._evidence = evidence
        self._model = model
        self._quantity = SCORE
        self._window: str | None = None
        self._live: Live[tuple[dict[str, str], Figure | str]] | None = None

    async def build(self) -> None:
        """Draw the choices and the plot."""
        model = self._services.site.models[self._model]
        maps = [f"{one.object}{MAP}" for one in layout_of(model.contract).maps]
        names = [*([SCORE] if model.has_firmware else []), *model.contract.input_names, *maps]
        telling = await run.io_bound(self._most_telling) or []
        self._quantity = next((name for name in telling if name in names), names[0])
        choices = await run.io_bound(self._choices) or {}
        with ui.element("section").classes("lw-panel"):
            heading("Window over reference", 2)
            with ui.element("div").classes("lw-row"):
                ui.select(
                    names,
                    value=self._quantity,
                    label="Input, score or map" if model.has_firmware else "Input",
                    with_input=True,
                ).props("outlined").style("min-width:240px").on_value_change(
                    lambda event: self._choose(quantity=event.value)
                )
                self._windows = (
                    ui.select(choices, value="", label="Lumisection", with_input=True)
                    .props("outlined")
                    .style("min-width:340px")
                    .on_value_change(lambda event: self._choose(window=event.value))
                )
            self._words = ui.label().classes("lw-muted")
            self._plot: ui.plotly | None = None
            self._live = Live(self._fetch, self._show, interval_s=4.0, keep=True)
            self._live.start()

    def _most_telling(self) -> list[str]:
        """Name what the latest verdict is about: a map that it suspects, else the most different input."""
        latest = queries.verdict_timeline(self._services.engine, self._model, limit=1)
        if not latest:
            return []
        suspected = [name for name in latest[0].suspects[:1] if name.endswith(MAP)]
        return [*suspected, *(one.name for one in latest[0].worst_inputs)]

    async def _choose(self, *, quantity: str | None = None, window: str | None = None) -> None:
        self._quantity = quantity or self._quantity
        if window is not None:
            self._window = window or None
        if self._live is not None:
            await self._live.refresh()

    def _choices(self) -> dict[str, str]:
        return _window_choices(queries.verdict_timeline(self._services.engine, self._model, limit=_SHOWN))

    def _fetch(self) -> tuple[dict[str, str], Figure | str]:
        verdicts = queries.verdict_timeline(self._services.engine, self._model, limit=_SHOWN)
        choices = _window_choices(verdicts)
        chosen = [one for one in verdicts if self._window is None or one.id == self._window]
        if not chosen:
            return choices, "No window yet."
        one = chosen[-1]
        words = ("REPLAY", "SIMULATED DATA") if one.simulated else ()
        label = f"{self._quantity}, LS {one.lumisection}"
        if self._quantity.endswith(MAP):
            return choices, self._map(one, label, words)
        found = self._evidence.overlay(one.model, one.run, one.lumisection, one.package, self._quantity)
        if found is None:
            return choices, f"The stream kept no counts of {self._quantity} for LS {one.lumisection}."
        counts, unit = found
        return choices, ratio(counts, quantity=label, unit=unit, colours=self._visit.colours, marks=words)

    def _map(self, one: views.VerdictView, label: str, words: tuple[str, ...]) -> Figure | str:
        name = self._quantity.removesuffix(MAP)
        window = (one.model, one.run, one.lumisection, one.package)
        story = self._evidence.story(*window, one.suspects) if one.story else None
        place = story.place if story is not None and story.object == name else None
        data = self._evidence.pull_map(*window, name, place)
        if data is None:
            return f"The stream kept no map of {name} for LS {one.lumisection}."
        return map_of_pulls(data, title=label, colours=self._visit.colours, marks=words)

    def _show(self, found: tuple[dict[str, str], Figure | str]) -> None:
        choices, figure = found
        if choices != self._windows.options:
            self._windows.set_options(choices, value=self._window or "")
        self._words.set_visibility(isinstance(figure, str))
        if isinstance(figure, str):
            self._words.set_text(figure)
        elif self._plot is None:
            self._plot = ui.plotly(figure).classes("lw-plot")
        else:
            self._plot.update_figure(figure)


def _window_choices(verdicts: Sequence[views.VerdictView]) -> dict[str, str]:
    choices = {"": "latest"}
    for verdict in reversed(verdicts):
        word = VERDICTS[verdict.state].word.lower()
        package = short(verdict.package)[:6]
        choices[verdict.id] = f"LS {verdict.lumisection}, run {verdict.run}, {word}, {package}"
    return choices
