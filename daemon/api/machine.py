"""What machines ask: `/-/healthy`, `/-/ready`, `/metrics`."""

import logging

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from sqlalchemy.exc import SQLAlchemyError

from daemon.api.callers import ServicesOf
from daemon.store import queries, views
from daemon.store.records import IncidentState

logger = logging.getLogger(__name__)
router = APIRouter()


@router.get("/-/healthy")
def healthy() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "ok"}


@router.get("/-/ready", responses={503: {"model": views.Health, "description": "Something is missing"}})
def ready(services: ServicesOf, response: Response) -> views.Health:
    """Say whether everything the daemon needs is there; 503 if not."""
    health = services.health()
    response.status_code = 200 if health.ready else 503
    return health


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(services: ServicesOf) -> Response:
    """Prometheus metrics."""
    unresolved = [state for state in IncidentState if state is not IncidentState.RESOLVED]
    try:
        for model in services.site.models:
            count = len(queries.incidents(services.engine, model=model, states=unresolved))
            services.metrics.incidents_unresolved.labels(model).set(count)
    except SQLAlchemyError as error:
        # the other metrics are what tells that the database is away
        services.metrics.contained_errors.labels("api").inc()
        logger.warning("incidents cannot be counted: %s", str(error).splitlines()[0])
    return Response(services.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
