"""What a request that fails is answered with, and the answers that routes declare for it."""

from __future__ import annotations

from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel


class Problem(BaseModel):
    """What went wrong: a stable name for programs and a sentence for people."""

    error: str
    detail: str


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare answers of a route, each with a `Problem`."""
    return {status: {"model": Problem, "description": _MEANINGS[status]} for status in statuses}


_MEANINGS: Final = {
    400: "The request cannot be read",
    401: "No token or session, or an unknown one",
    403: "Known, but not allowed to do this",
    404: "There is no such thing",
    409: "It does not fit the present state",
    422: "The request is not what this route takes",
    503: "What this needs does not answer",
}


def unreadable(error: Exception) -> str:
    """Say in one line what a route could not read."""
    if not isinstance(error, RequestValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
