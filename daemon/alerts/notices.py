"""Words for what the life of an incident says beside decisions: reopened, silenced, said again, now also.

Refuses to know the database and the chat: views come in, messages come out.
"""

from daemon.alerts.message import AlertMessage, Stage
from daemon.incidents.silencing import Silence
from daemon.store import views
from streams.judging.verdict import INTEGRITY


class Notice(AlertMessage):
    """A message whose headline is no stage of a response.

    Parameters
    ----------
    headline
        Takes the place of the stage in the title; the stage still gives the symbol.
    """

    headline: str

    @property
    def title(self) -> str:
        """Headline, model and marks in one line, without markup."""
        return " | ".join([*self.marks, self.headline.upper(), self.model])


def notice_of(
    incident: views.IncidentDetail, event: views.EventView, head: AlertMessage
) -> AlertMessage | None:
    """Write the reply for an event of an incident's life; None: it is none, or only changes the head.

    Parameters
    ----------
    head
        The head of the thread as of now: a reopened incident repeats its proposal.
    """
    match event.kind:
        case "incident.reopened":
            return _notice("reopened", Stage.ALARM, incident, event.text, head, proposal=head.proposal)
        case "incident.silenced":
            return _notice("silenced", Stage.ACKNOWLEDGED, incident, event.text, head)
        case "incident.extended" if INTEGRITY in event.detail.get("families", ()):
            return _notice("firmware fault", Stage.ALARM, incident, event.text, head)
        case _:
            return None


def still_unresolved(incident: views.IncidentDetail, head: AlertMessage) -> AlertMessage:
    """Say once more that nobody has acknowledged an incident."""
    text = (
        f"Still an alarm, since {incident.opened_at:%Y-%m-%d %H:%M} UTC, and nobody has acknowledged it: "
        f"{incident.reason}"
    )
    return _notice("still an alarm", Stage.ALARM, incident, text, head)


def silence_over(head: AlertMessage) -> AlertMessage:
    """Tell how an incident stands at the end of a silence: the head as of now, as one message."""
    return Notice(
        **{
            **{name: getattr(head, name) for name in AlertMessage.model_fields},
            "reason": f"The silence is over, and the incident is not resolved. {head.reason}",
        },
        headline=f"silence over | {head.stage}",
    )


def alarm_and_end(incident: views.IncidentDetail, head: AlertMessage) -> AlertMessage:
    """Tell an alarm and its end in one message: nobody has heard of it before."""
    text = f"Alarm at {incident.opened_at:%Y-%m-%d %H:%M} UTC: {incident.reason}"
    return head.model_copy(update={"details": (text, *head.details)})


def with_silence(head: AlertMessage, silence: Silence | None) -> AlertMessage:
    """Add who silenced an incident to its head."""
    if silence is None:
        return head
    return head.model_copy(update={"details": (f"{silence.sentence} ({silence.id})", *head.details)})


def _notice(
    headline: str,
    stage: Stage,
    incident: views.IncidentDetail,
    text: str,
    head: AlertMessage,
    **more: object,
) -> AlertMessage:
    content = {
        "incident_id": incident.id,
        "stage": stage,
        "model": incident.model,
        "reason": text,
        "replay": incident.simulated,
        "simulated": incident.simulated,
        "console_url": head.console_url,
    }
    return Notice.model_validate({**content, **more, "headline": headline})
