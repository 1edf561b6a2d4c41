"""The wall: how every monitored model is now, readable from the back of the control room.

Reads everything in a number of statements that does not grow with the models. How a tile looks is in `tiles`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nicegui import ui
from sqlmodel import Session, col

from daemon.console.layout import Visit, badge, heading, link
from daemon.console.live import Live
from daemon.console.looks import BEHIND, RESPONSES, Look
from daemon.console.silence_mark import silence_words
from daemon.console.tiles import URGENT, Tile, TileGroup
from daemon.console.wording import age
from daemon.incidents.silences import Silences
from daemon.process.services import Services
from daemon.process.workers import workers
from daemon.site.settings import SiteModel
from daemon.store import decision_queries, queries, views
from daemon.store.latest import newest_incidents, newest_verdicts
from daemon.store.records import IncidentRecord, VerdictRecord

SILENCE = timedelta(minutes=3)
"""After this time without a verdict a tile says NO DATA: an old GOOD is no GOOD."""

FEW = 6
"""Up to so many models, every tile is large; beyond, only those that need somebody."""

_STRIP_LENGTH = 60


@dataclass(frozen=True)
class Wall:
    """What the whole wall shows.

    Parameters
    ----------
    tiles
        Those that need somebody first, then by name.
    problems
        What is wrong with the workers, in words.
    waiting
        Responses that wait for a decision.
    """

    tiles: tuple[Tile, ...]
    problems: tuple[str, ...]
    waiting: tuple[views.ResponseView, ...]

    @property
    def counts(self) -> tuple[tuple[Look, int], ...]:
        """How many models are in each state, the gravest first."""
        found = Counter(tile.look for tile in self.tiles)
        return tuple(sorted(found.items(), key=lambda one: (URGENT.index(one[0].tone), one[0].word)))


def look(services: Services) -> Wall:
    """Read everything; ages are told in steps, so that nothing is drawn anew for nothing."""
    now = services.clock()
    known = workers(services.engine, now)
    problems = [one.words for one in known if one.stale or one.behind]
    if not known:
        problems = ["No stream worker runs: nothing is counted. Start one with `lumiwatch worker`"]
    waiting = queries.responses(services.engine, states=decision_queries.WAITING)
    return Wall(tuple(tiles(services, known, now)), tuple(problems), tuple(waiting))


def tiles(services: Services, known: Sequence[views.WorkerView], now: datetime) -> list[Tile]:
    """Read all tiles; those that need somebody first, then by name.

    Parameters
    ----------
    known
        The workers: they tell which lumisection is being counted.
    """
    models = services.site.models
    names = sorted(models)
    quiet = Silences(services.engine, services.site, lambda: now).quiet_models()
    with Session(services.engine) as session:
        latest = queries.latest_verdicts(session, names)
        strips = _strips(session, names)
        alarms = _last_alarms(session, names, now)
    found = []
    for name in names:
        verdict, strip = latest.get(name), tuple(strips.get(name, ()))
        heard = max((mark.received_at for mark in strip), default=None)
        silent = heard is not None and now - heard > SILENCE
        found.append(
            Tile(
                model=name,
                rate_band=_rate_band(models[name]),
                verdict=verdict,
                strip=strip,
                counting=_counting(known, name, verdict),
                alarm_words=alarms.get(name, "No alarm so far."),
                silent_words=f"No verdict for {age(heard, now)}: check the data source."
                if silent and heard is not None
                else None,
                silenced_words=silence_words(quiet[name]) if name in quiet else None,
            )
        )
    return sorted(found, key=lambda tile: (URGENT.index(tile.look.tone), tile.model))


def _rate_band(model: SiteModel) -> float | None:
    return model.settings.watch.rate_band if model.has_firmware else None


def _strips(session: Session, names: Sequence[str]) -> dict[str, list[views.VerdictMark]]:
    """Read the latest states of every model, oldest first."""
    deviation = col(VerdictRecord.payload)["rate_deviation"].as_float().label("rate_deviation")
    strips: dict[str, list[views.VerdictMark]] = {}
    for row in newest_verdicts(session, names, col(VerdictRecord.state), deviation, limit=_STRIP_LENGTH):
        mark = views.VerdictMark(
            lumisection=row.lumisection,
            state=row.state,
            rate_deviation=row.rate_deviation,
            received_at=row.received_at,
        )
        strips.setdefault(row.model, []).insert(0, mark)
    return strips


def _last_alarms(session: Session, names: Sequence[str], now: datetime) -> dict[str, str]:
    columns = (IncidentRecord.id, IncidentRecord.onset_lumisection, IncidentRecord.state)
    return {
        row.model: f"Last alarm {age(row.opened_at, now, step_s=10)} ago, since LS {row.onset_lumisection}: "
        f"{row.id}, {row.state}"
        for row in newest_incidents(session, names, *(col(one) for one in columns))
    }


def _counting(known: Sequence[views.WorkerView], model: str, verdict: views.VerdictView | None) -> int | None:
    """Tell the lumisection at hand, where it is ahead of the verdict."""
    counted = max((one.lumisections.get(model, 0) for one in known if not one.stale), default=0)
    return counted if verdict is not None and counted > verdict.lumisection else None


async def build(visit: Visit, services: Services) -> None:
    """Fill the wall page."""
    heading("Monitored models")
    page = _Page(visit)
    await Live(lambda: look(services), page.show, interval_s=1.5, keep=True).refresh()


class _Page:
    """The parts of the wall, each drawn anew only when it changed."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._shown: Wall | None = None

    def _begin(self) -> None:
        self._summary = ui.element("div").classes("lw-summary").props('role="status"')
        self._notices = ui.element("div").classes("lw-stack").style("gap:8px")
        self._urgent = TileGroup("Models that need somebody", self._visit.colours, large=True)
        self._calm = TileGroup("All other models", self._visit.colours, large=False)

    def show(self, wall: Wall) -> None:
        """Bring the page up to date."""
        last = self._shown
        if last is None:
            self._begin()
        if last is None or wall.counts != last.counts:
            self._summary.clear()
            with self._summary:
                _counts(wall)
        if last is None or (wall.problems, wall.waiting) != (last.problems, last.waiting):
            self._notices.clear()
            with self._notices:
                _notices(wall)
        large = [tile for tile in wall.tiles if len(wall.tiles) <= FEW or tile.needs_somebody]
        self._urgent.show(large)
        self._calm.show([tile for tile in wall.tiles if tile not in large])
        self._shown = wall


def _counts(wall: Wall) -> None:
    if len(wall.tiles) > 1:
        for state, number in wall.counts:
            with ui.element("div").classes(f"lw-count lw-{state.tone}"):
                ui.icon(state.icon).props('aria-hidden="true"')
                ui.label(f"{number} {state.word}")


def _notices(wall: Wall) -> None:
    for problem in wall.problems:
        with ui.element("div").classes("lw-notice warning lw-row").props('role="status"'):
            badge(BEHIND)
            ui.label(f"{problem}.")
    for response in wall.waiting:
        with ui.element("div").classes("lw-notice warning lw-row").props('role="status"'):
            badge(RESPONSES[response.state])
            ui.label(f"{response.model}: a response to {response.incident_id} waits.")
            link("Look and decide", f"/incidents/{response.incident_id}")
    if len(wall.waiting) > 1:
        link("Everything that waits for a decision", "/approvals")
