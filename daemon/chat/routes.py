"""What the Mattermost server calls: pressed buttons, filled-in forms and the slash command.

No session and no bearer token counts here: tickets, and the token of the command, say that a request is real.
Bodies are bounded before they are read whole.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar
from urllib.parse import parse_qs

from fastapi import APIRouter, Header, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from daemon.api.callers import services_of
from daemon.chat.refusal import Reason
from daemon.chat.requests import Press, Submission
from daemon.chat.service import Chat
from daemon.errors import NotFound

LARGEST_BODY: Final = 64 * 1024
_MOST_FIELDS: Final = 1000  # Mattermost adds two for every person and channel named in the text

router = APIRouter(prefix="/chat/mattermost", include_in_schema=False)

_Body = TypeVar("_Body", bound=BaseModel)


class _Unreadable(Exception):  # noqa: N818 - what is wrong with the body
    """A body is too large, or not what Mattermost sends."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@router.post("/actions")
async def press(request: Request) -> JSONResponse:
    """Take a pressed button."""
    chat = _chat(request)
    try:
        body = _read(Press, await _bytes(request))
    except _Unreadable as error:
        return _answer_unreadable(chat, error)
    return JSONResponse(await run_in_threadpool(chat.press, body))


@router.post("/dialogs")
async def submit(request: Request) -> JSONResponse:
    """Take a filled-in form."""
    chat = _chat(request)
    try:
        body = _read(Submission, await _bytes(request))
    except _Unreadable as error:
        return _answer_unreadable(chat, error)
    return JSONResponse(await run_in_threadpool(chat.submit, body))


@router.post("/commands")
async def command(request: Request, authorization: Annotated[str, Header()] = "") -> JSONResponse:
    """Take a slash command."""
    chat = _chat(request)
    try:
        form = _read_form(await _bytes(request))
    except _Unreadable as error:
        return _answer_unreadable(chat, error)
    answer = await run_in_threadpool(chat.command, authorization, form)
    if answer is None:
        return JSONResponse({"detail": "the token is not that of this site's slash command"}, 401)
    return JSONResponse(answer)


def _chat(request: Request) -> Chat:
    chat = services_of(request).chat
    if chat is None:
        raise NotFound("this lumiwatch takes nothing from a chat: see [mattermost] in lumiwatch.toml")
    return chat


async def _bytes(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > LARGEST_BODY:
            raise _Unreadable(413, f"more than {LARGEST_BODY // 1024} kB")
    return bytes(content)


def _read(kind: type[_Body], content: bytes) -> _Body:
    try:
        return kind.model_validate_json(content)
    except ValidationError:
        raise _Unreadable(400, "not what Mattermost sends") from None


def _read_form(content: bytes) -> dict[str, str]:
    """Read a form; of a field that comes twice, nothing is taken."""
    try:
        fields = parse_qs(
            content.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise _Unreadable(400, "not a form") from None
    return {name: values[0] for name, values in fields.items() if len(values) == 1}


def _answer_unreadable(chat: Chat, error: _Unreadable) -> JSONResponse:
    chat.count(Reason.MALFORMED, str(error))
    return JSONResponse({"detail": str(error)}, error.status)
