"""Browsers log in and out: with name and password, with a token, or by the login link."""

import html
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from daemon.access.browsers import place_to_go, same_origin
from daemon.access.logins import LoggedIn
from daemon.access.sessions import SESSION_COOKIE
from daemon.api.callers import address_of, services_of
from daemon.console.headers import PAGE_HEADERS
from daemon.errors import DaemonError, NotAuthenticated, TooManyTries

router = APIRouter()
_LOGGED_IN = (
    '<!doctype html><html lang="en"><head><meta http-equiv="refresh" content="0; url={place}">'
    '<title>lumiwatch</title></head><body><p>Logged in. <a href="{place}">Go to the console</a>.</p>'
    "</body></html>"
)
_Field = Annotated[str, Form(max_length=256)]


@router.get("/login", include_in_schema=False)
def login_link(request: Request, token: str | None = None) -> Response:
    """Turn the token of a login link into a session and go to the console; without one, ask for it."""
    services = services_of(request)
    if token is None:
        return services.login_page.answer(200)
    try:
        login = services.logins.with_token(token, address=address_of(request))
    except (NotAuthenticated, TooManyTries) as error:
        return refusal(request, error)
    return logged_in(request, login, "/")


@router.post("/login", include_in_schema=False)
def login_form(
    request: Request,
    name: _Field = "",
    password: _Field = "",
    token: _Field = "",
    next: _Field = "/",  # noqa: A002 - the field's name
) -> Response:
    """Take what the login page asks for."""
    services, address = services_of(request), address_of(request)
    if not same_origin(request.headers.get("origin"), request.headers.get("host")):
        return services.login_page.answer(403, problem="That form came from another site: log in here.")
    place = place_to_go(next)
    try:
        if token:
            login = services.logins.with_token(token, address=address)
        else:
            login = services.logins.with_password(name, password, address=address)
    except (NotAuthenticated, TooManyTries) as error:
        return refusal(request, error, place)
    answer = RedirectResponse(place, status_code=303)
    set_session(request, answer, login)
    return answer


@router.post("/logout", include_in_schema=False)
def logout(request: Request) -> Response:
    """End the session, here and in the database."""
    if not same_origin(request.headers.get("origin"), request.headers.get("host")):
        raise NotAuthenticated("that request came from another site: log out from the console")
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie is not None:
        services_of(request).access.sessions.end(cookie)
    answer = RedirectResponse("/", status_code=303)
    answer.delete_cookie(SESSION_COOKIE)
    return answer


def refusal(request: Request, error: DaemonError, place: str = "/") -> Response:
    """Show the login page once more, and why."""
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, TooManyTries) else None
    problem = f"Not logged in: {error}."
    return services_of(request).login_page.answer(
        error.http_status, place=place, problem=problem, headers=headers
    )


def logged_in(request: Request, login: LoggedIn, place: str) -> Response:
    """Answer a login that came by a link: a page, which goes on by itself.

    Not a redirect: a browser that follows one from another site would leave the strict cookie out.
    """
    headers = {**PAGE_HEADERS, "referrer-policy": "no-referrer", "cache-control": "no-store"}
    answer = HTMLResponse(_LOGGED_IN.format(place=html.escape(place)), headers=headers)
    set_session(request, answer, login)
    return answer


def set_session(request: Request, answer: Response, login: LoggedIn) -> None:
    """Hand the session's cookie to the browser, and end the one that it had."""
    services, before = services_of(request), request.cookies.get(SESSION_COOKIE)
    if before is not None:
        services.access.sessions.end(before)
    answer.set_cookie(
        SESSION_COOKIE,
        login.cookie,
        max_age=int(services.access.sessions.life.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=is_encrypted(request, services.site.settings.console.public_url),
    )


def is_encrypted(request: Request, public_url: str | None) -> bool:
    """Tell whether the browser reached us by https, be it through a proxy that does not say so."""
    if request.url.scheme == "https":
        return True
    public = urlsplit(public_url or "")
    return public.scheme == "https" and public.netloc == request.headers.get("host")
