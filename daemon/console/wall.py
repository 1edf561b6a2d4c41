"""The wall: how every monitored model is now, readable from the back of the control room."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nicegui import ui

from daemon import queries, views
from daemon.console.layout import Visit, badge, heading, link, marks
from daemon.console.live import Live
from daemon.console.looks import BEHIND, FIRMWARE_FAULT, LATE, NO_DATA, RESPONSES, VERDICTS, Look, Palette
from daemon.console.strips import rate_svg, strip_svg
from daemon.console.wording import age, deviation, percent
from daemon.records import ResponseState
from daemon.services import Services
from daemon.workers import workers

SILENCE = timedelta(minutes=3)
"""After this time without a verdict a tile says NO DATA: an old GOOD is no GOOD."""

_STRIP_LENGTH = 60


@dataclass(frozen=True)
class Tile:
    """What one tile shows.

    Parameters
    ----------
    status
        Of the model.
    strip
        Its latest verdicts, oldest first.
    last_alarm
        The newest incident, resolved or not.
    silent_since
        Time of the last verdict when it is too long ago.
    looked_at
        Ages are told in steps of this time.
    """

    status: views.ModelStatus
    strip: tuple[views.VerdictView, ...]
    last_alarm: views.IncidentView | None
    silent_since: datetime | None
    looked_at: datetime

    @property
    def look(self) -> Look:
        """State of the tile's band."""
        verdict = self.status.verdict
        if verdict is None or self.silent_since is not None:
            return NO_DATA
        return VERDICTS[verdict.state]


def tiles(services: Services) -> list[Tile]:
    """Read all tiles; alarms first, then by name."""
    now = services.clock()
    looked_at = now - timedelta(seconds=now.second % 10, microseconds=now.microsecond)
    found = []
    for status in queries.model_statuses(services.engine, services.site):
        verdicts = queries.verdict_timeline(services.engine, status.model, limit=_STRIP_LENGTH)
        latest = queries.incidents(services.engine, model=status.model, limit=1)
        heard = max((verdict.received_at for verdict in verdicts), default=None)
        found.append(
            Tile(
                status=status,
                strip=tuple(verdicts),
                last_alarm=latest[0] if latest else None,
                silent_since=heard if heard is not None and now - heard > SILENCE else None,
                looked_at=looked_at,
            )
        )
    return sorted(found, key=lambda tile: (tile.look.tone != "alarm", tile.status.model))


@dataclass(frozen=True)
class Wall:
    """What the whole wall shows; `problems` say what is wrong with the workers."""

    tiles: tuple[Tile, ...]
    problems: tuple[str, ...]


def look(services: Services) -> Wall:
    """Read everything; ages of silence are told in steps, so that a page is not drawn anew for nothing."""
    known = workers(services.engine, services.clock())
    problems = [one.words for one in known if one.stale or one.behind]
    if not known:
        problems = ["No stream worker runs: nothing is counted. Start one with `lumiwatch worker`"]
    return Wall(tuple(tiles(services)), tuple(problems))


async def build(visit: Visit, services: Services) -> None:
    """Fill the wall page."""
    heading("Monitored models")
    live = Live(lambda: look(services), lambda found: _show(found, visit), interval_s=1.5)
    await live.refresh()


def _show(wall: Wall, visit: Visit) -> None:
    found = wall.tiles
    for problem in wall.problems:
        with ui.element("div").classes("lw-notice warning lw-row").props('role="status"'):
            badge(BEHIND)
            ui.label(f"{problem}.")
    _waiting(found)
    with ui.element("div").classes("lw-wall"):
        for tile in found:
            _tile(tile, visit.colours)


def _waiting(found: Sequence[Tile]) -> None:
    for tile in found:
        response = tile.status.response
        if response is not None and response.state is ResponseState.PROPOSED:
            with ui.element("div").classes("lw-notice warning lw-row").props('role="status"'):
                badge(RESPONSES[response.state])
                ui.label(f"{tile.status.model}: a response to {response.incident_id} is proposed.")
                link("Look and decide", f"/incidents/{response.incident_id}")


def _tile(tile: Tile, colours: Palette) -> None:
    status, look = tile.status, tile.look
    with (
        ui.element("a")
        .classes(f"lw-tile {look.tone}")
        .props(f'href="/models/{status.model}" aria-label="{status.model}: {look.word}"')
    ):
        with ui.element("div").classes(f"lw-tile-band lw-fill-{look.tone}"):
            ui.icon(look.icon).props('aria-hidden="true"')
            ui.label(look.word).classes("lw-tile-word")
            ui.label(status.model).classes("lw-tile-name")
        with ui.element("div").classes("lw-tile-body"):
            if status.verdict is not None and status.has_firmware:
                _figures(status.verdict, status.rate_band)
            elif status.verdict is not None:
                _histogram_figures(status.verdict)
            if tile.strip:
                states = f"tates of the latest {len(tile.strip)} lumisections"
                if status.has_firmware:
                    band = f"\u00b1{100 * status.rate_band:.0f} % shaded"
                    ui.label(f"Accept rate against expected, {band}, and s{states}").classes("lw-muted")
                    rates = rate_svg(tile.strip, status.rate_band, colours)
                    ui.html(rates, sanitize=False).classes("w-full")
                else:
                    ui.label(f"S{states}").classes("lw-muted")
                ui.html(strip_svg(tile.strip, colours), sanitize=False).classes("w-full")
            _words(tile)


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


def _words(tile: Tile) -> None:
    verdict, alarm = tile.status.verdict, tile.last_alarm
    with ui.element("div").classes("lw-row"):
        marks(simulated=verdict is not None and verdict.simulated)
        if verdict is not None and verdict.firmware_fault:
            badge(FIRMWARE_FAULT)
        if verdict is not None and verdict.late:
            badge(LATE)
            ui.label(f"{verdict.delay_s or 0:.0f} s after its lumisection.")
        if tile.silent_since is not None:
            ui.label(f"No verdict for {age(tile.silent_since, tile.looked_at)}: check the data source.")
    if verdict is None:
        ui.label("No lumisection has been judged yet: send data, and approve a reference.").classes(
            "lw-reason"
        )
        return
    ui.label(verdict.reason).classes("lw-reason")
    if alarm is None:
        ui.label("No alarm so far.").classes("lw-muted")
    else:
        state = alarm.state.value if alarm.resolved_at is None else "resolved"
        ui.label(
            f"Last alarm {age(alarm.opened_at, tile.looked_at)} ago, since LS {alarm.onset_lumisection}: "
            f"{alarm.id}, {state}"
        ).classes("lw-muted")
