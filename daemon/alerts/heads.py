"""The head of an incident's thread as of now, with what the stream knows of its lumisections.

Asked whenever the head is posted or edited: for every happening, and after an act from the chat.

Refuses to know how a message is worded and how it travels.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from sqlalchemy.engine import Engine

from daemon.alerts import compose
from daemon.alerts.message import AlertMessage, RunConditions
from daemon.store import queries, views


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


class Heads:
    """Writes heads.

    Parameters
    ----------
    engine
        The site's database.
    evidence
        Looks up conditions and means.
    site
        Name of the site.
    console_url
        Gives the start of links, without a trailing slash (the port is known late).
    """

    def __init__(
        self, engine: Engine, evidence: Evidence, *, site: str, console_url: Callable[[], str]
    ) -> None:
        self._engine = engine
        self._evidence = evidence
        self._site = site
        self._console_url = console_url

    def url(self, incident_id: str) -> str:
        """Address of an incident's page."""
        return f"{self._console_url()}/incidents/{incident_id}"

    def write(self, incident: views.IncidentDetail) -> AlertMessage:
        """Write the head of an incident, with the latest response to it."""
        latest = incident.responses[-1].id if incident.responses else None
        verdict = incident.latest_verdict or incident.opening_verdict
        return compose.head(
            incident,
            queries.response(self._engine, latest) if latest is not None else None,
            site=self._site,
            console_url=self.url(incident.id),
            conditions=self._evidence.conditions(
                incident.model, incident.last_run, incident.first_lumisection, incident.last_lumisection
            ),
            means=self._means(verdict),
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
