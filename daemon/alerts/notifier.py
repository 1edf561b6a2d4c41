"""Follows what happens and puts it into the outbox: one thread per incident, the head edited in place.

Reads `daemon_events` with a cursor. What it has already told is in the notification log under the event's
number, so a restart repeats nothing and misses nothing.

Refuses to know how messages are worded and how they travel.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, func, select

from daemon import queries, views
from daemon.alerts import compose
from daemon.alerts.channels import Action
from daemon.alerts.message import RunConditions, approve_command
from daemon.alerts.outbox import Outbox
from daemon.alerts.pictures import Pictures
from daemon.errors import DaemonError
from daemon.records import NotificationRecord, ResponseState

_log = logging.getLogger(__name__)

GROUP_WAIT = timedelta(seconds=2)
"""How long an alarm waits for its proposal, so that one message says both."""

_HEAD_ONLY = frozenset({"incident.extended", "response.step"})


class Evidence(Protocol):
    """What the stream stored about the lumisections of a model."""

    def conditions(self, model: str, run: int, first: int, last: int) -> RunConditions | None:
        """Conditions of a range, from its last lumisection."""
        ...

    def means(
        self, model: str, run: int, lumisection: int, package: str, inputs: tuple[str, ...]
    ) -> Mapping[str, compose.Means]:
        """Means of inputs in the window and in the reference it was judged against."""
        ...


class Notifier:
    """Tells the control room what happens.

    Parameters
    ----------
    engine
        The site's database.
    outbox
        Where messages go.
    evidence
        Looks up conditions and means.
    pictures
        Draws the ratio plot of an alarm, or None for messages without pictures.
    site
        Name of the site.
    console_url
        Gives the start of links, without a trailing slash (the port is known late).
    clock
        Gives aware UTC.
    on_contained
        Called for every failure that was contained, to count it.
    """

    def __init__(
        self,
        engine: Engine,
        outbox: Outbox,
        evidence: Evidence,
        *,
        pictures: Pictures | None,
        site: str,
        console_url: Callable[[], str],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_contained: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_contained = on_contained
        self._engine = engine
        self._outbox = outbox
        self._evidence = evidence
        self._pictures = pictures
        self._site = site
        self._console_url = console_url
        self._clock = clock
        self._cursor: int | None = None

    def run(self, stop: threading.Event, interval_s: float = 0.5) -> None:
        """Follow events and deliver messages until told to stop; meant for a thread of its own.

        A failure is logged and tried again: the control room would rather hear late than never.
        """
        while not stop.is_set():
            try:
                self.tell()
                self._outbox.deliver_due(self._clock())
            except (DaemonError, SQLAlchemyError, OSError):
                self._on_contained()
                _log.exception("alerts: could not follow the events; trying again")
            stop.wait(interval_s)

    def tell(self) -> int:
        """Put every event since the last call into the outbox; returns how many were looked at."""
        if self._cursor is None:
            self._cursor = self._last_told()
        events = queries.events(self._engine, after=self._cursor)
        for event in events:
            if self._waits_for_proposal(event):
                break
            if event.incident_id is not None:
                try:
                    self._tell_event(event, event.incident_id)
                except (DaemonError, ValueError, KeyError, TypeError):
                    self._on_contained()
                    _log.exception(
                        "alerts: event %d (%s) cannot be told; going on", event.sequence, event.kind
                    )
            self._cursor = event.sequence
        return len(events)

    def _said_with_alarm(self, event: views.EventView) -> bool:
        """Tell whether the alarm already carried this proposal; the log knows, also after a restart."""
        if event.kind != "response.proposed" or event.response_id is None:
            return False
        alarm = self._outbox.text_of(f"{event.incident_id}:opened")
        return alarm is not None and f"Approve: {approve_command(event.response_id)}" in alarm.splitlines()

    def _waits_for_proposal(self, event: views.EventView) -> bool:
        if event.kind != "incident.opened" or event.incident_id is None:
            return False
        if self._clock() - event.at > GROUP_WAIT:
            return False
        answers = queries.responses(self._engine, incident_id=event.incident_id)
        return not answers or answers[0].state is ResponseState.PREPARING

    def _tell_event(self, event: views.EventView, incident_id: str) -> None:
        incident = queries.incident(self._engine, incident_id)
        response_id = event.response_id or (incident.responses[-1].id if incident.responses else None)
        response = queries.response(self._engine, response_id) if response_id is not None else None
        url = f"{self._console_url()}/incidents/{incident_id}"
        now = self._clock()
        opening = event.kind == "incident.opened"
        if not opening and event.kind not in _HEAD_ONLY and not self._said_with_alarm(event):
            message = compose.reply(incident, event, response, console_url=url)
            if message is not None:
                key = f"{incident_id}:event:{event.sequence}"
                self._outbox.submit(
                    message, key=key, action=Action.REPLY, now=now, event_sequence=event.sequence
                )
        verdict = incident.latest_verdict or incident.opening_verdict
        head = compose.head(
            incident,
            response,
            site=self._site,
            console_url=url,
            conditions=self._evidence.conditions(
                incident.model, incident.last_run, incident.first_lumisection, incident.last_lumisection
            ),
            means=self._means(verdict),
        )
        self._outbox.submit(
            head,
            key=f"{incident_id}:opened" if opening else f"{incident_id}:head:{event.sequence}",
            action=Action.POST if opening else Action.EDIT,
            now=now,
            event_sequence=event.sequence,
            image=self._pictures.draw(incident) if opening and self._pictures is not None else None,
        )

    def _means(self, verdict: Mapping[str, object]) -> Mapping[str, compose.Means]:
        worst = verdict.get("worst_inputs")
        names = tuple(str(shift["name"]) for shift in worst) if isinstance(worst, list) else ()
        if not names:
            return {}
        return self._evidence.means(
            str(verdict["model"]),
            int(str(verdict["run"])),
            int(str(verdict["lumisection"])),
            str(verdict["package"]),
            names,
        )

    def _last_told(self) -> int:
        with Session(self._engine) as session:
            last = session.exec(select(func.max(NotificationRecord.event_sequence))).one()
        # The last one may have been told by half; what is in the log already is not written again.
        return max((last or 0) - 1, 0)
