"""One model: its verdicts over lumisections, how its inputs differ, and one lumisection in every detail.

Refuses to judge and to read histograms itself: the evidence does.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Final

from nicegui import ui

from daemon.alerts.evidence import Evidence
from daemon.console import charts
from daemon.console.chart_style import Figure
from daemon.console.choice import Choice, choice_of
from daemon.console.heat_figure import chosen, heat_map
from daemon.console.layout import Visit, badge, heading, link, marks
from daemon.console.live import Live
from daemon.console.live_plot import Clicked, LivePlot
from daemon.console.looks import FIRMWARE_FAULT, INCIDENTS, LATE, RATE_CHART, VERDICTS
from daemon.console.rate_figure import rate_against_pileup
from daemon.console.retrain_button import retrain_button
from daemon.console.window_panel import WindowPanel
from daemon.console.wording import lumisections
from daemon.process.services import Services
from daemon.store import queries, room_queries, views
from streams.judging.rate_chart import IN_A_ROW

_SHOWN: Final = 500
"""Lumisections in the plots."""

_NOTHING: Final = "No lumisection was judged against a reference yet."


async def build(
    visit: Visit, services: Services, evidence: Evidence, model: str, query: Mapping[str, str]
) -> None:
    """Fill the page of one model.

    Parameters
    ----------
    query
        Of the address: what to look at.

    Raises
    ------
    NotFound
        The site does not watch it.
    """
    queries.site_model(services.site, model)
    await _ModelPage(visit, services, evidence, model).build(choice_of(query))


class _ModelPage:
    """The plots over lumisections on the left, one lumisection on the right."""

    def __init__(self, visit: Visit, services: Services, evidence: Evidence, model: str) -> None:
        self._visit = visit
        self._services = services
        self._evidence = evidence
        self._model = services.site.models[model]
        self._plots: list[LivePlot] = []
        self._drawn_for: tuple[int | None, int | None, str | None] = (None, None, None)

    async def build(self, choice: Choice) -> None:
        """Draw everything."""
        await Live(self._status, _show_head).refresh()
        rated = self._model.has_firmware
        with ui.element("div").classes("lw-two"):
            left = ui.element("div").classes("lw-stack")
            with ui.element("div").classes("lw-stack lw-sticky"):
                self._panel = WindowPanel(
                    self._visit, self._services, self._evidence, self._model.name, choice, self._chosen
                )
                await self._panel.build()
            with left:
                with ui.element("section").classes("lw-panel"):
                    heading(
                        "Verdicts, accept rate, evidence and families" if rated else "Verdicts and evidence",
                        2,
                    )
                    self._add(self._timeline, on_click=self._click_timeline)
                with ui.element("section").classes("lw-panel"):
                    heading("Inputs against lumisections", 2)
                    ui.label(
                        "Kolmogorov-Smirnov distance of every input from its reference; a dotted line marks "
                        "new firmware. A click lays the input over its reference."
                    ).classes("lw-muted")
                    self._add(self._heat_map, on_click=self._click_heat_map, rows=True)
                if rated:
                    with ui.element("section").classes("lw-panel"):
                        heading("Rate chart: accept rate against pileup", 2)
                        ui.label(
                            f"It speaks at the {IN_A_ROW}th lumisection in a row out of its band, and raises "
                            "no alarm."
                        ).classes("lw-muted")
                        self._add(self._rates)
                with ui.element("section").classes("lw-panel"):
                    heading("Incidents", 2)
                    await Live(self._incidents, _show_incidents).refresh()
                    retrain_button(self._visit, self._services, self._model.name)

    def _add(
        self, make: Callable[[], Figure | str], *, on_click: Clicked | None = None, rows: bool = False
    ) -> None:
        marks = (lambda: self._marks(rows=rows)) if on_click is not None else list
        self._plots.append(LivePlot(self._stamp, make, interval_s=3.0, marks=marks, on_click=on_click))

    def _chosen(self) -> None:
        """Follow the panel: other marks, and other plots when it shows another run."""
        verdict = self._panel.verdict
        now = (self._run(), verdict.lumisection if verdict is not None else None, self._panel.choice.quantity)
        before, self._drawn_for = self._drawn_for, now
        for plot in self._plots:
            if now[0] != before[0]:
                plot.refresh_soon()
            elif now != before:
                plot.mark()

    def _status(self) -> views.ModelStatus:
        return queries.model_status(self._services.engine, self._services.site, self._model.name)

    def _incidents(self) -> tuple[views.IncidentView, ...]:
        return tuple(queries.incidents(self._services.engine, model=self._model.name, limit=5))

    def _run(self) -> int | None:
        return self._panel.choice.run if self._panel.verdict is None else self._panel.verdict.run

    def _stamp(self) -> Hashable:
        run = self._run()
        if run is None:
            return None
        newest = queries.verdict_timeline(self._services.engine, self._model.name, run=run, limit=1)
        return (
            run,
            room_queries.newest_assessment(self._services.engine, self._model.name, run),
            [verdict.id for verdict in newest],
        )

    def _marks(self, *, rows: bool) -> list[Figure]:
        verdict, quantity = self._panel.verdict, self._panel.choice.quantity
        if verdict is None:
            return []
        names = self._model.contract.input_names
        row = names.index(quantity) if rows and quantity in names else None
        return chosen(verdict.lumisection, row, self._visit.colours)

    async def _click_timeline(self, lumisection: object, _height: object) -> None:
        if isinstance(lumisection, int | float):
            await self._panel.choose(lumisection=round(lumisection))

    async def _click_heat_map(self, lumisection: object, name: object) -> None:
        if isinstance(lumisection, int | float) and name in self._model.contract.input_names:
            await self._panel.choose(lumisection=round(lumisection), quantity=str(name))

    def _verdicts(self, run: int) -> list[views.VerdictView]:
        return queries.verdict_timeline(self._services.engine, self._model.name, run=run, limit=_SHOWN)

    def _timeline(self) -> Figure | str:
        run = self._run()
        if run is None:
            return _NOTHING
        assessments = self._evidence.assessments(self._model.name, run, limit=_SHOWN)
        band = self._model.settings.watch.rate_band if self._model.has_firmware else None
        return charts.timeline(self._verdicts(run), assessments, band=band, colours=self._visit.colours)

    def _rates(self) -> Figure | str:
        run = self._run()
        found = None if run is None else self._evidence.rate_curve(self._model.name, run, limit=_SHOWN)
        return _NOTHING if found is None else rate_against_pileup(found, self._visit.colours)

    def _heat_map(self) -> Figure | str:
        run = self._run()
        if run is None:
            return _NOTHING
        data = self._evidence.heat_map(self._model.name, run, limit=_SHOWN)
        if not data.lumisections:
            return _NOTHING
        return heat_map(data, self._verdicts(run), self._visit.colours)


def _show_head(status: views.ModelStatus) -> None:
    verdict = status.verdict
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
    words = f"{status.n_inputs} inputs, contract version {status.contract_version}"
    if status.has_firmware:
        words = f"{words}. May decide: {', '.join(status.approvers)}"
    ui.label(f"{words}.").classes("lw-muted")
    if verdict is None:
        ui.label(
            "No lumisection has been judged yet. Replay or stream data, and approve a reference."
        ).classes("lw-notice quiet")


def _show_incidents(found: tuple[views.IncidentView, ...]) -> None:
    if not found:
        ui.label("None so far.").classes("lw-muted")
    for incident in found:
        with ui.element("div").classes("lw-row"):
            badge(INCIDENTS[incident.state])
            link(incident.id, f"/incidents/{incident.id}")
            where = lumisections(incident.first_lumisection, incident.last_lumisection)
            ui.label(f"run {incident.run}, LS {where}").classes("lw-muted")
