"""Reading `/api/v1`: everything that the console shows."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BeforeValidator

from daemon.api.callers import ServicesOf, reader
from daemon.journal.lineage import trace
from daemon.store import queries, room_queries, views
from daemon.store.records import IncidentState, ResponseState

router = APIRouter(prefix="/api/v1", dependencies=[Depends(reader)])
_Limit = Annotated[int, Query(ge=1, le=5000)]
_Number = Annotated[int, Query(ge=0, le=2**31 - 1)]  # what a database keeps


def _moment(value: object) -> object:
    """Take a time as ISO 8601 only: a bare number says no unit."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


_Moment = Annotated[datetime, BeforeValidator(_moment)]


@router.get("/models")
def list_models(services: ServicesOf) -> list[views.ModelStatus]:
    """Status of every monitored model."""
    return queries.model_statuses(services.engine, services.site)


@router.get("/models/{model}")
def get_model(model: str, services: ServicesOf) -> views.ModelStatus:
    """Status of one monitored model."""
    return queries.model_status(services.engine, services.site, model)


@router.get("/models/{model}/verdicts")
def list_verdicts(
    model: str,
    services: ServicesOf,
    run: _Number | None = None,
    first_lumisection: _Number | None = None,
    limit: _Limit = 500,
) -> list[views.VerdictView]:
    """Verdicts of a model, oldest first."""
    queries.site_model(services.site, model)
    return queries.verdict_timeline(
        services.engine, model, run=run, first_lumisection=first_lumisection, limit=limit
    )


@router.get("/models/{model}/windows")
def list_windows(
    model: str, services: ServicesOf, run: _Number | None = None, limit: _Limit = 500
) -> list[views.WindowView]:
    """Windows of a model, oldest first: what they hold, without the histograms."""
    queries.site_model(services.site, model)
    return room_queries.windows(services.engine, model, run=run, limit=limit)


@router.get("/models/{model}/references")
def list_references(model: str, services: ServicesOf) -> list[views.ReferenceView]:
    """List the references of a model, newest first."""
    queries.site_model(services.site, model)
    return room_queries.references(services.engine, model)


@router.get("/models/{model}/board")
def get_board(model: str, services: ServicesOf) -> views.BoardStatus:
    """Ask the model's board what it runs."""
    queries.site_model(services.site, model)
    return services.board_status(model)


@router.get("/incidents")
def list_incidents(
    services: ServicesOf,
    model: str | None = None,
    state: Annotated[list[IncidentState] | None, Query()] = None,
    limit: _Limit = 200,
) -> list[views.IncidentView]:
    """Incidents, newest first."""
    return queries.incidents(services.engine, model=model, states=state, limit=limit)


@router.get("/incidents/{incident_id}")
def get_incident(incident_id: str, services: ServicesOf) -> views.IncidentDetail:
    """One incident with its history, responses and notifications."""
    return queries.incident(services.engine, incident_id)


@router.get("/responses")
def list_responses(
    services: ServicesOf,
    model: str | None = None,
    incident: str | None = None,
    state: Annotated[list[ResponseState] | None, Query()] = None,
    limit: _Limit = 200,
) -> list[views.ResponseView]:
    """Responses, newest first."""
    return queries.responses(services.engine, model=model, incident_id=incident, states=state, limit=limit)


@router.get("/responses/{response_id}")
def get_response(response_id: str, services: ServicesOf) -> views.ResponseDetail:
    """One response with its proposal, decisions and live steps."""
    return queries.response(services.engine, response_id)


@router.get("/notifications")
def list_notifications(
    services: ServicesOf, incident: str | None = None, limit: _Limit = 200
) -> list[views.NotificationView]:
    """Messages to the outside, oldest first, with their exact payloads."""
    return queries.notifications(services.engine, incident_id=incident, limit=limit)


@router.get("/events")
def list_events(services: ServicesOf, after: _Number = 0, limit: _Limit = 500) -> list[views.EventView]:
    """Happenings after a sequence number, oldest first."""
    return queries.events(services.engine, after=after, limit=limit)


@router.get("/audit")
def list_audit(
    services: ServicesOf,
    since: _Moment | None = None,
    actor: str | None = None,
    kind: str | None = None,
    limit: _Limit = 200,
) -> list[views.EventView]:
    """List the newest happenings of a time, a person or a kind, oldest first, with their hashes."""
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    return queries.audit(services.engine, since=since, actor=actor, kind=kind, limit=limit)


@router.get("/packages")
def list_packages(services: ServicesOf) -> list[views.PackageView]:
    """Firmware packages known to the site."""
    return room_queries.packages(services.engine)


@router.get("/references")
def list_all_references(services: ServicesOf) -> list[views.ReferenceView]:
    """List the references of all models, newest first."""
    return room_queries.references(services.engine, None)


@router.get("/lineage/{identity}")
def get_lineage(identity: str, services: ServicesOf, descendants: bool = False) -> views.LineageGraph:
    """Everything an artefact was made from."""
    return trace(services.engine, identity, descendants=descendants)
