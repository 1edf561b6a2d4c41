"""Tickets: what one button or dialog of the chat may do, to which proposal, for whom and until when.

A ticket travels to the Mattermost server and comes back with a press. That request proves nothing about its
sender, so the ticket carries an HMAC-SHA256 over all of its fields; nobody without the key can make one or
change one. That it is used once is kept elsewhere (`records`).

Refuses to know the chat's protocol, the database, and what an act does.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from datetime import datetime, timedelta
from typing import Final

from daemon.alerts.rendering import escape
from daemon.chat.refusal import Reason, Refused

_SIGNATURE: Final = "signature"
_NONCE_BYTES: Final = 16


@dataclass(frozen=True)
class Ticket:
    """One permission, as text throughout: the chat's server keeps text as it is.

    Parameters
    ----------
    act
        What it is for.
    incident_id
        The incident it belongs to.
    response_id
        The proposal it is bound to; empty for acts on the incident itself.
    stage
        What the proposal asked then: an answer to one question is none to the next.
    person
        Chat user it was made for; empty: whoever presses.
    expires_at
        Seconds since 1970, as digits; from then on it is worthless.
    nonce
        Random; makes its use recognisable.
    """

    act: str
    incident_id: str
    response_id: str
    stage: str
    person: str
    expires_at: str
    nonce: str


def new_ticket(
    act: str,
    incident_id: str,
    *,
    now: datetime,
    life: timedelta,
    response_id: str = "",
    stage: str = "",
    person: str = "",
) -> Ticket:
    """Make a ticket with a nonce of its own that ends `life` after `now` (aware UTC)."""
    ends = str(int((now + life).timestamp()))
    return Ticket(act, incident_id, response_id, stage, person, ends, secrets.token_hex(_NONCE_BYTES))


class Expired(Refused):
    """A ticket that was good once.

    Attributes
    ----------
    ticket
        As it was signed.
    """

    def __init__(self, ticket: Ticket) -> None:
        super().__init__(
            Reason.EXPIRED,
            f"This of {escape(ticket.incident_id)} has expired and did nothing: press the button again in a "
            "moment, or use `/lumiwatch`.",
        )
        self.ticket = ticket


class Signer:
    """Signs tickets and recognises its own.

    Parameters
    ----------
    key
        Secret of this site.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def context(self, ticket: Ticket) -> dict[str, str]:
        """Give what a button carries: the fields of the ticket and the signature."""
        named = dict(zip(_FIELDS, astuple(ticket), strict=True))
        return {**named, _SIGNATURE: self._sign(ticket)}

    def state(self, ticket: Ticket) -> str:
        """Give what a dialog carries: the same as one text."""
        return json.dumps(self.context(ticket))

    def open(self, context: Mapping[str, object], *, now: datetime) -> Ticket:
        """Read what came back with a press.

        Raises
        ------
        Refused
            Not made here, or changed (`forged`); no longer valid (`expired`).
        """
        values = [context.get(name) for name in (*_FIELDS, _SIGNATURE)]
        texts = [value for value in values if isinstance(value, str)]
        if len(texts) != len(values):
            raise _forged()
        *named, signature = texts
        ticket = Ticket(*named)
        if not hmac.compare_digest(signature.encode(errors="replace"), self._sign(ticket).encode()):
            raise _forged()
        if int(ticket.expires_at) <= now.timestamp():  # signed here: it is digits
            raise Expired(ticket)
        return ticket

    def open_state(self, state: str, *, now: datetime) -> Ticket:
        """Read what came back with a dialog; raises as `open` does."""
        try:
            content = json.loads(state)
        except (ValueError, RecursionError):
            raise _forged() from None
        if not isinstance(content, dict):
            raise _forged()
        return self.open(content, now=now)

    def _sign(self, ticket: Ticket) -> str:
        content = json.dumps(astuple(ticket))  # quoted and separated: no two tickets read the same
        return hmac.new(self._key, content.encode(), hashlib.sha256).hexdigest()


_FIELDS: Final = tuple(field.name for field in fields(Ticket))


def _forged() -> Refused:
    return Refused(Reason.FORGED, "This did not come from a button of this lumiwatch: nothing was done.")
