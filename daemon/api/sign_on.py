"""Browsers log in by single sign-on: to the provider, and back from there."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from daemon.access.browsers import place_to_go
from daemon.access.sign_on import LIFE_S, SignOn
from daemon.api.callers import address_of, services_of
from daemon.api.login import is_encrypted, logged_in, refusal
from daemon.errors import DaemonError, NotFound

router = APIRouter(prefix="/login/oidc", include_in_schema=False)
COOKIE = "lumiwatch_sign_on"


@router.get("")
def depart(request: Request, next: str = "/") -> Response:  # noqa: A002 - the name in the address
    """Send the browser to the provider."""
    services = services_of(request)
    sign_on = _sign_on(request)
    try:
        departure = sign_on.depart(redirect_uri=_redirect_uri(request), place=place_to_go(next))
    except DaemonError as error:
        return refusal(request, error)
    answer = RedirectResponse(departure.url, status_code=303, headers={"cache-control": "no-store"})
    answer.set_cookie(
        COOKIE,
        departure.cookie,
        max_age=LIFE_S,
        path=router.prefix,
        httponly=True,
        samesite="lax",  # it comes along when the provider sends the browser back
        secure=is_encrypted(request, services.site.settings.console.public_url),
    )
    return answer


@router.get("/callback")
def arrive(request: Request) -> Response:
    """Take the browser back, and say who it is."""
    services, sign_on = services_of(request), _sign_on(request)
    query, cookie = dict(request.query_params), request.cookies.get(COOKIE)
    try:
        login, place = services.logins.with_identity(
            lambda: sign_on.arrive(query, cookie, redirect_uri=_redirect_uri(request)),
            address=address_of(request),
        )
    except DaemonError as error:
        answer = refusal(request, error)
    else:
        answer = logged_in(request, login, place)
    answer.delete_cookie(COOKIE, path=router.prefix)
    return answer


def _sign_on(request: Request) -> SignOn:
    sign_on = services_of(request).entrance.sign_on
    if sign_on is None:
        raise NotFound("this site has no single sign-on: it is set under [oidc] in lumiwatch.toml")
    return sign_on


def _redirect_uri(request: Request) -> str:
    """Give the address that must be registered at the provider."""
    public = services_of(request).site.settings.console.public_url
    return (public or str(request.base_url)).rstrip("/") + router.prefix + "/callback"
