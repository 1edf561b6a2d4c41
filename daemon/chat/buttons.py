"""The buttons below the head of an incident's thread, each with a ticket of its own.

Tickets are made when a post leaves, not when it is written: one that waited through an outage of the chat has
fresh ones. Refuses to know which answers make sense (`alerts.compose`) and what they do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from daemon.alerts.message import Answer, Offer
from daemon.chat.signing import Signer, new_ticket

ACTIONS_PATH: Final = "/chat/mattermost/actions"

_LOOKS: Final = {
    Answer.ACKNOWLEDGE: ("Acknowledge", "default"),
    Answer.APPROVE: ("Approve...", "success"),
    Answer.REJECT: ("Reject", "default"),
    Answer.PRESCALE_OUT: ("Prescale out", "danger"),
    Answer.SILENCE: ("Silence 1 h", "default"),
}


class TicketButtons:
    """Draws answers as buttons of a Mattermost post.

    Parameters
    ----------
    signer
        Signs the tickets.
    callback_url
        Where the Mattermost server reaches this daemon, without a trailing slash.
    life
        How long a button works.
    clock
        Gives aware UTC.
    """

    def __init__(
        self, signer: Signer, callback_url: str, life: timedelta, clock: Callable[[], datetime]
    ) -> None:
        self._signer = signer
        self._url = callback_url + ACTIONS_PATH
        self._life = life
        self._clock = clock

    def props(self, incident_id: str, offers: Sequence[Offer]) -> dict[str, Any]:
        """Give the `props` of a post with these buttons; empty without any, which removes earlier ones.

        Source: Mattermost, interactive messages (attachments, actions).
        """
        if not offers:
            return {}
        names = ", ".join(_LOOKS[offer.answer][0] for offer in offers)
        actions = [self._action(incident_id, offer) for offer in offers]
        return {"attachments": [{"fallback": f"Answers: {names}", "actions": actions}]}

    def _action(self, incident_id: str, offer: Offer) -> dict[str, Any]:
        name, style = _LOOKS[offer.answer]
        ticket = new_ticket(
            offer.answer.value,
            incident_id,
            response_id=offer.response_id,
            stage=offer.stage,
            now=self._clock(),
            life=self._life,
        )
        return {
            "id": offer.answer.value.replace("_", ""),  # Mattermost takes letters and digits only
            "type": "button",
            "name": name,
            "style": style,
            "integration": {"url": self._url, "context": self._signer.context(ticket)},
        }
