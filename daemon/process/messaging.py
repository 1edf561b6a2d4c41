"""The alerts and the chat as they are configured now: built anew when their part of the settings changes.

Builds before it takes down: settings that cannot work are refused while the old ones still speak. Refuses to
know what is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from daemon.alerts.service import Alerts
from daemon.chat.service import Chat
from daemon.site.current_site import CurrentSite
from daemon.site.settings import Site

Build = Callable[[Site, CollectorRegistry], tuple[Alerts, Chat | None]]
"""Builds alerts and chat of a site, the chat's metrics in a registry of their own. Raises `SettingsError`."""


class Messaging(Collector):
    """Alerts and chat of one daemon, from `start` to `stop`; as a collector, the metrics of the chat.

    Parameters
    ----------
    site
        As it was loaded.
    build
        Builds them, at once and at every change.

    Raises
    ------
    SettingsError
        A secret file of [mattermost] cannot be read.
    """

    def __init__(self, site: Site, build: Build) -> None:
        self._build = build
        self._running = False
        self._on_chat: Callable[[Chat | None], None] = lambda _: None
        self._site = CurrentSite(site)
        self._registry = CollectorRegistry()
        self._alerts, self.chat = build(self._site, self._registry)

    def start(self) -> None:
        """Begin to tell what happens."""
        self._running = True
        self._alerts.start()

    def stop(self) -> None:
        """Stop; what was not delivered stays in the log for the next start."""
        self._running = False
        self._alerts.stop()

    def on_chat(self, call: Callable[[Chat | None], None]) -> None:
        """Have the chat of now handed over whenever there is another."""
        self._on_chat = call

    def prepare(self, site: Site) -> Callable[[], None]:
        """Build what a new configuration asks for; returns what puts it in place, which cannot fail.

        Raises
        ------
        SettingsError
            It cannot be built; nothing has changed.
        """
        if _said_of(site) == _said_of(self._site.loaded()):
            return lambda: self._site.swap(site)
        current, registry = CurrentSite(site), CollectorRegistry()
        alerts, chat = self._build(current, registry)

        def take() -> None:
            self._alerts.stop()
            self._site, self._registry, self._alerts, self.chat = current, registry, alerts, chat
            self._on_chat(chat)
            if self._running:
                alerts.start()

        return take

    def collect(self) -> Iterable[Metric]:
        """Give the metrics of the chat of now."""
        return self._registry.collect()

    def describe(self) -> Iterable[Metric]:
        """Name nothing: what there is depends on the configuration."""
        return ()


def _said_of(site: Site) -> tuple[Any, ...]:
    """Tell the settings from which alerts and chat are built."""
    settings = site.settings
    users = {name: operator.mattermost_user_id for name, operator in settings.operators.items()}
    return settings.mattermost, settings.alerts, users
