"""Puts the daemon together: builds every room of a site once and hands each what it needs. Starts nothing.

What runs, and until when, is `service`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import Event
from threading import enumerate as running_threads
from urllib.parse import urlsplit

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from sqlalchemy.engine import Engine
from starlette.middleware.trustedhost import TrustedHostMiddleware

from daemon.access.control import AccessControl
from daemon.access.logins import Logins
from daemon.access.sign_on import Entrance
from daemon.alerts.alertmanager import Alertmanagers, build_alertmanagers
from daemon.alerts.service import Alerts, build_alerts
from daemon.api import application
from daemon.chat.records import forget_uses
from daemon.chat.service import Chat, build_buttons, build_chat, callback_url
from daemon.console.app import register_console
from daemon.incidents.intake import take_verdict
from daemon.incidents.silences import Silences
from daemon.journal.publisher import EventPublisher
from daemon.mlflow.exporter import MlflowExport
from daemon.operations import Operations, utc_now
from daemon.process.catch_up import catch_up
from daemon.process.consumer import VerdictConsumer
from daemon.process.messaging import Messaging
from daemon.process.metrics import Metrics
from daemon.process.readiness import broker_check, chat_note, database_check
from daemon.process.services import Services, installed_version
from daemon.process.site_metrics import SiteMetrics
from daemon.process.workers import WorkerMetrics
from daemon.responses.by_hand import ByHand
from daemon.responses.durable import DurableResponses
from daemon.responses.procedure import ResponseProcedure
from daemon.responses.scrubbing import Scrubbing
from daemon.responses.trial import Trials
from daemon.responses.workbench import Workbench
from daemon.site.current_site import CurrentSite
from daemon.site.reload import Reloader
from daemon.site.settings import Site
from daemon.site.state_dir import prepare_state_dir
from daemon.store.database import open_database, transaction
from daemon.upkeep.housekeeping import Chore, Housekeeping
from streams.judging.verdict import Verdict

logger = logging.getLogger(__name__)

_THREADS = frozenset(
    {
        "alertmanager",
        "alerts",
        "configuration",
        "event-publisher",
        "housekeeping",
        "mlflow",
        "scrubbing",
        "trials",
        "verdict-consumer",
    }
)
"""Threads without which the daemon does not do its work; each contains its errors and ends only when told."""


@dataclass(frozen=True)
class Daemon:
    """Everything that runs, before and after it is started."""

    services: Services
    catch_up: Callable[[], int]
    responses: DurableResponses
    consumer: VerdictConsumer | None
    publisher: EventPublisher | None
    messaging: Messaging
    alertmanagers: Alertmanagers
    mlflow: MlflowExport
    scrubbing: Scrubbing
    trials: Trials
    housekeeping: Housekeeping
    reloader: Reloader

    @contextmanager
    def running(self) -> Iterator[AbstractSet[str]]:
        """Run responses, alerts, consumer, publisher and the rest for the block; yields what must not end."""
        self.catch_up()
        with ExitStack() as stack:
            self.responses.launch()
            stack.callback(self.responses.stop)
            for thread in (
                self.messaging,
                self.alertmanagers,
                self.mlflow,
                self.scrubbing,
                self.trials,
                self.publisher,
                self.consumer,
                self.housekeeping,
                self.reloader,
            ):
                if thread is not None:
                    thread.start()
                    stack.callback(thread.stop)
            yield {thread.name for thread in running_threads()} & _THREADS


def build_daemon(
    loaded: Site, *, port: int | None = None, while_reloading: Callable[[bool], None] = lambda _: None
) -> Daemon:
    """Build every service of a site; opens the database, starts nothing.

    Parameters
    ----------
    loaded
        From `load_site`.
    port
        Where the console listens, when the site lets the system choose.
    while_reloading
        As `around` of `daemon.site.reload.Reloader`.

    Raises
    ------
    DaemonError
        Settings, secrets or database are not usable.
    """
    site = CurrentSite(loaded)
    prepare_state_dir(site)
    engine = open_database(site.database_url)
    access = AccessControl(engine, site, utc_now)
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
        engine,
        site,
        responses,
        on_decision=lambda kind: metrics.decisions.labels(kind.value).inc(),
        access=access,
    )
    scrubbing = Scrubbing(
        engine,
        site,
        workbench.boards,
        responses,
        metrics.registry,
        utc_now,
        on_opened=lambda model: metrics.incidents_opened.labels(model).inc(),
        on_contained=metrics.contained_errors.labels("scrubbing").inc,
    )
    by_hand = ByHand(engine, site, workbench.boards, scrubbing, access, utc_now)
    bootstrap = site.settings.kafka.bootstrap
    consumer = publisher = None
    if bootstrap is not None:
        consumer = VerdictConsumer(
            bootstrap, _taker(engine, site, responses, metrics), metrics, site.kafka_security
        )
        publisher = EventPublisher(engine, bootstrap, metrics, site.kafka_security)
    silences = Silences(engine, site, utc_now)

    def build_messaging(now: Site, registry: CollectorRegistry) -> tuple[Alerts, Chat | None]:
        buttons = build_buttons(now, utc_now)
        alerts = build_alerts(
            engine,
            now,
            console_url=lambda: now.console_url(port),
            on_contained=metrics.contained_errors.labels("alerts").inc,
            buttons=buttons,
        )
        chat = build_chat(
            engine,
            now,
            operations=operations,
            silencer=silences,
            access=access,
            alerts=alerts,
            buttons=buttons,
            registry=registry,
            clock=utc_now,
        )
        return alerts, chat

    messaging = Messaging(loaded, build_messaging)
    metrics.registry.register(messaging)

    entrance = Entrance(site, access.people, utc_now)
    alertmanagers = build_alertmanagers(
        engine, site, metrics.registry, console_url=lambda: site.console_url(port)
    )

    mlflow = MlflowExport(engine, site, metrics.registry, utc_now)

    def prepare(now: Site) -> Callable[[], None]:
        takes = [room.prepare(now) for room in (access.people, entrance, messaging, alertmanagers, mlflow)]

        def take() -> None:
            for each in takes:
                each()

        return take

    reloader = Reloader(
        engine,
        site,
        utc_now,
        prepare=prepare,
        around=while_reloading,
        on_contained=metrics.contained_errors.labels("configuration").inc,
    )
    checks = {"database": database_check(engine), "broker": broker_check(site, consumer)}
    metrics.registry.register(SiteMetrics(engine, checks, reloader, utc_now))
    services = Services(
        site=site,
        engine=engine,
        operations=operations,
        access=access,
        logins=Logins(engine, access, utc_now, metrics.count_login),
        entrance=entrance,
        metrics=metrics,
        board_status=workbench.board_status,
        checks=checks,
        clock=utc_now,
        reloader=reloader,
        notes={"configuration": reloader.note, "chat": chat_note(engine), "mlflow": mlflow.note},
        chat=messaging.chat,
        by_hand=by_hand,
        last_scrub=scrubbing.last,
    )
    housekeeping = Housekeeping(
        engine,
        site,
        utc_now,
        metrics.contained_errors.labels("housekeeping").inc,
        forget_workflows=responses.forget,
        chores=[_forgets_chat_uses(engine)],
    )
    return Daemon(
        services,
        lambda: catch_up(engine, site, utc_now),
        responses,
        consumer,
        publisher,
        messaging,
        alertmanagers,
        mlflow,
        scrubbing,
        Trials(engine, site, utc_now, metrics.contained_errors.labels("trials").inc),
        housekeeping,
        reloader,
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
            names = {"model": verdict.model, "incident": result.opened}
            logger.info("incident %s opened: %s", result.opened, verdict.reason, extra=names)
            metrics.incidents_opened.labels(verdict.model).inc()
        for response_id in result.start_responses:
            responses.start(response_id)
        responses.wake()

    return take


def _hosts(site: Site) -> list[str]:
    """Host names a browser or the chat may use; others are refused, which defeats DNS rebinding."""
    hosts = {"127.0.0.1", "localhost", "[::1]", "::1", site.settings.console.host}
    public = site.settings.console.public_url
    if public:
        hosts.add(public.split("://", 1)[-1].split("/", 1)[0].rsplit(":", 1)[0])
    callback = urlsplit(callback_url(site) or "").hostname
    if callback:
        hosts.add(callback)
    return sorted(hosts)


def _forgets_chat_uses(engine: Engine) -> Chore:
    def chore(now: datetime) -> int:
        with transaction(engine) as session:
            return forget_uses(session, now)

    return chore
