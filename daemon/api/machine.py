"""What machines ask: `/-/healthy`, `/-/ready`, `/metrics`."""

from fastapi import APIRouter, Response

from daemon import queries, views
from daemon.api.callers import ServicesOf
from daemon.records import IncidentState

router = APIRouter()


@router.get("/-/healthy")
def healthy() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "ok"}


@router.get("/-/ready")
def ready(services: ServicesOf, response: Response) -> views.Health:
    """Say whether everything the daemon needs is there; 503 if not."""
    health = services.health()
    response.status_code = 200 if health.ready else 503
    return health


@router.get("/metrics")
def metrics(services: ServicesOf) -> Response:
    """Prometheus metrics."""
    for status in queries.model_statuses(services.engine, services.site):
        unresolved = [state for state in IncidentState if state is not IncidentState.RESOLVED]
        count = len(queries.incidents(services.engine, model=status.model, states=unresolved))
        services.metrics.incidents_unresolved.labels(status.model).set(count)
    return Response(services.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
