"""Colours, icons and words of every state, and the style of the console.

A state is never told by colour alone: it always has an icon and a word too. The colours follow Okabe and
Ito's palette, told apart with any common colour blindness, on a dark ground for control rooms and on a
light one for offices. Knows no pages and no data.
"""

from dataclasses import dataclass
from pathlib import Path

from daemon.store.records import IncidentState, NotificationState, ResponseState, StepState


@dataclass(frozen=True)
class Look:
    """How one state is shown: a word, a Material icon, and the name of its colour in the style sheet."""

    word: str
    icon: str
    tone: str


@dataclass(frozen=True)
class Palette:
    """Colours of the plots (the style sheet does not reach into them).

    Parameters
    ----------
    good, warning, alarm, quiet
        States.
    window, reference
        Data and expectation.
    ink, muted, line, ground
        Text, secondary text, grid lines, background.
    series
        Eight lines that lie over each other, told apart by symbols too.
    scale
        Colour scale of heat maps, from nothing to much.
    """

    good: str
    warning: str
    alarm: str
    quiet: str
    window: str
    reference: str
    ink: str
    muted: str
    line: str
    ground: str
    series: tuple[str, ...]
    scale: tuple[tuple[float, str], ...]


DARK = Palette(
    good="#2fb18a",
    warning="#f0b429",
    alarm="#ff7a33",
    quiet="#7d8794",
    window="#ff9d5c",
    reference="#56b4e9",
    ink="#e6edf3",
    muted="#a3adb8",
    line="#2b333d",
    ground="#161b22",
    series=("#56b4e9", "#f0b429", "#2fb18a", "#ff9d5c", "#cc79a7", "#b5a0ff", "#f0e442", "#e6edf3"),
    scale=((0.0, "#161b22"), (0.15, "#12395a"), (0.4, "#1f77a8"), (0.7, "#e0a030"), (1.0, "#fff2b0")),
)
LIGHT = Palette(
    good="#00795a",
    warning="#a86b00",
    alarm="#c24a00",
    quiet="#66707b",
    window="#c24a00",
    reference="#0072b2",
    ink="#12181f",
    muted="#4d5863",
    line="#d5dbe2",
    ground="#ffffff",
    series=("#0072b2", "#a86b00", "#00795a", "#c24a00", "#a8488a", "#5b3fb5", "#6e6a00", "#12181f"),
    scale=((0.0, "#ffffff"), (0.15, "#d7e8f5"), (0.4, "#7db5dc"), (0.7, "#d98a1f"), (1.0, "#6b1f00")),
)


def palette(*, dark: bool) -> Palette:
    """Colours for plots on a dark or on a light ground."""
    return DARK if dark else LIGHT


NO_DATA = Look("NO DATA", "cloud_off", "quiet")
BEHIND = Look("STREAM", "hourglass_bottom", "warning")
LATE = Look("LATE", "schedule", "warning")
RATE_CHART = Look("RATE CHART", "show_chart", "warning")
PROVEN = Look("PROVEN", "check_circle", "good")
UNPROVEN = Look("NOT PROVEN", "error", "alarm")
FIRMWARE_FAULT = Look("FIRMWARE FAULT", "memory", "alarm")

VERDICTS = {
    "good": Look("GOOD", "check_circle", "good"),
    "warning": Look("WARNING", "warning", "warning"),
    "alarm": Look("ALARM", "notifications_active", "alarm"),
    "insufficient": Look("TOO FEW EVENTS", "hourglass_empty", "quiet"),
    "not_judged": Look("NOT JUDGED", "do_not_disturb_on", "quiet"),
}

INCIDENTS = {
    IncidentState.OPEN: Look("OPEN", "notifications_active", "alarm"),
    IncidentState.ACKNOWLEDGED: Look("ACKNOWLEDGED", "visibility", "warning"),
    IncidentState.RESPONDING: Look("RESPONDING", "autorenew", "active"),
    IncidentState.RESOLVED: Look("RESOLVED", "check_circle", "good"),
}

RESPONSES = {
    ResponseState.PREPARING: Look("PREPARING", "hourglass_empty", "quiet"),
    ResponseState.PROPOSED: Look("WAITS FOR A DECISION", "front_hand", "warning"),
    ResponseState.RUNNING: Look("RUNNING", "autorenew", "active"),
    ResponseState.HARDWARE_PROPOSED: Look("WAITS BEFORE THE BOARD", "front_hand", "warning"),
    ResponseState.SUCCEEDED: Look("SUCCEEDED", "check_circle", "good"),
    ResponseState.REJECTED: Look("REJECTED", "cancel", "quiet"),
    ResponseState.PRESCALED_OUT: Look("PRESCALE OUT", "do_not_disturb_on", "warning"),
    ResponseState.ROLLED_BACK: Look("ROLLED BACK", "undo", "warning"),
    ResponseState.FAILED: Look("FAILED", "error", "alarm"),
    ResponseState.WITHDRAWN: Look("WITHDRAWN", "remove_circle_outline", "quiet"),
}

STEPS = {
    StepState.PENDING: Look("to do", "radio_button_unchecked", "quiet"),
    StepState.RUNNING: Look("running", "autorenew", "active"),
    StepState.DONE: Look("done", "check_circle", "good"),
    StepState.FAILED: Look("failed", "error", "alarm"),
    StepState.SKIPPED: Look("skipped", "remove_circle_outline", "quiet"),
}

NOTIFICATIONS = {
    NotificationState.PENDING: Look("waiting", "schedule", "warning"),
    NotificationState.DELIVERED: Look("delivered", "check_circle", "good"),
    NotificationState.FAILED: Look("failed", "error", "alarm"),
}

STYLE = Path(__file__).with_name("console.css").read_text(encoding="utf-8")
"""Style sheet of all pages."""

SCRIPT = Path(__file__).with_name("connection.js").read_text(encoding="utf-8")
"""Script of all pages: what a lost connection means."""
