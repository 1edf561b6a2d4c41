"""Where messages can go: a Mattermost bot, an incoming webhook, or this terminal.

Every channel takes an envelope and answers with a receipt that holds the exact request as sent.
`choose_address` decides which channel a message may use: marked data (replay, simulation) goes to the
channel named for it and
never to the one the shift reads for live data.

Refuses to know the database and when to try again.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from daemon.alerts.mattermost import BotClient, WebhookClient
from daemon.alerts.message import Offer

MATTERMOST = "mattermost"
WEBHOOK = "mattermost-webhook"
LOG = "log"


class Action(StrEnum):
    """What a notification does in its thread."""

    POST = "post"
    REPLY = "reply"
    EDIT = "edit"


@dataclass(frozen=True)
class Address:
    """A channel and, for the bot, the id of the Mattermost channel."""

    channel: str
    channel_id: str | None = None


@dataclass(frozen=True)
class Addresses:
    """What the site's configuration offers.

    Parameters
    ----------
    bot
        Whether a bot account is configured.
    webhook
        Whether an incoming webhook is configured.
    channel_id, replay_channel_id
        Mattermost channels of the bot for live and for marked data; None where none is named.
    """

    bot: bool = False
    webhook: bool = False
    channel_id: str | None = None
    replay_channel_id: str | None = None


@dataclass(frozen=True)
class Envelope:
    """One notification, ready to go.

    Parameters
    ----------
    notification_id
        Unique; makes a repetition recognisable.
    action
        New thread, reply or edit.
    channel_id
        Mattermost channel, or None outside the bot.
    markdown, text
        The same message for the chat and for a terminal.
    root_id
        Post that heads the thread: required for replies and edits through the bot.
    image
        PNG file to attach, or None.
    incident_id
        The incident it tells of, or None.
    offers
        Answers to offer below the head of a thread; None where none belong, such as in a reply.
    """

    notification_id: str
    action: Action
    channel_id: str | None
    markdown: str
    text: str
    root_id: str | None = None
    image: Path | None = None
    incident_id: str | None = None
    offers: tuple[Offer, ...] | None = None


@dataclass(frozen=True)
class Receipt:
    """What was sent, and the post it became (bot only). Tickets of buttons are secrets and are left out."""

    request: dict[str, Any]
    post_id: str | None = None


class Channel(Protocol):
    """Takes one envelope to the outside, or raises a `DeliveryError`."""

    def deliver(self, envelope: Envelope) -> Receipt:
        """Send once."""
        ...


class Buttons(Protocol):
    """Draws answers as buttons of a post."""

    def props(self, incident_id: str, offers: Sequence[Offer]) -> dict[str, Any]:
        """Give the `props` of a post with these buttons; empty without any, which removes earlier ones."""
        ...


def choose_address(addresses: Addresses, *, marked: bool) -> Address:
    """Pick the channel of a message; without a fitting one it stays in the log.

    Parameters
    ----------
    addresses
        What is configured.
    marked
        True for replayed or simulated data.
    """
    channel_id = addresses.replay_channel_id if marked else addresses.channel_id
    if addresses.bot and channel_id:
        return Address(MATTERMOST, channel_id)
    if addresses.webhook and not marked:
        return Address(WEBHOOK)
    return Address(LOG)


def request_of(envelope: Envelope, channel: str, user_id: str | None = None) -> dict[str, Any]:
    """Compose the exact HTTP request of an envelope: method, path and body.

    Parameters
    ----------
    envelope
        What to say.
    channel
        Name of the channel; the log keeps the request a bot would send.
    user_id
        Bot account, for `pending_post_id`.
    """
    if channel == WEBHOOK:
        return {"method": "POST", "path": "(incoming webhook)", "body": {"text": envelope.markdown}}
    if envelope.action is Action.EDIT:
        path = f"/api/v4/posts/{envelope.root_id or '(head of the thread)'}/patch"
        return {"method": "PUT", "path": path, "body": {"message": envelope.markdown}}
    body: dict[str, Any] = {"channel_id": envelope.channel_id or "", "message": envelope.markdown}
    if envelope.action is Action.REPLY and envelope.root_id is not None:
        body["root_id"] = envelope.root_id
    if user_id is not None:
        body["pending_post_id"] = f"{user_id}:{envelope.notification_id}"
    return {"method": "POST", "path": "/api/v4/posts", "body": body}


class BotChannel:
    """One thread per incident, written and edited by a bot account.

    Parameters
    ----------
    client
        The bot.
    buttons
        Draws the answers below the head of a thread; None: heads have no buttons.
    """

    def __init__(self, client: BotClient, buttons: Buttons | None = None) -> None:
        self._client = client
        self._buttons = buttons

    def deliver(self, envelope: Envelope) -> Receipt:
        """Post, reply or edit; a picture is uploaded before its post."""
        if envelope.action is Action.EDIT and envelope.root_id is not None:
            request = request_of(envelope, MATTERMOST)
            body = request["body"] | self._props(envelope)
            return Receipt(_shown(request, body), self._client.patch_post(envelope.root_id, body))
        request = request_of(envelope, MATTERMOST, self._client.user_id())
        if envelope.image is not None and envelope.channel_id is not None and envelope.image.is_file():
            content = envelope.image.read_bytes()
            file_id = self._client.upload_png(envelope.channel_id, envelope.image.name, content)
            request["body"]["file_ids"] = [file_id]
        body = request["body"] | self._props(envelope)
        return Receipt(_shown(request, body), self._client.create_post(body))

    def _props(self, envelope: Envelope) -> dict[str, Any]:
        if self._buttons is None or envelope.offers is None or envelope.incident_id is None:
            return {}
        return {"props": self._buttons.props(envelope.incident_id, envelope.offers)}


def _shown(request: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Give the request as sent, without tickets: who reads the notification log must not act with them."""
    props = copy.deepcopy(body.get("props", {}))
    for attachment in props.get("attachments", ()):
        for action in attachment["actions"]:
            action["integration"]["context"] = "(signed, not kept)"
    return request | {"body": body | ({"props": props} if "props" in body else {})}


class WebhookChannel:
    """Says everything in the webhook's own channel: no threads, no edits, no pictures."""

    def __init__(self, client: WebhookClient) -> None:
        self._client = client

    def deliver(self, envelope: Envelope) -> Receipt:
        """Send; edits cannot be expressed and are left out."""
        request = request_of(envelope, WEBHOOK)
        if envelope.action is not Action.EDIT:
            self._client.send(request["body"])
        return Receipt(request)


class LogChannel:
    """Prints messages on the terminal: what happens when no chat is configured.

    Parameters
    ----------
    write
        Takes one block of text.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def deliver(self, envelope: Envelope) -> Receipt:
        """Print posts and replies; an edit only changes what the console shows."""
        if envelope.action is not Action.EDIT:
            self._write(envelope.text)
        return Receipt(request_of(envelope, LOG))
