"""Follows what happens and puts it into the outbox: one thread per incident, the head edited in place.

Reads `daemon_events` with a cursor that the database keeps. What it has told is in the notification log
under the event's number, so a restart repeats nothing and misses nothing. What happens under a silence is
kept back, and told as one message when the silence is over. docs/incidents.md says what is said when.

Refuses to know how messages are worded and how they travel.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from daemon.alerts import compose, notices, standing
from daemon.alerts.channels import Action
from daemon.alerts.heads import Heads
from daemon.alerts.message import AlertMessage, Stage, approve_command
from daemon.alerts.outbox import Outbox
from daemon.alerts.pictures import Pictures
from daemon.errors import DaemonError
from daemon.incidents.silences import begin_due
from daemon.incidents.silencing import Silence, keeping_quiet
from daemon.store import queries, views
from daemon.store.records import IncidentState, ResponseState

_log = logging.getLogger(__name__)

GROUP_WAIT = timedelta(seconds=2)
"""How long an alarm waits for its proposal, so that one message says both."""

_ALARMS = frozenset({"incident.opened", "incident.reopened"})
_ENDS = frozenset({"incident.resolved", "incident.recovered"})


class Notifier:
    """Tells the control room what happens.

    Parameters
    ----------
    engine
        The site's database.
    outbox
        Where messages go.
    heads
        Writes the heads of threads.
    pictures
        Draws the ratio plot of an alarm, or None for messages without pictures.
    repeat
        How long an open incident that nobody acknowledged may go without a word; zero: for ever.
    clock
        Gives aware UTC.
    on_contained
        Called for every failure that was contained, to count it.
    """

    def __init__(
        self,
        engine: Engine,
        outbox: Outbox,
        heads: Heads,
        *,
        pictures: Pictures | None,
        repeat: timedelta = timedelta(0),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_contained: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_contained = on_contained
        self._engine = engine
        self._outbox = outbox
        self._heads = heads
        self._pictures = pictures
        self._repeat = repeat
        self._clock = clock
        self._cursor: int | None = None

    def run(self, stop: threading.Event, interval_s: float = 0.5) -> None:
        """Follow events and deliver messages until told to stop; meant for a thread of its own.

        A failure is logged and tried again: the control room would rather hear late than never.
        """
        while not stop.is_set():
            try:
                begin_due(self._engine, self._clock())
                self.tell()
                self.remind()
                self._outbox.deliver_due(self._clock())
            except (DaemonError, SQLAlchemyError, OSError):
                self._on_contained()
                _log.exception("alerts: could not follow the events; trying again")
            stop.wait(interval_s)

    def tell(self) -> int:
        """Put every event since the last call into the outbox; returns how many were looked at."""
        if self._cursor is None:
            self._cursor = standing.cursor(self._engine)
        before = self._cursor
        events = queries.events(self._engine, after=before)
        try:
            for event in events:
                if self._waits_for_proposal(event):
                    break
                if event.incident_id is not None:
                    self._contained(event, event.incident_id)
                self._cursor = event.sequence
        finally:
            if self._cursor > before:
                standing.move_cursor(self._engine, self._cursor)
        return len(events)

    def remind(self) -> None:
        """Speak of incidents whose silence is over, and once more of those that nobody acknowledges."""
        due = standing.due(self._engine, self._clock(), self._repeat)
        for incident_id, since in due.speaking:
            self._speak_again(queries.incident(self._engine, incident_id), since, None)
        for incident_id, last in due.repeated:
            incident = queries.incident(self._engine, incident_id)
            message = notices.still_unresolved(incident, self._heads.write(incident))
            self._reply(message, key=f"{incident_id}:repeat:{last.timestamp():.0f}")

    def _contained(self, event: views.EventView, incident_id: str) -> None:
        """Tell one event; one that cannot be told is counted, and does not silence the others."""
        try:
            self._tell_event(event, queries.incident(self._engine, incident_id))
        except (DaemonError, ValueError, KeyError, TypeError):
            self._on_contained()
            _log.exception("alerts: event %d (%s) cannot be told; going on", event.sequence, event.kind)

    def _waits_for_proposal(self, event: views.EventView) -> bool:
        if event.kind not in _ALARMS or event.incident_id is None:
            return False
        if self._clock() - event.at > GROUP_WAIT:
            return False
        answers = queries.responses(self._engine, incident_id=event.incident_id)
        return not answers or answers[0].state is ResponseState.PREPARING

    def _tell_event(self, event: views.EventView, incident: views.IncidentDetail) -> None:
        if standing.told(self._engine, incident.id, event.sequence):
            return  # before a restart
        silence = self._silence(event, incident)
        said = standing.head_said(self._engine, incident.id)
        if silence is not None and not (said is not None and self._last_word(event, silence)):
            standing.fall_quiet(self._engine, incident.id, self._clock())
            return
        since = standing.quiet_since(self._engine, incident.id)
        if silence is None and since is not None:
            self._speak_again(incident, since, event.sequence)
            return
        head = notices.with_silence(self._heads.write(incident), silence)
        resolved = incident.state is IncidentState.RESOLVED
        if event.kind == "incident.opened" or (said is None and not resolved):
            self._begin(incident, notices.alarm_and_end(incident, head) if resolved else head, event.sequence)
        elif said is None:
            pass  # it came and went under a silence: nobody misses its end
        elif event.kind in _ENDS and said.waiting:
            standing.drop_waiting(self._engine, incident.id)
            self._begin(incident, notices.alarm_and_end(incident, head), event.sequence)
        else:
            self._follow(event, incident, head, said)
        if silence is not None:
            standing.fall_quiet(self._engine, incident.id, self._clock())

    def _silence(self, event: views.EventView, incident: views.IncidentDetail) -> Silence | None:
        """Find a silence that keeps an incident quiet now, or did when this happened."""
        now = self._clock()
        known = standing.silences_since(self._engine, min(event.at, now))
        if not known:
            return None
        labels = standing.labels(incident)
        found = keeping_quiet(known, labels, now) or keeping_quiet(known, labels, event.at)
        return found[0] if found else None

    def _last_word(self, event: views.EventView, silence: Silence) -> bool:
        """Tell whether an event is the last word before a silence: who asked for it, why, until when."""
        begins = event.kind == "incident.silenced" and not event.detail.get("quiet_before")
        return begins and silence.active(self._clock())

    def _follow(
        self,
        event: views.EventView,
        incident: views.IncidentDetail,
        head: AlertMessage,
        said: standing.Said,
    ) -> None:
        """Reply to what the thread knows already, and bring its head up to date."""
        message = notices.notice_of(incident, event, head)
        if message is None and not self._said_before(event, incident, said):
            message = compose.reply(
                incident, event, self._response(event, incident), console_url=self._heads.url(incident.id)
            )
        if message is not None:
            self._reply(message, key=_key(event, incident), event_sequence=event.sequence)
        self._outbox.submit(
            head,
            key=f"{incident.id}:head:{event.sequence}",
            action=Action.EDIT,
            now=self._clock(),
            event_sequence=event.sequence,
        )

    def _response(
        self, event: views.EventView, incident: views.IncidentDetail
    ) -> views.ResponseDetail | None:
        latest = incident.responses[-1].id if incident.responses else None
        response_id = event.response_id or latest
        return queries.response(self._engine, response_id) if response_id is not None else None

    def _said_before(
        self, event: views.EventView, incident: views.IncidentDetail, said: standing.Said
    ) -> bool:
        """Tell whether an alarm's own message carried this already; the log knows, also after a restart."""
        if event.kind in _ENDS:
            return incident.reopened == 0 and Stage.RESOLVED.upper() in said.text.split("\n", 1)[0].split(
                " | "
            )
        if event.kind != "response.proposed" or event.response_id is None:
            return False
        reopened = self._outbox.text_of(f"{incident.id}:reopened:{incident.reopened}") or ""
        offer = f"Approve: {approve_command(event.response_id)}"
        return offer in said.text.splitlines() or offer in reopened.splitlines()

    def _speak_again(
        self, incident: views.IncidentDetail, since: datetime, event_sequence: int | None
    ) -> None:
        """Tell how an incident stands after a silence, if that is news to anybody."""
        said = standing.head_said(self._engine, incident.id)
        head = self._heads.write(incident)
        key = f"{since.timestamp():.0f}"
        if said is not None:
            if incident.state is not IncidentState.RESOLVED:
                self._reply(notices.silence_over(head), key=f"{incident.id}:speaks:{key}")
            self._outbox.submit(
                head,
                key=f"{incident.id}:head:speaks:{key}",
                action=Action.EDIT,
                now=self._clock(),
                event_sequence=event_sequence,
            )
        elif incident.state is not IncidentState.RESOLVED:
            self._begin(incident, head, event_sequence)
        standing.speak_again(self._engine, incident.id)

    def _begin(self, incident: views.IncidentDetail, head: AlertMessage, event_sequence: int | None) -> None:
        self._outbox.submit(
            head,
            key=f"{incident.id}:opened",
            action=Action.POST,
            now=self._clock(),
            event_sequence=event_sequence,
            image=self._pictures.draw(incident) if self._pictures is not None else None,
        )

    def _reply(self, message: AlertMessage, *, key: str, event_sequence: int | None = None) -> None:
        self._outbox.submit(
            message, key=key, action=Action.REPLY, now=self._clock(), event_sequence=event_sequence
        )


def _key(event: views.EventView, incident: views.IncidentDetail) -> str:
    if event.kind == "incident.reopened":
        return f"{incident.id}:reopened:{event.detail.get('reopened')}"
    return f"{incident.id}:event:{event.sequence}"
