"""Keeps the pictures that go with alarms: draws each once and names its file.

Refuses to know how counts are stored and how a picture travels.
"""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from daemon.alerts.overlay import Overlay
from daemon.alerts.pull_map import PullMap
from daemon.alerts.rate_curve import RateCurve
from daemon.store import views
from streams.explaining.causes import Cause, Place
from streams.explaining.explanation import Story
from streams.judging.channels import ACCEPT_RATE

SCORE = "score"
"""Name of the output score of the firmware among the quantities of an overlay."""

Window = tuple[str, int, int, str]
"""Model, run, lumisection and package."""


class Drawable(Protocol):
    """Finds what pictures show, or None where the stream kept too little."""

    def overlay(
        self, model: str, run: int, lumisection: int, package: str, quantity: str
    ) -> tuple[Overlay, str] | None:
        """Bin an input of a window and of its reference; with the unit."""
        ...

    def story(
        self, model: str, run: int, lumisection: int, package: str, suspects: tuple[str, ...]
    ) -> Story | None:
        """Tell what most likely happened to a window."""
        ...

    def pull_map(
        self, model: str, run: int, lumisection: int, package: str, name: str, place: Place | None = None
    ) -> PullMap | None:
        """Compare the map of one kind of object with its expectation."""
        ...

    def rate_curve(self, model: str, run: int) -> RateCurve | None:
        """Lay the accept rates of a run over pileup."""
        ...


@dataclass(frozen=True)
class _Shown:
    """What a picture shows: a name for it, the numbers, and the unit where they are an input's."""

    what: str
    data: PullMap | RateCurve | Overlay
    unit: str = ""


class Pictures:
    """The most telling picture of each alarm, as PNG files in one folder.

    Parameters
    ----------
    evidence
        Where the numbers come from.
    folder
        Made when it is missing.
    """

    def __init__(self, evidence: Drawable, folder: Path) -> None:
        self._evidence = evidence
        self._folder = folder

    def draw(self, incident: views.IncidentDetail) -> Path | None:
        """Draw what the verdict that opened the incident is about.

        A map for a story that has a place, the rate against pileup where only the rate speaks, else the
        most telling input over its expectation.

        Returns
        -------
        Path or None
            None when the counts are gone: a message goes out without a picture then.
        """
        verdict = incident.opening_verdict
        window = (incident.model, int(verdict["run"]), int(verdict["lumisection"]), str(verdict["package"]))
        suspects = tuple(str(name) for name in verdict.get("suspects") or ())
        story = self._evidence.story(*window, suspects)
        shown = self._map(window, story) or self._rate(window, suspects)
        shown = shown or self._overlay(window, _quantities(verdict, story))
        if shown is None:
            return None
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{incident.id}-{shown.what}").strip("-")
        title = f"{incident.model}, run {window[1]}, LS {window[2]}"
        marks = ("REPLAY", "SIMULATED DATA") if incident.simulated else ()
        return _write(self._folder / f"{name}.png", _drawn(shown, title, marks))

    def _map(self, window: Window, story: Story | None) -> _Shown | None:
        if story is None or story.place is None:
            return None
        data = self._evidence.pull_map(*window, story.object, story.place)
        return _Shown(f"{story.object}-map", data) if data is not None else None

    def _rate(self, window: Window, suspects: tuple[str, ...]) -> _Shown | None:
        if not suspects or set(suspects) != {ACCEPT_RATE}:
            return None
        data = self._evidence.rate_curve(window[0], window[1])
        return _Shown("rate", data) if data is not None else None

    def _overlay(self, window: Window, quantities: Sequence[str]) -> _Shown | None:
        for quantity in quantities:
            found = self._evidence.overlay(*window, quantity)
            if found is not None:
                return _Shown(quantity, *found)
        return None


def _drawn(shown: _Shown, title: str, marks: tuple[str, ...]) -> bytes:
    # matplotlib is a fifth of a daemon's start, and most days have no alarm
    from daemon.alerts.plot import map_plot, rate_plot, ratio_plot  # noqa: PLC0415

    match shown.data:
        case PullMap():
            return map_plot(shown.data, title=title, marks=marks)
        case RateCurve():
            return rate_plot(shown.data, title=title, marks=marks)
        case Overlay():
            return ratio_plot(shown.data, quantity=shown.what, unit=shown.unit, title=title, marks=marks)


def _quantities(verdict: Mapping[str, Any], story: Story | None) -> list[str]:
    """Name inputs worth a look, the most telling first: those of the story, then the most different ones."""
    worst = [str(one.get("name", "")) for one in verdict.get("worst_inputs") or ()]
    if story is None:
        return worst
    if story.cause is Cause.OUTPUT:
        return [SCORE, *worst]
    own = [name for name in worst if name.startswith(f"{story.object}[")] if story.object else []
    leading = [f"{story.object}[0].pt"] if story.object and not own else []
    return [*story.inputs, *own, *leading, *worst]


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".png")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(temporary).replace(path)
    return path
