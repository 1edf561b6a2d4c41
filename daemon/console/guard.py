"""The door of the console: nobody without a session sees a page, opens its socket or loads its data.

Works below the web framework, on ASGI scopes, so that no page can forget it. Static files of the page
framework are public: they are the same for everyone and say nothing about the site.

Refuses to know pages and what a person may do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import nicegui
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.access.browsers import place_to_go, same_origin, session_cookie
from daemon.access.control import AccessControl
from daemon.access.people import Person
from daemon.console.headers import PAGE_HEADERS
from daemon.console.login_page import LoginPage
from daemon.errors import NotAuthenticated

_SOCKET = "/_nicegui_ws"
_STATIC = f"/_nicegui/{nicegui.__version__}/"
_HEADERS = tuple((name.encode(), value.encode()) for name, value in PAGE_HEADERS.items())
LOOK_AGAIN_AFTER: Final = timedelta(seconds=20)
"""How long a socket stays open after its session has ended: it sends something at least this often."""


@dataclass(frozen=True)
class Door:
    """What the guard goes by.

    Parameters
    ----------
    access
        Tells whose session a cookie is.
    clock
        Gives aware UTC.
    login_page
        Shown to strangers.
    """

    access: AccessControl
    clock: Callable[[], datetime]
    login_page: LoginPage


class Guard:
    """ASGI middleware around the console.

    Parameters
    ----------
    app
        What is guarded.
    door
        Gives what to go by, for every request anew.
    """

    def __init__(self, app: ASGIApp, *, door: Callable[[], Door]) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through what has a session; answer 401 (or close the socket) otherwise."""
        if scope["type"] not in {"http", "websocket"} or self._is_public(scope):
            await self._app(scope, receive, send)
        elif await self._may_enter(scope):
            if scope["type"] == "http":
                await self._app(scope, receive, _with_headers(send))
            else:
                await self._app(scope, self._while_logged_in(scope, receive, send), send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 4401, "reason": "log in first"})
        else:
            page = self._door().login_page.answer(401, place=place_to_go(_path(scope)))
            await page(scope, receive, send)

    def _is_public(self, scope: Scope) -> bool:
        path = _path(scope)
        return scope["type"] == "http" and (path.startswith(_STATIC) or path == "/favicon.ico")

    async def _may_enter(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        socket = scope["type"] == "websocket" or _path(scope).startswith(_SOCKET)
        if socket and not same_origin(headers.get("origin"), headers.get("host")):
            return False
        return await self._has_session(headers)

    async def _has_session(self, headers: Headers) -> bool:
        access, cookies = self._door().access, headers.get("cookie", "")
        return await run_in_threadpool(session_person, access, cookies, seen=True) is not None

    def _while_logged_in(self, scope: Scope, receive: Receive, send: Send) -> Receive:
        """Look at the session again from time to time, because a page may stay open for days."""
        headers, looked_at = Headers(scope=scope), self._door().clock()

        async def receiving() -> Message:
            nonlocal looked_at
            message = await receive()
            now = self._door().clock()
            if message["type"] != "websocket.receive" or now - looked_at < LOOK_AGAIN_AFTER:
                return message
            looked_at = now
            if await self._has_session(headers):
                return message
            await send({"type": "websocket.close", "code": 4401, "reason": "the session has ended"})
            return {"type": "websocket.disconnect", "code": 4401}

        return receiving


def session_person(access: AccessControl, cookies: str, *, seen: bool = False) -> Person | None:
    """Tell whose session a Cookie header carries.

    Parameters
    ----------
    access
        Knows the sessions.
    cookies
        The raw header.
    seen
        Whether this counts as use of the session.

    Returns
    -------
    Person or None
        None for no session, a forged one and one that has ended.
    """
    cookie = session_cookie(cookies)
    if cookie is None:
        return None
    try:
        return access.person_of_session(cookie, seen=seen)
    except NotAuthenticated:
        return None


def _path(scope: Scope) -> str:
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root else path


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            known = {name.lower() for name, _ in message.get("headers", ())}
            added = [pair for pair in _HEADERS if pair[0] not in known]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return sending
