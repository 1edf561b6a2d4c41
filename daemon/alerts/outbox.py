"""The notification log, and the delivery of what it holds: each message once and in order.

A message is written to the log before anything is sent, under a key that makes it the same message after a
restart. Messages of one incident leave in the order in which they were written; one that cannot leave yet
holds back those behind it, and no other incident's.

Refuses to know what a message says and how a channel works.
"""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.alerts.channels import (
    LOG,
    MATTERMOST,
    WEBHOOK,
    Action,
    Addresses,
    Channel,
    Envelope,
    choose_address,
    request_of,
)
from daemon.alerts.mattermost import DeliveryDelayed, DeliveryError, DeliveryRefused
from daemon.alerts.message import AlertMessage, Offer
from daemon.alerts.rendering import render_markdown, render_text
from daemon.store.database import transaction
from daemon.store.records import NotificationRecord, NotificationState

_log = logging.getLogger(__name__)

FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 300.0
_LOST_ROOT = "root_id"


def backoff_s(attempts: int, retry_after_s: float | None = None) -> float:
    """Seconds to wait after `attempts` failures: 2, 4, 8 ... 300, never less than the server asked for."""
    doubled = FIRST_RETRY_S * 2.0 ** min(max(attempts, 1) - 1, 16)
    return max(min(doubled, LONGEST_RETRY_S), retry_after_s or 0.0)


class Outbox:
    """The notification log of one site.

    Parameters
    ----------
    engine
        The site's database.
    addresses
        Which channels are configured.
    channels
        The channels themselves by name; `log` is always needed.
    """

    def __init__(self, engine: Engine, addresses: Addresses, channels: Mapping[str, Channel]) -> None:
        if LOG not in channels:
            raise ValueError("an outbox needs the channel 'log': it is where messages without a server go")
        self._engine = engine
        self._addresses = addresses
        self._channels = dict(channels)

    def submit(
        self,
        message: AlertMessage,
        *,
        key: str,
        action: Action,
        now: datetime,
        event_sequence: int | None = None,
        image: Path | None = None,
    ) -> bool:
        """Write a message to the log; nothing is sent yet.

        Parameters
        ----------
        message
            What to say.
        key
            What makes it the same message, such as ``anomaly-3:opened``.
        action
            Head of a thread, reply, or new content of the head.
        now
            Aware UTC.
        event_sequence
            The event that caused it.
        image
            PNG file to attach.

        Returns
        -------
        bool
            False when a message with this key is already in the log.
        """
        address = choose_address(self._addresses, marked=bool(message.marks))
        if address.channel == WEBHOOK and action is Action.EDIT:
            return False
        record = NotificationRecord(
            key=key,
            incident_id=message.incident_id,
            event_sequence=event_sequence,
            channel=address.channel,
            action=action.value,
            payload={},
            created_at=now,
        )
        envelope = Envelope(
            record.id, action, address.channel_id, render_markdown(message), render_text(message), image=image
        )
        record.payload = {
            **request_of(envelope, address.channel),
            "channel_id": address.channel_id,
            "text": envelope.text,
            "image": str(image) if image else None,
        }
        if action is not Action.REPLY:
            record.payload["offers"] = [offer.model_dump(mode="json") for offer in message.offers]
        with transaction(self._engine) as session:
            if (
                session.exec(select(NotificationRecord.id).where(NotificationRecord.key == key)).first()
                is not None
            ):
                return False
            session.add(record)
        return True

    def text_of(self, key: str) -> str | None:
        """Give the text of the message with this key, delivered or not; None when there is none."""
        with Session(self._engine) as session:
            payload = session.exec(
                select(NotificationRecord.payload).where(NotificationRecord.key == key)
            ).first()
        return None if payload is None else str(payload.get("text", ""))

    def deliver_due(self, now: datetime) -> int:
        """Send everything that is due, oldest first.

        Parameters
        ----------
        now
            Aware UTC; decides which repetitions are due.

        Returns
        -------
        int
            Number of messages that left.
        """
        with Session(self._engine) as session:
            pending = session.exec(
                select(NotificationRecord)
                .where(NotificationRecord.state == NotificationState.PENDING)
                .order_by(
                    col(NotificationRecord.created_at),
                    col(NotificationRecord.event_sequence),
                    col(NotificationRecord.id),
                )
            ).all()
        held: set[str | None] = set()
        delivered = 0
        for record in pending:
            if record.incident_id in held:
                continue
            waits = record.next_attempt_at is not None and record.next_attempt_at > now
            if waits or not self._deliver(record, now):
                held.add(record.incident_id)
            else:
                delivered += 1
        return delivered

    def _deliver(self, record: NotificationRecord, now: datetime) -> bool:
        """Send one; True when it left or was refused for good, False when it has to wait."""
        envelope = self._envelope(record)
        try:
            channel = self._channels[record.channel]
        except KeyError:
            self._postpone(
                record, f"channel {record.channel!r} is not configured: restore [mattermost]", now, None
            )
            return False
        try:
            receipt = channel.deliver(envelope)
        except DeliveryRefused as error:
            if envelope.root_id is not None and _LOST_ROOT in error.reason_id:
                return self._start_anew(record, now)
            self._update(
                record.id, state=NotificationState.FAILED, attempts=record.attempts + 1, last_error=str(error)
            )
            _log.error("notification %s was refused: %s", record.key, error)
            return True
        except DeliveryError as error:
            wait_s = error.retry_after_s if isinstance(error, DeliveryDelayed) else LONGEST_RETRY_S
            self._postpone(record, str(error), now, wait_s)
            return False
        self._update(
            record.id,
            state=NotificationState.DELIVERED,
            attempts=record.attempts + 1,
            delivered_at=now,
            next_attempt_at=None,
            post_id=receipt.post_id,
            root_id=envelope.root_id,
            last_error=None,
            payload={**record.payload, **receipt.request},
        )
        return True

    def _envelope(self, record: NotificationRecord) -> Envelope:
        payload = record.payload
        markdown = payload["body"].get("message") or payload["body"].get("text", "")
        root_id = self._head(record.incident_id) if record.action != Action.POST else None
        image = Path(payload["image"]) if payload.get("image") else None
        action = Action(record.action)
        if action is Action.EDIT and root_id is None and record.channel == MATTERMOST:
            action = Action.POST
        offers = payload.get("offers")
        return Envelope(
            record.id,
            action,
            payload.get("channel_id"),
            markdown,
            payload.get("text", ""),
            root_id,
            image,
            record.incident_id,
            None if offers is None else tuple(Offer.model_validate(offer) for offer in offers),
        )

    def _head(self, incident_id: str | None) -> str | None:
        """Post id of the newest message that heads the incident's thread."""
        with Session(self._engine) as session:
            return session.exec(
                select(NotificationRecord.post_id)
                .where(
                    NotificationRecord.incident_id == incident_id,
                    NotificationRecord.state == NotificationState.DELIVERED,
                    col(NotificationRecord.post_id).is_not(None),
                    col(NotificationRecord.root_id).is_(None),
                )
                .order_by(
                    col(NotificationRecord.delivered_at).desc(), col(NotificationRecord.created_at).desc()
                )
            ).first()

    def _start_anew(self, record: NotificationRecord, now: datetime) -> bool:
        """Somebody deleted the head of the thread: this message becomes a new head."""
        self._update(record.id, action=Action.POST.value)
        with Session(self._engine) as session:
            fresh = session.get(NotificationRecord, record.id)
        return fresh is not None and self._deliver(fresh, now)

    def _postpone(self, record: NotificationRecord, reason: str, now: datetime, wait_s: float | None) -> None:
        attempts = record.attempts + 1
        next_attempt_at = now + timedelta(seconds=backoff_s(attempts, wait_s))
        self._update(record.id, attempts=attempts, next_attempt_at=next_attempt_at, last_error=reason)
        _log.warning(
            "notification %s has to wait until %s: %s", record.key, next_attempt_at.isoformat(), reason
        )

    def _update(self, notification_id: str, **values: object) -> None:
        with transaction(self._engine) as session:
            record = session.get(NotificationRecord, notification_id)
            if record is None:
                return
            record.sqlmodel_update(values)
            session.add(record)
