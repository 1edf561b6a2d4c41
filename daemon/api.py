"""The HTTP interface `/api/v1`, and what machines ask: `/-/healthy`, `/-/ready`, `/metrics`.

Thin: reads go to `queries`, acts to `operations`, with the name of the operator whose token came
with the request. Browsers' sessions may read here but not act: acts need the token, which no other
web page can send.
"""

from __future__ import annotations

import logging
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from daemon import queries, room_queries, views
from daemon.auth import SESSION_COOKIE, Operator
from daemon.errors import DaemonError, NotAuthenticated
from daemon.lineage import trace
from daemon.policy import LEAST_INVASIVE
from daemon.records import DecisionKind, IncidentState, ResponseState
from daemon.services import Services

logger = logging.getLogger(__name__)

_LOGGED_IN = (
    '<!doctype html><html lang="en"><head><meta http-equiv="refresh" content="0; url=/">'
    '<title>lumiwatch</title></head><body><p>Logged in. <a href="/">Go to the console</a>.</p></body></html>'
)
_Limit = Annotated[int, Query(ge=1, le=5000)]


class Problem(BaseModel):
    """What went wrong: a stable name for programs and a sentence for people."""

    error: str
    detail: str


class Comment(BaseModel):
    """Words that go with an act."""

    model_config = ConfigDict(extra="forbid")

    comment: str = Field(default="", max_length=2000)


class Note(BaseModel):
    """A line for an incident's history."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=2000)


class Decision(BaseModel):
    """An answer to a proposal."""

    model_config = ConfigDict(extra="forbid")

    decision: DecisionKind
    strategy: str | None = Field(default=None, description=f"only with approve; default {LEAST_INVASIVE}")
    comment: str = Field(default="", max_length=2000)
    via: Literal["api", "cli"] = "api"


def services_of(request: Request) -> Services:
    """Find the services of the daemon that serves this request."""
    services: Services = request.app.state.services
    return services


def reader(
    request: Request, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
) -> Operator:
    """Tell who reads: the operator of the bearer token, or of the console session.

    Raises
    ------
    NotAuthenticated
        Nobody known.
    """
    services = services_of(request)
    if authorization is not None:
        return actor(request, authorization)
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie is None:
        raise NotAuthenticated("no token: send `Authorization: Bearer <operator token>`, or log in first")
    return services.authenticator.operator_of_session(cookie, now=services.clock())


def actor(
    request: Request, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
) -> Operator:
    """Tell who acts: the operator of the bearer token, nothing else.

    Raises
    ------
    NotAuthenticated
        Nobody known.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticated("no token: send `Authorization: Bearer <operator token>`")
    return services_of(request).authenticator.operator_of_token(token.strip())


ServicesOf = Annotated[Services, Depends(services_of)]
Actor = Annotated[Operator, Depends(actor)]

_read = APIRouter(prefix="/api/v1", dependencies=[Depends(reader)])
_act = APIRouter(prefix="/api/v1")
_open = APIRouter()


@_read.get("/me")
def me(operator: Annotated[Operator, Depends(reader)]) -> dict[str, str]:
    """Say whose token this is."""
    return {"operator": operator.name, "full_name": operator.full_name}


@_read.get("/models")
def list_models(services: ServicesOf) -> list[views.ModelStatus]:
    """Status of every monitored model."""
    return queries.model_statuses(services.engine, services.site)


@_read.get("/models/{model}")
def get_model(model: str, services: ServicesOf) -> views.ModelStatus:
    """Status of one monitored model."""
    return queries.model_status(services.engine, services.site, model)


@_read.get("/models/{model}/verdicts")
def list_verdicts(
    model: str,
    services: ServicesOf,
    run: int | None = None,
    first_lumisection: int | None = None,
    limit: _Limit = 500,
) -> list[views.VerdictView]:
    """Verdicts of a model, oldest first."""
    queries.site_model(services.site, model)
    return queries.verdict_timeline(
        services.engine, model, run=run, first_lumisection=first_lumisection, limit=limit
    )


@_read.get("/models/{model}/windows")
def list_windows(
    model: str, services: ServicesOf, run: int | None = None, limit: _Limit = 500
) -> list[views.WindowView]:
    """Windows of a model, oldest first: what they hold, without the histograms."""
    queries.site_model(services.site, model)
    return room_queries.windows(services.engine, model, run=run, limit=limit)


@_read.get("/models/{model}/references")
def list_references(model: str, services: ServicesOf) -> list[views.ReferenceView]:
    """List the references of a model, newest first."""
    queries.site_model(services.site, model)
    return room_queries.references(services.engine, model)


@_read.get("/models/{model}/board")
def get_board(model: str, services: ServicesOf) -> views.BoardStatus:
    """Ask the model's board what it runs."""
    queries.site_model(services.site, model)
    return services.board_status(model)


@_read.get("/incidents")
def list_incidents(
    services: ServicesOf,
    model: str | None = None,
    state: Annotated[list[IncidentState] | None, Query()] = None,
    limit: _Limit = 200,
) -> list[views.IncidentView]:
    """Incidents, newest first."""
    return queries.incidents(services.engine, model=model, states=state, limit=limit)


@_read.get("/incidents/{incident_id}")
def get_incident(incident_id: str, services: ServicesOf) -> views.IncidentDetail:
    """One incident with its history, responses and notifications."""
    return queries.incident(services.engine, incident_id)


@_act.post("/incidents/{incident_id}/acknowledge")
def acknowledge(
    incident_id: str, body: Comment, services: ServicesOf, operator: Actor
) -> views.IncidentDetail:
    """Say that someone looks after the incident."""
    services.operations.acknowledge(incident_id, operator=operator.name, comment=body.comment)
    return queries.incident(services.engine, incident_id)


@_act.post("/incidents/{incident_id}/notes", status_code=201)
def add_note(incident_id: str, body: Note, services: ServicesOf, operator: Actor) -> views.IncidentDetail:
    """Add a line to an incident's history."""
    services.operations.note(incident_id, operator=operator.name, text=body.text)
    return queries.incident(services.engine, incident_id)


@_act.post("/incidents/{incident_id}/resolve")
def resolve(incident_id: str, body: Comment, services: ServicesOf, operator: Actor) -> views.IncidentDetail:
    """End an incident by hand."""
    services.operations.resolve(incident_id, operator=operator.name, comment=body.comment)
    return queries.incident(services.engine, incident_id)


@_act.post("/incidents/{incident_id}/responses", status_code=201)
def propose(incident_id: str, services: ServicesOf, operator: Actor) -> views.ResponseDetail:
    """Ask for a new response, for instance after a rejection or a rollback."""
    response_id = services.operations.propose(incident_id, operator=operator.name)
    return queries.response(services.engine, response_id)


@_read.get("/responses")
def list_responses(
    services: ServicesOf,
    model: str | None = None,
    incident: str | None = None,
    state: Annotated[list[ResponseState] | None, Query()] = None,
    limit: _Limit = 200,
) -> list[views.ResponseView]:
    """Responses, newest first."""
    return queries.responses(services.engine, model=model, incident_id=incident, states=state, limit=limit)


@_read.get("/responses/{response_id}")
def get_response(response_id: str, services: ServicesOf) -> views.ResponseDetail:
    """One response with its proposal, decisions and live steps."""
    return queries.response(services.engine, response_id)


@_act.post("/responses/{response_id}/decisions", status_code=201)
def decide(response_id: str, body: Decision, services: ServicesOf, operator: Actor) -> views.ResponseDetail:
    """Approve, reject or prescale out; single-use, by a listed approver."""
    services.operations.decide(
        response_id,
        body.decision,
        operator=operator.name,
        strategy=body.strategy,
        comment=body.comment,
        via=body.via,
    )
    return queries.response(services.engine, response_id)


@_read.get("/notifications")
def list_notifications(
    services: ServicesOf, incident: str | None = None, limit: _Limit = 200
) -> list[views.NotificationView]:
    """Messages to the outside, oldest first, with their exact payloads."""
    return queries.notifications(services.engine, incident_id=incident, limit=limit)


@_read.get("/events")
def list_events(
    services: ServicesOf, after: Annotated[int, Query(ge=0)] = 0, limit: _Limit = 500
) -> list[views.EventView]:
    """Happenings after a sequence number, oldest first."""
    return queries.events(services.engine, after=after, limit=limit)


@_read.get("/packages")
def list_packages(services: ServicesOf) -> list[views.PackageView]:
    """Firmware packages known to the site."""
    return room_queries.packages(services.engine)


@_read.get("/references")
def list_all_references(services: ServicesOf) -> list[views.ReferenceView]:
    """List the references of all models, newest first."""
    return room_queries.references(services.engine, None)


@_read.get("/lineage/{identity}")
def get_lineage(identity: str, services: ServicesOf, descendants: bool = False) -> views.LineageGraph:
    """Everything an artefact was made from."""
    return trace(services.engine, identity, descendants=descendants)


@_open.get("/login", include_in_schema=False)
def login(token: str, request: Request) -> Response:
    """Turn a token into a session cookie and go to the console."""
    services = services_of(request)
    operator = services.authenticator.operator_of_token(token)
    # not a redirect: a browser that follows one from another site would leave the strict cookie out
    answer = HTMLResponse(_LOGGED_IN)
    answer.set_cookie(
        SESSION_COOKIE,
        services.authenticator.new_session(operator, now=services.clock()),
        max_age=int(services.authenticator.session_life.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer


@_open.post("/logout", include_in_schema=False)
def logout() -> Response:
    """Forget the session in this browser."""
    answer = RedirectResponse("/", status_code=303)
    answer.delete_cookie(SESSION_COOKIE)
    return answer


@_open.get("/-/healthy")
def healthy() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "ok"}


@_open.get("/-/ready")
def ready(services: ServicesOf, response: Response) -> views.Health:
    """Say whether everything the daemon needs is there; 503 if not."""
    health = services.health()
    response.status_code = 200 if health.ready else 503
    return health


@_open.get("/metrics")
def metrics(services: ServicesOf) -> Response:
    """Prometheus metrics."""
    for status in queries.model_statuses(services.engine, services.site):
        unresolved = [state for state in IncidentState if state is not IncidentState.RESOLVED]
        count = len(queries.incidents(services.engine, model=status.model, states=unresolved))
        services.metrics.incidents_unresolved.labels(status.model).set(count)
    return Response(services.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def install(app: FastAPI, services: Services) -> None:
    """Put the API, login and machine endpoints on an application."""
    app.state.services = services
    app.include_router(_open)
    app.include_router(_read)
    app.include_router(_act)
    app.add_exception_handler(DaemonError, _answer_daemon_error)


async def _answer_daemon_error(request: Request, error: Exception) -> JSONResponse:
    status = error.http_status if isinstance(error, DaemonError) else 500
    if status >= 500:
        services_of(request).metrics.contained_errors.labels("api").inc()
        logger.error("%s %s: %s", request.method, request.url.path, error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    problem = Problem(error=type(error).__name__, detail=str(error))
    return JSONResponse(problem.model_dump(), status_code=status, headers=headers)
