"""Builds a site's alerts from its settings, and runs them in a thread of their own.

The one place that joins settings, secrets, channels, outbox and notifier. Refuses to know what is said.
"""

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from sqlalchemy.engine import Engine

from daemon.alerts.channels import (
    LOG,
    MATTERMOST,
    WEBHOOK,
    Addresses,
    BotChannel,
    Buttons,
    Channel,
    LogChannel,
    WebhookChannel,
)
from daemon.alerts.evidence import Evidence
from daemon.alerts.heads import Heads
from daemon.alerts.mattermost import BotClient, WebhookClient
from daemon.alerts.notifier import Notifier
from daemon.alerts.outbox import Outbox
from daemon.alerts.pictures import Pictures
from daemon.errors import SettingsError
from daemon.site.settings import Site

_STOP_S = 5.0


class Alerts:
    """The alerts of one site, from `start` to `stop`.

    Parameters
    ----------
    notifier
        Follows the events and delivers.
    outbox
        Where messages go.
    heads
        Writes the heads of threads.
    bot
        The bot account, or None without one.
    closing
        Connections to close at the end.
    """

    def __init__(
        self,
        notifier: Notifier,
        outbox: Outbox,
        heads: Heads,
        bot: BotClient | None,
        closing: ExitStack,
    ) -> None:
        self.outbox = outbox
        self.heads = heads
        self.bot = bot
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
    buttons: Buttons | None = None,
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
    buttons
        Draws the answers below heads in the chat; None: without buttons.

    Raises
    ------
    SettingsError
        A secret file of [mattermost] cannot be read.
    """
    closing = ExitStack()
    bot = _bot(site, closing)
    addresses, channels = _channels(site, write or _print, bot, buttons, closing)
    evidence = Evidence(engine, site)
    heads = Heads(engine, evidence, site=site.name, console_url=console_url or site.console_url)
    outbox = Outbox(engine, addresses, channels)
    notifier = Notifier(
        engine,
        outbox,
        heads,
        pictures=Pictures(evidence, site.state_dir / "pictures"),
        repeat=timedelta(seconds=site.settings.alerts.repeat_interval_s),
        on_contained=on_contained,
    )
    return Alerts(notifier, outbox, heads, bot, closing)


def _bot(site: Site, closing: ExitStack) -> BotClient | None:
    chat = site.settings.mattermost
    if chat.url is None or chat.token_file is None:
        return None
    token = read_secret(site.path(chat.token_file), "mattermost.token_file")
    return closing.enter_context(BotClient(chat.url, token))


def _channels(
    site: Site,
    write: Callable[[str], None],
    bot: BotClient | None,
    buttons: Buttons | None,
    closing: ExitStack,
) -> tuple[Addresses, dict[str, Channel]]:
    chat = site.settings.mattermost
    channels: dict[str, Channel] = {LOG: LogChannel(write)}
    if bot is not None:
        channels[MATTERMOST] = BotChannel(bot, buttons)
    if chat.webhook_url_file is not None:
        url = read_secret(site.path(chat.webhook_url_file), "mattermost.webhook_url_file")
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


def read_secret(path: Path, key: str) -> str:
    """Read the secret that a key of lumiwatch.toml names.

    Raises
    ------
    SettingsError
        It cannot be read, or is empty.
    """
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
