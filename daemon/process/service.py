"""The daemon process: builds every service once, starts the threads, serves until it is told to stop.

The address is taken before anything else is touched, so a port in use is one clear error and
nothing half-started. SIGTERM and Ctrl-C stop within seconds; unfinished responses go on at the next start.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

import uvicorn
from fastapi import FastAPI

from daemon.access.people import DEFAULT_OPERATOR
from daemon.chat.service import Chat
from daemon.process.assembly import build_app, build_daemon
from daemon.process.console_address import bind, login_link
from daemon.process.logs import set_up_logging
from daemon.process.readiness import liveness
from daemon.process.service_manager import ServiceManager, Watchdog
from daemon.process.services import installed_version
from daemon.site.reload import Reloader
from daemon.site.settings import Site
from streams.events.dataset import write_atomically

logger = logging.getLogger(__name__)

_GRACEFUL_S = 2


def serve(site: Site, *, announce: Callable[[str], None] | None = None) -> None:
    """Serve a site until SIGTERM, which is a good end, or SIGINT.

    Parameters
    ----------
    site
        From `load_site`.
    announce
        Called with each line for the person who started the daemon; default: standard output.

    Raises
    ------
    PortInUse
        Another process listens at the console's address; nothing was started.
    DaemonError
        Settings, secrets or database are not usable; nothing was started.
    KeyboardInterrupt
        After SIGINT, when everything is stopped.
    """
    say = announce or _say
    set_up_logging(site.settings.logging.format)
    manager = ServiceManager()
    with contextlib.closing(bind(site)) as listener:
        port = listener.getsockname()[1]
        daemon = build_daemon(site, port=port, while_reloading=manager.reloading)
        app = build_app(daemon.services)
        daemon.messaging.on_chat(lambda chat: _exchange_chat(app, chat))
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # it would write login tokens
            timeout_graceful_shutdown=_GRACEFUL_S,
            server_header=False,
        )
        server = uvicorn.Server(config)
        with _signals(server, daemon.reloader) as received, daemon.running() as threads:
            services = daemon.services
            watchdog = Watchdog(manager, liveness(threads, services.checks["database"]), services.status)
            _greet(site, port, say)
            with _announced(site, port), _reported(manager, watchdog):
                server.run(sockets=[listener])
        say("lumiwatch: stopped")
    if signal.SIGINT in received:
        raise KeyboardInterrupt


@contextmanager
def _signals(server: uvicorn.Server, reloader: Reloader) -> Iterator[set[int]]:
    """Let SIGTERM and SIGINT end the web server only, so that the rest is stopped in order after it.

    SIGHUP lets the configuration be read again. Yields the signals to end that have come.
    """
    received: set[int] = set()

    def handle(number: int, _frame: FrameType | None) -> None:
        received.add(number)
        server.should_exit = True  # heeded right after its start, when the signal came before

    # uvicorn has handlers of its own while it runs; it sends itself the signal again when it has stopped
    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: reloader.ask())
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _announced(site: Site, port: int) -> Iterator[None]:
    """Let commands on this machine find the daemon, whatever port it has."""
    write_atomically(site.address_file, site.console_url(port).encode())
    try:
        yield
    finally:
        site.address_file.unlink(missing_ok=True)


@contextmanager
def _reported(manager: ServiceManager, watchdog: Watchdog) -> Iterator[None]:
    """Let the service manager know when the daemon serves, that it lives, and when it stops."""
    manager.ready()
    watchdog.start()
    try:
        yield
    finally:
        watchdog.stop()
        manager.stopping()


def _exchange_chat(app: FastAPI, chat: Chat | None) -> None:
    app.state.services = replace(app.state.services, chat=chat)


def _greet(site: Site, port: int, say: Callable[[str], None]) -> None:
    say(f"lumiwatch {installed_version()}: {site.name}, watching {', '.join(site.models)}")
    if site.settings.kafka.bootstrap is None:
        say("no broker configured: verdicts are not read (kafka.bootstrap, or `lumiwatch up`)")
    # a login link is a secret: it goes to a person's terminal, never into a log file or a journal
    link = login_link(site, port) if sys.stdout.isatty() else None
    if link is not None:
        say(f"console, logged in as {DEFAULT_OPERATOR}: {link}")
    else:
        say(f"console: {site.console_url(port)} (a token is asked for; `lumiwatch login` prints the link)")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
