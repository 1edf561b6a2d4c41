"""Builds a site's alerts from its settings, and runs them in a thread of their own.

The one place that joins settings, secrets, channels, outbox and notifier. Refuses to know what is said.
"""

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy.engine import Engine

from daemon.alerts.channels import (
    LOG,
    MATTERMOST,
    WEBHOOK,
    Addresses,
    BotChannel,
    Channel,
    LogChannel,
    WebhookChannel,
)
from daemon.alerts.evidence import Evidence
from daemon.alerts.mattermost import BotClient, WebhookClient
from daemon.alerts.notifier import Notifier
from daemon.alerts.outbox import Outbox
from daemon.alerts.pictures import Pictures
from daemon.errors import SettingsError
from daemon.settings import Site

_STOP_S = 5.0


class Alerts:
    """The alerts of one site, from `start` to `stop`.

    Parameters
    ----------
    notifier
        Follows the events and delivers.
    closing
        Connections to close at the end.
    """

    def __init__(self, notifier: Notifier, closing: ExitStack) -> None:
        self._notifier = notifier
        self._closing = closing
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to follow events and to deliver."""
        self._thread = threading.Thread(
            target=self._notifier.run, args=(self._stop,), name="alerts", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop; what was not delivered stays in the log for the next start."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)
        self._closing.close()


def build_alerts(
    engine: Engine,
    site: Site,
    *,
    console_url: Callable[[], str] | None = None,
    write: Callable[[str], None] | None = None,
    on_contained: Callable[[], None] = lambda: None,
) -> Alerts:
    """Build the alerts of a site; nothing is sent before `Alerts.start`.

    Parameters
    ----------
    engine, site
        Database and settings.
    console_url
        Gives the start of links; default: what the site says. Asked for every message, so that a port
        chosen by the system may be known late.
    write
        Takes what is printed when no chat is configured; default: standard output.
    on_contained
        Called for every failure that was contained, to count it.

    Raises
    ------
    SettingsError
        A secret file of [mattermost] cannot be read.
    """
    closing = ExitStack()
    addresses, channels = _channels(site, write or _print, closing)
    evidence = Evidence(engine, site)
    notifier = Notifier(
        engine,
        Outbox(engine, addresses, channels),
        evidence,
        pictures=Pictures(evidence, site.state_dir / "pictures"),
        site=site.name,
        console_url=console_url or site.console_url,
        on_contained=on_contained,
    )
    return Alerts(notifier, closing)


def _channels(
    site: Site, write: Callable[[str], None], closing: ExitStack
) -> tuple[Addresses, dict[str, Channel]]:
    chat = site.settings.mattermost
    channels: dict[str, Channel] = {LOG: LogChannel(write)}
    if chat.url is not None and chat.token_file is not None:
        token = _secret(site.path(chat.token_file), "mattermost.token_file")
        client = closing.enter_context(BotClient(chat.url, token))
        channels[MATTERMOST] = BotChannel(client)
    if chat.webhook_url_file is not None:
        url = _secret(site.path(chat.webhook_url_file), "mattermost.webhook_url_file")
        hook = WebhookClient(url)
        closing.callback(hook.close)
        channels[WEBHOOK] = WebhookChannel(hook)
    addresses = Addresses(
        bot=MATTERMOST in channels,
        webhook=WEBHOOK in channels,
        channel_id=chat.channel_id,
        replay_channel_id=chat.replay_channel_id,
    )
    return addresses, channels


def _secret(path: Path, key: str) -> str:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path}: cannot be read ({error}); key {key} of lumiwatch.toml names it"
        ) from error
    if not secret:
        raise SettingsError(f"{path}: is empty; key {key} of lumiwatch.toml names it")
    return secret


def _print(text: str) -> None:
    sys.stdout.write(f"\n{text}\n\n")
    sys.stdout.flush()
