"""A plot that follows the database, is made anew only when there is something new, and can be clicked.

Refuses to know what is drawn. A mark on a plot moves without sending the plot again.
"""

from collections.abc import Callable, Hashable
from typing import Any, Final

from nicegui import ui
from nicegui.events import GenericEventArguments

from daemon.console.chart_style import Figure
from daemon.console.live import Live

_FIRST_POINT: Final = "(event) => emit(event.points[0].x, event.points[0].y)"

Clicked = Callable[[Any, Any], Any]
"""Told the horizontal and vertical position of a point."""


class LivePlot:
    """One plot.

    Parameters
    ----------
    stamp
        Says what the plot is made from, in a thread: while it stays the same, the plot stays too.
    make
        Draws, in a thread; a text is shown instead of a plot.
    interval_s
        Time between two looks.
    marks
        Shapes over the plot, which change more often than it does.
    on_click
        Told where somebody clicked; may be a coroutine function.
    """

    def __init__(
        self,
        stamp: Callable[[], Hashable],
        make: Callable[[], Figure | str],
        *,
        interval_s: float,
        marks: Callable[[], list[Figure]] = list,
        on_click: Clicked | None = None,
    ) -> None:
        self._stamp = stamp
        self._make = make
        self._marks = marks
        self._on_click = on_click
        self._made_from: Hashable = object()
        self._shapes: list[Figure] = []
        self._plot: ui.plotly | None = None
        self._drawn = False
        self._words = ui.label("Being drawn.").classes("lw-muted")
        self._live: Live[Figure | str | None] = Live(
            self._fetch, self._show, interval_s=interval_s, keep=True
        )
        self._live.start()

    def refresh_soon(self) -> None:
        """Look as soon as the page has a moment."""
        self._live.start()

    def mark(self) -> None:
        """Move the marks to where they belong now."""
        if self._plot is not None and self._drawn:
            shapes = [*self._shapes, *self._marks()]
            self._plot.figure["layout"]["shapes"] = shapes
            self._plot.run_plot_method("relayout", {"shapes": shapes})

    def _fetch(self) -> Figure | str | None:
        stamp = self._stamp()
        if stamp == self._made_from:
            return None
        figure = self._make()
        self._made_from = stamp
        return figure

    def _show(self, figure: Figure | str | None) -> None:
        if figure is None:
            return
        self._words.set_visibility(isinstance(figure, str))
        if self._plot is not None:
            self._plot.set_visibility(not isinstance(figure, str))
        if isinstance(figure, str):
            self._words.set_text(figure)
            return
        self._shapes = list(figure["layout"].get("shapes", ()))
        figure["layout"]["shapes"] = [*self._shapes, *self._marks()]
        if self._plot is not None:
            self._plot.update_figure(figure)
            return
        self._plot = ui.plotly(figure).classes("lw-plot")
        self._plot.on("plotly_afterplot", self._after_plot, js_handler="() => emit()")
        if self._on_click is not None:
            self._plot.on("plotly_click", self._clicked, js_handler=_FIRST_POINT)

    def _after_plot(self) -> None:
        """Note that the browser has drawn: only then can marks be moved."""
        if not self._drawn:
            self._drawn = True
            self.mark()

    async def _clicked(self, event: GenericEventArguments) -> None:
        if self._on_click is not None:
            await self._on_click(*event.args)
