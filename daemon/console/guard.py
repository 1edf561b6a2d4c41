"""The door of the console: nobody without a session sees a page, opens its socket or loads its data.

Works below the web framework, on ASGI scopes, so that no page can forget it. Static files of the page
framework are public: they are the same for everyone and say nothing about the site.

Refuses to know pages and what an operator may do.
"""

import html
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import urlsplit

import nicegui
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.auth import SESSION_COOKIE, Authenticator, Operator
from daemon.errors import NotAuthenticated

_LOGIN_PAGE = Path(__file__).with_name("login.html").read_text(encoding="utf-8")
_SOCKET = "/_nicegui_ws"
_STATIC = f"/_nicegui/{nicegui.__version__}/"
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


@dataclass(frozen=True)
class Door:
    """What the guard goes by.

    Parameters
    ----------
    authenticator
        Tells whose session a cookie is.
    clock
        Gives aware UTC.
    site
        Name shown on the page that asks to log in.
    """

    authenticator: Authenticator
    clock: Callable[[], datetime]
    site: str


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
        elif self._may_enter(scope):
            await self._app(scope, receive, _with_headers(send) if scope["type"] == "http" else send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 4401, "reason": "log in first"})
        else:
            await HTMLResponse(_login_page(self._door().site), status_code=401)(
                scope, receive, _with_headers(send)
            )

    def _is_public(self, scope: Scope) -> bool:
        path = _path(scope)
        return scope["type"] == "http" and (path.startswith(_STATIC) or path == "/favicon.ico")

    def _may_enter(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        socket = scope["type"] == "websocket" or _path(scope).startswith(_SOCKET)
        if socket and not _same_origin(headers):
            return False
        door = self._door()
        return session_operator(door.authenticator, headers.get("cookie", ""), now=door.clock()) is not None


def session_operator(authenticator: Authenticator, cookies: str, *, now: datetime) -> Operator | None:
    """Tell whose session a Cookie header carries.

    Parameters
    ----------
    authenticator
        Knows the sessions.
    cookies
        The raw header.
    now
        Aware UTC.

    Returns
    -------
    Operator or None
        None for no session, a forged one and one that has ended.
    """
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(cookies)
    except CookieError:
        return None
    morsel = jar.get(SESSION_COOKIE)
    if morsel is None:
        return None
    try:
        return authenticator.operator_of_session(morsel.value, now=now)
    except (NotAuthenticated, ValueError):
        return None


def _path(scope: Scope) -> str:
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root else path


def _same_origin(headers: Headers) -> bool:
    """Refuse sockets that another page in the same browser opens."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host", "")


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            known = {name.lower() for name, _ in message.get("headers", ())}
            added = [pair for pair in _HEADERS if pair[0] not in known]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return sending


def _login_page(site: str) -> str:
    return _LOGIN_PAGE.replace("{site}", html.escape(site))
