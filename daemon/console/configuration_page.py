"""The configuration as loaded: files with their hashes, when they were read, and every key without secrets.

Changes nothing. What counts as a secret is decided where the configuration is read.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from nicegui import ui

from daemon.console.layout import Visit, heading, table
from daemon.console.live import Live
from daemon.console.wording import date_and_clock
from daemon.errors import NotPossibleNow
from daemon.process.services import Services
from daemon.store.views import ConfigurationView


async def build(visit: Visit, services: Services) -> None:
    """Fill the page of the configuration.

    Raises
    ------
    NotPossibleNow
        This process has no configuration that is read again.
    """
    del visit
    heading("Configuration as loaded")
    reloader = services.reloader
    if reloader is None:
        raise NotPossibleNow("this process does not read its configuration again: ask the daemon")
    await Live(reloader.view, _show, interval_s=5.0).refresh()


def _show(found: ConfigurationView) -> None:
    if found.refused is not None:
        when = date_and_clock(found.refused_at)
        words = f"The files of now were refused, those of before are in effect ({when}): {found.refused}"
        ui.label(words).classes("lw-notice").props('role="alert"')
    if found.needs_restart:
        words = f"Takes effect at the next start of the daemon: {', '.join(found.needs_restart)}."
        ui.label(words).classes("lw-notice warning").props('role="status"')
    with ui.element("section").classes("lw-panel"):
        heading("Files", 2)
        ui.label(f"Read {date_and_clock(found.loaded_at)}.").classes("lw-muted")
        table(("file", "SHA-256"), sorted(found.files.items()))
    _keys("lumiwatch.toml", found.settings)
    for name, settings in sorted(found.models.items()):
        _keys(f"models/{name}/model.toml", settings)


def _keys(file: str, settings: Mapping[str, Any]) -> None:
    with ui.element("section").classes("lw-panel"):
        heading(file, 2)
        table(("key", "value"), [(key, _written(value)) for key, value in flat(settings)])


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give every key with its value, in the order of the settings: ``console.port``."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _written(value: Any) -> str:
    """Write a value as JSON, which TOML resembles; what is not set as words."""
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)
