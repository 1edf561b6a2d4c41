"""The tiles of the wall, large and small: state as colour, icon and word, lumisection, rate, lag, last alarm.

A tile is drawn anew only when what it shows has changed, and stays the same element: who has the keyboard on
it keeps it. Knows no database.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nicegui import ui

from daemon.console.layout import badge, marks
from daemon.console.looks import FIRMWARE_FAULT, LATE, NO_DATA, VERDICTS, Look, Palette
from daemon.console.silence_mark import silence_mark
from daemon.console.strips import rate_svg, strip_svg
from daemon.console.wording import deviation, percent
from daemon.store import views

URGENT: Final = ("alarm", "warning", "quiet", "good")
"""Tones of states, the gravest first."""

_SHORT_STRIP = 30


@dataclass(frozen=True)
class Tile:
    """What one tile shows.

    Parameters
    ----------
    model
        Its name.
    rate_band
        Tolerated relative deviation of the accept rate; None where there is no rate.
    verdict
        The latest.
    strip
        The latest states, oldest first.
    counting
        The lumisection that is being counted, where it is ahead of the verdict.
    alarm_words
        The newest incident, resolved or not.
    silent_words
        Since when there was no verdict, where that is too long.
    silenced_words
        Who keeps messages about its incident back until when, where somebody does.
    """

    model: str
    rate_band: float | None
    verdict: views.VerdictView | None
    strip: tuple[views.VerdictMark, ...]
    counting: int | None
    alarm_words: str
    silent_words: str | None
    silenced_words: str | None = None

    @property
    def look(self) -> Look:
        """State of the tile's band."""
        if self.verdict is None or self.silent_words is not None:
            return NO_DATA
        return VERDICTS[self.verdict.state]

    @property
    def needs_somebody(self) -> bool:
        """Whether it is large among many."""
        fault = self.verdict is not None and self.verdict.firmware_fault
        return fault or self.look.tone in {"alarm", "warning"}


class TileGroup:
    """Tiles of one size, side by side.

    Parameters
    ----------
    name
        For those who hear the page.
    colours
        Dark or light.
    large
        Size of the tiles.
    """

    def __init__(self, name: str, colours: Palette, *, large: bool) -> None:
        self._place = ui.element("section").classes("lw-wall" if large else "lw-wall small")
        self._place.props["aria-label"] = name
        self._colours = colours
        self._large = large
        self._drawn: dict[str, tuple[Tile, ui.element]] = {}

    def show(self, tiles: Sequence[Tile]) -> None:
        """Draw what is new or has changed, take away what has gone, keep the order."""
        self._place.set_visibility(bool(tiles))
        for name in self._drawn.keys() - {tile.model for tile in tiles}:
            self._drawn.pop(name)[1].delete()
        for index, tile in enumerate(tiles):
            known, element = self._drawn.get(tile.model) or (None, self._new(tile))
            if tile != known:
                self._draw(tile, known, element)
                self._drawn[tile.model] = (tile, element)
            if self._place.default_slot.children[index] is not element:
                element.move(target_index=index)

    def _new(self, tile: Tile) -> ui.element:
        with self._place:
            element = ui.element("a").classes("lw-tile")
        element.props["href"] = f"/models/{tile.model}"
        return element

    def _draw(self, tile: Tile, known: Tile | None, element: ui.element) -> None:
        element.classes(tile.look.tone, remove=known.look.tone if known is not None else None)
        element.props["aria-label"] = f"{tile.model}: {tile.look.word}"
        element.clear()
        with element:
            if self._large:
                _large(tile, self._colours)
            else:
                _small(tile, self._colours)


def _large(tile: Tile, colours: Palette) -> None:
    _band(tile)
    with ui.element("div").classes("lw-tile-body"):
        if tile.verdict is not None and tile.rate_band is not None:
            _figures(tile.verdict, tile.rate_band)
        elif tile.verdict is not None:
            _histogram_figures(tile.verdict)
        if tile.strip:
            states = f"tates of the latest {len(tile.strip)} lumisections"
            if tile.rate_band is not None:
                band = f"\u00b1{100 * tile.rate_band:.0f} % shaded"
                ui.label(f"Accept rate against expected, {band}, and s{states}").classes("lw-muted")
                ui.html(rate_svg(tile.strip, tile.rate_band, colours), sanitize=False).classes("w-full")
            else:
                ui.label(f"S{states}").classes("lw-muted")
            ui.html(strip_svg(tile.strip, colours), sanitize=False).classes("w-full")
        _signs(tile)
        if tile.verdict is None:
            words = "No lumisection has been judged yet: send data, and approve a reference."
            ui.label(words).classes("lw-reason")
            return
        ui.label(tile.verdict.reason).classes("lw-reason")
        ui.label(f"{lag_words(tile)} {tile.alarm_words}".strip()).classes("lw-muted")


def _small(tile: Tile, colours: Palette) -> None:
    _band(tile)
    with ui.element("div").classes("lw-tile-body"):
        verdict = tile.verdict
        with ui.element("div").classes("lw-row lw-spread"):
            with ui.element("b"):
                ui.label("no LS" if verdict is None else f"LS {verdict.lumisection}")
            if verdict is not None and tile.rate_band is not None:
                ui.label(deviation(verdict.rate_deviation))
        if tile.strip:
            ui.html(strip_svg(tile.strip[-_SHORT_STRIP:], colours), sanitize=False).classes("w-full")
        _signs(tile)
        ui.label(f"{lag_words(tile)} {tile.alarm_words}".strip()).classes("lw-muted")


def _band(tile: Tile) -> None:
    with ui.element("div").classes(f"lw-tile-band lw-fill-{tile.look.tone}"):
        ui.icon(tile.look.icon).props('aria-hidden="true"')
        ui.label(tile.look.word).classes("lw-tile-word")
        ui.label(tile.model).classes("lw-tile-name")


def lag_words(tile: Tile) -> str:
    """Say how long after its lumisection the verdict came, and what is at hand; empty without a verdict."""
    if tile.verdict is None:
        return ""
    delay_s = tile.verdict.delay_s
    lag = "Lag unknown" if delay_s is None else f"Lag {delay_s:.0f} s"
    return f"{lag}." if tile.counting is None else f"{lag}, LS {tile.counting} is being counted."


def _signs(tile: Tile) -> None:
    """Show what must not be overlooked beside the state."""
    verdict = tile.verdict
    simulated = verdict is not None and verdict.simulated
    fault = verdict is not None and verdict.firmware_fault
    late = verdict is not None and verdict.late
    if tile.silenced_words is not None:
        silence_mark(tile.silenced_words)
    if not (simulated or fault or late or tile.silent_words):
        return
    with ui.element("div").classes("lw-row"):
        marks(simulated=simulated)
        if fault:
            badge(FIRMWARE_FAULT)
        if late:
            badge(LATE)
        if tile.silent_words is not None:
            ui.label(tile.silent_words)


def _figures(verdict: views.VerdictView, band: float) -> None:
    with ui.element("div").classes("lw-figures"):
        _figure(str(verdict.lumisection), f"LS of run {verdict.run}")
        _figure(percent(verdict.accept_rate), f"accept rate, {percent(verdict.expected_rate)} expected")
        _figure(deviation(verdict.rate_deviation), f"from expected, \u00b1{100 * band:.0f} % tolerated")


def _histogram_figures(verdict: views.VerdictView) -> None:
    with ui.element("div").classes("lw-figures"):
        _figure(str(verdict.lumisection), f"LS of run {verdict.run}")
        _figure(f"{verdict.n_events:,}", "entries of the fullest histogram")
        if verdict.worst_inputs:
            worst = verdict.worst_inputs[0]
            _figure(worst.name, f"differs most, KS distance {worst.ks_distance:.3f}")


def _figure(value: str, words: str) -> None:
    with ui.element("div").classes("lw-figure"):
        with ui.element("b"):
            ui.label(value)
        with ui.element("span"):
            ui.label(words)
