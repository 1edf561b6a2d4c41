"""Keeps the pictures that go with alarms: draws each once and names its file.

Refuses to know how counts are stored and how a picture travels.
"""

import logging
import os
import re
import tempfile
from pathlib import Path
from typing import Protocol

from daemon import views
from daemon.alerts.overlay import Overlay
from daemon.alerts.plot import ratio_plot

_log = logging.getLogger(__name__)


class Overlays(Protocol):
    """Finds the counts of an input in a window and in its reference."""

    def overlay(
        self, model: str, run: int, lumisection: int, package: str, quantity: str
    ) -> tuple[Overlay, str] | None:
        """Binned counts and their unit, or None where the stream kept none."""
        ...


class Pictures:
    """Ratio plots of alarms, as PNG files in one folder.

    Parameters
    ----------
    overlays
        Where the counts come from.
    folder
        Made when it is missing.
    """

    def __init__(self, overlays: Overlays, folder: Path) -> None:
        self._overlays = overlays
        self._folder = folder

    def draw(self, incident: views.IncidentDetail) -> Path | None:
        """Draw the input that deviates most in the verdict that opened the incident.

        Returns
        -------
        Path or None
            None when no input was named or its counts are gone: a message goes out without a picture then.
        """
        verdict = incident.opening_verdict
        worst = verdict.get("worst_inputs") or ()
        if not worst:
            return None
        quantity = str(worst[0].get("name", ""))
        run, lumisection = int(verdict["run"]), int(verdict["lumisection"])
        found = self._overlays.overlay(incident.model, run, lumisection, str(verdict["package"]), quantity)
        if found is None:
            return None
        counts, unit = found
        picture = ratio_plot(
            counts,
            quantity=quantity,
            unit=unit,
            title=f"{incident.model}, run {run}, LS {lumisection}",
            marks=("REPLAY", "SIMULATED DATA") if incident.simulated else (),
        )
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{incident.id}-{quantity}").strip("-")
        return _write(self._folder / f"{name}.png", picture)


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".png")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(temporary).replace(path)
    return path
