"""Tells Prometheus Alertmanagers which incidents fire and which have ended: they ring phones and send mail.

Says the whole truth again and again, as Prometheus does: an alert that is not sent again ends by itself
after four intervals, and an end is repeated for a quarter of an hour. All of it comes from the database and
the clock, so a restart of either side loses nothing. Each Alertmanager has a thread of its own: one that
hangs holds back neither the chat nor the others. Marked data (replay, simulation) are never sent; silenced
incidents are, under a silence there (`alertmanager_silences`).

Refuses to know routes, receivers and the chat.
"""

import logging
import ssl
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
from prometheus_client import CollectorRegistry, Counter
from sqlalchemy import or_
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, select

from daemon.alerts.alertmanager_silences import QUIET_UNTIL, Silencer
from daemon.alerts.service import read_secret
from daemon.errors import SettingsError
from daemon.incidents.silences import active_silences, labels_of
from daemon.incidents.silencing import quiet_until
from daemon.site.alert_settings import AlertmanagerSettings
from daemon.site.settings import Site
from daemon.store.records import UNRESOLVED, IncidentKind, IncidentRecord, IncidentState

_log = logging.getLogger(__name__)

DRIFT: Final = "LumiwatchDrift"
FIRMWARE_FAULT: Final = "LumiwatchFirmwareFault"
ENDS_REPEATED: Final = timedelta(minutes=15)
"""How long an end is repeated."""
INTERVALS_VALID: Final = 4
"""How many missed repetitions end an alert."""
LOOK_S: Final = 1.0
_FIRST_RETRY_S: Final = 2.0
_STOP_S: Final = 5.0

Alert = dict[str, Any]
"""One alert as of Alertmanager's API, version 2."""


class Alertmanagers:
    """The Alertmanagers of one site as it is configured now, from `start` to `stop`.

    Parameters
    ----------
    site
        As it was loaded.
    build
        Builds what tells them, at once and at every change. Raises `SettingsError`.
    """

    def __init__(self, site: Site, build: Callable[[Site], Sequence["Sender"]]) -> None:
        self._build = build
        self._settings = site.settings.alertmanager
        self._running = False
        self._ready(build(site))

    def _ready(self, senders: Sequence["Sender"]) -> None:
        self._stop = threading.Event()
        # without any, a thread that waits: whoever watches the threads need not know the settings
        runs = [sender.run for sender in senders] or [_wait]
        self._threads = [
            threading.Thread(target=run, args=(self._stop,), name="alertmanager", daemon=True) for run in runs
        ]

    def start(self) -> None:
        """Begin to tell."""
        self._running = True
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop; what was firing ends by itself unless a successor goes on."""
        self._running = False
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_STOP_S)

    def prepare(self, site: Site) -> Callable[[], None]:
        """Build what a new configuration asks for; returns what puts it in place, which cannot fail.

        Raises
        ------
        SettingsError
            A file of [alertmanager] cannot be read; nothing has changed.
        """
        if site.settings.alertmanager == self._settings:
            return lambda: None
        senders = self._build(site)

        def take() -> None:
            running = self._running
            self.stop()
            self._settings = site.settings.alertmanager
            self._ready(senders)
            if running:
                self.start()

        return take


def _wait(stop: threading.Event) -> None:
    stop.wait()


class Sender:
    """Tells one Alertmanager.

    Parameters
    ----------
    url
        Of the Alertmanager, without a trailing slash.
    client
        Knows certificates and passwords.
    current
        Gives the alerts as of a time.
    resend
        Time between two repetitions.
    clock
        Gives aware UTC.
    on_error
        Called for every attempt that failed, to count it.
    """

    def __init__(
        self,
        url: str,
        client: httpx.Client,
        current: Callable[[datetime], list[Alert]],
        *,
        resend: timedelta,
        clock: Callable[[], datetime],
        on_error: Callable[[], None] = lambda: None,
    ) -> None:
        self._url = url
        self._client = client
        self._current = current
        self._resend = resend
        self._clock = clock
        self._on_error = on_error
        self._silencer = Silencer(url, client, on_error)
        self._told: frozenset[tuple[str, bool, datetime | None]] = frozenset()
        self._told_at: datetime | None = None
        self._failures = 0
        self._not_before: datetime | None = None

    def run(self, stop: threading.Event) -> None:
        """Look every second until told to stop; meant for a thread of its own."""
        with self._client:
            while not stop.is_set():
                self.look()
                stop.wait(LOOK_S)

    def look(self) -> bool:
        """Send what is due; returns whether something was sent.

        News leave at once, everything else every `resend`; each failure in a row doubles the wait.
        """
        now = self._clock()
        if self._not_before is not None and now < self._not_before:
            return False
        try:
            alerts = self._current(now)
            facts = frozenset(
                (alert["labels"]["incident"], "resolved" in alert, alert.get(QUIET_UNTIL)) for alert in alerts
            )
            waited = self._told_at is None or not timedelta(0) <= now - self._told_at < self._resend
            if not alerts or (facts == self._told and not waited and not self._silencer.retry_due(now)):
                self._told = self._told & facts
                return False
            said = self._silencer.hush(alerts, now)
            if said:
                self._send([_message(alert, now, self._resend) for alert in said])
        except (httpx.HTTPError, SQLAlchemyError, OSError) as error:
            self._failures += 1
            wait_s = min(_FIRST_RETRY_S * 2.0 ** min(self._failures - 1, 16), self._resend.total_seconds())
            self._not_before = now + timedelta(seconds=wait_s)
            self._on_error()
            words = str(error) or type(error).__name__
            _log.warning("%s was not told (%s); next attempt in %.0f s", self._url, words, wait_s)
            return False
        self._failures, self._not_before = 0, None
        self._told, self._told_at = facts, now
        return bool(said)

    def _send(self, alerts: list[Alert]) -> None:
        answer = self._client.post(f"{self._url}/api/v2/alerts", json=alerts)
        if not answer.is_success:
            raise httpx.HTTPStatusError(
                f"it answered {answer.status_code}", request=answer.request, response=answer
            )


def current_alerts(
    engine: Engine, site: Site, now: datetime, *, console_url: Callable[[], str]
) -> list[Alert]:
    """Give what fires, and what has ended within `ENDS_REPEATED` (then with a key ``resolved``).

    What silences keep quiet has a key `QUIET_UNTIL`.

    Parameters
    ----------
    console_url
        Gives the start of links, without a trailing slash.
    """
    with Session(engine) as session:
        incidents = session.exec(
            select(IncidentRecord).where(
                IncidentRecord.kind == IncidentKind.ALARM,
                col(IncidentRecord.simulated).is_(False),
                or_(
                    col(IncidentRecord.state).in_(UNRESOLVED),
                    col(IncidentRecord.resolved_at) > now - ENDS_REPEATED,
                ),
            )
        ).all()
        silences = active_silences(session, now) if incidents else ()
        return [
            _alert(one, site, f"{console_url()}/incidents/{one.id}")
            | ({} if until is None else {QUIET_UNTIL: until})
            for one in incidents
            for until in [quiet_until(silences, labels_of(one), now)]
        ]


def build_alertmanagers(
    engine: Engine,
    site: Site,
    registry: CollectorRegistry,
    *,
    console_url: Callable[[], str],
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Alertmanagers:
    """Build what tells the site's Alertmanagers; nothing is sent before `Alertmanagers.start`.

    Parameters
    ----------
    registry
        Where failures are counted.
    console_url
        Gives the start of links; asked for every message.

    Raises
    ------
    SettingsError
        A file of [alertmanager] cannot be read.
    """
    errors = Counter(
        "lumiwatch_alertmanager_errors_total",
        "Attempts to tell an Alertmanager that failed.",
        ["alertmanager"],
        registry=registry,
    )

    def build(now: Site) -> list[Sender]:
        settings = now.settings.alertmanager
        return [
            Sender(
                url,
                _client(now, settings),
                lambda at: current_alerts(engine, site, at, console_url=console_url),
                resend=timedelta(seconds=settings.resend_s),
                clock=clock,
                on_error=errors.labels(url).inc,
            )
            for url in settings.urls
        ]

    return Alertmanagers(site, build)


def _client(site: Site, settings: AlertmanagerSettings) -> httpx.Client:
    headers, auth = {}, None
    if settings.bearer_token_file is not None:
        token = read_secret(site.path(settings.bearer_token_file), "alertmanager.bearer_token_file")
        headers["Authorization"] = f"Bearer {token}"
    if settings.username is not None and settings.password_file is not None:
        password = read_secret(site.path(settings.password_file), "alertmanager.password_file")
        auth = httpx.BasicAuth(settings.username, password)
    return httpx.Client(
        headers=headers, auth=auth, verify=_trust(site, settings), timeout=settings.timeout_s, trust_env=False
    )


def _trust(site: Site, settings: AlertmanagerSettings) -> ssl.SSLContext | bool:
    if settings.ca_file is None:
        return True
    file = site.path(settings.ca_file)
    try:
        return ssl.create_default_context(cafile=str(file))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"{file}: holds no certificates ({error}); key alertmanager.ca_file of lumiwatch.toml names it"
        ) from error


def _alert(incident: IncidentRecord, site: Site, page: str) -> Alert:
    verdict = incident.latest_verdict or incident.opening_verdict
    fault = labels_of(incident).firmware_fault
    runbook = site.settings.alertmanager.runbook_url
    alert: Alert = {
        "labels": {
            "alertname": FIRMWARE_FAULT if fault else DRIFT,
            "severity": "critical" if fault else "warning",
            "site": site.name,
            "model": incident.model,
            "incident": incident.id,
        },
        "annotations": {
            "summary": str(verdict.get("story") or incident.opening_verdict.get("story") or incident.reason),
            "description": (
                f"{incident.model}, run {incident.run}, LS {incident.onset_lumisection}-"
                f"{incident.last_lumisection}: {incident.reason}"
            ),
            "console": page,
            **({"runbook_url": runbook} if runbook is not None else {}),
        },
        "startsAt": incident.opened_at,
        "generatorURL": page,
    }
    if incident.state == IncidentState.RESOLVED:
        alert["resolved"] = incident.resolved_at
        if incident.resolution is not None:
            alert["annotations"]["description"] = incident.resolution
    return alert


def _message(alert: Alert, now: datetime, resend: timedelta) -> Alert:
    """Write an alert as the API takes it: what fires is valid for some repetitions."""
    ends = alert.get("resolved") or now + INTERVALS_VALID * resend
    content = {name: value for name, value in alert.items() if name not in {"resolved", QUIET_UNTIL}}
    return {**content, "startsAt": alert["startsAt"].isoformat(), "endsAt": ends.isoformat()}
