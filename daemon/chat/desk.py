"""Where presses and filled-in forms are checked, one after the other, and then done with a person's name.

The order is: signed here, not expired, a listed person with the right, the post it was made for, not used
before, and still what the incident asks. Only then does `operations` decide, as it does for every other path.

Refuses to know HTTP; what is refused is raised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from sqlalchemy.engine import Engine

from daemon.access.roles import Act
from daemon.alerts.channels import Action, Buttons
from daemon.alerts.mattermost import DeliveryError
from daemon.alerts.message import AlertMessage, Answer
from daemon.alerts.outbox import Outbox
from daemon.alerts.rendering import escape, render_markdown
from daemon.chat.forms import FORMS_PATH, approval_form, read_approval
from daemon.chat.people import ChatPeople
from daemon.chat.posts import Head, heads_of
from daemon.chat.records import give_back, spend
from daemon.chat.refusal import Reason, Refused
from daemon.chat.requests import Press, Submission
from daemon.chat.signing import Expired, Signer, Ticket, new_ticket
from daemon.errors import DaemonError
from daemon.operations import Operations
from daemon.responses.policy import Proposal, check_may_decide
from daemon.store import queries, views
from daemon.store.records import DecisionStage, IncidentState
from streams.judging.verdict import INTEGRITY

_log = logging.getLogger(__name__)

SILENCE: Final = timedelta(hours=1)
"""How long the button keeps a model quiet."""
FORM_LIFE: Final = timedelta(hours=1)
"""How long a form may stay open."""

_FORM: Final = "approval form"
_RIGHTS: Final = {
    Answer.ACKNOWLEDGE: Act.ACKNOWLEDGE,
    Answer.APPROVE: Act.DECIDE,
    Answer.REJECT: Act.DECIDE,
    Answer.PRESCALE_OUT: Act.DECIDE,
    Answer.SILENCE: Act.SILENCE,
}


@dataclass(frozen=True)
class Done:
    """What to tell the person, and what the post becomes; each may be empty."""

    text: str = ""
    update: Mapping[str, Any] | None = None


class Silencer(Protocol):
    """Keeps incidents quiet."""

    def create(self, *, author: str, reason: str, ends_at: datetime, model: str | None = None) -> str:
        """Begin a silence; returns its id."""
        ...


class HeadWriter(Protocol):
    """Writes the head of an incident's thread as of now."""

    def write(self, incident: views.IncidentDetail) -> AlertMessage:
        """Write it."""
        ...


class FormOpener(Protocol):
    """Opens forms for people who have just pressed something."""

    def open_dialog(self, trigger_id: str, url: str, dialog: Mapping[str, Any]) -> None:
        """Open one, or raise a `DeliveryError`."""
        ...


class Desk:
    """Takes answers from the chat.

    Parameters
    ----------
    engine
        The site's database.
    people
        Who acts.
    operations, silencer
        What is done.
    signer
        Recognises tickets.
    buttons, heads, outbox
        Write the post that a press changes, and edit it.
    forms, callback_url
        Open forms, and where they are sent back.
    clock
        Gives aware UTC.
    """

    def __init__(
        self,
        engine: Engine,
        people: ChatPeople,
        operations: Operations,
        silencer: Silencer,
        *,
        signer: Signer,
        buttons: Buttons,
        heads: HeadWriter,
        outbox: Outbox,
        forms: FormOpener,
        callback_url: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._people = people
        self._operations = operations
        self._silencer = silencer
        self._signer = signer
        self._buttons = buttons
        self._heads = heads
        self._outbox = outbox
        self._forms = forms
        self._forms_url = callback_url + FORMS_PATH
        self._clock = clock

    def press(self, press: Press) -> Done:
        """Do what a button is for.

        Raises
        ------
        DaemonError
            Nothing was done; mostly `Refused`, or what `Operations` raises.
        """
        try:
            ticket = self._signer.open(press.context, now=self._clock())
        except Expired as error:
            self._renew(error.ticket, press)
            raise
        if ticket.act not in set(Answer):
            raise Refused(Reason.FORGED, "This is not from a button: nothing was done.")
        answer = Answer(ticket.act)
        operator = self._people.operator(press.user_id, _RIGHTS[answer])
        head = self._head(ticket, press)
        if answer is Answer.APPROVE:
            self._open_form(ticket, operator, press)
            return Done()
        with self._used_once(ticket, operator):
            said = self._act(answer, ticket, operator)
        return Done(said, self._update(ticket.incident_id, head))

    def submit(self, form: Submission) -> None:
        """Approve with what a person filled in.

        Raises
        ------
        FieldErrors
            A field cannot be taken; the form stays open.
        DaemonError
            As of `press`.
        """
        ticket = self._signer.open_state(form.state, now=self._clock())
        if ticket.act != _FORM or ticket.person != form.user_id:
            raise Refused(Reason.FORGED, "This form was not opened for you: nothing was done.")
        operator = self._people.operator(form.user_id, Act.DECIDE)
        response = queries.response(self._engine, ticket.response_id)
        stage = DecisionStage(ticket.stage)
        proposal = Proposal.model_validate(response.proposal)
        approval = read_approval(proposal, stage, form.submission or {})
        with self._used_once(ticket, operator):
            self._operations.approve(
                ticket.response_id,
                operator=operator,
                strategy=approval.strategy,
                comment=approval.comment,
                via="chat",
            )

    def _head(self, ticket: Ticket, press: Press) -> Head:
        """Find the post of a press: it has to head the incident's thread, in the channel it was sent to."""
        found = [head for head in heads_of(self._engine, ticket.incident_id) if head.post_id == press.post_id]
        if not found:
            raise Refused(
                Reason.FOREIGN,
                f"This button of {escape(ticket.incident_id)} came from a post that is not its own: "
                "nothing was done.",
            )
        if found[0].channel_id != press.channel_id:
            raise Refused(
                Reason.CHANNEL,
                f"{escape(ticket.incident_id)} was not told in this channel: answer where it was. "
                "Nothing was done.",
            )
        return found[0]

    def _renew(self, ticket: Ticket, press: Press) -> None:
        """Give a post fresh buttons whose old one a listed person pressed: by an edit, not in the answer.

        Whoever sends an old ticket again must not get new ones for it.
        """
        self._people.operator(press.user_id, Act.READ)
        self._head(ticket, press)
        incident = queries.incident(self._engine, ticket.incident_id)
        self._outbox.submit(
            self._heads.write(incident),
            key=f"{incident.id}:head:renewed:{ticket.nonce}",
            action=Action.EDIT,
            now=self._clock(),
        )

    @contextmanager
    def _used_once(self, ticket: Ticket, operator: str) -> Iterator[None]:
        """Use a ticket up for the act inside, which has to fit; what is refused leaves it usable."""
        spend(self._engine, ticket, operator=operator, now=self._clock())
        try:
            self._check_fits(ticket)
            yield
        except DaemonError:
            give_back(self._engine, ticket)
            raise

    def _check_fits(self, ticket: Ticket) -> None:
        """Refuse what the incident does not ask any more, by the name of what it asks now."""
        incident = queries.incident(self._engine, ticket.incident_id)
        name = escape(incident.id)
        if incident.state is IncidentState.RESOLVED:
            raise Refused(Reason.RESOLVED, f"{name} is resolved already: nothing was done.")
        if not ticket.response_id:
            return
        latest = queries.response(self._engine, incident.responses[-1].id)
        if latest.id != ticket.response_id:
            raise Refused(
                Reason.SUPERSEDED,
                f"This was for {escape(ticket.response_id)}; the present response to {name} is "
                f"{escape(latest.id)}: nothing was done.",
            )
        if latest.waits_for is None:
            by = f", decided by {latest.decided_by}" if latest.decided_by else ""
            raise Refused(
                Reason.DECIDED,
                escape(f"{latest.id} waits for no decision any more ({latest.state}{by}): nothing was done."),
            )
        if latest.waits_for.stage != ticket.stage:
            raise Refused(
                Reason.SUPERSEDED,
                f"{escape(latest.id)} asks about its {latest.waits_for.stage} now, and this answered an "
                "earlier question: nothing was done.",
            )

    def _open_form(self, ticket: Ticket, operator: str, press: Press) -> None:
        self._check_fits(ticket)
        response = queries.response(self._engine, ticket.response_id)
        check_may_decide(Proposal.model_validate(response.proposal), response.id, operator)
        if response.waits_for is None or operator not in response.waits_for.missing:
            raise Refused(
                Reason.DECIDED,
                escape(f"{response.id} waits for no further answer of {operator}: nothing was done."),
            )
        state = new_ticket(
            _FORM,
            ticket.incident_id,
            response_id=ticket.response_id,
            stage=ticket.stage,
            person=press.user_id,
            now=self._clock(),
            life=FORM_LIFE,
        )
        form = approval_form(response, response.waits_for.stage, self._signer.state(state))
        try:
            self._forms.open_dialog(press.trigger_id, self._forms_url, form)
        except DeliveryError as error:
            _log.warning("chat: the approval form of %s did not open: %s", response.id, error)
            raise Refused(
                Reason.NO_DIALOG,
                "The chat did not open the form: press once more, or use "
                f"`/lumiwatch approve {response.id}`. Nothing was done.",
            ) from error

    def _act(self, answer: Answer, ticket: Ticket, operator: str) -> str:
        name, response = escape(ticket.incident_id), escape(ticket.response_id)
        match answer:
            case Answer.ACKNOWLEDGE:
                self._operations.acknowledge(ticket.incident_id, operator=operator)
                return f"You acknowledged {name}."
            case Answer.REJECT:
                self._operations.reject(ticket.response_id, operator=operator, via="chat")
                return f"You rejected {response}: the firmware stays as it is."
            case Answer.PRESCALE_OUT:
                self._operations.prescale_out(ticket.response_id, operator=operator, via="chat")
                return f"You chose to prescale out instead of {response}."
            case _:
                return self._silence(ticket.incident_id, operator)

    def _silence(self, incident_id: str, operator: str) -> str:
        incident = queries.incident(self._engine, incident_id)
        if INTEGRITY in incident.families:
            raise Refused(
                Reason.NOT_POSSIBLE,
                f"{escape(incident.id)} is a firmware fault, and only silenced by name: nothing was done.",
            )
        ends = self._clock() + SILENCE
        silence = self._silencer.create(
            author=operator,
            reason=f"silenced in the chat at {incident.id}",
            ends_at=ends,
            model=incident.model,
        )
        return f"You silenced {escape(incident.model)} until {ends:%H:%M} UTC ({escape(silence)})."

    def _update(self, incident_id: str, head: Head) -> Mapping[str, Any] | None:
        """Write the post as it is now; without its files named, Mattermost would take them off the post."""
        try:
            message = self._heads.write(queries.incident(self._engine, incident_id))
        except (DaemonError, ValueError, KeyError, TypeError):
            _log.exception("chat: the head of %s could not be written; the outbox will edit it", incident_id)
            return None
        return {
            "message": render_markdown(message),
            "props": self._buttons.props(incident_id, message.offers),
            "file_ids": list(head.file_ids),
        }
