"""Builds what takes answers from the chat, and turns what comes of them into what Mattermost reads.

What is refused is told to the person, counted and logged, without the ticket. Refuses to know routes.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from sqlalchemy.engine import Engine

from daemon.access.secret_files import read_or_make_secret, read_private_secret
from daemon.alerts.rendering import escape
from daemon.alerts.service import Alerts
from daemon.chat.buttons import TicketButtons
from daemon.chat.commands import Commands
from daemon.chat.desk import Desk, Silencer
from daemon.chat.forms import FieldErrors
from daemon.chat.people import ChatPeople, shown
from daemon.chat.refusal import Reason, Refused, refusal_of
from daemon.chat.requests import Press, Submission
from daemon.chat.signing import Signer
from daemon.errors import DaemonError
from daemon.operations import Access, Operations
from daemon.site.settings import Site

logger = logging.getLogger(__name__)


class Chat:
    """What a site takes from its chat.

    Parameters
    ----------
    registry
        Where refusals are counted.
    desk
        Takes presses and forms; None: this site has no buttons.
    commands, command_token
        Run the slash command, and what proves it; None: this site has none.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        desk: Desk | None = None,
        commands: Commands | None = None,
        command_token: str | None = None,
    ) -> None:
        self._desk = desk
        self._commands = commands
        self._token = command_token
        self._refused = Counter(
            "lumiwatch_chat_refused_total",
            "What came from the chat and was not done.",
            ["reason"],
            registry=registry,
        )
        for reason in Reason:
            self._refused.labels(reason.value)

    def press(self, press: Press) -> dict[str, Any]:
        """Answer a pressed button: a text for the person alone, and the post as it is now."""
        try:
            done = _there(self._desk).press(press)
        except DaemonError as error:
            return _to_person(self._told(error, press.user_id))
        answer = _to_person(done.text) if done.text else {}
        return answer if done.update is None else answer | {"update": dict(done.update)}

    def submit(self, form: Submission) -> dict[str, Any]:
        """Answer a filled-in form: nothing when it was taken, else what is wrong with it."""
        if form.cancelled:
            return {}
        try:
            _there(self._desk).submit(form)
        except FieldErrors as error:
            self.count(Reason.INVALID, "a form with unusable fields")
            return {"errors": error.errors}
        except DaemonError as error:
            return {"error": self._told(error, form.user_id)}
        return {}

    def command(self, authorization: str, form: Mapping[str, str]) -> dict[str, Any] | None:
        """Answer a slash command, for the person alone; None when the token is not ours.

        Parameters
        ----------
        authorization
            The header; Mattermost sends ``Token <token>``.
        form
            With `token`, `user_id` and `text`.
        """
        if self._commands is None or not self._proven(authorization, form.get("token", "")):
            self.count(Reason.TOKEN, "a command without the token of this site")
            return None
        user_id = form.get("user_id", "")
        try:
            text = self._commands.run(user_id, form.get("text", ""))
        except DaemonError as error:
            text = self._told(error, user_id)
        return {"response_type": "ephemeral", "text": text, "skip_slack_parsing": True}

    def count(self, reason: Reason, words: str) -> None:
        """Count and log what was refused; `words` hold nothing secret and nothing from outside."""
        self._refused.labels(reason.value).inc()
        logger.warning("chat: refused (%s): %s", reason.value, words)

    def _proven(self, authorization: str, token: str) -> bool:
        known = f"Token {self._token}".encode()
        by_header = hmac.compare_digest(authorization.encode(errors="replace"), known)
        by_form = hmac.compare_digest(f"Token {token}".encode(errors="replace"), known)
        return by_header and by_form

    def _told(self, error: DaemonError, user_id: str) -> str:
        refusal = refusal_of(error)
        self.count(refusal.reason, f"user {shown(user_id)}")
        return str(error) if isinstance(error, Refused) else escape(str(error))


def build_buttons(site: Site, clock: Callable[[], datetime]) -> TicketButtons | None:
    """Build the buttons of a site; None, and the log says why, where they could not work.

    Raises
    ------
    SettingsError
        The key that signs tickets cannot be read or made.
    """
    chat = site.settings.mattermost
    if chat.url is None:
        return None
    url = callback_url(site)
    if url is None:
        logger.info("chat: no buttons: set mattermost.callback_url (or console.public_url)")
        return None
    if not any(operator.mattermost_user_id for operator in site.settings.operators.values()):
        logger.info("chat: no buttons: no [operators.<name>] has a mattermost_user_id")
        return None
    return TicketButtons(_signer(site), url, timedelta(hours=chat.button_hours), clock)


def build_chat(
    engine: Engine,
    site: Site,
    *,
    operations: Operations,
    silencer: Silencer,
    access: Access,
    alerts: Alerts,
    buttons: TicketButtons | None,
    registry: CollectorRegistry,
    clock: Callable[[], datetime],
) -> Chat | None:
    """Build what takes answers from the chat; None where the site offers neither buttons nor the command.

    Raises
    ------
    SettingsError
        A secret of [mattermost] cannot be read, or the key that signs tickets cannot be made.
    """
    people = ChatPeople(site.settings.operators, access)
    url = callback_url(site)
    desk = commands = token = None
    if buttons is not None and alerts.bot is not None and url is not None:
        desk = Desk(
            engine,
            people,
            operations,
            silencer,
            signer=_signer(site),
            buttons=buttons,
            heads=alerts.heads,
            outbox=alerts.outbox,
            forms=alerts.bot,
            callback_url=url,
            clock=clock,
        )
    token_file = site.settings.mattermost.command_token_file
    if token_file is not None:
        token = read_private_secret(site.path(token_file), key="mattermost.command_token_file")
        commands = Commands(engine, site, people, operations, silencer, clock)
    if desk is None and commands is None:
        return None
    return Chat(registry, desk=desk, commands=commands, command_token=token)


def callback_url(site: Site) -> str | None:
    """Give where the Mattermost server reaches this daemon, without a trailing slash; None: not known."""
    url = site.settings.mattermost.callback_url or site.settings.console.public_url
    return url.rstrip("/") if url else None


def _signer(site: Site) -> Signer:
    return Signer(bytes.fromhex(read_or_make_secret(site.secrets_dir / "chat-key")))


def _to_person(text: str) -> dict[str, Any]:
    return {"ephemeral_text": text, "skip_slack_parsing": True}


def _there(desk: Desk | None) -> Desk:
    if desk is None:
        raise Refused(Reason.FORGED, "This lumiwatch has no buttons: nothing was done.")
    return desk
