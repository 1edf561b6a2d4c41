"""The daemon process: builds every service once, starts the threads, serves until it is told to stop.

The address is taken before anything else is touched, so a port in use is one clear error and
nothing half-started. SIGTERM and Ctrl-C stop within seconds; unfinished responses go on at the next start.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from threading import Event
from types import FrameType

import uvicorn
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.middleware.trustedhost import TrustedHostMiddleware

from daemon.alerts.service import Alerts, build_alerts
from daemon.api import application
from daemon.auth import DEFAULT_OPERATOR, default_token_file, load_authenticator
from daemon.catch_up import catch_up
from daemon.console.app import register_console
from daemon.consumer import VerdictConsumer
from daemon.database import open_database
from daemon.durable import DurableResponses
from daemon.errors import PortInUse, SettingsError
from daemon.housekeeping import Housekeeping
from daemon.intake import take_verdict
from daemon.metrics import Metrics
from daemon.operations import Operations, utc_now
from daemon.publisher import EventPublisher
from daemon.response import ResponseProcedure
from daemon.services import Check, Services, installed_version
from daemon.settings import Site
from daemon.workbench import Workbench
from daemon.workers import WorkerMetrics
from streams.events.dataset import write_atomically
from streams.judging.verdict import Verdict

logger = logging.getLogger(__name__)

_GRACEFUL_S = 2


@dataclass(frozen=True)
class Daemon:
    """Everything that runs, before and after it is started."""

    services: Services
    catch_up: Callable[[], int]
    responses: DurableResponses
    consumer: VerdictConsumer | None
    publisher: EventPublisher | None
    alerts: Alerts
    housekeeping: Housekeeping

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run responses, alerts, consumer, publisher and housekeeping for the duration of the block."""
        self.catch_up()
        with ExitStack() as stack:
            self.responses.launch()
            stack.callback(self.responses.stop)
            for thread in (self.alerts, self.publisher, self.consumer, self.housekeeping):
                if thread is not None:
                    thread.start()
                    stack.callback(thread.stop)
            yield


def build_daemon(site: Site, *, port: int | None = None) -> Daemon:
    """Build every service of a site; opens the database, starts nothing.

    Parameters
    ----------
    site
        From `load_site`.
    port
        Where the console listens, when the site lets the system choose.

    Raises
    ------
    DaemonError
        Settings, secrets or database are not usable.
    """
    prepare_state_dir(site)
    engine = open_database(site.database_url)
    authenticator = load_authenticator(site)
    metrics = Metrics(site.models)
    metrics.registry.register(WorkerMetrics(engine, site.models, utc_now))
    stopping = Event()
    workbench = Workbench(engine, site, stopping, utc_now)
    procedure = ResponseProcedure(engine, site, workbench, utc_now, stopping)

    def count_end(response_id: str, state: str) -> None:
        model = response_id.rsplit("-", 2)[0]
        metrics.responses_ended.labels(model, state).inc()

    responses = DurableResponses(engine, site.database_url, procedure, stopping, count_end)
    operations = Operations(
        engine, site, responses, on_decision=lambda kind: metrics.decisions.labels(kind.value).inc()
    )
    bootstrap = site.settings.kafka.bootstrap
    consumer = publisher = None
    if bootstrap is not None:
        consumer = VerdictConsumer(
            bootstrap, _taker(engine, site, responses, metrics), metrics, site.kafka_security
        )
        publisher = EventPublisher(engine, bootstrap, metrics, site.kafka_security)
    services = Services(
        site=site,
        engine=engine,
        operations=operations,
        authenticator=authenticator,
        metrics=metrics,
        board_status=workbench.board_status,
        checks={"database": _database_check(engine), "broker": _broker_check(site, consumer)},
        clock=utc_now,
    )
    alerts = build_alerts(
        engine,
        site,
        console_url=lambda: site.console_url(port),
        on_contained=metrics.contained_errors.labels("alerts").inc,
    )
    housekeeping = Housekeeping(engine, site, utc_now, metrics.contained_errors.labels("housekeeping").inc)
    return Daemon(
        services,
        lambda: catch_up(engine, site, utc_now),
        responses,
        consumer,
        publisher,
        alerts,
        housekeeping,
    )


def build_app(services: Services) -> FastAPI:
    """Build the web application: API and console, for the hosts the site serves."""
    app = FastAPI(
        title="lumiwatch",
        version=installed_version(),
        docs_url=None,  # their pages load scripts from the internet, which control rooms do not have
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    application.install(app, services)
    register_console(app, services)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=_hosts(services.site))
    return app


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
    _set_up_logging()
    with contextlib.closing(bind(site)) as listener:
        port = listener.getsockname()[1]
        daemon = build_daemon(site, port=port)
        config = uvicorn.Config(
            build_app(daemon.services),
            log_level="warning",
            access_log=False,  # it would write login tokens
            timeout_graceful_shutdown=_GRACEFUL_S,
            server_header=False,
        )
        server = uvicorn.Server(config)
        with _signals_end(server) as received, daemon.running():
            _greet(site, port, say)
            with _announced(site, port):
                server.run(sockets=[listener])
        say("lumiwatch: stopped")
    if signal.SIGINT in received:
        raise KeyboardInterrupt


def bind(site: Site) -> socket.socket:
    """Take the console's address.

    Raises
    ------
    PortInUse
        It is taken.
    SettingsError
        This machine has no such address, or the port needs rights.
    """
    console = site.settings.console
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            console.host, console.port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingsError(
            f"console.host {console.host!r} is no address ({error}); use 127.0.0.1"
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        where = f"{console.host}:{console.port}"
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"{where} is in use by another process: stop it, or set console.port "
                f"(or LUMIWATCH_CONSOLE__PORT) to a free one"
            ) from error
        raise SettingsError(
            f"{where} cannot be used ({error.strerror}); see [console] in lumiwatch.toml"
        ) from error
    return listener


def prepare_state_dir(site: Site) -> None:
    """Make the state folder and its secrets folder.

    Raises
    ------
    SettingsError
        They cannot be made or written.
    """
    try:
        site.state_dir.mkdir(parents=True, exist_ok=True)
        site.secrets_dir.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"state_dir {site.state_dir} cannot be made ({error.strerror}); choose another"
        ) from error


def login_link(site: Site, port: int | None = None) -> str | None:
    """Give the link that logs the operator `local` in; None when the site configures its own operators."""
    if site.settings.operators:
        return None
    token = default_token_file(site).read_text(encoding="ascii").strip()
    return f"{site.console_url(port)}/login?token={token}"


def _taker(
    engine: Engine, site: Site, responses: DurableResponses, metrics: Metrics
) -> Callable[[Verdict], None]:
    """Make what the consumer does with a verdict: store it, then move responses on."""

    def take(verdict: Verdict) -> None:
        result = take_verdict(engine, site, verdict, now=utc_now())
        if verdict.model in site.models:
            if not result.new:
                metrics.verdicts_repeated.labels(verdict.model).inc()
                return
            metrics.take_verdict(verdict)
        if result.opened is not None:
            metrics.incidents_opened.labels(verdict.model).inc()
        for response_id in result.start_responses:
            responses.start(response_id)
        responses.wake()

    return take


def _database_check(engine: Engine) -> Check:
    def check() -> str | None:
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError as error:
            return f"does not answer: {str(error).splitlines()[0]}"
        return None

    return check


def _broker_check(site: Site, consumer: VerdictConsumer | None) -> Check:
    def check() -> str | None:
        if consumer is None:
            return "none configured: set kafka.bootstrap, or start with `lumiwatch up`"
        if consumer.problem is None and site.settings.kafka.bootstrap is not None:
            with suppress(FileNotFoundError):
                return site.broker_problem_file.read_text(encoding="utf-8")
        return consumer.problem

    return check


def _hosts(site: Site) -> list[str]:
    """Host names a browser may use; others are refused, which defeats DNS rebinding."""
    hosts = {"127.0.0.1", "localhost", "[::1]", "::1", site.settings.console.host}
    public = site.settings.console.public_url
    if public:
        hosts.add(public.split("://", 1)[-1].split("/", 1)[0].rsplit(":", 1)[0])
    return sorted(hosts)


@contextmanager
def _signals_end(server: uvicorn.Server) -> Iterator[set[int]]:
    """Let SIGTERM and SIGINT end the web server only, so that the rest is stopped in order after it.

    Yields the signals that have come.
    """
    received: set[int] = set()

    def handle(number: int, _frame: FrameType | None) -> None:
        received.add(number)
        server.should_exit = True  # heeded right after its start, when the signal came before

    # uvicorn has handlers of its own while it runs; it sends itself the signal again when it has stopped
    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
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


def _set_up_logging() -> None:
    """Log to standard error: what the daemon does, and only warnings of the libraries below it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for noisy in ("kafka", "httpx", "dbos", "matplotlib", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
