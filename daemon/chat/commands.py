"""The slash command: `/lumiwatch status`, `ack`, `approve`, `reject`, `silence`, `retrain`, `help`.

One line of text and a chat user come in, Markdown for that person comes out. Refuses to know HTTP and tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.engine import Engine

from daemon.access.roles import Act
from daemon.alerts.rendering import bounded, escape, markdown_table
from daemon.chat.desk import Silencer
from daemon.chat.forms import LONGEST_COMMENT
from daemon.chat.people import ChatPeople
from daemon.chat.refusal import Reason, Refused
from daemon.operations import Operations
from daemon.site.settings import Site
from daemon.store import queries, views

HELP: Final = """\
| command | |
|---|---|
| `/lumiwatch status [MODEL]` | how the monitored models are |
| `/lumiwatch ack INCIDENT [comment]` | you look after it |
| `/lumiwatch approve RESPONSE [strategy]` | approve a proposal |
| `/lumiwatch reject RESPONSE [comment]` | leave the firmware as it is |
| `/lumiwatch silence MODEL DURATION REASON` | keep a model quiet, for `30m`, `2h` or `1d` |
| `/lumiwatch retrain MODEL REASON` | ask for a retraining without an alarm |"""

_STATUS_HEADINGS: Final = ("model", "state", "run", "LS", "accept rate", "incident", "response")
_DURATION: Final = re.compile(r"([1-9][0-9]{0,3})(m|h|d)")
_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


class Commands:
    """Runs the slash command.

    Parameters
    ----------
    engine, site
        Database and models.
    people
        Who acts.
    operations, silencer
        What is done.
    clock
        Gives aware UTC.
    """

    def __init__(
        self,
        engine: Engine,
        site: Site,
        people: ChatPeople,
        operations: Operations,
        silencer: Silencer,
        clock: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._site = site
        self._people = people
        self._operations = operations
        self._silencer = silencer
        self._clock = clock
        self._words: dict[str, tuple[Act, Callable[[str, str], str]]] = {
            "status": (Act.READ, self._status),
            "ack": (Act.ACKNOWLEDGE, self._acknowledge),
            "approve": (Act.DECIDE, self._approve),
            "reject": (Act.DECIDE, self._reject),
            "silence": (Act.SILENCE, self._silence),
            "retrain": (Act.RETRAIN, self._retrain),
        }

    def run(self, user_id: str, text: str) -> str:
        """Do what was typed and say what came of it, as Markdown; words that are not known get the help.

        Raises
        ------
        DaemonError
            Nothing was done; mostly `Refused`, or what `Operations` raises.
        """
        word, _, rest = text.strip().partition(" ")
        act, command = self._words.get(word.lower(), (Act.READ, self._help))
        operator = self._people.operator(user_id, act)
        if len(rest) > LONGEST_COMMENT:
            raise Refused(Reason.INVALID, f"At most {LONGEST_COMMENT} characters: nothing was done.")
        return bounded(command(operator, rest.strip()))

    def _help(self, _operator: str, _rest: str) -> str:
        return HELP

    def _status(self, _operator: str, rest: str) -> str:
        if rest:
            statuses = [queries.model_status(self._engine, self._site, rest)]
        else:
            statuses = queries.model_statuses(self._engine, self._site)
        return "\n".join(markdown_table(_STATUS_HEADINGS, [_row(status) for status in statuses]))

    def _acknowledge(self, operator: str, rest: str) -> str:
        incident, comment = _split(rest, "ack INCIDENT [comment]")
        self._operations.acknowledge(incident, operator=operator, comment=comment)
        return f"You acknowledged {escape(incident)}."

    def _approve(self, operator: str, rest: str) -> str:
        response, strategy = _split(rest, "approve RESPONSE [strategy]")
        self._operations.approve(response, operator=operator, strategy=strategy or None, via="chat")
        return f"You approved {escape(response)}."

    def _reject(self, operator: str, rest: str) -> str:
        response, comment = _split(rest, "reject RESPONSE [comment]")
        self._operations.reject(response, operator=operator, comment=comment, via="chat")
        return f"You rejected {escape(response)}: the firmware stays as it is."

    def _silence(self, operator: str, rest: str) -> str:
        usage = "silence MODEL DURATION REASON"
        model, more = _split(rest, usage)
        duration, reason = _split(more, usage)
        lasts = _DURATION.fullmatch(duration)
        if lasts is None or not reason:
            raise _usage(usage)
        ends = self._clock() + int(lasts[1]) * _UNITS[lasts[2]]
        silence = self._silencer.create(author=operator, reason=reason, ends_at=ends, model=model)
        return f"You silenced {escape(model)} until {ends:%Y-%m-%d %H:%M} UTC ({escape(silence)})."

    def _retrain(self, operator: str, rest: str) -> str:
        usage = "retrain MODEL REASON"
        model, reason = _split(rest, usage)
        if not reason:
            raise _usage(usage)
        response = self._operations.request_retrain(model, operator=operator, reason=reason, via="chat")
        return f"{escape(response)} is being prepared: its proposal comes into the channel."


def _row(status: views.ModelStatus) -> tuple[str, ...]:
    verdict, incident, response = status.verdict, status.incident, status.response
    return (
        status.model,
        "not judged yet" if verdict is None else verdict.state.value,
        "" if verdict is None else str(verdict.run),
        "" if verdict is None else str(verdict.lumisection),
        f"{100 * verdict.accept_rate:.3g} %" if verdict is not None and status.has_firmware else "",
        "" if incident is None else f"{incident.id} ({incident.state})",
        "" if response is None else f"{response.id} ({response.state})",
    )


def _split(rest: str, usage: str) -> tuple[str, str]:
    """Take the first word of what was typed."""
    first, _, more = rest.partition(" ")
    if not first:
        raise _usage(usage)
    return first, more.strip()


def _usage(usage: str) -> Refused:
    return Refused(Reason.INVALID, f"Write `/lumiwatch {usage}`. Nothing was done.")
