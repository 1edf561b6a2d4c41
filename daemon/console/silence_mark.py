"""The mark of what is kept quiet: who silenced it, until when and why. Knows no pages and no database."""

from typing import Final

from nicegui import ui

from daemon.console.layout import badge
from daemon.console.looks import Look
from daemon.incidents.silencing import Silence

SILENCED: Final = Look("SILENCED", "notifications_off", "quiet")
WAITING: Final = Look("BEGINS LATER", "schedule", "quiet")


def silence_words(silence: Silence) -> str:
    """Say until when, by whom and why: ``until 2026-03-01 14:00 UTC by ada: beam tests``."""
    return f"until {silence.ends_at:%Y-%m-%d %H:%M} UTC by {silence.author}: {silence.reason}"


def silence_mark(words: str) -> None:
    """Show that messages are kept back, and the words of `silence_words`."""
    with ui.element("div").classes("lw-row").style("gap:8px"):
        badge(SILENCED)
        ui.label(words)
