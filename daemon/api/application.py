"""Puts all routes on an application, and turns errors into answers."""

import logging

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from daemon.api import acting, login, machine, reading
from daemon.api.callers import services_of
from daemon.errors import DaemonError
from daemon.services import Services

logger = logging.getLogger(__name__)


class Problem(BaseModel):
    """What went wrong: a stable name for programs and a sentence for people."""

    error: str
    detail: str


def install(app: FastAPI, services: Services) -> None:
    """Put the API, login and machine endpoints on an application."""
    app.state.services = services
    for room in (machine, login, reading, acting):
        app.include_router(room.router)
    app.add_exception_handler(DaemonError, _answer_daemon_error)


async def _answer_daemon_error(request: Request, error: Exception) -> JSONResponse:
    status = error.http_status if isinstance(error, DaemonError) else 500
    if status >= 500:
        services_of(request).metrics.contained_errors.labels("api").inc()
        logger.error("%s %s: %s", request.method, request.url.path, error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    problem = Problem(error=type(error).__name__, detail=str(error))
    return JSONResponse(problem.model_dump(), status_code=status, headers=headers)
