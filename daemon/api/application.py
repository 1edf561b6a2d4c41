"""Puts all routes on an application, and turns errors into answers."""

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from daemon.api import access, acting, boards, configuration, login, machine, reading, sign_on, silences
from daemon.api.callers import services_of
from daemon.api.problems import Problem, problems, unreadable
from daemon.chat import routes as chat
from daemon.errors import DaemonError, TooManyTries
from daemon.process.services import Services

logger = logging.getLogger(__name__)


def install(app: FastAPI, services: Services) -> None:
    """Put the API, login and machine endpoints on an application."""
    app.state.services = services
    for room in (machine, login, sign_on, access, reading, configuration, acting, boards, silences):
        app.include_router(room.router, responses=problems(400, 401, 403, 404, 409, 422))
    app.include_router(chat.router)
    app.add_exception_handler(DaemonError, _answer_daemon_error)
    app.add_exception_handler(RequestValidationError, _answer_unreadable)
    app.add_exception_handler(HTTPException, _answer_http_error)


async def _answer_daemon_error(request: Request, error: Exception) -> JSONResponse:
    status = error.http_status if isinstance(error, DaemonError) else 500
    if status >= 500:
        services_of(request).metrics.contained_errors.labels("api").inc()
        logger.error("%s %s: %s", request.method, request.url.path, error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if isinstance(error, TooManyTries):
        headers["Retry-After"] = str(error.retry_after_s)
    problem = Problem(error=type(error).__name__, detail=str(error))
    return JSONResponse(problem.model_dump(), status_code=status, headers=headers)


async def _answer_unreadable(_request: Request, error: Exception) -> JSONResponse:
    problem = Problem(error="InvalidRequest", detail=unreadable(error))
    return JSONResponse(problem.model_dump(), status_code=422)


async def _answer_http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    problem = Problem(error=HTTPStatus(error.status_code).phrase, detail=str(error.detail))
    return JSONResponse(problem.model_dump(), status_code=error.status_code, headers=error.headers)
