"""What browsers send along: the session's cookie, and where a request comes from. Knows no session."""

from __future__ import annotations

import re
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from daemon.access.sessions import SESSION_COOKIE

_PLACE: Final = re.compile(r"/(?:[\w.-]+(?:/[\w.-]+)*)?(?:\?[\w.=&%-]*)?", re.ASCII)


def session_cookie(cookies: str) -> str | None:
    """Take the session's cookie out of a raw Cookie header; None where there is none, or no sense in it."""
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(cookies)
    except CookieError:
        return None
    morsel = jar.get(SESSION_COOKIE)
    return None if morsel is None else morsel.value


def same_origin(origin: str | None, host: str | None) -> bool:
    """Tell whether a request comes from a page of this site, or from a program, which sends no origin."""
    return origin is None or urlsplit(origin).netloc == (host or "")


def place_to_go(wanted: str | None) -> str:
    """Choose where a browser goes after a login: a page of this site, whatever the request asks for."""
    if wanted is None or not _PLACE.fullmatch(wanted) or wanted.startswith(("/login", "/logout", "/api/")):
        return "/"
    return wanted
